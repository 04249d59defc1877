//! What is declared: from a config to a build, and from a build to what runs.

use std::time::Duration;

use eagleray_types::control::{
    ApplicationSpec, Applied, Apply, Built, DeclaredApplication, Exited, Failure, SpawnFailed,
    api_response, node_event,
};
use serde_json::json;

use super::world::{World, application, deployment, from_node, simple};
use crate::core::{CallId, Request};

impl World {
    pub(super) fn apply(&mut self, apply: Apply) -> CallId {
        self.ask(Request::Apply(Box::new(apply)))
    }

    /// A build says its result.
    pub(super) fn built(&mut self, built: Built) -> CallId {
        self.ask(Request::Built(Box::new(built)))
    }

    pub(super) fn applied(&self, call: CallId) -> &Applied {
        match self.reply(call) {
            Some(api_response::Body::Applied(applied)) => applied,
            other => panic!("not applied: {other:?}"),
        }
    }

    pub(super) fn end_build(&mut self, id: &str, reason: &str, tail: &str) {
        let spawn = self.builds.remove(id).unwrap();
        let exited = Exited {
            replica_id: id.to_owned(),
            epoch: spawn.epoch,
            reason: reason.to_owned(),
            stderr_tail: tail.to_owned(),
            signal: 0,
        };
        self.pending
            .push_back(from_node(node_event::Body::Exited(exited)));
    }

    /// The numbers of the builds that run.
    pub(super) fn building(&self) -> Vec<u64> {
        let number = |spawn: &eagleray_types::control::Spawn| -> u64 {
            let asked: serde_json::Value = serde_json::from_str(&spawn.build).unwrap();
            asked["build"].as_u64().unwrap()
        };
        let mut all: Vec<u64> = self.builds.values().map(number).collect();
        all.sort_unstable();
        all
    }

    fn deploy_state(&self, name: &str) -> (u64, String) {
        let deploy = self.status(name).deploy.unwrap();
        (deploy.deploy, deploy.state)
    }
}

pub(super) fn config(name: &str, num_replicas: u32) -> DeclaredApplication {
    let config = json!({
        "name": name,
        "route_prefix": format!("/{name}"),
        "import_path": "shop:app",
        "deployments": [{"name": "d", "num_replicas": num_replicas}],
    });
    DeclaredApplication {
        name: name.into(),
        config: config.to_string(),
    }
}

pub(super) fn apply(applications: Vec<DeclaredApplication>) -> Apply {
    Apply {
        applications,
        whole: true,
        ..Apply::default()
    }
}

pub(super) fn done(build: u64, spec: ApplicationSpec) -> Built {
    Built {
        build,
        spec: Some(spec),
        ..Built::default()
    }
}

pub(super) fn failed(build: u64, message: &str) -> Built {
    Built {
        build,
        failure: Some(Failure {
            code: "import_failed".into(),
            message: message.into(),
            place: "shop.py:3".into(),
            help: "correct it".into(),
        }),
        ..Built::default()
    }
}

#[test]
fn what_is_declared_is_durable_then_built_then_runs() {
    let mut world = World::new(1);
    let call = world.apply(apply(vec![config("a", 1)]));
    assert!(world.reply(call).is_none() && world.builds.is_empty());
    world.run();
    assert_eq!(world.stored.root.declared.len(), 1);
    assert_eq!(world.applied(call).deploy, 1);
    assert_eq!(world.applied(call).building, ["a"]);
    assert_eq!(world.building(), [1]);
    let status = world.status("a");
    assert_eq!(
        (status.status.as_str(), status.source.as_str()),
        ("DEPLOYING", "declarative")
    );
    assert_eq!(world.deploy_state("a"), (1, "building".into()));

    let said = world.built(done(1, simple("v1", 1)));
    world.run();
    assert!(matches!(
        world.reply(said),
        Some(api_response::Body::Done(_))
    ));
    assert_eq!(world.running("v1").len(), 1);
    assert_eq!(world.status("a").status, "RUNNING");
    assert_eq!(world.deploy_state("a"), (1, "done".into()));
    assert_eq!(world.builds.len(), 1, "it ends by itself");
    world.run_for(Duration::from_secs(11));
    assert!(world.builds.is_empty(), "or is ended");
    world.assert_at_rest();
}

#[test]
fn a_first_build_that_fails_shows_an_application_without_deployments() {
    let mut world = World::new(1);
    world.apply(apply(vec![config("a", 1)]));
    world.run();
    world.built(failed(1, "Traceback: ZeroDivisionError"));
    world.run();
    let status = world.status("a");
    assert_eq!(status.status, "DEPLOY_FAILED");
    assert!(status.deployments.is_empty());
    for part in ["ZeroDivisionError", "shop.py:3", "correct it"] {
        assert!(status.message.contains(part), "{}", status.message);
    }
    assert_eq!(world.deploy_state("a"), (1, "failed".into()));
    world.delete("a");
    world.run();
    assert!(world.stored.root.declared.is_empty());
    assert_eq!(world.core.statuses(world.now), []);
}

#[test]
fn a_build_that_fails_leaves_what_runs_as_it_is() {
    let mut world = World::new(1);
    world.apply(apply(vec![config("a", 1)]));
    world.run();
    world.built(done(1, simple("v1", 1)));
    world.run();
    let before = world.running("v1");
    world.apply(apply(vec![config("a", 2)]));
    world.run();
    world.built(failed(2, "SyntaxError"));
    world.run();
    assert_eq!(world.running("v1"), before);
    assert_eq!(world.routed_to("d").len(), 1);
    assert_eq!(world.status("a").status, "DEPLOY_FAILED");
    assert_eq!(world.deploy_state("a"), (2, "failed".into()));
    // The way out is another apply.
    world.apply(apply(vec![config("a", 1)]));
    world.run();
    world.built(done(3, simple("v1", 1)));
    world.run();
    assert_eq!(world.status("a").status, "RUNNING");
    assert_eq!(world.running("v1"), before);
}

#[test]
fn a_newer_config_ends_the_build_of_the_older_one() {
    let mut world = World::new(1);
    world.apply(apply(vec![config("a", 1)]));
    world.run();
    let second = world.apply(apply(vec![config("a", 2)]));
    world.run();
    assert_eq!(world.building(), [2]);
    let late = world.built(done(1, simple("v1", 1)));
    world.run();
    assert!(world.reply(late).is_some());
    assert!(world.running("v1").is_empty(), "nobody asks for it");
    assert_eq!(world.deploy_state("a"), (2, "building".into()));
    assert_eq!(world.applied(second).deploy, 2);
}

#[test]
fn the_same_config_again_starts_no_second_build_while_one_runs() {
    let mut world = World::new(1);
    world.apply(apply(vec![config("a", 1)]));
    world.run();
    let again = world.apply(apply(vec![config("a", 1)]));
    world.run();
    assert_eq!(world.building(), [1]);
    assert_eq!(world.applied(again).deploy, 2);
    assert_eq!(world.deploy_state("a").0, 2);
    world.apply(Apply {
        rebuild: true,
        ..apply(vec![config("a", 1)])
    });
    world.run();
    assert_eq!(world.building(), [2], "unless it is to be built anew");
    world.built(done(2, simple("v1", 1)));
    world.run();
    world.apply(apply(vec![config("a", 1)]));
    world.run();
    assert!(
        world.building().contains(&3),
        "once built it is looked at again"
    );
    world.built(done(3, simple("v1", 1)));
    world.take_words();
    world.run();
    assert_eq!(world.running("v1").len(), 1);
    assert!(
        !world
            .take_words()
            .iter()
            .any(|word| word.starts_with("spawn"))
    );
    assert_eq!(world.deploy_state("a"), (4, "done".into()));
    let receipt = world.status("a").deploy.unwrap().receipt.unwrap();
    assert_eq!(receipt.deployments[0].change, "untouched");
}

#[test]
fn a_build_that_dies_or_hangs_is_a_failure_that_says_so() {
    let mut world = World::new(1);
    world.apply(apply(vec![config("a", 1), config("b", 1)]));
    world.run();
    let id = world.builds.keys().next().unwrap().clone();
    let name = world.builds[&id].deployment.application.clone();
    world.end_build(&id, "exit status 3", "importing\nbye");
    world.run();
    let status = world.status(&name);
    assert_eq!(status.status, "DEPLOY_FAILED");
    assert!(
        status.message.contains("exit status 3"),
        "{}",
        status.message
    );
    assert!(status.message.contains("bye"), "{}", status.message);
    let other = if name == "a" { "b" } else { "a" };
    assert_eq!(world.status(other).status, "DEPLOYING");
    world.run_for(Duration::from_secs(299));
    assert_eq!(world.builds.len(), 1);
    world.run_for(Duration::from_secs(2));
    assert!(world.builds.is_empty());
    let status = world.status(other);
    assert_eq!(status.status, "DEPLOY_FAILED");
    assert!(status.message.contains("after 300 s"), "{}", status.message);
    assert_eq!(
        status.deploy.unwrap().failure.unwrap().code,
        "build_timeout"
    );
}

#[test]
fn a_build_that_cannot_be_started_says_why() {
    let mut world = World::new(1);
    world.apply(apply(vec![config("a", 1)]));
    world.run();
    let id = world.builds.keys().next().unwrap().clone();
    world.builds.clear();
    world.feed(from_node(node_event::Body::SpawnFailed(SpawnFailed {
        replica_id: id,
        epoch: 1,
        message: "the working directory /gone does not exist".into(),
    })));
    world.run();
    let status = world.status("a");
    assert!(
        status.message.contains("/gone does not exist"),
        "{}",
        status.message
    );
    assert_eq!(
        status.deploy.unwrap().failure.unwrap().code,
        "build_not_started"
    );
    assert!(world.builds.is_empty(), "it is not tried again by itself");
}

#[test]
fn a_controller_that_begins_anew_goes_on_with_builds() {
    let mut world = World::new(1);
    world.apply(apply(vec![config("a", 1), config("b", 1)]));
    world.run();
    // One lives, of the other the end is missed.
    let id = world.builds.keys().next().unwrap().clone();
    let gone = world.builds.remove(&id).unwrap().deployment.application;
    world.restart_controller(2);
    world.start();
    world.run();
    assert_eq!(world.building(), [1, 2], "what is missing is built again");
    assert_eq!(world.status(&gone).status, "DEPLOYING");
    world.built(done(1, simple("v1", 1)));
    world.run();
    assert_eq!(world.status("a").status, "RUNNING");
    world.restart_controller(3);
    world.start();
    world.run();
    assert_eq!(world.status("a").source, "declarative");
    assert_eq!(world.deploy_state("a"), (1, "done".into()));
}

#[test]
fn what_a_whole_config_leaves_out_goes_and_what_scripts_have_deployed_stays() {
    let mut world = World::new(1);
    world.deploy(application("script", vec![deployment("d", "s1", 1)]));
    world.apply(apply(vec![config("a", 1), config("b", 1)]));
    world.run();
    world.built(done(1, simple("v1", 1)));
    world.built(done(2, application("b", vec![deployment("d", "w1", 1)])));
    world.run();
    let part = Apply {
        whole: false,
        ..apply(vec![config("a", 2)])
    };
    let call = world.apply(part);
    world.run();
    assert_eq!(world.applied(call).deleted, [""; 0]);
    let call = world.apply(apply(vec![config("a", 1)]));
    world.run();
    assert_eq!(world.applied(call).deleted, ["b"]);
    assert!(world.running("w1").is_empty());
    assert_eq!(world.running("s1").len(), 1);
    assert_eq!(world.running("v1").len(), 1);
    let call = world.apply(apply(Vec::new()));
    world.run();
    assert_eq!(world.applied(call).deleted, ["a"]);
    world.run_for(Duration::from_secs(11));
    assert!(world.builds.is_empty(), "a build ends with its declaration");
    assert_eq!(world.running("s1").len(), 1);
}

#[test]
fn a_config_that_is_wrong_or_in_the_way_changes_nothing() {
    let mut world = World::new(1);
    world.deploy(application("script", vec![deployment("d", "s1", 1)]));
    world.run();
    let broken = DeclaredApplication {
        name: "a".into(),
        config: r#"{"name": "a", "import_path": "x:y", "num_replica": 3}"#.into(),
    };
    let call = world.apply(apply(vec![broken]));
    world.run();
    let (kind, message) = world.error(call);
    assert_eq!(kind, "invalid");
    assert!(message.contains("num_replica"), "{message}");
    let mut there = config("a", 1);
    there.config = there.config.replace("\"/a\"", "\"/script\"");
    let call = world.apply(apply(vec![there]));
    world.run();
    let (kind, message) = world.error(call);
    assert_eq!(kind, "conflict");
    assert!(message.contains("'/script'"), "{message}");
    assert!(world.builds.is_empty() && world.stored.root.declared.is_empty());
}

#[test]
fn a_script_takes_an_application_over_and_its_build_counts_no_more() {
    let mut world = World::new(1);
    world.apply(apply(vec![config("a", 1)]));
    world.run();
    let call = world.deploy(simple("v9", 1));
    world.run();
    assert!(matches!(
        world.reply(call),
        Some(api_response::Body::Deployed(_))
    ));
    assert!(world.builds.is_empty());
    assert_eq!(world.status("a").source, "imperative");
    assert_eq!(world.running("v9").len(), 1);
    world.apply(apply(Vec::new()));
    world.run();
    assert_eq!(world.running("v9").len(), 1, "it is the script's");
}

#[test]
fn no_more_than_four_builds_run_at_a_time() {
    let mut world = World::new(1);
    let names = ["a", "b", "c", "e", "f", "g"];
    world.apply(apply(names.map(|name| config(name, 1)).into()));
    world.run();
    assert_eq!(world.building(), [1, 2, 3, 4]);
    let id = world.builds.keys().next().unwrap().clone();
    world.end_build(&id, "exit status 1", "");
    world.run();
    assert_eq!(world.builds.len(), 4);
    assert!(world.building().contains(&5));
}

#[test]
fn environment_variables_are_not_shown() {
    let mut world = World::new(1);
    let config = json!({
        "name": "a",
        "import_path": "shop:app",
        "runtime_env": {"env_vars": {"TOKEN": "s3cret"}},
    });
    world.apply(apply(vec![DeclaredApplication {
        name: "a".into(),
        config: config.to_string(),
    }]));
    world.run();
    let shown = world.status("a").config;
    assert!(
        shown.contains("TOKEN") && !shown.contains("s3cret"),
        "{shown}"
    );
}

#[test]
fn a_build_that_ends_while_its_result_is_being_saved_has_not_failed() {
    for saves_another in [false, true] {
        let mut world = World::new(1);
        world.apply(apply(vec![config("a", 1)]));
        world.run();
        let id = world.builds.keys().next().unwrap().clone();
        if saves_another {
            world.apply(Apply {
                whole: false,
                ..apply(vec![config("b", 1)])
            });
        }
        world.built(done(1, simple("v1", 1)));
        world.end_build(&id, "signal 9", "");
        let exited = world.pending.pop_back().unwrap();
        world.feed(exited);
        world.run();
        assert_eq!(world.deploy_state("a"), (1, "done".into()));
        assert_eq!(world.status("a").status, "RUNNING");
        assert_eq!(world.stored.root, world.core.books.desired.root());
    }
}

#[test]
fn a_result_that_could_not_be_kept_is_said_again_and_one_that_was_changes_nothing() {
    let mut world = World::new(1);
    world.apply(apply(vec![config("a", 1)]));
    world.run();
    let build = world.building()[0];
    world.fail_saves = true;
    // As long as its process offers the result, that is not ended.
    for _ in 0..40 {
        let call = world.built(done(build, simple("v1", 1)));
        world.run_for(Duration::from_millis(500));
        assert_eq!(world.error(call).0, "internal");
    }
    assert_eq!(world.deploy_state("a").1, "building");
    assert_eq!(world.building(), [build]);
    world.fail_saves = false;
    world.run_for(Duration::from_secs(2));
    world.built(done(build, simple("v1", 1)));
    world.run();
    assert_eq!(world.deploy_state("a").1, "done");
    // The answer was lost with a controller: the next one is told the same.
    world.restart_controller(2);
    world.start();
    world.run();
    let call = world.built(done(build, simple("v1", 1)));
    world.run();
    assert!(matches!(
        world.reply(call),
        Some(api_response::Body::Done(_))
    ));
    assert_eq!(world.history("a").len(), 1);
    assert_eq!(world.running("v1").len(), 1);
}
