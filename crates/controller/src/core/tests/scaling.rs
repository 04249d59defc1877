//! How many replicas are wanted is said in one place, and `num_replicas` is only its first value.

use std::{collections::BTreeSet, time::Duration};

use eagleray_types::{DeploymentKey, control::api_response};

use super::world::{Behaviour, World, application, deployment, simple, with_revision};

/// As an autoscaler will.
fn scale(world: &mut World, count: u32) {
    let key = DeploymentKey::new("a", "d");
    let books = &mut world.core.books;
    books.deployment_mut(&key).unwrap().scale(count);
    world.core.touched.insert("a".to_owned());
    world.feed(super::super::Event::Timeout);
    world.run();
}

/// (rank, world size) of each replica of a version that serves.
fn places(world: &World, version: &str) -> BTreeSet<(u32, u32)> {
    let running = world.running(version);
    running.iter().map(|id| world.processes[id].told).collect()
}

#[test]
fn what_is_wanted_runs_and_every_replica_hears_how_many_siblings_it_has() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 2));
    world.run();
    for count in [5, 1, 3] {
        scale(&mut world, count);
        let expected: BTreeSet<_> = (0..count).map(|rank| (rank, count)).collect();
        assert_eq!(places(&world, "v1"), expected);
        assert_eq!(world.routed_to("d").len(), count as usize);
        assert_eq!(world.status("a").status, "RUNNING");
        world.assert_at_rest();
    }
    let victim = world.running("v1")[0].clone();
    world.kill(&victim);
    world.run();
    assert_eq!(world.routed_to("d").len(), 3, "the dead one is replaced");
}

#[test]
fn an_update_keeps_what_served_at_its_size_until_the_new_version_is_there() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 1));
    world.run();
    scale(&mut world, 4);
    world.behaviours.insert("v2".into(), Behaviour::StartFails);
    world.deploy(application("a", vec![deployment("d", "v2", 2)]));
    world.run_for(Duration::from_secs(60));
    assert_eq!(world.status("a").status, "DEPLOY_FAILED");
    assert_eq!(world.running("v1").len(), 4);
    let victim = world.running("v1")[0].clone();
    world.kill(&victim);
    world.run();
    assert_eq!(places(&world, "v1"), (0..4).map(|rank| (rank, 4)).collect());
    world.behaviours.clear();
    world.deploy(application("a", vec![deployment("d", "v3", 2)]));
    world.run();
    assert_eq!(places(&world, "v3"), (0..2).map(|rank| (rank, 2)).collect());
    assert!(world.running("v1").is_empty());
}

#[test]
fn failures_are_counted_by_what_is_wanted() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 1));
    world.run_for(Duration::from_secs(60));
    scale(&mut world, 20);
    world.run_for(Duration::from_secs(1));
    for victim in world.running("v1") {
        world.end_with(&victim, 11, "signal 11 (SIGSEGV)");
    }
    world.run();
    let message = world.status("a").deployments[0].message.clone();
    assert!(
        !message.contains("crash loop"),
        "all may die once: {message}"
    );
}

#[test]
fn replicas_that_end_together_are_one_update() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 50));
    world.run();
    let before = world.number;
    let victims = world.running("v1");
    for victim in &victims {
        world.end_with(victim, 9, "signal 9 (SIGKILL)");
    }
    world.arrive_together(victims.len());
    assert_eq!(world.number, before + 1, "all deaths are one update");
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.routed_to("d").len(), 50);
    world.assert_at_rest();
}

#[test]
fn what_somebody_asked_for_outlives_deploys_rollbacks_and_the_controller() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 2));
    world.run();
    let call = world.scale("d", 5);
    world.run();
    assert!(matches!(
        world.reply(call),
        Some(api_response::Body::Done(_))
    ));
    assert_eq!(world.running("v1").len(), 5);
    let status = world.status("a");
    assert_eq!(status.deployments[0].target_replicas, 5);
    assert_eq!(status.deployments[0].status_trigger, "UPSCALE_COMPLETED");

    world.restart_controller(2);
    world.start();
    world.run();
    assert_eq!(world.running("v1").len(), 5, "another controller knows it");
    world.deploy(simple("v2", 2));
    world.run();
    assert_eq!(
        world.running("v2").len(),
        5,
        "new code is not another number"
    );
    let call = world.rollback("a", "r1");
    world.run();
    assert_eq!(world.running("v1").len(), 5, "{:?}", world.notes(call));
    world.deploy(simple("v1", 3));
    world.run();
    assert_eq!(world.running("v1").len(), 3, "another number wins");
    world.deploy(simple("v1", 2));
    world.run();
    assert_eq!(world.running("v1").len(), 2, "and ends what was asked for");
    world.assert_at_rest();
}

#[test]
fn while_an_update_does_not_come_up_what_serves_keeps_the_size_that_was_asked_for() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 1));
    world.run();
    world.scale("d", 4);
    world.run();
    world.behaviours.insert("v2".into(), Behaviour::StartHangs);
    world.deploy(simple("v2", 2));
    world.run();
    world.restart_controller(2);
    world.start();
    world.run();
    let victim = world.running("v1")[0].clone();
    world.kill(&victim);
    world.run();
    assert_eq!(world.running("v1").len(), 4);
    world.behaviours.clear();
    world.run();
    assert_eq!(world.running("v2").len(), 2);
    world.assert_at_rest();
}

#[test]
fn none_is_a_number_too_and_more_come_back_from_it() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 2));
    world.run();
    world.scale("d", 0);
    world.run();
    assert_eq!(world.routed_to("d").len(), 0);
    assert_eq!(world.status("a").status, "RUNNING");
    world.assert_at_rest();
    world.scale("d", 3);
    world.run();
    assert_eq!(world.routed_to("d").len(), 3);
    world.assert_at_rest();
}

#[test]
fn what_cannot_be_scaled_says_why() {
    let mut world = World::new(1);
    let call = world.scale("d", 2);
    world.run();
    assert_eq!(world.error(call).0, "not_found");
    let mut spec = simple("v1", 1);
    spec.deployments[0].autoscaling_config = "{}".into();
    world.deploy(with_revision(spec));
    world.run();
    let call = world.scale("e", 2);
    world.run();
    assert_eq!(
        world.error(call).1,
        "application 'a' has no deployment 'e'; it has d"
    );
    let call = world.scale("d", 2);
    world.run();
    let (kind, message) = world.error(call);
    assert!(
        kind == "conflict" && message.contains("autoscaling_config"),
        "{message}"
    );
    world.deploy(simple("v1", 1));
    world.run();
    let call = world.scale("d", 10_001);
    world.run();
    assert_eq!(world.error(call).0, "invalid");
    assert_eq!(world.running("v1").len(), 1);
}
