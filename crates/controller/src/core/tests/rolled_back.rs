//! When one deployment of a new revision fails, the whole application goes back, and stays there.

use std::time::Duration;

use eagleray_types::control::ApplicationSpec;

use super::world::{Behaviour, World, application, deployment, with_revision};

const LONG: Duration = Duration::from_secs(600);

/// `front` calls `model`.
fn shop(front: &str, model: &str) -> ApplicationSpec {
    application(
        "a",
        vec![deployment("front", front, 2), deployment("model", model, 2)],
    )
}

fn up() -> World {
    let mut world = World::new(1);
    world.deploy(shop("f1", "m1"));
    world.run();
    assert_eq!(world.status("a").status, "RUNNING");
    world
}

fn words(world: &World) -> Vec<(String, String)> {
    let status = world.status("a");
    let deployments = status.deployments.into_iter();
    deployments.map(|one| (one.name, one.status)).collect()
}

#[test]
fn what_came_up_goes_back_with_what_did_not() {
    let mut world = up();
    world.behaviours.insert("m2".into(), Behaviour::StartFails);
    world.deploy(shop("f2", "m2"));
    world.step(0);
    let wait = world.wait_for("a");
    world.run_for(LONG);
    assert!(world.running("f2").is_empty() && world.running("m2").is_empty());
    assert_eq!(world.running("f1").len(), 2);
    assert_eq!(world.running("m1").len(), 2);
    let expected = [("front", "HEALTHY"), ("model", "DEPLOY_FAILED")];
    let expected = expected.map(|(name, word)| (name.to_owned(), word.to_owned()));
    assert_eq!(words(&world), expected);
    let status = world.settled(wait).unwrap();
    assert_eq!(status.status, "DEPLOY_FAILED");
    assert!(
        status.message.contains("Traceback: ValueError"),
        "{}",
        status.message
    );
    assert!(status.message.contains("r1 serves"), "{}", status.message);
    let newest = world.history("a").remove(0);
    assert_eq!((newest.number, newest.result.as_str()), (2, "rolled_back"));
    assert!(
        newest
            .failure
            .unwrap()
            .message
            .starts_with("model: 6 of 6 starts failed")
    );
    world.assert_at_rest();
}

#[test]
fn it_stays_back_over_a_restart_of_the_controller_and_nothing_is_tried_again() {
    let mut world = up();
    world.behaviours.insert("m2".into(), Behaviour::StartFails);
    world.deploy(shop("f2", "m2"));
    world.run_for(LONG);
    let before = (world.running("f1"), world.running("m1"));
    world.restart_controller(2);
    world.start();
    world.take_words();
    world.run_for(LONG);
    assert!(
        world
            .take_words()
            .iter()
            .all(|word| !word.starts_with("spawn"))
    );
    assert_eq!((world.running("f1"), world.running("m1")), before);
    let status = world.status("a");
    assert_eq!(status.status, "DEPLOY_FAILED");
    assert!(
        status.message.contains("r2 did not come up"),
        "{}",
        status.message
    );
    // A replica that dies meanwhile is replaced by one of what runs.
    let victim = world.running("m1")[0].clone();
    world.kill(&victim);
    world.run();
    assert_eq!(world.running("m1").len(), 2);
    world.assert_at_rest();
}

#[test]
fn the_same_again_is_another_try_and_going_back_touches_nothing() {
    let mut world = up();
    world.behaviours.insert("m2".into(), Behaviour::StartFails);
    world.deploy(shop("f2", "m2"));
    world.run_for(LONG);
    let before = (world.running("f1"), world.running("m1"));
    world.rollback("a", "");
    world.run();
    assert_eq!((world.running("f1"), world.running("m1")), before);
    assert_eq!(world.status("a").status, "RUNNING");
    let newest = world.history("a").remove(0);
    assert_eq!((newest.number, newest.changed.len()), (3, 0), "{newest:?}");

    world.deploy(shop("f2", "m2"));
    world.run_for(LONG);
    assert_eq!(world.status("a").status, "DEPLOY_FAILED");
    world.behaviours.clear();
    world.deploy(shop("f2", "m2"));
    world.run();
    assert_eq!(world.status("a").status, "RUNNING");
    assert_eq!(
        (world.running("f2").len(), world.running("m2").len()),
        (2, 2)
    );
    world.assert_at_rest();
}

#[test]
fn deployments_that_are_new_go_and_those_that_were_to_go_stay() {
    let mut world = up();
    let mut next = application(
        "a",
        vec![
            deployment("front", "f2", 1),
            deployment("good", "g1", 1),
            deployment("new", "n1", 1),
        ],
    );
    next.route_prefix = "/elsewhere".into();
    world.behaviours.insert("n1".into(), Behaviour::StartFails);
    let before = world.routes.clone();
    world.deploy(with_revision(next));
    world.run_for(LONG);
    assert_eq!(
        (world.running("f1").len(), world.running("m1").len()),
        (2, 2)
    );
    for version in ["f2", "g1", "n1"] {
        assert!(world.running(version).is_empty(), "{version}");
    }
    let failed = ("new".to_owned(), "DEPLOY_FAILED".to_owned());
    assert!(words(&world).contains(&failed), "{:?}", words(&world));
    assert_eq!(words(&world).len(), 3);
    assert_eq!(world.routes, before);
    world.assert_at_rest();
    world.deploy(shop("f3", "m1"));
    world.run();
    assert_eq!(words(&world).len(), 2);
    world.assert_at_rest();
}

#[test]
fn a_version_that_comes_up_and_dies_again_and_again_is_taken_back() {
    let mut world = up();
    // It is never whole, since the other one does not come up.
    world.behaviours.insert("f2".into(), Behaviour::StartHangs);
    world.deploy(shop("f2", "m2"));
    for _ in 0..100 {
        if world.status("a").status == "DEPLOY_FAILED" {
            break;
        }
        world.run_for(Duration::from_secs(1));
        for id in world.running("m2") {
            world.end_with(&id, 11, "signal 11 (SIGSEGV)");
        }
        world.run();
    }
    world.run_for(LONG);
    assert_eq!(world.status("a").status, "DEPLOY_FAILED");
    assert!(world.running("f2").is_empty() && world.running("m2").is_empty());
    assert_eq!(
        (world.running("f1").len(), world.running("m1").len()),
        (2, 2)
    );
    world.assert_at_rest();
}

#[test]
fn a_count_that_somebody_asked_for_comes_back_too() {
    let mut world = up();
    world.scale("front", 5);
    world.run();
    world.behaviours.insert("m2".into(), Behaviour::StartFails);
    let deployments = vec![deployment("front", "f2", 3), deployment("model", "m2", 2)];
    world.deploy(application("a", deployments));
    world.run_for(LONG);
    assert_eq!(
        (world.running("f1").len(), world.running("f2").len()),
        (5, 0)
    );
    world.assert_at_rest();
}

#[test]
fn of_two_that_fail_in_a_row_it_goes_back_to_what_was_whole() {
    let mut world = up();
    world.behaviours.insert("m2".into(), Behaviour::StartHangs);
    world.behaviours.insert("f3".into(), Behaviour::StartFails);
    world.deploy(shop("f2", "m2"));
    world.run();
    assert_eq!(world.running("f2").len(), 2, "the first half is there");
    world.deploy(shop("f3", "m1"));
    world.run_for(LONG);
    assert_eq!(
        (world.running("f1").len(), world.running("m1").len()),
        (2, 2)
    );
    assert!(world.running("f2").is_empty() && world.running("f3").is_empty());
    assert_eq!(
        world.status("a").why[0].sentence,
        "r3 did not come up, so r1 serves on."
    );
    world.assert_at_rest();
}
