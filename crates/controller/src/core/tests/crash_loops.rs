//! Replicas that die, once or again and again.

use std::time::Duration;

use super::world::{Behaviour, World, application, deployment, simple};

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn a_replica_that_dies_is_replaced_at_once() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 2));
    world.run_for(MINUTE);
    let victim = world.running("v1")[0].clone();
    world.take_words();
    world.kill(&victim);
    assert!(world.take_words().contains(&"spawn a/d".to_owned()));
    assert_eq!(world.routed_to("d").len(), 1);
    let deployment = &world.status("a").deployments[0];
    assert_eq!(
        (
            deployment.status.as_str(),
            deployment.status_trigger.as_str()
        ),
        ("UNHEALTHY", "HEALTH_CHECK_FAILED")
    );
    assert!(
        deployment.message.contains("signal 9"),
        "{}",
        deployment.message
    );
    world.run();
    assert_eq!(world.routed_to("d").len(), 2);
    assert_eq!(world.status("a").status, "RUNNING");
    world.assert_at_rest();
}

#[test]
fn a_crash_loop_after_ready_is_slowed_down() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 1));
    world.run_for(MINUTE);
    world.take_words();
    let end = world.now + MINUTE;
    while world.now < end {
        if let Some(id) = world.routed_to("d").first().cloned() {
            world.kill(&id);
        }
        world.run_for(Duration::from_millis(100));
    }
    let starts = world
        .take_words()
        .iter()
        .filter(|word| word.starts_with("spawn"))
        .count();
    assert!((5..=10).contains(&starts), "{starts} starts in a minute");
    let deployment = &world.status("a").deployments[0];
    assert_eq!(deployment.status, "UNHEALTHY");
    for part in [
        "crash loop: ",
        " deaths in ",
        "last: replica ",
        "signal 9",
        "deploy again",
        "Next start in ",
    ] {
        assert!(
            deployment.message.contains(part),
            "{part} in {}",
            deployment.message
        );
    }
    while world.routed_to("d").is_empty() {
        world.run_for(Duration::from_secs(1));
    }
    let deployment = &world.status("a").deployments[0];
    assert_eq!(deployment.status, "UNHEALTHY", "ready is not well yet");
    assert!(
        deployment.message.contains("runs again"),
        "{}",
        deployment.message
    );
    world.run_for(Duration::from_secs(11));
    assert_eq!(world.status("a").status, "RUNNING", "and it recovers");
    assert_eq!(world.status("a").message, "");
    world.assert_at_rest();
}

// contract: 8/recovers
#[test]
fn a_version_that_served_and_cannot_start_any_more_is_a_crash_loop_and_comes_back_by_itself() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 1));
    world.run_for(MINUTE);
    world.behaviours.insert("v1".into(), Behaviour::StartFails);
    world.take_words();
    let victim = world.running("v1")[0].clone();
    world.kill(&victim);
    world.run_for(MINUTE);
    let starts = world
        .take_words()
        .iter()
        .filter(|word| word.starts_with("spawn"))
        .count();
    assert!((5..=10).contains(&starts), "{starts} starts in a minute");
    let deployment = &world.status("a").deployments[0];
    assert_eq!(deployment.status, "UNHEALTHY");
    for part in [
        "crash loop: ",
        "last: ",
        "Traceback: ValueError",
        "one at a time",
    ] {
        assert!(
            deployment.message.contains(part),
            "{part} in {}",
            deployment.message
        );
    }
    world.behaviours.clear();
    world.run_for(MINUTE);
    assert_eq!(world.status("a").status, "RUNNING");
}

#[test]
fn deploying_the_same_again_ends_the_wait_of_a_crash_loop() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 1));
    world.run_for(MINUTE);
    for _ in 0..6 {
        let victim = world.running("v1").pop().unwrap();
        world.kill(&victim);
        world.run_for(Duration::from_secs(1));
    }
    assert!(world.running("v1").is_empty(), "it waits");
    world.deploy(simple("v1", 1));
    world.run();
    assert_eq!(world.status("a").status, "RUNNING");
}

#[test]
fn the_crash_loop_of_one_application_leaves_the_budget_of_another_alone() {
    let mut world = World::new(1);
    world.deploy(application("b", vec![deployment("d", "good", 1)]));
    world.deploy(simple("v1", 1));
    world.run_for(MINUTE);
    // The first one is old, which is no failure.
    for _ in 0..6 {
        let victim = world.running("v1").pop().unwrap();
        world.kill(&victim);
        world.run_for(Duration::from_secs(1));
    }
    assert!(world.running("v1").is_empty(), "it waits");
    world.take_words();
    let victim = world.running("good").pop().unwrap();
    world.kill(&victim);
    assert!(
        world.take_words().contains(&"spawn b/d".to_owned()),
        "at once"
    );
}

#[test]
fn a_crash_loop_of_many_replicas_tries_one_at_a_time() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 4));
    world.run_for(MINUTE);
    world
        .behaviours
        .insert("v1".into(), Behaviour::StartCrashes);
    for victim in world.running("v1") {
        world.kill(&victim);
    }
    world.run_for(MINUTE);
    world.take_words();
    world.run_for(MINUTE);
    let starts = world
        .take_words()
        .iter()
        .filter(|word| word.starts_with("spawn"))
        .count();
    assert!(
        (2..=3).contains(&starts),
        "{starts} starts in the second minute"
    );
    world.behaviours.clear();
    world.run_for(MINUTE);
    assert_eq!(
        world.routed_to("d").len(),
        4,
        "the others follow the one that proved itself"
    );
    assert_eq!(world.status("a").status, "RUNNING");
}

#[test]
fn a_death_from_outside_is_told_by_the_signal_and_not_by_what_is_said_of_it() {
    // Five deaths are a crash loop, unless somebody on the machine kills: then it takes five of each.
    for (signal, reason, loops) in [
        (9, "the machine is short of memory", false),
        (11, "signal 11 (SIGSEGV) after the SIGKILL of a child", true),
        (0, "it had closed its connection, and got a SIGKILL", true),
    ] {
        let mut world = World::new(1);
        world.deploy(simple("v1", 3));
        world.run();
        for _ in 0..3 {
            for victim in world.running("v1") {
                world.end_with(&victim, signal, reason);
            }
            world.run_for(Duration::from_secs(2));
        }
        let message = world.status("a").deployments[0].message.clone();
        assert_eq!(message.contains("crash loop"), loops, "{reason}: {message}");
    }
}

#[test]
fn replicas_that_do_not_live_start_ten_times_in_the_first_minute() {
    for behaviour in [Behaviour::StartCrashes, Behaviour::StartFails] {
        let mut world = World::new(1);
        world.deploy(simple("v1", 3));
        world.run_for(MINUTE);
        world.behaviours.insert("v1".into(), behaviour);
        world.take_words();
        for victim in world.running("v1") {
            world.kill(&victim);
        }
        world.run_for(MINUTE);
        let words = world.take_words();
        let starts = words.iter().filter(|word| word.starts_with("spawn"));
        let starts = starts.count();
        assert!((5..=10).contains(&starts), "{starts} starts");
        assert!(
            world.status("a").deployments[0]
                .message
                .contains("crash loop")
        );
    }
}

#[test]
fn all_may_die_young_once_and_come_back_when_one_has_settled() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 10));
    world.run_for(Duration::from_secs(2));
    for victim in world.running("v1") {
        world.kill(&victim);
    }
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.routed_to("d").len(), 10);
}
