//! A store that fails, and more changes than may wait for it.

use std::time::Duration;

use super::world::{World, simple};

#[test]
fn a_deploy_that_cannot_be_stored_changes_nothing() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 1));
    world.run();
    world.take_words();
    world.fail_saves = true;
    let call = world.deploy(simple("v2", 1));
    world.run();
    let (kind, message) = world.error(call);
    assert_eq!((kind, message), ("internal", "disk full"));
    assert_eq!(
        (world.take_words().len(), world.running("v1").len()),
        (0, 1)
    );
    world.fail_saves = false;
    world.run_for(Duration::from_secs(5));
    let call = world.deploy(simple("v2", 1));
    world.run();
    assert!(!world.notes(call).is_empty());
    assert_eq!(world.running("v2").len(), 1);
}

#[test]
fn that_nothing_can_be_saved_is_said_since_it_began_until_it_can() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 1));
    world.run();
    assert!(world.own_reasons().is_empty());
    world.fail_saves = true;
    world.deploy(simple("v2", 1));
    world.run();
    let began_s = world.wall_time_s();
    world.run_for(Duration::from_secs(30));
    let reasons = world.own_reasons();
    let [why] = reasons.as_slice() else {
        panic!("one reason, and not {reasons:?}");
    };
    assert_eq!(why.code, "state_not_saved");
    assert!(why.sentence.contains("for 30 s: disk full."), "{why:?}");
    assert!((why.since_s - began_s).abs() < 0.1, "{why:?}");
    world.fail_saves = false;
    world.run_for(Duration::from_secs(2));
    assert!(world.own_reasons().is_empty(), "it has tried again");
}

#[test]
fn a_deploy_that_names_a_missing_blob_is_refused() {
    let mut world = World::new(1);
    world.missing_files = true;
    let call = world.deploy(simple("v1", 1));
    world.run();
    assert_eq!(world.error(call).0, "invalid");
    assert!(world.processes.is_empty());
}

#[test]
fn too_many_changes_at_once_are_refused_and_the_rest_are_done() {
    let mut world = World::new(1);
    let calls: Vec<_> = (0..100)
        .map(|number| world.deploy(simple(&format!("v{number}"), 1)))
        .collect();
    world.run();
    let refused = calls.iter().filter(|call| {
        matches!(
            world.reply(**call),
            Some(eagleray_types::control::api_response::Body::Error(_))
        )
    });
    assert_eq!(refused.count(), 100 - 65);
    assert_eq!(world.running("v64").len(), 1);
}
