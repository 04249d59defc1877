//! What happens is told to those who watch, by number, over restarts of the controller.

use std::time::Duration;

use eagleray_types::control::EventRecord;

use super::{
    builds::{apply, config, done, failed},
    world::{Behaviour, World, simple},
};

fn told(events: &[EventRecord]) -> Vec<(&str, &str)> {
    events
        .iter()
        .map(|one| (one.kind.as_str(), one.message.as_str()))
        .collect()
}

#[test]
fn a_deploy_and_its_replicas_are_told_from_start_to_end() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 1));
    world.run();
    let events = world.events_since(0);
    let expected = [
        ("deploy", "r1: d starts with 1 replica(s)"),
        ("replica", "starts"),
        ("replica", "ready after 0.0 s"),
        ("deploy", "r1 is running after 0.0 s"),
    ];
    assert_eq!(told(&events), expected);
    assert_eq!(
        (
            events[1].application.as_str(),
            events[1].deployment.as_str()
        ),
        ("a", "d")
    );
    assert_eq!(events[1].replica_id, world.running("v1")[0]);
    assert!(
        events
            .iter()
            .all(|one| one.at_s >= 1e9 && one.level == "info")
    );

    world.scale("d", 2);
    world.run();
    let events = world.events_since(events.len() as u64);
    assert_eq!(told(&events)[0], ("scale", "scaled from 1 to 2 replica(s)"));
    let last = events.last().unwrap().number;
    world.delete("a");
    world.run();
    let events = world.events_since(last);
    assert_eq!(told(&events)[0], ("deploy", "deleted"));
    assert_eq!(told(&events)[1..], [("replica", "has stopped"); 2]);
}

#[test]
fn what_goes_wrong_is_told_with_its_level() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 1));
    world.run_for(Duration::from_secs(60));
    let last = world.events_since(0).last().unwrap().number;
    let victim = world.running("v1")[0].clone();
    world.kill(&victim);
    world.run();
    let events = world.events_since(last);
    assert_eq!(
        (events[0].kind.as_str(), events[0].level.as_str()),
        ("replica", "warning")
    );
    assert!(
        events[0].message.contains("died (signal 9"),
        "{}",
        events[0].message
    );
    assert_eq!(events[0].replica_id, victim);
    let last = events.last().unwrap().number;
    world.behaviours.insert("v2".into(), Behaviour::StartFails);
    world.deploy(simple("v2", 1));
    world.run_for(Duration::from_secs(600));
    let events = world.events_since(last);
    let end = events.iter().find(|one| one.level == "error").unwrap();
    assert_eq!(end.kind, "deploy");
    assert!(
        end.message
            .starts_with("r2 did not come up, and what ran before serves")
    );
    assert!(end.message.contains("ValueError"));
}

#[test]
fn numbers_go_on_with_the_next_controller() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 1));
    world.run();
    let before = world.events_since(0);
    world.restart_controller(2);
    world.start();
    world.run();
    let after = world.events_since(0);
    assert_eq!(after[..before.len()], before);
    let new = &after[before.len()..];
    assert_eq!(new[0].kind, "node");
    assert_eq!(new[0].number, before.last().unwrap().number + 1);
}

#[test]
fn builds_are_told_from_start_to_end() {
    let mut world = World::new(1);
    world.apply(apply(vec![config("a", 1)]));
    world.run();
    let build = *world.building().last().unwrap();
    world.built(failed(build, "no module named 'shop'"));
    world.run();
    world.apply(apply(vec![config("a", 1)]));
    world.run();
    let build = *world.building().last().unwrap();
    world.built(done(build, simple("v1", 1)));
    world.run();
    let events = world.events_since(0);
    let told: Vec<_> = events
        .iter()
        .filter(|one| one.kind == "build")
        .map(|one| (one.level.as_str(), one.message.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            ("info", "build begins"),
            ("error", "was not built: no module named 'shop'"),
            ("info", "build begins"),
            ("info", "is built, in 0 ms"),
        ]
    );
}
