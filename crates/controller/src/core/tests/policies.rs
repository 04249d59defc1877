//! Policies of users, in a host that is scripted here: what they say counts, and what goes wrong with them stops nothing.

use std::time::Duration;

use eagleray_types::control::{
    ApplicationSpec, PolicyAnswer, PolicyHost, PolicyQuestion, api_response::Body,
};
use serde_json::Value;

use super::world::{World, application, deployment};
use crate::core::{CallId, Event};

const OWN: &str = r#"{"min_replicas": 1, "max_replicas": 6, "upscale_delay_s": 0, "downscale_delay_s": 5,
    "policy": {"policy_function": "shop:policy", "policy_kwargs": {}}}"#;

fn spec(version: &str) -> ApplicationSpec {
    let mut spec = deployment("d", version, 1);
    OWN.clone_into(&mut spec.autoscaling_config);
    application("a", vec![spec])
}

/// The world's one host, and the call by which it waits for a question.
#[derive(Debug, Default)]
struct Host {
    id: String,
    question: u64,
    kept: Option<Vec<u8>>,
}

impl World {
    fn hosts(&self) -> Vec<String> {
        let hosts = self.builds.iter().filter(|(_, spawn)| spawn.policies);
        hosts.map(|(id, _)| id.clone()).collect()
    }

    fn host(&self) -> Host {
        let [id] = &self.hosts()[..] else {
            panic!("one host: {:?}", self.hosts());
        };
        Host {
            id: id.clone(),
            ..Host::default()
        }
    }

    fn tell(&mut self, host: &Host, answers: Vec<PolicyAnswer>) -> CallId {
        self.calls += 1;
        let call = CallId {
            connection: 1000 + self.calls,
            sequence: 1,
        };
        let said = PolicyHost {
            host: host.id.clone(),
            question: host.question,
            answers,
            kept: host.kept.clone(),
        };
        self.feed(Event::Policy { call, said });
        self.run();
        call
    }

    /// The question that comes, within a second.
    fn asked(&mut self, call: CallId) -> PolicyQuestion {
        self.run_for(Duration::from_secs(1));
        match self.reply(call) {
            Some(Body::Policy(question)) => question.clone(),
            other => panic!("no question: {other:?}"),
        }
    }

    /// A host that answers this, and has asked for the next question.
    fn answer(&mut self, host: &mut Host, replicas: &str, error: &str) {
        let call = self.tell(host, Vec::new());
        host.question = self.asked(call).question;
        let answer = PolicyAnswer {
            deployment: "d".to_owned(),
            replicas: replicas.to_owned(),
            error: error.to_owned(),
        };
        self.tell(host, vec![answer]);
    }

    fn errors(&self) -> (String, Vec<String>) {
        let status = self.status("a").deployments.remove(0);
        let codes = status.why.iter().map(|why| why.code.clone());
        (status.autoscaling.unwrap().policy_error, codes.collect())
    }
}

fn scaling() -> World {
    let mut world = World::new(1);
    world.deploy(spec("v1"));
    world.run_for(Duration::from_secs(5));
    world
}

#[test]
fn a_host_runs_while_somebody_asks_for_it_and_its_number_counts() {
    let mut world = scaling();
    let mut host = world.host();
    let call = world.tell(&host, Vec::new());
    let question = world.asked(call);
    let contexts: Value = serde_json::from_str(&question.contexts).unwrap();
    let context = &contexts[0];
    assert_eq!(
        (&context["deployment"], &context["target"]),
        (&"d".into(), &1.into())
    );
    assert_eq!((&context["min"], &context["max"]), (&1.into(), &6.into()));
    assert_eq!(context["running"].as_array().map(Vec::len), Some(1));
    host.question = question.question;
    world.answer(&mut host, "3.0", "");
    assert_eq!(world.routed_to("d").len(), 3);
    let status = world.status("a").deployments.remove(0).autoscaling.unwrap();
    assert_eq!(
        (status.policy.as_str(), status.policy_error.as_str()),
        ("shop:policy", "")
    );
    assert_eq!(status.decisions[0].reason, "its policy asks for 3");
    world.answer(&mut host, "50", "");
    assert_eq!(world.routed_to("d").len(), 6, "max_replicas holds");
    world.answer(&mut host, "2", "");
    world.run_for(Duration::from_secs(4));
    assert_eq!(
        world.routed_to("d").len(),
        6,
        "and so does downscale_delay_s"
    );
    world.delete("a");
    world.run_for(Duration::from_secs(60));
    assert_eq!(world.hosts(), [""; 0], "nobody asks for it");
}

#[test]
fn what_cannot_be_meant_keeps_the_number_and_is_said() {
    let mut world = scaling();
    let mut host = world.host();
    world.answer(&mut host, "4", "");
    for (replicas, error) in [
        ("-1", "it returned -1"),
        ("nan", "it returned nan"),
        ("1000000000", "it returned 1000000000"),
        ("three", "it returned three"),
        ("", "it raised ValueError: no"),
    ] {
        let raised = if replicas.is_empty() { error } else { "" };
        world.answer(&mut host, replicas, raised);
        world.run_for(Duration::from_secs(2));
        assert_eq!(world.routed_to("d").len(), 4, "{replicas}");
        let (said, codes) = world.errors();
        assert!(said.starts_with(error), "{said}");
        assert_eq!(codes, ["policy_failed"]);
        assert_eq!(world.status("a").status, "RUNNING");
    }
    let told = world
        .events
        .iter()
        .filter(|event| event.message.contains("shop:policy has failed"));
    assert_eq!(told.count(), 5, "each once");
    world.answer(&mut host, "5", "");
    assert_eq!(world.routed_to("d").len(), 5);
    assert_eq!(world.errors(), (String::new(), vec![]));
}

#[test]
fn one_that_hangs_is_ended_and_another_is_started_with_what_it_kept() {
    let mut world = scaling();
    let mut host = world.host();
    host.kept = Some(b"state".to_vec());
    world.answer(&mut host, "2", "");
    let first = host.id.clone();
    world.run_for(Duration::from_millis(4900));
    assert_eq!(world.host().id, first, "it may take 5 s");
    world.run_for(Duration::from_secs(2));
    assert!(
        world.errors().0.contains("has not answered within 5 s"),
        "{:?}",
        world.errors()
    );
    assert_eq!(world.routed_to("d").len(), 2);
    let next = world.host();
    assert_ne!(next.id, first);
    let refused = world.tell(&host, Vec::new());
    assert_eq!(world.error(refused).0, "conflict", "its time is over");
    let call = world.tell(&next, Vec::new());
    assert_eq!(world.asked(call).kept.as_deref(), Some(&b"state"[..]));
}

#[test]
fn one_that_dies_is_started_again_after_pauses_that_grow() {
    let mut world = scaling();
    let mut starts = Vec::new();
    for _ in 0..8 {
        let id = world.host().id;
        world.end_build(&id, "signal 9 (SIGKILL)", "");
        world.run();
        assert!(
            world.errors().0.contains("signal 9"),
            "{:?}",
            world.errors()
        );
        let began = world.now;
        while world.hosts().is_empty() {
            world.run_for(Duration::from_millis(500));
        }
        starts.push(world.now.saturating_sub(began).as_secs());
    }
    assert_eq!(starts, [1, 2, 4, 8, 16, 32, 60, 60]);
    assert_eq!(world.routed_to("d").len(), 1);
}

#[test]
fn another_revision_and_another_controller_have_hosts_of_their_own() {
    let mut world = scaling();
    let first = world.host().id;
    world.deploy(spec("v2"));
    world.run();
    let second = world.host().id;
    assert_ne!(first, second);
    world.restart_controller(2);
    world.start();
    world.run();
    assert_ne!(world.host().id, second);
}

#[test]
fn a_policy_of_the_application_may_leave_one_out() {
    let mut world = World::new(1);
    let mut spec = spec("v1");
    let mut other = deployment("e", "v1", 1);
    other.autoscaling_config = r#"{"max_replicas": 6, "upscale_delay_s": 0}"#.into();
    spec.deployments.push(other);
    spec.autoscaling_policy = r#"{"policy_function": "shop:all"}"#.into();
    world.deploy(spec);
    world.run_for(Duration::from_secs(5));
    let host = world.host();
    let call = world.tell(&host, Vec::new());
    let question = world.asked(call);
    let contexts: Value = serde_json::from_str(&question.contexts).unwrap();
    assert_eq!(contexts.as_array().map(Vec::len), Some(2));
    let answer = |deployment: &str, replicas: &str| PolicyAnswer {
        deployment: deployment.to_owned(),
        replicas: replicas.to_owned(),
        error: String::new(),
    };
    let said = Host {
        question: question.question,
        ..host
    };
    world.tell(&said, vec![answer("d", ""), answer("e", "4")]);
    assert_eq!(
        (world.routed_to("d").len(), world.routed_to("e").len()),
        (1, 4)
    );
}
