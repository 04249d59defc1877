//! Requests that wait for the first replica of a deployment at zero are told when it does not come.

use std::time::Duration;

use super::world::{Behaviour, World, application, deployment};
use crate::books::cold_start::LIMIT;

const FROM_ZERO: &str =
    r#"{"min_replicas": 0, "downscale_delay_s": 0, "look_back_period_s": 0.01}"#;

/// So many requests, of which one or two ask for a replica and none for none.
fn ask(world: &mut World, requests: u32) {
    world.carry(requests);
    world.run_for(Duration::from_millis(200));
}

/// A deployment that has run, and is at zero now.
fn at_zero() -> World {
    let mut world = World::new(1);
    let mut spec = deployment("d", "v1", 1);
    FROM_ZERO.clone_into(&mut spec.autoscaling_config);
    world.deploy(application("a", vec![spec]));
    world.run_for(Duration::from_secs(5));
    ask(&mut world, 1);
    assert_eq!(world.routed_to("d").len(), 1);
    ask(&mut world, 0);
    assert!(world.routed_to("d").is_empty());
    assert_eq!(
        world.unavailable("d"),
        "",
        "requests wait for what may come"
    );
    world
}

#[test]
fn the_first_replica_answers_what_waited_for_it() {
    let mut world = at_zero();
    ask(&mut world, 1);
    assert_eq!(world.unavailable("d"), "");
    world.run();
    assert_eq!(world.routed_to("d").len(), 1);
}

#[test]
fn a_start_that_keeps_failing_is_given_up_and_ends_well_when_a_replica_comes() {
    let mut world = at_zero();
    world.behaviours.insert("v1".into(), Behaviour::StartFails);
    ask(&mut world, 1);
    world.run_for(Duration::from_secs(5));
    let reason = world.unavailable("d");
    assert!(reason.contains("keeps failing to start"), "{reason}");
    assert!(
        !reason.contains("boom"),
        "what user code said is not for clients"
    );
    // Starting goes on while replicas are wanted.
    world.behaviours.clear();
    world.run_for(Duration::from_secs(60));
    assert_eq!(world.unavailable("d"), "");
    assert_eq!(world.routed_to("d").len(), 1);
}

#[test]
fn what_failed_is_forgotten_at_zero() {
    let mut world = at_zero();
    world.behaviours.insert("v1".into(), Behaviour::StartFails);
    ask(&mut world, 1);
    world.run_for(Duration::from_secs(5));
    assert_ne!(world.unavailable("d"), "");
    ask(&mut world, 0);
    world.run();
    assert_eq!(world.unavailable("d"), "", "the next request is a new try");
    world.behaviours.clear();
    ask(&mut world, 1);
    world.run_for(Duration::from_secs(1));
    assert_eq!(
        world.routed_to("d").len(),
        1,
        "and without the waits of the last"
    );
}

#[test]
fn a_start_that_takes_too_long_is_said_and_may_still_come() {
    let mut world = at_zero();
    world.behaviours.insert("v1".into(), Behaviour::StartHangs);
    ask(&mut world, 1);
    world.run_for(LIMIT.mul_f64(0.99));
    assert_eq!(world.unavailable("d"), "");
    world.run_for(Duration::from_secs(10));
    let reason = world.unavailable("d");
    assert!(reason.contains("has not come within 600 s"), "{reason}");
    world.behaviours.clear();
    ask(&mut world, 2);
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.unavailable("d"), "");
    assert!(!world.routed_to("d").is_empty());
}

#[test]
fn a_deployment_that_lost_its_replicas_lets_requests_wait() {
    let mut world = World::new(1);
    let mut spec = deployment("d", "v1", 1);
    spec.autoscaling_config = "{}".to_owned();
    world.deploy(application("a", vec![spec]));
    world.run();
    world.behaviours.insert("v1".into(), Behaviour::StartFails);
    let victim = world.running("v1")[0].clone();
    world.kill(&victim);
    world.run_for(LIMIT * 2);
    assert!(world.routed_to("d").is_empty());
    assert_eq!(world.unavailable("d"), "");
}
