//! Deploys that succeed, scale, change in place, roll, go back and end.

use std::{collections::BTreeSet, time::Duration};

use eagleray_types::control::{CodeFile, api_response};

use super::world::{World, application, deployment, options, simple, with_revision};

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
fn light_options_reach_routers_and_no_replica() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 2));
    world.run();
    world.take_words();
    let mut spec = simple("v1", 2);
    spec.deployments[0].options.max_queued_requests = 7;
    let call = world.deploy(with_revision(spec));
    world.run();
    assert_eq!(
        world.notes(call),
        ["d keeps its replicas (max_queued_requests changed)"]
    );
    assert_eq!(world.take_words(), Vec::<String>::new());
    assert!(
        world
            .routed
            .values()
            .all(|target| target.max_queued_requests == 7)
    );
    assert_eq!(world.status("a").status, "RUNNING");
}

#[test]
fn what_no_replica_obeys_is_named_and_no_replica_hears_of_it() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 2));
    world.run();
    world.take_words();
    let mut spec = simple("v1", 2);
    let options = &mut spec.deployments[0].options;
    options.graceful_shutdown_wait_loop_s = 1.0;
    options.hang_timeout_s = 7.0;
    options.backpressure_status = 429;
    options.backpressure_retry_after_s = 3.0;
    let call = world.deploy(with_revision(spec));
    world.run();
    let changes = "graceful_shutdown_wait_loop_s changed, backpressure_config changed, hang_timeout_s changed";
    assert_eq!(
        world.notes(call),
        [format!("d keeps its replicas ({changes})")]
    );
    assert_eq!(world.take_words(), Vec::<String>::new());
    assert_eq!(world.status("a").status, "RUNNING");
}

#[test]
fn user_config_changes_in_place_and_the_replica_stays_routed() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 1));
    world.run();
    let (before, _) = (world.routed_to("d"), world.take_words());
    let mut spec = simple("v1", 1);
    spec.deployments[0].options.user_config = "{\"a\":1}".into();
    spec.deployments[0].options.max_ongoing_requests = 9;
    world.deploy(with_revision(spec));
    world.step(0);
    assert_eq!(
        world.status("a").deployments[0].replica_states["UPDATING"],
        1
    );
    assert_eq!(world.routed_to("d"), before);
    assert_eq!(world.status("a").status, "DEPLOYING");
    world.run();
    assert_eq!(world.take_words(), ["reconfigure {\"a\":1}"]);
    assert_eq!(world.status("a").status, "RUNNING");
    assert_eq!(
        world.routed.values().next().unwrap().versions[0].max_ongoing_requests,
        9
    );
    world.assert_at_rest();
}

#[test]
fn scaling_starts_more_and_stops_the_newest() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 1));
    world.run();
    let first = world.routed_to("d");
    world.deploy(simple("v1", 4));
    world.step(0);
    assert_eq!(world.status("a").deployments[0].status, "UPSCALING");
    world.run();
    assert_eq!(world.routed_to("d").len(), 4);
    assert_eq!(
        world.status("a").deployments[0].status_trigger,
        "UPSCALE_COMPLETED"
    );
    world.deploy(simple("v1", 1));
    world.run();
    assert_eq!(world.routed_to("d"), first);
    assert_eq!(
        world.status("a").deployments[0].status_trigger,
        "DOWNSCALE_COMPLETED"
    );
    assert_eq!(world.processes.len(), 1);
}

/// Ranks and world sizes as the replicas heard of them, in the order of ranks.
fn told(world: &World) -> Vec<(u32, u32)> {
    let mut told: Vec<(u32, u32)> = world
        .processes
        .values()
        .filter(|one| one.serves())
        .map(|one| one.told)
        .collect();
    told.sort_unstable();
    told
}

// contract: 1.5/context-rank, 1.5/context-world_size, G/25
#[test]
fn every_replica_hears_of_its_rank_and_of_how_many_there_are() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 2));
    world.run();
    assert_eq!(told(&world), [(0, 2), (1, 2)]);
    world.deploy(simple("v1", 4));
    world.run();
    assert_eq!(told(&world), [(0, 4), (1, 4), (2, 4), (3, 4)]);

    // The one with rank 0 dies: its successor has the rank, and the others keep theirs.
    let (first, _) = world
        .processes
        .iter()
        .find(|(_, one)| one.told.0 == 0)
        .unwrap();
    let first = first.clone();
    let others: Vec<(String, (u32, u32))> = world
        .processes
        .iter()
        .filter(|(id, _)| **id != first)
        .map(|(id, one)| (id.clone(), one.told))
        .collect();
    world.kill(&first);
    world.run_for(Duration::from_secs(60));
    assert_eq!(told(&world), [(0, 4), (1, 4), (2, 4), (3, 4)]);
    for (id, told) in others {
        assert_eq!(world.processes[&id].told, told);
    }

    // The newest go first, and the successor is the newest: somebody takes its rank, once it is gone.
    world.deploy(simple("v1", 2));
    while world.processes.values().all(|one| one.stopping.is_none()) {
        assert!(world.step(0));
    }
    assert_eq!(told(&world), [(1, 2), (2, 2)]);
    // Who starts meanwhile is not told a rank that one of those that stop still has.
    world.deploy(simple("v1", 3));
    world.run();
    assert_eq!(told(&world), [(0, 3), (1, 3), (2, 3)]);
    world.deploy(simple("v1", 2));
    world.run();
    assert_eq!(told(&world), [(0, 2), (1, 2)]);
    world.deploy(simple("v2", 3));
    world.run();
    assert_eq!(told(&world), [(0, 3), (1, 3), (2, 3)]);
    world.assert_at_rest();
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
fn ten_revisions_are_kept_and_the_one_that_serves() {
    let mut world = World::new(1);
    world.deploy(simple("good", 1));
    world.run();
    for number in 0..15 {
        world
            .behaviours
            .insert(format!("bad{number}"), super::world::Behaviour::StartHangs);
        world.deploy(simple(&format!("bad{number}"), 1));
        world.run();
    }
    let root = &world.stored.root.applications[0];
    assert_eq!(root.history.len(), 10);
    assert_eq!(
        world.stored.revisions[&root.serving["d"]].deployments[0].version,
        "good"
    );
    assert_eq!(world.running("good").len(), 1);
}

#[test]
fn a_deleted_application_leaves_nothing() {
    let mut world = World::new(1);
    world.deploy(application(
        "a",
        vec![deployment("d", "v1", 2), deployment("e", "v1", 1)],
    ));
    world.run();
    let call = world.delete("a");
    world.step(0);
    assert_eq!(world.status("a").status, "DELETING");
    assert!(world.reply(call).is_none());
    world.run();
    assert!(matches!(
        world.reply(call),
        Some(api_response::Body::Done(_))
    ));
    assert!(
        world.processes.is_empty() && world.routed.is_empty() && world.routes.routes.is_empty()
    );
    assert!(world.stored.root.applications.is_empty());
    assert!(world.core.books.applications.is_empty() && world.core.books.register.len() == 0);
    let call = world.delete("unknown");
    world.run();
    assert!(
        matches!(world.reply(call), Some(api_response::Body::Done(_))),
        "an unknown name is gone"
    );
}

#[test]
fn a_delete_that_has_begun_is_durable_and_deletes_nothing_that_comes_later() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 1));
    world.run();
    let begun = world.begin_delete("a");
    while world.reply(begun).is_none() {
        assert!(world.step(0));
    }
    assert!(world.stored.root.applications.is_empty());
    assert_eq!(world.status("a").status, "DELETING");
    let waiting = world.await_deleted("a");
    assert!(world.reply(waiting).is_none());
    world.deploy(simple("v1", 1));
    world.run();
    assert!(
        world.reply(waiting).is_some(),
        "what it waited for is not there any more"
    );
    for _ in 0..2 {
        let late = world.await_deleted("a");
        world.run();
        assert!(world.reply(late).is_some());
        assert_eq!(world.status("a").status, "RUNNING");
    }
    world.begin_delete("a");
    let waiting = world.await_deleted("a");
    world.run();
    assert!(world.reply(waiting).is_some() && world.processes.is_empty());
}

#[test]
fn an_application_that_is_deployed_while_it_is_deleted_lives() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 1));
    world.run();
    let delete = world.delete("a");
    let deploy = world.deploy(simple("v1", 1));
    world.run();
    assert!(world.reply(delete).is_some() && world.reply(deploy).is_some());
    assert_eq!(
        (world.status("a").status.as_str(), world.processes.len()),
        ("RUNNING", 1)
    );
}

#[test]
fn waits_end_when_the_application_is_replaced_or_deleted() {
    let mut world = World::new(1);
    world
        .behaviours
        .insert("v1".into(), super::world::Behaviour::StartHangs);
    world.deploy(simple("v1", 1));
    world.run();
    let call = world.wait_for("a");
    world.delete("a");
    world.run();
    assert_eq!(world.error(call).0, "not_found");
    let unknown = world.wait_for("a");
    assert_eq!(world.error(unknown).0, "not_found");
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
fn a_deployment_that_is_no_longer_there_goes_after_the_others_have_rolled() {
    let mut world = World::new(1);
    world.deploy(application(
        "a",
        vec![deployment("d", "v1", 1), deployment("e", "v1", 1)],
    ));
    world.run();
    world
        .behaviours
        .insert("v2".into(), super::world::Behaviour::StartHangs);
    world.deploy(application("a", vec![deployment("d", "v2", 1)]));
    world.run();
    assert_eq!(world.routed_to("e").len(), 1, "what still runs may call it");
    world.behaviours.clear();
    world.run();
    assert_eq!(world.routed_to("e").len(), 0);
    assert_eq!(world.processes.len(), 1);
    world.assert_at_rest();
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
    world.feed(super::super::Event::Node(wanted));
    assert_eq!(world.routed.len(), 1);
}

#[test]
fn to_delete_what_has_no_name_deletes_nothing() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 1));
    world.run();
    for call in [world.delete(""), world.begin_delete("")] {
        world.run();
        assert!(world.reply(call).is_some());
    }
    assert_eq!(world.status("a").status, "RUNNING");
    world.assert_at_rest();
}
