//! A changed `user_config` goes from replica to replica, and what happens meanwhile.

use std::{collections::BTreeSet, time::Duration};

use eagleray_types::control::{ApplicationSpec, Condition, replica_event};

use super::world::{Behaviour, World, simple, with_revision};

const MINUTE: Duration = Duration::from_secs(60);

fn configured(count: u32, config: &str) -> ApplicationSpec {
    let mut spec = simple("v1", count);
    spec.deployments[0].options.user_config = config.into();
    with_revision(spec)
}

/// `count` replicas that have `a`, and whose next `reconfigure` behaves so.
fn world(count: u32, behaviour: Behaviour) -> World {
    let mut world = World::new(1);
    world.deploy(configured(count, "a"));
    world.run();
    world.take_words();
    world.behaviours.insert("v1".into(), behaviour);
    world
}

/// Replicas in `reconfigure`.
fn taking(world: &World) -> Vec<String> {
    let taking = world.processes.iter().filter(|one| one.1.taking.is_some());
    taking.map(|(id, _)| id.clone()).collect()
}

fn configs(world: &World) -> Vec<&str> {
    let running = world.processes.values().filter(|one| one.serves());
    running.map(|one| one.config.as_str()).collect()
}

/// The replicas that take a configuration succeed, one after the other, until none does.
fn finish_all(world: &mut World) -> usize {
    let mut most = 0;
    while !taking(world).is_empty() {
        let now = taking(world);
        most = most.max(now.len());
        world.finish_reconfigure(&now[0], "");
        world.run();
    }
    most
}

// contract: 2/reconfigure-steps better: rolling_update_percentage of the replicas at a time
#[test]
fn no_more_replicas_reconfigure_at_a_time_than_an_update_replaces() {
    for (count, share, at_a_time) in [
        (1, 0.0, 1),
        (4, 0.0, 1),
        (10, 0.0, 2),
        (4, 0.5, 2),
        (3, 1.0, 3),
    ] {
        let mut world = world(count, Behaviour::ReconfigureHangs);
        let mut spec = configured(count, "b");
        spec.deployments[0].options.rolling_update_percentage = share;
        world.deploy(with_revision(spec));
        world.run();
        assert_eq!(taking(&world).len(), at_a_time, "{count} {share}");
        assert_eq!(
            world.routed_to("d").len(),
            count as usize,
            "all stay routable"
        );
        assert_eq!(finish_all(&mut world), at_a_time);
        assert_eq!(configs(&world), vec!["b"; count as usize]);
        assert_eq!(world.status("a").status, "RUNNING");
        world.assert_at_rest();
    }
}

#[test]
fn light_options_do_not_wait_for_the_turn_of_a_user_config() {
    let mut world = world(4, Behaviour::ReconfigureHangs);
    let mut spec = configured(4, "b");
    spec.deployments[0].options.max_ongoing_requests = 77;
    world.deploy(with_revision(spec));
    world.run();
    let mut words = world.take_words();
    words.sort();
    assert_eq!(
        words,
        ["options b", "options b", "options b", "reconfigure b"]
    );
    // And they pass one that is in it.
    let mut spec = configured(4, "b");
    spec.deployments[0].options.graceful_shutdown_timeout_s = 1.0;
    world.deploy(with_revision(spec));
    world.run();
    assert_eq!(world.take_words(), ["options b"; 4]);
    assert_eq!(taking(&world).len(), 1);
    assert_eq!(world.status("a").status, "DEPLOYING");
    finish_all(&mut world);
    assert_eq!(world.status("a").status, "RUNNING");
}

#[test]
fn a_failure_stops_the_change_and_all_go_back_to_what_they_had() {
    let mut world = world(4, Behaviour::ReconfigureHangs);
    world.deploy(configured(4, "b"));
    world.run();
    let first = taking(&world)[0].clone();
    world.finish_reconfigure(&first, "");
    world.run();
    let second = taking(&world)[0].clone();
    let before = world.routed_to("d");
    world.behaviours.clear();
    world.finish_reconfigure(&second, "TypeError: no such weights");
    world.run();
    assert_eq!(configs(&world), ["a"; 4]);
    assert_eq!(world.routed_to("d").len(), 4);
    let replaced: Vec<_> = before.difference(&world.routed_to("d")).cloned().collect();
    assert_eq!(replaced, [second], "the others are the same processes");
    let status = world.status("a");
    assert_eq!(status.status, "DEPLOY_FAILED");
    let message = &status.deployments[0].message;
    assert!(
        message.contains("no such weights") && message.contains("had before"),
        "{message}"
    );
    // It stays so, and a death later does not hide the reason.
    world.kill(&first);
    world.run_for(10 * MINUTE);
    assert_eq!(world.status("a").deployments[0].message, *message);
    assert_eq!(configs(&world), ["a"; 4]);
    world.assert_at_rest();
    // The same again is another try, and so is the old one.
    world.deploy(configured(4, "b"));
    world.run();
    assert_eq!(
        (configs(&world), world.status("a").status),
        (vec!["b"; 4], "RUNNING".into())
    );
}

#[test]
fn a_replica_that_dies_in_reconfigure_stops_the_change() {
    let mut world = world(4, Behaviour::ReconfigureCrashes);
    world.deploy(configured(4, "b"));
    world.run_for(10 * MINUTE);
    assert_eq!(world.dead.len(), 1, "one, and not all in turn");
    assert_eq!(configs(&world), ["a"; 4]);
    assert_eq!(world.status("a").status, "DEPLOY_FAILED");
    assert!(world.status("a").deployments[0].message.contains("SIGKILL"));
}

#[test]
fn new_replicas_that_cannot_start_with_a_user_config_stop_the_change() {
    let mut world = world(1, Behaviour::StartFails);
    let only = world.running("v1")[0].clone();
    world.kill(&only);
    world.deploy(configured(1, "b"));
    world.run_for(Duration::from_secs(1));
    world.run_for(MINUTE);
    assert_eq!(world.status("a").status, "DEPLOY_FAILED");
    world.behaviours.clear();
    world.run_for(10 * MINUTE);
    assert_eq!(configs(&world), ["a"]);
    assert_eq!(world.status("a").status, "DEPLOY_FAILED");
}

#[test]
fn a_replica_that_dies_meanwhile_comes_back_with_what_is_wanted() {
    let mut world = world(4, Behaviour::ReconfigureHangs);
    world.deploy(configured(4, "b"));
    world.run();
    let busy = taking(&world)[0].clone();
    let other = world
        .running("v1")
        .into_iter()
        .find(|id| *id != busy)
        .unwrap();
    world.kill(&other);
    world.run();
    assert_eq!(taking(&world), [busy]);
    finish_all(&mut world);
    assert_eq!(configs(&world), ["b"; 4]);
    assert_eq!(world.status("a").status, "RUNNING");
}

#[test]
fn the_change_goes_on_while_a_replica_cannot_live_without_it() {
    let mut world = world(2, Behaviour::StartHangs);
    let lost = world.running("v1")[0].clone();
    world.kill(&lost);
    world.run();
    world.deploy(configured(2, "b"));
    world.run();
    assert_eq!(configs(&world), ["b"], "though it is the last that serves");
}

#[test]
fn a_second_change_waits_for_the_reconfigure_that_runs() {
    let mut world = world(3, Behaviour::ReconfigureHangs);
    world.deploy(configured(3, "b"));
    world.run();
    let busy = taking(&world);
    world.deploy(configured(3, "c"));
    world.run();
    assert_eq!(taking(&world), busy, "it counts as one that is away");
    assert_eq!(finish_all(&mut world), 1);
    assert_eq!(
        (configs(&world), world.status("a").status),
        (vec!["c"; 3], "RUNNING".into())
    );
    // What is no longer wanted may fail: the change to what is goes on.
    world.deploy(configured(3, "d"));
    world.run();
    let busy = taking(&world)[0].clone();
    world.deploy(configured(3, "e"));
    world.finish_reconfigure(&busy, "TypeError");
    world.run();
    finish_all(&mut world);
    assert_eq!(
        (configs(&world), world.status("a").status),
        (vec!["e"; 3], "RUNNING".into())
    );
}

#[test]
fn back_to_the_old_configuration_in_the_middle() {
    let mut world = world(4, Behaviour::ReconfigureHangs);
    world.deploy(configured(4, "b"));
    world.run();
    let first = taking(&world)[0].clone();
    world.finish_reconfigure(&first, "");
    world.run();
    world.deploy(configured(4, "a"));
    world.run();
    finish_all(&mut world);
    assert_eq!(
        (configs(&world), world.status("a").status),
        (vec!["a"; 4], "RUNNING".into())
    );
}

#[test]
fn the_next_controller_goes_on_in_turns() {
    let mut world = world(5, Behaviour::ReconfigureHangs);
    world.deploy(configured(5, "b"));
    world.run();
    let first = taking(&world)[0].clone();
    world.finish_reconfigure(&first, "");
    world.run();
    world.restart_controller(2);
    let busy = taking(&world);
    assert_eq!(busy.len(), 1);
    // As the replica does: what it says to a controller that is gone is lost, and it is asked again.
    for process in world.processes.values_mut() {
        if let Some((_, config)) = process.taking.take() {
            process.config = config;
        }
    }
    world.start();
    world.run();
    assert_eq!(taking(&world).len(), 1);
    assert_eq!(world.routed_to("d").len(), 5);
    assert_eq!(finish_all(&mut world), 1);
    assert_eq!(
        (configs(&world), world.status("a").status),
        (vec!["b"; 5], "RUNNING".into())
    );
    world.assert_at_rest();
}

#[test]
fn a_death_just_after_a_restart_of_the_controller_refuses_nothing() {
    let mut world = world(2, Behaviour::Healthy);
    world.restart_controller(2);
    world.start();
    world.step(0);
    let asked = world.running("v1")[0].clone();
    world.kill(&asked);
    world.run_for(MINUTE);
    assert_eq!(
        (configs(&world), world.status("a").status),
        (vec!["a"; 2], "RUNNING".into())
    );
}

#[test]
fn one_that_hangs_gets_its_turn_when_it_turns_again() {
    let mut world = world(3, Behaviour::Healthy);
    let ids = world.running("v1");
    let hung = |milliseconds| {
        replica_event::Body::Condition(Condition {
            hung_milliseconds: milliseconds,
            ..Default::default()
        })
    };
    world.say(&ids[0], hung(1_000));
    world.deploy(configured(3, "b"));
    world.run();
    let have: BTreeSet<_> = configs(&world).into_iter().collect();
    assert_eq!(have, BTreeSet::from(["a", "b"]));
    let message = &world.status("a").deployments[0].message;
    assert!(message.contains("2 of 3 replicas"), "{message}");
    world.say(&ids[0], hung(0));
    world.run();
    assert_eq!(configs(&world), ["b"; 3]);
}

#[test]
fn who_takes_long_is_named() {
    let mut world = world(2, Behaviour::ReconfigureHangs);
    world.deploy(configured(2, "b"));
    world.run_for(MINUTE);
    let (message, busy) = (
        world.status("a").deployments[0].message.clone(),
        taking(&world),
    );
    assert!(
        message.contains("0 of 2") && message.contains(&busy[0]),
        "{message}"
    );
    assert!(message.contains("60 s"), "{message}");
}

#[test]
fn questions_that_reconfigure_keeps_from_being_answered_are_no_failures() {
    let mut world = world(1, Behaviour::Silent);
    let id = world.running("v1")[0].clone();
    // More often than a replica may fail.
    for config in ["b", "c", "d", "e"] {
        // Long enough to be asked, and not to be found silent.
        world.run_for(MINUTE / 4);
        world
            .behaviours
            .insert("v1".into(), Behaviour::ReconfigureHangs);
        world.deploy(configured(1, config));
        world.run();
        world.run_for(MINUTE);
        world.behaviours.insert("v1".into(), Behaviour::Silent);
        world.finish_reconfigure(&id, "");
        world.run();
    }
    assert_eq!(world.running("v1"), [id]);
    assert_eq!(world.status("a").status, "RUNNING");
}
