//! The order in which a node ends, whoever does not do what it should.

use super::*;

/// What was commanded, in words, without what is for people.
fn steps(world: &mut World) -> Vec<String> {
    let commands = world.take_commands().into_iter();
    commands
        .filter_map(|command| match command {
            Command::Service(role, ServiceCommand::Ask(_)) => Some(format!("ask {}", role.name())),
            Command::Service(role, ServiceCommand::Signal(signal)) => {
                let word = if signal == Signal::KILL {
                    "kill"
                } else {
                    "end"
                };
                Some(format!("{word} {}", role.name()))
            }
            Command::Service(role, command) => Some(format!("{command:?} {}", role.name())),
            Command::Replica(id, ReplicaCommand::Ask(_)) => Some(format!("ask {id}")),
            Command::Replica(id, ReplicaCommand::Kill) => Some(format!("kill {id}")),
            _ => None,
        })
        .collect()
}

fn with_a_replica() -> World {
    let mut world = World::up();
    world.spawn("one", 1);
    world.take_commands();
    world
}

#[test]
fn requests_first_then_replicas_then_the_controller_then_the_reaper() {
    let mut world = with_a_replica();
    world.event(Event::ShutdownWanted);
    assert_eq!(steps(&mut world), ["CloseListeners proxy", "ask proxy"]);
    // Whoever still says something is not obeyed.
    world.spawn("two", 1);
    world.event(Event::ShutdownWanted);
    assert_eq!(steps(&mut world), [""; 0]);
    world.service_ends(Role::Proxy);
    assert_eq!(steps(&mut world), ["ask one"]);
    world.replica_exits("one");
    let hears = |command: &Command| matches!(command, Command::Report(_));
    assert!(
        !world.commands.iter().any(hears),
        "it would replace what ends"
    );
    assert_eq!(steps(&mut world), ["end controller"]);
    world.service_ends(Role::Controller);
    assert_eq!(steps(&mut world), ["SayAllIsWell reaper"]);
    assert_eq!(world.core.outcome(), None);
    world.service_ends(Role::Reaper);
    let outcome = Outcome {
        as_asked: true,
        in_order: true,
    };
    assert_eq!(world.core.outcome(), Some(outcome));
}

#[test]
fn what_does_not_end_by_itself_is_killed_in_its_time() {
    let mut world = with_a_replica();
    world.event(Event::Signalled("SIGTERM"));
    steps(&mut world);
    world.pass(10 * SECOND);
    assert_eq!(steps(&mut world), ["kill proxy"]);
    world.service_ends(Role::Proxy);
    assert_eq!(steps(&mut world), ["ask one"]);
    world.pass(Duration::from_millis(10_500));
    assert_eq!(steps(&mut world), ["kill one"]);
    world.replica_exits("one");
    assert_eq!(steps(&mut world), ["end controller"]);
    world.pass(2 * SECOND);
    assert_eq!(steps(&mut world), ["kill controller"]);
    world.service_ends(Role::Controller);
    assert_eq!(steps(&mut world), ["SayAllIsWell reaper"]);
    world.pass(2 * SECOND);
    assert_eq!(steps(&mut world), ["kill reaper"]);
    assert!(world.core.outcome().unwrap().in_order);
}

#[test]
fn replicas_that_cannot_be_killed_are_left_to_the_reaper() {
    let mut world = with_a_replica();
    world.event(Event::OwnerGone(Gone::Dead));
    world.service_ends(Role::Proxy);
    steps(&mut world);
    world.pass(Duration::from_millis(1_500));
    assert_eq!(steps(&mut world), ["kill one"]);
    world.pass(2 * SECOND);
    assert_eq!(steps(&mut world), ["kill one", "kill controller"]);
    world.service_ends(Role::Controller);
    assert_eq!(steps(&mut world), [""; 0], "the reaper is not dismissed");
    assert!(!world.core.outcome().unwrap().in_order);
}

#[test]
fn a_second_signal_ends_the_node_at_once() {
    let mut world = with_a_replica();
    world.event(Event::Signalled("SIGINT"));
    steps(&mut world);
    world.event(Event::Signalled("SIGINT"));
    assert_eq!(
        steps(&mut world),
        ["kill one", "kill controller", "kill proxy"]
    );
    let outcome = Outcome {
        as_asked: false,
        in_order: false,
    };
    assert_eq!(world.core.outcome(), Some(outcome));
}

#[test]
fn a_proxy_that_is_away_when_the_end_begins_does_not_come_back() {
    let mut world = World::up();
    world.starts_fail = true;
    world.service_ends(Role::Proxy);
    world.pass(SECOND);
    steps(&mut world);
    world.event(Event::OwnerGone(Gone::LetGo));
    assert_eq!(
        steps(&mut world),
        ["CloseListeners proxy", "end controller"]
    );
    world.starts_fail = false;
    world.service_ends(Role::Controller);
    world.pass(SECOND);
    world.service_ends(Role::Reaper);
    assert!(world.core.outcome().unwrap().as_asked);
}

#[test]
fn a_node_that_nobody_could_be_told_of_ends_and_did_not_succeed() {
    let mut world = World::up();
    world.event(Event::Announced { known: false });
    for role in [Role::Proxy, Role::Controller, Role::Reaper] {
        world.service_ends(role);
    }
    let outcome = Outcome {
        as_asked: false,
        in_order: true,
    };
    assert_eq!(world.core.outcome(), Some(outcome));
}

#[test]
fn an_end_while_starting_is_said_with_its_reason_when_nothing_is_left() {
    let mut world = World::new();
    world.event(Event::Signalled("SIGTERM"));
    for role in [Role::Proxy, Role::Controller, Role::Reaper] {
        assert!(
            !world
                .commands
                .iter()
                .any(|one| matches!(one, Command::Announce(_)))
        );
        world.service_ends(role);
    }
    let Some(Command::Announce(Err(failure))) = world.take_commands().pop() else {
        panic!("not said")
    };
    assert_eq!(
        failure.message,
        "the node was ended while it started: SIGTERM"
    );
}
