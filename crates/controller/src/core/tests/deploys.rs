//! Deploys that succeed, scale, change in place, roll, go back and end.

use std::{collections::BTreeSet, time::Duration};

use eagleray_types::control::{CodeFile, api_response};

use super::world::{World, application, deployment, from_node, options, simple, with_revision};

#[test]
fn a_deploy_starts_its_replicas_routes_to_them_and_settles() {
    let mut world = World::new(1);
    let spec = simple("v1", 2);
    let deployed = world.deploy(spec.clone());
    assert!(world.reply(deployed).is_none(), "not before it is durable");
    world.run();
    assert_eq!(world.notes(deployed), ["d starts with 2 replica(s)"]);
    let wait = world.wait_for("a");
    world.run();
    let status = world.settled(wait).unwrap();
    assert_eq!(
        (status.status.as_str(), status.revision.as_str()),
        ("RUNNING", spec.revision.as_str())
    );
    let deployment = &status.deployments[0];
    assert_eq!(
        (
            deployment.status.as_str(),
            deployment.status_trigger.as_str()
        ),
        ("HEALTHY", "CONFIG_UPDATE_COMPLETED")
    );
    assert_eq!(deployment.replica_states["RUNNING"], 2);
    assert_eq!(deployment.replicas[0].pid, 42);
    assert_eq!(world.routed_to("d").len(), 2);
    assert_eq!(world.routes.routes[0].prefix, "/a");
    world.assert_at_rest();
}

#[test]
fn an_application_is_not_settled_before_the_proxy_knows_it() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 1));
    while !world
        .core
        .statuses(world.now)
        .iter()
        .any(|one| one.status == "RUNNING")
    {
        assert!(world.step(0));
    }
    let wait = world.wait_for("a");
    assert!(world.settled(wait).is_none());
    world.run();
    assert!(world.settled(wait).is_some());
}

#[test]
fn the_same_deploy_twice_gives_no_commands() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 2));
    world.run();
    world.take_words();
    let again = world.deploy(simple("v1", 2));
    world.run();
    assert_eq!(world.notes(again), ["d keeps its replicas"]);
    assert_eq!(world.take_words(), Vec::<String>::new());
    let wait = world.wait_for("a");
    assert!(world.settled(wait).is_some(), "answered at once");
}

#[test]
fn a_new_version_starts_before_the_old_one_stops() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 2));
    world.run();
    let old: BTreeSet<String> = world.routed_to("d");
    world.deploy(simple("v2", 2));
    let mut least = usize::MAX;
    while world.step(0) {
        least = least.min(world.routed_to("d").len());
    }
    assert!(least >= 2, "never fewer than two serve");
    assert!(world.routed_to("d").is_disjoint(&old));
    assert_eq!((world.processes.len(), world.running("v2").len()), (2, 2));
    assert_eq!(world.status("a").status, "RUNNING");
    world.assert_at_rest();
}

#[test]
fn an_old_replica_drains_leaves_the_routers_and_then_stops_with_its_grace() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 1));
    world.run();
    let old = world.running("v1")[0].clone();
    world.take_words();
    world.deploy(simple("v2", 1));
    while !world.processes[&old].draining {
        assert!(world.step(0));
    }
    assert_eq!(world.processes[&old].stopping, Some(20_000));
    assert!(!world.routed_to("d").contains(&old));
    assert_eq!(world.take_words(), ["spawn a/d", "drain", "stop"]);
}

#[test]
fn a_rollback_really_goes_back_and_a_second_one_forward_again() {
    let mut world = World::new(1);
    let (first, second) = (simple("v1", 1), simple("v2", 1));
    for spec in [&first, &second] {
        world.deploy(spec.clone());
        world.run();
    }
    let call = world.rollback("a", "");
    world.run();
    assert!(
        matches!(world.reply(call), Some(api_response::Body::Deployed(one)) if one.revision == first.revision)
    );
    assert_eq!(
        (world.running("v1").len(), world.running("v2").len()),
        (1, 0)
    );
    let call = world.rollback("a", &second.revision);
    world.run();
    assert_eq!(world.running("v2").len(), 1);
    assert!(matches!(
        world.reply(call),
        Some(api_response::Body::Deployed(_))
    ));
    let call = world.rollback("a", "never");
    assert_eq!(world.error(call).0, "not_found");
    let call = world.rollback("b", "");
    assert_eq!(world.error(call).0, "not_found");
}

#[test]
fn fifty_deploys_are_kept_and_the_revision_that_serves() {
    let mut world = World::new(1);
    world.deploy(simple("good", 1));
    world.run();
    for number in 0..55 {
        world
            .behaviours
            .insert(format!("bad{number}"), super::world::Behaviour::StartHangs);
        world.deploy(simple(&format!("bad{number}"), 1));
        world.run();
    }
    let root = &world.stored.root.applications[0];
    assert_eq!(root.records.len(), 50);
    assert_eq!(
        world.stored.revisions[&root.serving["d"]].deployments[0].version,
        "good"
    );
    assert_eq!(world.running("good").len(), 1);
}

#[test]
fn only_the_deployments_that_changed_roll() {
    let mut world = World::new(1);
    world.deploy(application(
        "a",
        vec![deployment("d", "v1", 1), deployment("e", "v1", 1)],
    ));
    world.run();
    world.take_words();
    let call = world.deploy(application(
        "a",
        vec![deployment("d", "v1", 1), deployment("e", "v2", 1)],
    ));
    world.run();
    assert_eq!(world.take_words(), ["spawn a/e", "drain", "stop"]);
    assert_eq!(world.notes(call)[0], "d keeps its replicas");
}

#[test]
fn a_changed_file_is_named() {
    let mut world = World::new(1);
    let with_file = |version: &str, sum: &str| {
        let mut spec = simple(version, 1);
        spec.code_files = vec![CodeFile {
            path: "helper.py".into(),
            sha256: sum.into(),
        }];
        with_revision(spec)
    };
    world.deploy(with_file("v1", "1"));
    world.run();
    let call = world.deploy(with_file("v2", "2"));
    world.run();
    assert!(
        world.notes(call)[0].contains("changed code: helper.py"),
        "{:?}",
        world.notes(call)
    );
}

#[test]
fn what_a_replica_is_started_with_is_all_of_its_revision() {
    let mut world = World::new(1);
    let mut spec = simple("v1", 1);
    spec.code_blob = "c".repeat(64);
    spec.working_directory = "/home/me".into();
    spec.environment.insert("A".into(), "application".into());
    spec.environment.insert("B".into(), "application".into());
    spec.deployments[0].options = options(1);
    spec.deployments[0]
        .options
        .environment
        .insert("B".into(), "deployment".into());
    world.deploy(with_revision(spec));
    world.run();
    let spawn = &world.processes.values().next().unwrap().spawn;
    assert_eq!(
        (spawn.python.as_str(), spawn.working_directory.as_str()),
        ("python3", "/home/me")
    );
    assert_eq!(
        (
            spawn.environment["A"].as_str(),
            spawn.environment["B"].as_str()
        ),
        ("application", "deployment")
    );
    let first = String::from_utf8_lossy(&spawn.first_command).into_owned();
    assert!(
        first.contains(&format!("/blobs/{}", "c".repeat(64)))
            && first.contains("/run/controller.sock")
    );
}

#[test]
fn every_64_updates_there_is_a_snapshot_and_whenever_it_is_wanted() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 1));
    world.run_for(Duration::from_secs(1));
    world.routed.clear();
    let wanted = eagleray_types::control::node_event::Body::SnapshotWanted(
        eagleray_types::control::Empty {},
    );
    world.feed(from_node(wanted));
    assert_eq!(world.routed.len(), 1);
}
