//! How many replicas are wanted is said in one place, and `num_replicas` is only its first value.

use std::{collections::BTreeSet, time::Duration};

use eagleray_types::DeploymentKey;

use super::world::{Behaviour, World, application, deployment, simple};

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
