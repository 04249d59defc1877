//! Deploys are recorded, by number, with what came of them; and they can be gone back to.

use std::time::Duration;

use eagleray_types::control::{CodeFile, RevisionRecord};

use super::{
    builds::{apply, config, done},
    world::{Behaviour, World, application, deployment, options, simple, with_revision},
};

fn results(records: &[RevisionRecord]) -> Vec<(u64, &str)> {
    records
        .iter()
        .map(|one| (one.number, one.result.as_str()))
        .collect()
}

#[test]
fn a_deploy_is_recorded_with_its_number_its_times_and_what_changed() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 1));
    let began = world.wall_time_s();
    world.run();
    let records = world.history("a");
    assert_eq!(results(&records), [(1, "running")]);
    assert!(records[0].current && records[0].changed.is_empty());
    assert_eq!(records[0].source, "imperative");

    world.run_for(Duration::from_secs(5));
    let mut spec = simple("v2", 3);
    spec.code_files = vec![CodeFile {
        path: "rank.py".into(),
        sha256: "1".into(),
    }];
    world.behaviours.insert("v2".into(), Behaviour::StartHangs);
    world.deploy(with_revision(spec));
    world.run_for(Duration::from_secs(7));
    assert_eq!(
        results(&world.history("a")),
        [(2, "deploying"), (1, "running")]
    );
    let mut of: Vec<u64> = world.status("a").deployments[0]
        .replicas
        .iter()
        .map(|one| one.revision_number)
        .collect();
    of.sort_unstable();
    assert!(of.starts_with(&[1]) && of.ends_with(&[2]), "{of:?}");
    world.behaviours.clear();
    world.run();
    let records = world.history("a");
    assert_eq!(results(&records), [(2, "running"), (1, "running")]);
    assert_eq!((records[0].current, records[1].current), (true, false));
    assert!((records[0].deployed_at_s - began - 5.0).abs() < 1e-6);
    let receipt = records[0].receipt.as_ref().unwrap();
    assert_eq!(
        (receipt.began_at_s, receipt.ended_at_s),
        (began + 5.0, began + 12.0)
    );
    let deployment = &receipt.deployments[0];
    assert_eq!(deployment.change, "restart");
    assert_eq!(
        (deployment.replicas_before, deployment.replicas_after),
        (1, 3)
    );
    assert_eq!(
        records[0].changed,
        [
            "changed code: rank.py (new)",
            "d: its arguments, or code that travels by value, changed",
            "d: num_replicas 1 -> 3"
        ]
    );
    let status = world.status("a");
    assert_eq!(status.revision_number, 2);
    let deploy = status.deploy.unwrap();
    assert_eq!(
        (deploy.state.as_str(), deploy.number, deploy.from),
        ("done", 2, 1)
    );
}

#[test]
fn what_is_deployed_unchanged_makes_no_record() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 1));
    world.run();
    world.deploy(simple("v1", 1));
    world.run();
    assert_eq!(results(&world.history("a")), [(1, "running")]);
}

#[test]
fn a_deploy_that_does_not_come_up_is_rolled_back_or_failed() {
    let mut world = World::new(1);
    world.behaviours.insert("bad".into(), Behaviour::StartFails);
    world.deploy(simple("bad", 1));
    world.run_for(Duration::from_secs(600));
    let records = world.history("a");
    assert_eq!(results(&records), [(1, "failed")]);
    let failure = records[0].failure.as_ref().unwrap();
    assert_eq!(failure.code, "start_failed");
    assert_eq!(
        failure.message,
        "d: 3 of 3 starts failed\nTraceback: ValueError"
    );
    assert_eq!(world.status("a").deploy.unwrap().from, 0);
    world.deploy(simple("v1", 1));
    world.run();
    world.deploy(simple("bad", 1));
    world.run_for(Duration::from_secs(600));
    let expected = [(3, "rolled_back"), (2, "running"), (1, "failed")];
    assert_eq!(results(&world.history("a")), expected);
    assert_eq!(world.status("a").deploy.unwrap().state, "rolled_back");
    assert_eq!(world.running("v1").len(), 1);
    // Two failures in a row: what serves is neither.
    world
        .behaviours
        .insert("worse".into(), Behaviour::StartFails);
    world.deploy(simple("worse", 1));
    world.run_for(Duration::from_secs(600));
    assert_eq!(results(&world.history("a"))[0], (4, "rolled_back"));
    let status = world.status("a");
    assert_eq!(status.deploy.unwrap().from, 2);
    assert_eq!(
        status.why[0].sentence,
        "r4 did not come up, so r2 serves on."
    );
    // Back is where it ran.
    let call = world.rollback("a", "");
    world.run();
    assert!(!world.notes(call).is_empty());
    let records = world.history("a");
    assert_eq!(results(&records)[0], (5, "running"));
    assert_eq!(
        (records[0].rollback_of, records[0].source.as_str()),
        (2, "rollback")
    );
    world.assert_at_rest();
}

#[test]
fn one_deploy_after_another_supersedes_it() {
    let mut world = World::new(1);
    world.behaviours.insert("v1".into(), Behaviour::StartHangs);
    world.deploy(simple("v1", 1));
    world.run();
    world.deploy(simple("v2", 1));
    world.run();
    let expected = [(2, "running"), (1, "superseded")];
    assert_eq!(results(&world.history("a")), expected);
}

#[test]
fn a_rollback_names_a_number_a_hash_or_nothing() {
    let mut world = World::new(1);
    for version in ["v1", "v2", "v3"] {
        world.deploy(simple(version, 1));
        world.run();
    }
    let hash = world.history("a")[1].revision.clone();
    for (name, version) in [
        ("r1", "v1"),
        ("3", "v3"),
        (&hash[..], "v2"),
        ("", "v3"),
        (&hash[..8], "v2"),
    ] {
        let call = world.rollback("a", name);
        world.run();
        assert_eq!(world.notes(call).len(), 1, "{name}");
        assert_eq!(world.running(version).len(), 1, "{name}");
    }
    assert_eq!(world.history("a").len(), 8);
    let call = world.rollback("a", "r77");
    world.run();
    let (kind, message) = world.error(call);
    assert_eq!(kind, "not_found");
    assert!(
        message.contains("r8 (") && message.contains("revision r77"),
        "{message}"
    );
    let call = world.rollback("nobody", "");
    world.run();
    assert_eq!(world.error(call).0, "not_found");
}

#[test]
fn history_survives_the_controller_and_is_settled_by_the_next() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 1));
    world.run();
    world.behaviours.insert("v2".into(), Behaviour::StartHangs);
    world.deploy(simple("v2", 1));
    world.run();
    let before = world.history("a");
    assert_eq!(results(&before), [(2, "deploying"), (1, "running")]);
    world.restart_controller(2);
    world.start();
    world.run();
    assert_eq!(world.history("a"), before);
    world.behaviours.clear();
    world.run();
    assert_eq!(
        results(&world.history("a")),
        [(2, "running"), (1, "running")]
    );
    world.assert_at_rest();
}

#[test]
fn a_deleted_application_comes_back_within_seven_days() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 2));
    world.run();
    world.deploy(application("b", vec![deployment("d", "b1", 1)]));
    world.run();
    world.delete("a");
    world.run();
    assert_eq!(results(&world.history("a")), [(1, "deleted")]);
    assert_eq!(world.history("").len(), 2);
    world.restart_controller(2);
    world.start();
    world.run_for(Duration::from_secs(6 * 24 * 3600));
    let call = world.rollback("a", "");
    world.run();
    assert_eq!(world.notes(call), ["d starts with 2 replica(s)"]);
    let records = world.history("a");
    assert_eq!(results(&records), [(2, "running"), (1, "deleted")]);
    assert_eq!(records[0].rollback_of, 1);
    world.delete("a");
    world.run();
    let blob = world.stored.root.deleted[0].records[1].revision.clone();
    world.run_for(Duration::from_secs(8 * 24 * 3600));
    assert!(world.stored.root.deleted.is_empty());
    assert!(!world.stored.root.blobs().contains(blob.as_str()));
    let call = world.rollback("a", "r2");
    world.run();
    assert_eq!(world.error(call).0, "not_found");
}

#[test]
fn the_values_of_environment_variables_are_not_in_what_changed() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 1));
    world.run();
    let mut spec = simple("v2", 1);
    spec.deployments[0].options = options(1);
    let variables = &mut spec.deployments[0].options.environment;
    variables.insert("API_KEY".into(), "hunter2".into());
    let call = world.deploy(with_revision(spec));
    world.run();
    let text = format!("{:?} {:?}", world.history("a"), world.notes(call));
    assert!(
        text.contains("env_vars API_KEY") && !text.contains("hunter2"),
        "{text}"
    );
}

#[test]
fn a_rollback_says_which_packages_are_not_what_they_were() {
    let mut world = World::new(1);
    let with_numpy = |version: &str, numpy: &str| {
        let mut spec = simple(version, 1);
        let packages = [("numpy", numpy), ("pandas", "2.1.0")];
        let packages = packages.map(|(name, number)| (name.to_owned(), number.to_owned()));
        spec.deployments[0].packages = packages.into();
        with_revision(spec)
    };
    world.deploy(with_numpy("v1", "1.26.4"));
    world.run();
    world.deploy(with_numpy("v2", "2.0.1"));
    world.run();
    let call = world.rollback("a", "");
    world.run();
    let notes = world.notes(call);
    assert!(notes[0].contains("numpy 2.0.1 -> 1.26.4"), "{notes:?}");
    let warning = notes.last().unwrap();
    assert!(
        warning.contains("since r1: numpy 1.26.4 -> 2.0.1; a rollback brings back code"),
        "{notes:?}"
    );
    assert!(!warning.contains("pandas"), "{notes:?}");
}

#[test]
fn a_gibibyte_of_blobs_is_kept_and_at_least_the_revision_before() {
    let mut world = World::new(1);
    let mebibytes = |world: &mut World, version: &str, size: u64| {
        let blob = simple(version, 1).deployments[0].callable_blob.clone();
        world.deploy(simple(version, 1));
        world.core.know_sizes(vec![(blob, size * 1024 * 1024)]);
        world.run_for(Duration::from_secs(1));
    };
    for version in ["v1", "v2", "v3"] {
        mebibytes(&mut world, version, 400);
    }
    assert_eq!(
        results(&world.history("a")),
        [(3, "running"), (2, "running")]
    );
    mebibytes(&mut world, "v4", 2000);
    mebibytes(&mut world, "v5", 2000);
    assert_eq!(
        results(&world.history("a")),
        [(5, "running"), (4, "running")]
    );
    world.assert_at_rest();
    let call = world.rollback("a", "r1");
    world.run();
    assert_eq!(world.error(call).0, "not_found");
    world.rollback("a", "r4");
    world.run();
    assert_eq!(world.running("v4").len(), 1);
    mebibytes(&mut world, "v6", 1);
    let kept = world.history("a");
    assert_eq!(kept.len(), 2, "the blob of the fifth has no room: {kept:?}");
}

#[test]
fn a_rollback_brings_back_what_was_declared_and_so_does_one_of_a_deleted_application() {
    let mut world = World::new(1);
    for (count, version) in [(1, "v1"), (2, "v2")] {
        world.apply(apply(vec![config("a", count)]));
        world.run();
        let build = *world.building().last().unwrap();
        world.built(done(build, simple(version, count)));
        world.run();
    }
    let declared = |world: &World| world.status("a").config;
    let (first, second) = (config("a", 1).config, config("a", 2).config);
    assert_eq!(declared(&world), second);
    let call = world.rollback("a", "r2");
    world.run();
    assert_eq!(world.notes(call), ["d keeps its replicas"]);
    assert_eq!(world.history("a").len(), 2, "it is there already");
    world.rollback("a", "r1");
    world.run();
    assert_eq!(declared(&world), first);
    let newest = world.history("a").remove(0);
    assert_eq!((newest.number, newest.config), (3, first.clone()));
    assert_eq!(world.running("v1").len(), 1);
    world.apply(apply(Vec::new()));
    world.run();
    assert_eq!(results(&world.history("a"))[0], (3, "deleted"));
    world.restart_controller(2);
    world.start();
    world.run();
    world.rollback("a", "r2");
    world.run();
    assert_eq!(declared(&world), second);
    assert_eq!(world.running("v2").len(), 2);
    assert_eq!(world.status("a").source, "declarative");
    world.assert_at_rest();
}

#[test]
fn any_two_revisions_are_compared_and_not_what_lies_between_them() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 1));
    world.run();
    world.deploy(simple("v2", 4));
    world.run();
    world.rollback("a", "r1");
    world.run();
    let there = world.compare("r1", "r2");
    assert_eq!((there.from, there.change.as_str()), (1, "update"));
    assert_eq!(there.deployments[0].change, "restart");
    assert!(
        there.deployments[0]
            .reasons
            .contains(&"num_replicas 1 -> 4".to_owned())
    );
    let back = world.compare("r2", "r1");
    assert!(
        back.deployments[0]
            .reasons
            .contains(&"num_replicas 4 -> 1".to_owned())
    );
    assert_eq!(world.compare("r1", "r3").change, "unchanged");
}
