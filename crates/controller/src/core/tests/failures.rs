//! Versions that do not come up, replicas that die or are sick, stores that fail.

use std::time::Duration;

use eagleray_types::control::{Failed, replica_event};

use super::world::{Behaviour, World, application, deployment, simple, with_revision};

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn a_version_that_never_starts_is_given_up_with_its_traceback() {
    let mut world = World::new(1);
    world.behaviours.insert("bad".into(), Behaviour::StartFails);
    world.deploy(simple("bad", 2));
    world.step(0);
    let wait = world.wait_for("a");
    world.run_for(MINUTE);
    let status = world.settled(wait).unwrap();
    assert_eq!(status.status, "DEPLOY_FAILED");
    let deployment = &status.deployments[0];
    assert_eq!(
        (
            deployment.status.as_str(),
            deployment.status_trigger.as_str()
        ),
        ("DEPLOY_FAILED", "REPLICA_STARTUP_FAILED")
    );
    for part in [
        "Traceback: ValueError",
        "6 time(s)",
        "deploy again",
        "/run/logs/replica_a_d_",
    ] {
        assert!(
            deployment.message.contains(part),
            "{part} in {}",
            deployment.message
        );
        assert!(
            status.message.contains(part),
            "{part} in {}",
            status.message
        );
    }
    assert_eq!(
        world
            .take_words()
            .iter()
            .filter(|word| word.starts_with("spawn"))
            .count(),
        6
    );
    assert!(world.processes.is_empty());
    assert!(
        !world.routed.values().next().unwrap().unavailable.is_empty(),
        "requests fail at once"
    );
}

#[test]
fn while_it_is_retried_the_message_says_how_often_still() {
    let mut world = World::new(1);
    world
        .behaviours
        .insert("bad".into(), Behaviour::StartCrashes);
    world.deploy(simple("bad", 1));
    world.run();
    let deployment = &world.status("a").deployments[0];
    assert_eq!(deployment.status, "UPDATING");
    assert!(
        deployment.message.contains("Retrying 2 more time(s)"),
        "{}",
        deployment.message
    );
    assert!(
        deployment.message.contains("signal 9"),
        "{}",
        deployment.message
    );
}

#[test]
fn the_old_version_serves_at_full_size_while_the_new_one_fails() {
    let mut world = World::new(1);
    world.deploy(simple("good", 3));
    world.run();
    world.behaviours.insert("bad".into(), Behaviour::StartFails);
    world.deploy(simple("bad", 3));
    world.run_for(MINUTE);
    assert_eq!(world.status("a").status, "DEPLOY_FAILED");
    assert!(world.status("a").message.contains("keeps serving"));
    assert_eq!(world.routed_to("d").len(), 3);
    let victim = world.running("good")[0].clone();
    world.kill(&victim);
    world.run_for(MINUTE);
    assert_eq!(
        (world.running("good").len(), world.routed_to("d").len()),
        (3, 3),
        "the old version is replaced, too"
    );
    assert_eq!(world.running("bad").len(), 0);
    assert_eq!(world.status("a").status, "DEPLOY_FAILED");
}

#[test]
fn deploying_a_version_again_that_was_given_up_tries_again() {
    let mut world = World::new(1);
    world.behaviours.insert("v1".into(), Behaviour::StartFails);
    world.deploy(simple("v1", 1));
    world.run_for(MINUTE);
    assert_eq!(world.status("a").status, "DEPLOY_FAILED");
    world.behaviours.clear();
    world.deploy(simple("v1", 1));
    world.run();
    assert_eq!(world.status("a").status, "RUNNING");
    assert_eq!(world.status("a").message, "");
}

#[test]
fn a_deploy_after_a_failed_one_goes_from_what_serves() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 2));
    world.run();
    world.behaviours.insert("v2".into(), Behaviour::StartFails);
    world.deploy(simple("v2", 2));
    world.run_for(MINUTE);
    world.deploy(simple("v3", 2));
    while world.step(0) {
        assert!(world.routed_to("d").len() >= 2);
    }
    assert_eq!((world.running("v3").len(), world.processes.len()), (2, 2));
}

#[test]
fn an_exception_of_any_length_makes_a_message_of_bounded_length() {
    let mut world = World::new(1);
    world.behaviours.insert("v1".into(), Behaviour::StartHangs);
    world.deploy(simple("v1", 1));
    world.run();
    let id = world.running("v1")[0].clone();
    let message = format!("first {} last", "x".repeat(1 << 20));
    world.say(&id, replica_event::Body::StartFailed(Failed { message }));
    world.run();
    let message = &world.status("a").deployments[0].message;
    assert!(message.len() < 20_000, "{}", message.len());
    assert!(message.contains("first x") && message.contains("x last"));
}

#[test]
fn one_application_that_fails_leaves_the_others_alone() {
    let mut world = World::new(1);
    world.deploy(application("b", vec![deployment("d", "v1", 1)]));
    world.run();
    world
        .behaviours
        .insert("bad".into(), Behaviour::StartCrashes);
    world.take_words();
    world.deploy(simple("bad", 1));
    world.run_for(MINUTE);
    assert_eq!(world.status("b").status, "RUNNING");
    assert!(world.take_words().iter().all(|word| word != "spawn b/d"));
}

// contract: 8/slow-start
#[test]
fn a_slow_start_says_so() {
    let mut world = World::new(1);
    world.behaviours.insert("v1".into(), Behaviour::StartHangs);
    world.deploy(simple("v1", 1));
    world.run_for(Duration::from_secs(20));
    assert_eq!(world.status("a").deployments[0].message, "");
    world.run_for(MINUTE);
    assert!(
        world.status("a").deployments[0]
            .message
            .contains("more than 30 s")
    );
}

#[test]
fn a_start_that_takes_longer_than_its_time_has_failed_and_an_update_is_taken_back_for_it() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 1));
    world.run();
    world.behaviours.insert("v2".into(), Behaviour::StartHangs);
    let mut spec = simple("v2", 1);
    spec.deployments[0].options.start_timeout_s = 5.0;
    world.deploy(with_revision(spec));
    world.run_for(Duration::from_millis(4_900));
    let why = world.status("a").deployments[0].why[0].clone();
    assert!(
        why.sentence.contains("ended in 0 s (start_timeout_s)"),
        "{why:?}"
    );
    assert_eq!(world.running("v2").len(), 1);
    world.run_for(Duration::from_secs(55));
    assert_eq!(world.status("a").status, "DEPLOY_FAILED");
    assert_eq!(
        (world.running("v1").len(), world.running("v2").len()),
        (1, 0)
    );
    let message = world.status("a").message;
    assert!(
        message.contains("not ready 5 s after its start"),
        "{message}"
    );
    world.assert_at_rest();
}
