//! `http_options` of a config: durable before the node is told, told again to the next node, and gone back to.

use eagleray_types::control::{Apply, ProxyConfigured, api_response, node_event};
use serde_json::{Value, json};

use super::{
    builds::{apply, config, done},
    world::{World, from_node, simple},
};
use crate::core::Request;

/// A config that states these, with one application.
fn with(stated: &Value) -> Apply {
    Apply {
        node_options: json!({"http_options": stated}).to_string(),
        ..apply(vec![config("a", 1)])
    }
}

impl World {
    /// What the proxy was told last.
    fn goes_by(&self) -> Value {
        let text = self.settings.last().expect("it was told something");
        serde_json::from_str(text).unwrap()
    }

    /// Deploys it, and builds what is to be built.
    fn deploy_with(&mut self, stated: &Value, version: &str) {
        let call = self.apply(with(stated));
        self.run();
        assert_eq!(self.applied(call).warnings, [""; 0]);
        for build in self.building() {
            self.built(done(build, simple(version, 1)));
        }
        self.run();
    }

    fn config_events(&self) -> Vec<String> {
        let all = self.events.iter().filter(|one| one.kind == "config");
        all.map(|one| one.message.clone()).collect()
    }
}

#[test]
fn what_a_config_states_is_told_and_what_it_states_no_more_is_taken_back() {
    let mut world = World::new(1);
    assert_eq!(world.goes_by(), json!({}), "as the node was started");
    world.deploy_with(&json!({"request_timeout_s": 5}), "v1");
    assert_eq!(world.goes_by(), json!({"request_timeout_s": 5}));
    let changed = "http_options: request_timeout_s null -> 5";
    assert_eq!(world.config_events(), [changed]);
    world.deploy_with(&json!({}), "v1");
    assert_eq!(world.goes_by(), json!({}));
}

#[test]
fn the_same_config_again_is_told_again_since_its_files_may_be_others() {
    let mut world = World::new(1);
    world.deploy_with(&json!({"root_path": "/a"}), "v1");
    let told = world.settings.len();
    world.deploy_with(&json!({"root_path": "/a"}), "v1");
    assert_eq!(world.settings.len(), told + 1);
    assert_eq!(world.history("a").len(), 1, "no revision");
}

#[test]
fn part_of_a_config_that_states_none_changes_none() {
    let mut world = World::new(1);
    world.deploy_with(&json!({"root_path": "/a"}), "v1");
    let told = world.settings.len();
    world.apply(Apply {
        whole: false,
        ..apply(vec![config("b", 1)])
    });
    world.run();
    assert_eq!(world.settings.len(), told);
}

#[test]
fn what_cannot_be_made_durable_is_not_told() {
    let mut world = World::new(1);
    world.fail_saves = true;
    let told = world.settings.len();
    let call = world.apply(with(&json!({"root_path": "/a"})));
    world.run();
    assert!(matches!(
        world.reply(call),
        Some(api_response::Body::Error(_))
    ));
    assert_eq!(world.settings.len(), told);
}

#[test]
fn the_next_controller_tells_what_the_last_one_did() {
    let mut world = World::new(1);
    world.deploy_with(&json!({"root_path": "/a"}), "v1");
    world.restart_controller(2);
    world.start();
    world.run();
    assert_eq!(world.goes_by(), json!({"root_path": "/a"}));
}

#[test]
fn a_rollback_takes_them_back_though_nothing_else_has_changed() {
    let mut world = World::new(1);
    world.deploy_with(&json!({"root_path": "/a"}), "v1");
    world.deploy_with(&json!({"root_path": "/b"}), "v1");
    let history = world.history("a");
    assert_eq!(history[0].changed, ["http_options"]);
    world.rollback("a", "");
    world.run();
    assert_eq!(world.goes_by(), json!({"root_path": "/a"}));
    assert_eq!(world.history("a")[0].rollback_of, 1);
    world.restart_controller(2);
    world.start();
    world.run();
    assert_eq!(world.goes_by(), json!({"root_path": "/a"}), "for good");
}

#[test]
fn without_applications_and_their_configs_the_node_is_as_it_was_started() {
    let mut world = World::new(1);
    world.deploy_with(&json!({"root_path": "/a"}), "v1");
    world.ask(Request::DeleteAll);
    world.run();
    assert_eq!(world.goes_by(), json!({}));
}

#[test]
fn a_file_that_is_named_by_half_its_path_is_refused_before_anything_changes() {
    let mut world = World::new(1);
    world.core.out.options.http = json!({"ssl_certfile": "/c", "ssl_keyfile": "/k"})
        .as_object()
        .unwrap()
        .clone();
    let told = world.settings.len();
    let call = world.apply(with(&json!({"ssl_certfile": "x.pem", "ssl_keyfile": "/k"})));
    world.run();
    let Some(api_response::Body::Error(error)) = world.reply(call) else {
        panic!("it was refused");
    };
    assert!(
        error.message.contains("write the whole path"),
        "{}",
        error.message
    );
    assert_eq!((world.settings.len(), world.building().len()), (told, 0));
}

#[test]
fn what_the_proxy_says_of_them_is_an_event() {
    let mut world = World::new(1);
    let said = |problem: &str, renewed: &str| {
        from_node(node_event::Body::ProxyConfigured(ProxyConfigured {
            problem: problem.into(),
            renewed: renewed.into(),
            ..ProxyConfigured::default()
        }))
    };
    for event in [said("", ""), said("bad", ""), said("", "good")] {
        world.pending.push_back(event);
    }
    world.run();
    assert_eq!(
        world.config_events(),
        ["what was in force stays: bad", "good"]
    );
}
