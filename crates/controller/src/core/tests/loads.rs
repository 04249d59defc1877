//! What routers have to do of a deployment that scales is heard, added up and shown.

use std::time::Duration;

use eagleray_types::control::{self, DeploymentLoad, node_event};

use super::{
    super::Event,
    world::{World, application, deployment, from_node},
};

/// With one deployment that scales.
fn scaling() -> World {
    let mut world = World::new(1);
    let mut spec = deployment("d", "v1", 1);
    spec.autoscaling_config = "{}".to_owned();
    world.deploy(application("a", vec![spec, deployment("e", "v2", 1)]));
    world.run();
    world
}

fn loads(router: &str, queued: u32, running: u32) -> control::Loads {
    control::Loads {
        router: router.to_owned(),
        loads: vec![control::Load {
            application: "a".to_owned(),
            deployment: "d".to_owned(),
            queued,
            running,
            replicas: Vec::new(),
        }],
        ..control::Loads::default()
    }
}

impl World {
    fn load(&self, deployment: &str) -> Option<DeploymentLoad> {
        let status = self.status("a");
        let found = status.deployments.into_iter();
        found
            .filter(|one| one.name == deployment)
            .find_map(|one| one.load)
    }

    fn proxy_says(&mut self, said: control::Loads) {
        self.feed(from_node(node_event::Body::Loads(said)));
    }
}

#[test]
fn routers_are_told_which_deployments_scale_and_what_they_say_is_shown() {
    let mut world = scaling();
    assert!(world.is_scaling("d") && !world.is_scaling("e"));
    assert_eq!(world.load("e"), None);
    world.proxy_says(loads("proxy 10/0", 3, 4));
    let said = loads("handles 11/x", 10, 20);
    world.feed(Event::Loads {
        connection: 77,
        loads: said,
    });
    let load = world.load("d").unwrap();
    assert_eq!((load.queued, load.running, load.routers), (13, 24, 2));
    world.feed(Event::ClientGone { connection: 77 });
    let load = world.load("d").unwrap();
    assert_eq!((load.queued, load.running, load.routers), (3, 4, 1));
    world.proxy_says(control::Loads {
        router: "proxy 10".to_owned(),
        gone: true,
        ..control::Loads::default()
    });
    let load = world.load("d").unwrap();
    assert_eq!((load.queued, load.running, load.routers), (0, 0, 0));
}

#[test]
fn a_controller_that_has_just_started_does_not_know_all() {
    let mut world = scaling();
    assert!(!world.load("d").unwrap().whole, "handles may not have come");
    world.run_for(Duration::from_secs(3));
    assert!(world.load("d").unwrap().whole);
}
