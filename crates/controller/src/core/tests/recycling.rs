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
        // One is not there yet.
        world.processes.get_mut(id).unwrap().accepted = 99 + number as u64;
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
