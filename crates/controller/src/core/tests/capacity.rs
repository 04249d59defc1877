//! `target_capacity` sizes every deployment, those that follow their load within the bounds that it leaves.

use eagleray_types::control::{ApplicationSpec, Apply};
use serde_json::{Value, json};

use super::{
    builds::{apply, config, done},
    world::{World, application, deployment},
};

/// A deployment of a stated number, and one that follows its load.
fn spec(version: &str, replicas: u32, autoscaling: &str) -> ApplicationSpec {
    let mut scales = deployment("scales", version, 1);
    autoscaling.clone_into(&mut scales.autoscaling_config);
    application("a", vec![deployment("d", version, replicas), scales])
}

const BOUNDS: &str = r#"{"min_replicas": 1, "initial_replicas": 4, "max_replicas": 10}"#;

impl World {
    fn deploy_at(&mut self, percent: impl Into<Value>, version: &str) {
        let node_options = json!({"target_capacity": percent.into()}).to_string();
        self.apply(Apply {
            node_options,
            ..apply(vec![config("a", 1)])
        });
        self.run();
        for build in self.building() {
            self.built(done(build, spec(version, 4, BOUNDS)));
        }
        self.run();
    }

    /// Replicas that run of the one and of the other.
    fn sizes(&self) -> (usize, usize) {
        (self.routed_to("d").len(), self.routed_to("scales").len())
    }
}

// contract: 5/target_capacity
#[test]
fn a_rise_begins_with_initial_replicas_and_a_fall_ends_at_none() {
    let mut world = World::new(1);
    world.deploy_at(25, "v1");
    assert_eq!(
        world.sizes(),
        (1, 1),
        "a quarter of 4, and of initial_replicas"
    );
    assert_eq!(world.core.status(world.now).target_capacity, Some(25.0));
    world.deploy_at(50, "v1");
    assert_eq!(
        world.sizes(),
        (2, 2),
        "while it rises, initial_replicas is the least"
    );
    world.deploy_at(100, "v1");
    assert_eq!(world.sizes(), (4, 4));
    assert_eq!(world.status("a").status, "RUNNING");
    world.deploy_at(25, "v1");
    assert_eq!(
        world.sizes(),
        (1, 3),
        "of max_replicas 10 a quarter is 3, half up"
    );
    world.deploy_at(0, "v1");
    assert_eq!(world.sizes(), (0, 0));
    world.deploy_at(Value::Null, "v1");
    assert_eq!(world.sizes(), (4, 1), "it lies between its bounds again");
    let status = world.core.status(world.now);
    assert_eq!(status.target_capacity, None);
    world.assert_at_rest();
}

#[test]
fn it_outlives_the_controller_and_a_new_version_and_is_not_taken_back_with_one() {
    let mut world = World::new(1);
    world.deploy_at(100, "v1");
    world.deploy_at(50, "v2");
    assert_eq!(world.sizes(), (2, 4));
    world.restart_controller(2);
    world.start();
    world.run();
    assert_eq!(world.sizes(), (2, 4));
    assert_eq!(world.core.status(world.now).target_capacity, Some(50.0));
    let call = world.rollback("a", "r1");
    world.run();
    assert_eq!(world.sizes(), (2, 4), "{:?}", world.notes(call));
    assert_eq!(world.running("v1").len(), 6);
    assert_eq!(world.core.status(world.now).target_capacity, Some(50.0));
}

#[test]
fn what_somebody_asks_for_is_sized_too_and_kept_whole() {
    let mut world = World::new(1);
    world.deploy_at(50, "v1");
    world.scale("d", 6);
    world.run();
    assert_eq!(world.sizes().0, 3);
    world.deploy_at(100, "v1");
    assert_eq!(world.sizes().0, 6);
}

#[test]
fn part_of_a_config_that_states_none_leaves_it() {
    let mut world = World::new(1);
    world.deploy_at(50, "v1");
    world.apply(Apply {
        whole: false,
        ..apply(vec![config("b", 1)])
    });
    world.run();
    assert_eq!(world.core.status(world.now).target_capacity, Some(50.0));
    let part = Apply {
        whole: false,
        node_options: json!({"http_options": {"root_path": "/x"}}).to_string(),
        ..apply(vec![config("b", 1)])
    };
    world.apply(part);
    world.run();
    assert_eq!(world.core.status(world.now).target_capacity, Some(50.0));
    assert_eq!(world.sizes().0, 2);
}
