//! Replicas that have done their share are replaced, one at a time, by new ones that are ready first.

use std::time::Duration;

use super::world::{World, simple, with_revision};

#[test]
fn replicas_beyond_their_requests_are_replaced_one_at_a_time() {
    let mut world = World::new(1);
    let mut spec = simple("v1", 3);
    spec.deployments[0].options.max_requests_per_replica = 100;
    world.deploy(with_revision(spec));
    world.run();
    let old = world.routed_to("d");
    for (number, id) in old.iter().enumerate() {
        // One is not there yet: shares end somewhere in the last tenth.
        world.processes.get_mut(id).unwrap().accepted = [89, 100, 101][number];
    }
    world.take_words();
    let end = world.now + Duration::from_secs(120);
    while world.now < end {
        if !world.step(0) {
            world.now = world.core.next_timeout().unwrap();
            world.feed(super::super::Event::Timeout);
        }
        assert!(world.routed_to("d").len() >= 3);
        assert!(world.processes.len() <= 4);
        assert_eq!(world.status("a").status, "RUNNING");
    }
    let kept = &world.routed_to("d") & &old;
    assert_eq!(kept.first(), old.first());
    assert_eq!(kept.len(), 1);
    // It gives its rank up first.
    let once = ["options", "spawn a/d", "drain", "stop"];
    assert_eq!(world.take_words(), [once, once].concat());
}

const MIB: u64 = 1 << 20;

/// `count` replicas that begin with 100 MiB, of a deployment that bounds them.
fn bounded(count: u32, max_rss: u64) -> World {
    let mut world = World::new(1);
    world.begin_with_bytes = 100 * MIB;
    let mut spec = simple("v1", count);
    spec.deployments[0].options.max_rss = max_rss;
    world.deploy(with_revision(spec));
    world.run();
    world
}

#[test]
fn a_replica_that_has_grown_too_large_is_replaced_and_its_replacement_serves_first() {
    let mut world = bounded(2, 300 * MIB);
    world.run_for(Duration::from_secs(60));
    let old = world.routed_to("d");
    let large = old.first().unwrap().clone();
    world.processes.get_mut(&large).unwrap().resident_bytes = 301 * MIB;
    world.take_words();
    let end = world.now + Duration::from_secs(60);
    while world.now < end {
        if !world.step(0) {
            world.now = world.core.next_timeout().unwrap();
            world.feed(super::super::Event::Timeout);
        }
        assert!(world.routed_to("d").len() >= 2);
        assert_eq!(world.status("a").status, "RUNNING");
    }
    assert_eq!((&world.routed_to("d") & &old).len(), 1);
    assert!(!world.routed_to("d").contains(&large));
    assert_eq!(
        world.take_words(),
        ["options", "spawn a/d", "drain", "stop"]
    );
    let said = |one: &eagleray_types::control::EventRecord| {
        one.message == "is replaced: 301 MiB in memory reach max_rss, 300 MiB"
    };
    assert!(world.events.iter().any(said), "{:?}", world.events);
}

#[test]
fn a_limit_below_what_a_replica_begins_with_is_said_and_replaces_nothing() {
    let mut world = bounded(1, 50 * MIB);
    world.take_words();
    world.run_for(Duration::from_secs(600));
    let spawned = world
        .take_words()
        .iter()
        .any(|word| word.starts_with("spawn"));
    assert!(!spawned);
    let why = &world.status("a").deployments[0].why;
    assert_eq!(why[0].code, "max_rss_too_low");
    assert!(why[0].sentence.contains("100 MiB"), "{why:?}");
    // Nor does the next controller.
    world.restart_controller(2);
    world.start();
    world.run_for(Duration::from_secs(600));
    assert_eq!(
        world.status("a").deployments[0].why[0].code,
        "max_rss_too_low"
    );
    let spawned = world
        .take_words()
        .iter()
        .any(|word| word.starts_with("spawn"));
    assert!(!spawned);
}
