//! The health gate of an update: what is new counts when it has been ready, and well, for `min_ready_s`.

use std::time::Duration;

use eagleray_types::control::ApplicationSpec;

use super::world::{Behaviour, World, application, deployment, simple, with_revision};

const SECOND: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(600);

/// `simple`, on trial for so long.
fn gated(version: &str, count: u32, min_ready_s: f64) -> ApplicationSpec {
    let mut spec = simple(version, count);
    spec.deployments[0].options.min_ready_s = min_ready_s;
    spec.deployments[0].options.health_check_period_s = 1.0;
    with_revision(spec)
}

fn up(count: u32) -> World {
    let mut world = World::new(1);
    world.deploy(simple("v1", count));
    world.run();
    assert_eq!(world.status("a").status, "RUNNING");
    world
}

fn serving(world: &World) -> (usize, usize) {
    (world.running("v1").len(), world.running("v2").len())
}

#[test]
fn an_update_counts_on_a_replica_when_it_has_been_ready_for_its_time() {
    let mut world = up(3);
    world.deploy(gated("v2", 3, 10.0));
    world.step(0);
    let wait = world.wait_for("a");
    for step in 0..3 {
        world.run();
        assert_eq!(serving(&world), (3 - step, step + 1));
        assert_eq!(world.routed_to("d").len(), 4, "it gets requests meanwhile");
        let why = &world.status("a").deployments[0].why;
        assert_eq!(why[0].code, "on_trial", "{why:?}");
        assert!(why[0].sentence.contains("in 10 s if it stays well"));
        world.run_for(Duration::from_millis(9_500));
        assert_eq!(serving(&world), (3 - step, step + 1));
        assert_eq!(world.status("a").status, "DEPLOYING");
        assert!(world.settled(wait).is_none());
        world.run_for(Duration::from_millis(500));
    }
    assert_eq!(serving(&world), (0, 3));
    assert_eq!(world.settled(wait).unwrap().status, "RUNNING");
    world.assert_at_rest();
    // Those that come later are on no trial: the version has run at full size.
    world.scale("d", 5);
    world.run();
    assert_eq!(world.status("a").status, "RUNNING");
}

#[test]
fn a_version_whose_replicas_do_not_live_for_their_time_is_taken_back() {
    let mut world = up(2);
    world.deploy(gated("v2", 2, 10.0));
    let (mut deaths, begin) = (0, world.now);
    while world.status("a").status != "DEPLOY_FAILED" {
        world.run_for(5 * SECOND);
        assert_eq!(world.running("v1").len(), 2, "the old ones serve");
        assert!(world.processes.len() <= 3);
        for id in world.running("v2") {
            deaths += 1;
            world.end_with(&id, 11, "signal 11 (SIGSEGV)");
        }
        world.run();
        assert!(world.now < begin + LONG);
    }
    assert!(deaths <= 6, "{deaths}");
    world.run_for(LONG);
    assert_eq!(serving(&world), (2, 0));
    let status = world.status("a");
    for part in [
        "within its min_ready_s of 10 s: signal 11 (SIGSEGV)",
        "It came up, and did not live for as long as min_ready_s asks.",
        "r1 serves: 2 of 2 replicas run.",
    ] {
        assert!(status.message.contains(part), "{}", status.message);
    }
    assert_eq!(world.history("a")[0].result, "rolled_back");
    world.assert_at_rest();
}

#[test]
fn one_that_is_not_well_at_the_end_of_its_time_is_tried_on_and_one_that_stays_so_has_failed() {
    let mut world = up(1);
    world.deploy(gated("v2", 1, 4.0));
    world.run_for(Duration::from_millis(2_500));
    world.behaviours.insert("v2".into(), Behaviour::Sick);
    world.run_for(Duration::from_millis(1_200));
    world.behaviours.clear();
    world.run_for(SECOND / 10);
    assert_eq!(
        serving(&world),
        (1, 1),
        "one check failed, and none passed since"
    );
    world.run_for(2 * SECOND);
    assert_eq!(serving(&world), (0, 1));

    world.deploy(gated("v1", 1, 4.0));
    world.run();
    world.behaviours.insert("v1".into(), Behaviour::Sick);
    world.run_for(LONG);
    assert_eq!(serving(&world), (0, 1));
    let status = world.status("a");
    assert_eq!(status.status, "DEPLOY_FAILED");
    assert!(
        status.message.contains("failed 3 health checks in a row"),
        "{}",
        status.message
    );
    world.assert_at_rest();
}

#[test]
fn a_first_deploy_is_up_when_its_replicas_have_lived_for_their_time() {
    let mut world = World::new(1);
    world.deploy(gated("v1", 2, 5.0));
    world.run_for(4 * SECOND);
    assert_eq!(world.routed_to("d").len(), 2);
    assert_eq!(world.status("a").status, "DEPLOYING");
    world.run_for(2 * SECOND);
    assert_eq!(world.status("a").status, "RUNNING");
    world.assert_at_rest();
}

#[test]
fn a_deploy_a_rollback_and_a_delete_in_the_midst_of_a_trial() {
    let mut world = up(2);
    world.deploy(gated("v2", 2, 30.0));
    world.run_for(SECOND);
    assert_eq!(serving(&world), (2, 1));
    world.deploy(gated("v3", 2, 30.0));
    world.run_for(SECOND);
    assert_eq!(serving(&world), (2, 0), "what was overtaken goes");
    assert_eq!(world.running("v3").len(), 1);

    world.rollback("a", "r1");
    world.run();
    assert_eq!(serving(&world), (2, 0));
    assert!(world.running("v3").is_empty());
    assert_eq!(
        world.status("a").status,
        "RUNNING",
        "what has served is on no trial"
    );
    world.assert_at_rest();

    world.deploy(gated("v2", 2, 30.0));
    world.run_for(SECOND);
    world.delete("a");
    world.run_for(LONG);
    assert!(world.processes.is_empty());
    world.assert_at_rest();
}

#[test]
fn the_next_controller_begins_trials_anew_and_a_shorter_time_counts_at_once() {
    let mut world = up(1);
    world.deploy(gated("v2", 1, 10.0));
    world.run_for(8 * SECOND);
    world.restart_controller(2);
    world.start();
    world.run_for(8 * SECOND);
    assert_eq!(serving(&world), (1, 1));
    world.deploy(gated("v2", 1, 9.0));
    world.run_for(Duration::from_millis(1_500));
    assert_eq!(serving(&world), (0, 1));
    assert_eq!(world.status("a").status, "RUNNING");
    world.assert_at_rest();
}

#[test]
fn when_one_deployment_fails_its_trial_all_go_back() {
    let shop = |front: &str, model: &str| {
        let mut spec = application(
            "a",
            vec![deployment("front", front, 2), deployment("model", model, 2)],
        );
        spec.deployments[1].options.min_ready_s = 5.0;
        with_revision(spec)
    };
    let mut world = World::new(1);
    world.deploy(shop("f1", "m1"));
    world.run_for(LONG);
    world.deploy(shop("f2", "m2"));
    for _ in 0..60 {
        world.run_for(SECOND);
        for id in world.running("m2") {
            world.end_with(&id, 1, "exit status 1");
        }
        world.run();
        assert_eq!(world.running("m1").len(), 2);
    }
    world.run_for(LONG);
    assert_eq!(
        (world.running("f1").len(), world.running("f2").len()),
        (2, 0)
    );
    assert_eq!(world.status("a").status, "DEPLOY_FAILED");
    world.assert_at_rest();
}
