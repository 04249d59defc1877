//! The number of replicas follows the load, and outlives what comes between.

use std::time::Duration;

use eagleray_types::control::{self, ApplicationSpec, WhatIf, api_response::Body, node_event};

use super::{
    super::Event,
    world::{Behaviour, World, application, deployment, from_node},
};

const GUIDE: &str = r#"{"min_replicas": 1, "max_replicas": 4, "target_ongoing_requests": 5, "upscale_delay_s": 10,
    "downscale_delay_s": 60}"#;

fn spec(version: &str, autoscaling: &str) -> ApplicationSpec {
    let mut spec = deployment("d", version, 1);
    autoscaling.clone_into(&mut spec.autoscaling_config);
    application("a", vec![spec])
}

/// With one deployment that scales, once every router could have spoken.
fn scaling(autoscaling: &str) -> World {
    let mut world = World::new(1);
    world.deploy(spec("v1", autoscaling));
    world.run_for(Duration::from_secs(5));
    world
}

impl World {
    /// A proxy has so many requests, half of which wait.
    pub(super) fn carry(&mut self, ongoing: u32) {
        let load = control::Load {
            application: "a".to_owned(),
            deployment: "d".to_owned(),
            queued: ongoing / 2,
            running: ongoing.div_ceil(2),
            replicas: Vec::new(),
            refused: 0,
        };
        let said = control::Loads {
            router: "proxy 10/0".to_owned(),
            loads: vec![load],
            ..control::Loads::default()
        };
        self.feed(from_node(node_event::Body::Loads(said)));
        self.run();
    }

    fn wait(&mut self, seconds: f64) {
        self.run_for(Duration::from_secs_f64(seconds));
    }

    fn scale_events(&self) -> Vec<&str> {
        let scales = self.events.iter().filter(|event| event.kind == "scale");
        scales.map(|event| event.message.as_str()).collect()
    }

    fn trigger(&self) -> String {
        let deployment = &self.status("a").deployments[0];
        format!("{} {}", deployment.status, deployment.status_trigger)
    }
}

#[test]
fn the_guides_example_follows_a_load_as_it_says() {
    let mut world = scaling(GUIDE);
    world.carry(5);
    world.wait(100.0);
    assert_eq!(world.running("v1").len(), 1);
    world.carry(20);
    world.wait(9.0);
    assert_eq!(world.running("v1").len(), 1, "held for 10 s");
    world.wait(2.0);
    assert_eq!(world.routed_to("d").len(), 4);
    assert_eq!(world.trigger(), "HEALTHY UPSCALE_COMPLETED");
    assert_eq!(
        world.scale_events(),
        [
            "scaled from 1 to 4 replica(s) by its load: 20 ongoing requests, and more were needed for 10 s"
        ]
    );
    world.carry(100);
    world.wait(300.0);
    assert_eq!(world.running("v1").len(), 4, "at most");
    world.carry(3);
    world.wait(59.0);
    assert_eq!(world.running("v1").len(), 4, "held for 60 s");
    world.wait(60.0);
    assert_eq!(world.routed_to("d").len(), 1);
    assert_eq!(world.trigger(), "HEALTHY DOWNSCALE_COMPLETED");
    world.assert_at_rest();
}

// contract: 8/autoscaling
#[test]
fn while_it_scales_the_application_runs_and_the_words_say_why() {
    let mut world = scaling(r#"{"max_replicas": 3, "upscale_delay_s": 0}"#);
    world.behaviours.insert("v1".into(), Behaviour::StartHangs);
    world.carry(100);
    assert_eq!(world.trigger(), "UPSCALING AUTOSCALING");
    assert_eq!(world.status("a").status, "RUNNING");
    world.behaviours.clear();
    world.run();
    assert_eq!(world.trigger(), "HEALTHY UPSCALE_COMPLETED");
}

#[test]
fn to_none_and_from_none() {
    let json = r#"{"min_replicas": 0, "max_replicas": 4, "downscale_delay_s": 10, "look_back_period_s": 5}"#;
    let mut world = scaling(json);
    assert_eq!(world.running("v1").len(), 0, "it begins with min_replicas");
    assert_eq!(world.trigger(), "HEALTHY CONFIG_UPDATE_COMPLETED");
    assert!(
        world.status("a").deployments[0].why.is_empty(),
        "none is what is wanted"
    );
    world.carry(1);
    assert_eq!(world.routed_to("d").len(), 1, "at once");
    world.carry(0);
    world.wait(30.0);
    assert_eq!(world.routed_to("d").len(), 0);
    assert_eq!(world.status("a").status, "RUNNING");
    world.carry(3);
    assert_eq!(world.routed_to("d").len(), 1);
    world.assert_at_rest();
}

#[test]
fn another_controller_keeps_the_number_until_it_has_heard_of_the_load() {
    let json = r#"{"max_replicas": 4, "upscale_delay_s": 0, "downscale_delay_s": 0, "look_back_period_s": 1}"#;
    let mut world = scaling(json);
    world.carry(8);
    world.wait(3.0);
    assert_eq!(world.running("v1").len(), 4);
    world.restart_controller(2);
    world.start();
    world.run();
    world.wait(1.0);
    assert_eq!(world.running("v1").len(), 4, "nobody has spoken yet");
    world.carry(8);
    world.wait(60.0);
    assert_eq!(world.running("v1").len(), 4);
    assert!(world.ids.len() == 4, "none was started anew");
    world.carry(0);
    world.wait(10.0);
    assert_eq!(world.running("v1").len(), 1);
    world.assert_at_rest();
}

// contract: G/5
#[test]
fn deploys_and_rollbacks_keep_the_number_within_the_new_bounds() {
    let mut world = scaling(r#"{"max_replicas": 8, "initial_replicas": 2, "upscale_delay_s": 0}"#);
    assert_eq!(
        world.running("v1").len(),
        2,
        "the first deploy begins there"
    );
    world.carry(12);
    assert_eq!(world.running("v1").len(), 6);
    world.deploy(spec(
        "v2",
        r#"{"max_replicas": 8, "initial_replicas": 2, "upscale_delay_s": 0}"#,
    ));
    world.run();
    assert_eq!(world.running("v2").len(), 6, "new code is not another load");
    world.deploy(spec("v2", r#"{"max_replicas": 4}"#));
    world.run();
    assert_eq!(world.running("v2").len(), 4, "its new bound");
    world.rollback("a", "r1");
    world.run();
    world.wait(1.0);
    assert_eq!(world.running("v1").len(), 6, "the load is what it was");
    world.deploy(spec("v1", ""));
    world.run();
    assert_eq!(world.running("v1").len(), 1, "a stated number");
    world.scale("d", 5);
    world.run();
    let started = world.ids.len();
    world.deploy(spec("v1", r#"{"min_replicas": 2, "max_replicas": 3}"#));
    world.run();
    assert_eq!(world.running("v1").len(), 3);
    assert_eq!(
        world.ids.len(),
        started,
        "to follow a load is no new version"
    );
    world.assert_at_rest();
}

// contract: G/32
#[test]
fn between_two_versions_the_number_stays_and_after_a_failed_update_what_serves_follows() {
    let json = r#"{"max_replicas": 8, "upscale_delay_s": 0, "downscale_delay_s": 5, "look_back_period_s": 1}"#;
    let mut world = scaling(json);
    world.carry(4);
    world.wait(2.0);
    assert_eq!(world.running("v1").len(), 2);
    world.behaviours.insert("v2".into(), Behaviour::StartHangs);
    world.deploy(spec("v2", json));
    world.run();
    world.carry(12);
    world.wait(60.0);
    assert_eq!(world.routed_to("d").len(), 2, "an update is under way");
    world.behaviours.insert("v3".into(), Behaviour::StartFails);
    world.deploy(spec("v3", json));
    world.run_for(Duration::from_secs(120));
    assert_eq!(world.status("a").status, "DEPLOY_FAILED");
    assert_eq!(world.routed_to("d").len(), 6, "v1 follows its load again");
    world.behaviours.clear();
    world.deploy(spec("v4", json));
    world.run();
    assert_eq!(world.running("v4").len(), 6);
    world.carry(1);
    world.wait(20.0);
    assert_eq!(world.running("v4").len(), 1);
    world.assert_at_rest();
}

#[test]
fn a_router_that_is_gone_has_no_load() {
    let mut world = scaling(r#"{"max_replicas": 4, "upscale_delay_s": 5}"#);
    world.carry(8);
    world.wait(3.0);
    let gone = control::Loads {
        router: "proxy 10".to_owned(),
        gone: true,
        ..control::Loads::default()
    };
    world.feed(from_node(node_event::Body::Loads(gone)));
    world.wait(60.0);
    assert_eq!(world.running("v1").len(), 1);
    let connection = 77;
    let mut said = control::Loads {
        router: "handles 5/x".to_owned(),
        ..control::Loads::default()
    };
    said.loads.push(control::Load {
        application: "a".to_owned(),
        deployment: "d".to_owned(),
        queued: 8,
        ..control::Load::default()
    });
    world.feed(Event::Loads {
        connection,
        loads: said,
    });
    world.wait(6.0);
    assert_eq!(world.running("v1").len(), 4);
}

#[test]
fn decisions_that_follow_closely_are_told_of_together() {
    let mut world =
        scaling(r#"{"max_replicas": 100, "target_ongoing_requests": 1, "upscale_delay_s": 0}"#);
    for ongoing in 2..=50 {
        world.carry(ongoing);
        world.wait(0.01);
    }
    world.wait(2.0);
    assert_eq!(world.running("v1").len(), 50);
    let told = world.scale_events();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with("scaled from 1 to 2"), "{told:?}");
    assert!(told[1].starts_with("scaled from 2 to 50"), "{told:?}");
}

#[test]
fn an_idle_deployment_costs_no_look() {
    let mut world = scaling(GUIDE);
    world.carry(3);
    world.wait(100.0);
    world.take_words();
    let key = eagleray_types::DeploymentKey::new("a", "d");
    let deployment = world.core.books.deployment_mut(&key).unwrap();
    let next = deployment.autoscaling.as_ref().unwrap().next_timeout();
    assert_eq!(next, None);
}

#[test]
fn the_status_says_what_is_measured_and_what_holds_it_back() {
    let mut world = scaling(GUIDE);
    world.carry(30);
    world.wait(3.0);
    let status = world.status("a").deployments.remove(0);
    let scaling = status.autoscaling.unwrap();
    assert_eq!(
        (
            scaling.queued,
            scaling.running,
            scaling.asked,
            scaling.replicas
        ),
        (15, 15, 6, 1)
    );
    assert_eq!(scaling.hold, "held by upscale_delay_s, 8 s left");
    assert_eq!(status.why[0].code, "held_back");
    assert_eq!(
        status.message,
        "Its load asks for 6 replicas instead of 1: held by upscale_delay_s, 8 s left (30 requests ongoing)."
    );
    world.wait(20.0);
    let status = world.status("a").deployments.remove(0);
    let scaling = status.autoscaling.unwrap();
    assert_eq!(
        (scaling.hold.as_str(), scaling.replicas, scaling.ready),
        ("at max_replicas 4", 4, 4)
    );
    assert!(status.why[0].help.contains("max_replicas"));
    let decision = &scaling.decisions[0];
    assert_eq!((decision.from, decision.to), (1, 4));
    world.carry(6);
    world.wait(30.0);
    let status = world.status("a").deployments.remove(0);
    let hold = status.autoscaling.unwrap().hold;
    assert!(hold.starts_with("held by downscale_delay_s"), "{hold}");
    assert!(
        status.why.is_empty() && status.message.is_empty(),
        "more than enough is no trouble"
    );
}

#[test]
fn what_if_is_answered_and_changes_nothing() {
    let mut world =
        scaling(r#"{"max_replicas": 4, "target_ongoing_requests": 2, "upscale_delay_s": 60}"#);
    world.carry(12);
    world.wait(4.0);
    let what_if = |changes: &str| WhatIf {
        application: "a".to_owned(),
        deployment: "d".to_owned(),
        changes: changes.to_owned(),
    };
    let mut ask = |question: WhatIf| {
        let call = world.call();
        world.feed(Event::WhatIf { call, question });
        world.reply(call).cloned()
    };
    let Some(Body::WhatIf(answer)) = ask(what_if("")) else {
        panic!("no answer");
    };
    assert_eq!((answer.status.asked, answer.what_if), (6, None));
    let Some(Body::WhatIf(answer)) = ask(what_if(r#"{"target_ongoing_requests": 4}"#)) else {
        panic!("no answer");
    };
    let supposed = answer.what_if.unwrap();
    assert_eq!(
        (supposed.asked, supposed.replicas, supposed.replicas_now),
        (3, 3, 1)
    );
    assert!(
        supposed.hold.starts_with("held by upscale_delay_s"),
        "{}",
        supposed.hold
    );
    for (changes, part) in [
        (
            r#"{"target_ongoing_requests": 0}"#,
            "target_ongoing_requests",
        ),
        (r#"{"max_replicas": 0}"#, "max_replicas"),
        ("no", "expected"),
    ] {
        let Some(Body::Error(error)) = ask(what_if(changes)) else {
            panic!("{changes} was taken");
        };
        assert!(
            error.kind == "invalid" && error.message.contains(part),
            "{error:?}"
        );
    }
    let Some(Body::Error(error)) = ask(WhatIf::default()) else {
        panic!("nothing was found");
    };
    assert_eq!(error.kind, "not_found");
    world.deploy(spec("v1", ""));
    world.run();
    let call = world.call();
    let question = what_if("");
    world.feed(Event::WhatIf { call, question });
    assert_eq!(world.error(call).0, "conflict");
}
