//! Replicas as a controller sees them, also one that comes back.

use super::*;

#[test]
fn a_replica_that_dies_while_starting_is_told_in_order_and_again_to_a_controller_that_missed_it() {
    let mut world = World::up();
    world.spawn("one", 1);
    let said = world.replica_says("one", start_failed());
    assert_eq!(world.reports(), [relay("one", said.clone())]);
    assert!(world.core.any_replica_failed());

    // The controller dies before it has acted on that, and the process before the next has come.
    world.service_ends(Role::Controller);
    world.pass(Duration::ZERO);
    let (listed, missed) = world.list();
    assert_eq!(listed.replicas.len(), 1);
    assert_eq!(missed, [relay("one", said)]);

    world.replica_exits("one");
    let [Body::Exited(exited)] = &world.reports()[..] else {
        panic!("not its death")
    };
    assert_eq!(
        (
            exited.reason.as_str(),
            exited.stderr_tail.as_str(),
            exited.epoch
        ),
        ("exit status 3", "ValueError", 1)
    );
    assert_eq!(
        world.list(),
        (
            Listed {
                newest_epoch: 1,
                ..Listed::default()
            },
            vec![]
        )
    );
}

#[test]
fn a_controller_that_dies_while_its_spawn_is_under_way_finds_the_replica_in_the_list() {
    let mut world = World::up();
    world.spawn("one", 1);
    // The next one does not come at once: what is said meanwhile is not kept, but for what a list shows.
    world.starts_fail = true;
    world.service_ends(Role::Controller);
    world.pass(Duration::ZERO);
    world.take_commands();
    let said = world.replica_says("one", ready());
    assert_eq!(world.reports(), []);

    world.starts_fail = false;
    world.pass(SECOND);
    let (listed, missed) = world.list();
    let [one] = &listed.replicas[..] else {
        panic!("{listed:?}")
    };
    assert_eq!(
        (one.ready.clone(), one.label.as_slice()),
        (said, &b"label"[..])
    );
    assert_eq!(
        (one.socket_path.as_str(), one.stopping),
        ("/run/r/one.sock", false)
    );
    assert!(one.pid > 0);
    assert_eq!((listed.newest_epoch, missed), (1, vec![]));
    // It acts in an epoch of its own: the spawn that it repeats does nothing, and one of its predecessor comes too late.
    world.spawn("one", 2);
    world.spawn("two", 2);
    world.spawn("three", 1);
    let commands = world.take_commands();
    let started: Vec<&str> = commands
        .iter()
        .filter_map(|command| match command {
            Command::Replica(id, ReplicaCommand::Start(_)) => Some(id.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(started, ["two"]);
    assert!(commands.iter().any(|command| matches!(
        command,
        Command::Report(control::NodeEvent { body: Some(Body::SpawnFailed(failed)), .. })
            if failed.replica_id == "three" && failed.message.contains("epoch 1 is over")
    )));
}

#[test]
fn a_stop_that_overtakes_its_spawn_is_answered_and_the_spawn_of_that_life_is_refused() {
    let mut world = World::up();
    // The one who spawns is replaced; the stop comes from its successor, and then the spawn, from a buffer of the first.
    world.publish(true, "snapshot");
    world.command(node_command::Body::Publish(Publish {
        epoch: 2,
        ..Publish::default()
    }));
    world.take_commands();
    world.stop("one", 2, 0);
    let [Body::Exited(exited)] = &world.reports()[..] else {
        panic!("not answered")
    };
    assert_eq!((exited.reason.as_str(), exited.epoch), ("not running", 2));
    world.spawn("one", 1);
    assert!(matches!(&world.reports()[..], [Body::SpawnFailed(failed)] if failed.epoch == 1));
    assert!(world.list().0.replicas.is_empty());
}

#[test]
fn a_stop_before_the_start_is_answered_reaches_the_process() {
    let mut world = World::up();
    // Both commands of one batch: the machine has not answered the first when the second is taken.
    let said = |body| command_for("n1", body);
    let spawn = Spawn {
        replica_id: "one".into(),
        epoch: 1,
        ..Spawn::default()
    };
    let stop = Stop {
        replica_id: "one".into(),
        epoch: 1,
        grace_milliseconds: 0,
    };
    let mut commands = world
        .core
        .on_event(said(node_command::Body::Spawn(spawn)), world.now);
    commands.extend(
        world
            .core
            .on_event(said(node_command::Body::Stop(stop)), world.now),
    );
    assert!(matches!(
        &commands[..],
        [
            Command::Replica(_, ReplicaCommand::Start(_)),
            Command::Replica(_, ReplicaCommand::Kill)
        ]
    ));
    world.carry_out(commands);
    world.replica_exits("one");
    assert!(matches!(&world.reports()[..], [Body::Exited(_)]));
    assert!(!world.core.any_replica_failed(), "it was asked to");
}

#[test]
fn a_replica_has_its_grace_and_a_moment_and_the_shortest_grace_counts() {
    let mut world = World::up();
    for id in ["one", "two"] {
        world.spawn(id, 1);
        world.stop(id, 1, 10_000);
    }
    world.stop("one", 1, 2_000);
    world.stop("one", 1, 60_000);
    world.stop("two", 0, 1);
    let kill = |id: &str| Command::Replica(id.into(), ReplicaCommand::Kill);
    let kills = |world: &mut World| {
        let commands = world.take_commands().into_iter();
        let kills = commands.filter(|command| [kill("one"), kill("two")].contains(command));
        kills.collect::<Vec<_>>()
    };
    world.pass(Duration::from_millis(2_499));
    assert_eq!(kills(&mut world), []);
    world.pass(Duration::from_millis(1));
    assert_eq!(kills(&mut world), [kill("one")]);
    assert!(
        world
            .list()
            .0
            .replicas
            .iter()
            .all(|replica| replica.stopping)
    );
    // Its first grace is over too, long after: it has been killed. One that leaves by itself is killed by nobody.
    world.replica_exits("two");
    world.pass(60 * SECOND);
    assert_eq!(kills(&mut world), []);
}

#[test]
fn a_replica_that_does_not_read_is_killed_and_one_that_is_unknown_is_told_nothing() {
    let mut world = World::up();
    world.spawn("one", 1);
    world.take_commands();
    for id in ["one", "other"] {
        world.command(node_command::Body::Relay(Relay {
            replica_id: id.into(),
            payload: b"x".to_vec(),
        }));
    }
    let told = ReplicaCommand::Tell(Bytes::from_static(b"x"));
    assert_eq!(
        world.take_commands(),
        [Command::Replica("one".into(), told)]
    );
    world.event(Event::Replica("one".into(), ReplicaNews::DoesNotRead));
    let kill = Command::Replica("one".into(), ReplicaCommand::Kill);
    assert!(world.take_commands().contains(&kill));
}

#[test]
fn a_start_that_fails_leaves_nothing_and_is_said() {
    let mut world = World::up();
    world.starts_fail = true;
    world.spawn("one", 1);
    assert!(matches!(
        &world.reports()[..],
        [Body::SpawnFailed(failed)] if failed.message == "no process ids left"
    ));
    world.starts_fail = false;
    world.spawn("../x", 1);
    assert!(matches!(
        &world.reports()[..],
        [Body::SpawnFailed(failed)] if failed.message.contains("not valid")
    ));
    assert!(world.list().0.replicas.is_empty());
    world.spawn("one", 1);
    assert_eq!(world.list().0.replicas.len(), 1);
}

#[test]
fn sockets_that_are_gone_are_reported_but_for_those_of_replicas_that_stop() {
    let mut world = World::up();
    for id in ["one", "two"] {
        world.spawn(id, 1);
    }
    world.stop("two", 1, 1000);
    world.take_commands();
    world.event(Event::Looked(Looked {
        replica_sockets_lost: ["one", "two", "three"].map(String::from).into(),
        ..Looked::default()
    }));
    assert!(matches!(
        &world.reports()[..],
        [Body::SocketLost(lost)] if lost.replica_id == "one"
    ));
}

#[test]
fn a_command_for_another_node_is_ignored_and_one_that_names_none_is_for_this() {
    let mut world = World::up();
    world.take_commands();
    world.event(command_for("n2", node_command::Body::List(Empty {})));
    assert_eq!(world.reports(), []);
    world.event(command_for("", node_command::Body::List(Empty {})));
    assert!(matches!(&world.reports()[..], [Body::Listed(_)]));
}

#[test]
fn what_replicas_were_started_with_is_listed_until_it_is_to_be_forgotten() {
    let mut world = World::up();
    let spawn = |world: &mut World, replica_id: &str, imports: &str| {
        world.command(node_command::Body::Spawn(Spawn {
            replica_id: replica_id.into(),
            epoch: 1,
            imports: imports.into(),
            ..Spawn::default()
        }));
    };
    spawn(&mut world, "one", "some");
    spawn(&mut world, "two", "some");
    spawn(&mut world, "three", "others");
    spawn(&mut world, "four", "");
    for id in ["one", "two", "three", "four"] {
        world.replica_exits(id);
    }
    assert_eq!(
        world.list().0.imports,
        ["others", "some"],
        "also when no replica is left"
    );
    world.take_commands();
    let imports = "some".to_owned();
    world.command(node_command::Body::ForgetImports(control::ForgetImports {
        imports,
    }));
    assert!(matches!(&world.take_commands()[..], [Command::ForgetImports(one)] if one == "some"));
    assert_eq!(world.list().0.imports, ["others"]);
}
