//! What routers have to do of a deployment that scales is heard, added up and shown.

use std::time::Duration;

use eagleray_types::control::{self, DeploymentLoad, ReplicaLoad, node_event};

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
            refused: 0,
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

#[test]
fn a_full_queue_is_said_while_it_refuses_requests_of_one_that_does_not_scale_too() {
    let mut world = scaling();
    let refused = |count| {
        let mut said = loads("proxy 10/0", 5, 1);
        said.loads[0].deployment = "e".to_owned();
        said.loads[0].refused = count;
        said
    };
    world.run_for(Duration::from_secs(60));
    let began_s = world.wall_time_s();
    for count in [7, 1] {
        world.proxy_says(refused(count));
        world.run_for(Duration::from_secs(4));
    }
    let status = world.status("a");
    assert!(status.deployments[0].why.is_empty(), "{status:?}");
    let [why] = status.deployments[1].why.as_slice() else {
        panic!("one reason: {status:?}");
    };
    assert_eq!(why.code, "queue_full");
    let words = "8 requests were refused with 503 within 8 s";
    assert!(why.sentence.contains(words), "{why:?}");
    assert!(why.help.contains("eagleray scale a/e +1"), "{why:?}");
    assert!((why.since_s - began_s).abs() < 0.1, "{why:?}");
    world.run_for(Duration::from_secs(10));
    assert!(world.status("a").deployments[1].why.is_empty());
}

#[test]
fn a_smaller_number_stops_who_has_least_to_do() {
    let mut world = World::new(1);
    let mut spec = deployment("d", "v1", 1);
    spec.autoscaling_config =
        r#"{"max_replicas": 3, "target_ongoing_requests": 1, "upscale_delay_s": 0,
        "downscale_delay_s": 1, "look_back_period_s": 0.01}"#
            .to_owned();
    world.deploy(application("a", vec![spec]));
    world.run_for(Duration::from_secs(5));
    world.proxy_says(loads("proxy 10/0", 0, 3));
    world.run_for(Duration::from_secs(5));
    let replicas: Vec<_> = world.routed_to("d").into_iter().collect();
    assert_eq!(replicas.len(), 3);
    // The newest, which would be the first to go.
    let newest = |id: &&String| world.core.books.replica(id).map(|one| one.order);
    let busy = replicas.iter().max_by_key(newest).cloned().unwrap();
    let mut said = loads("proxy 10/0", 0, 1);
    said.loads[0].replicas = vec![ReplicaLoad {
        replica_id: busy.clone(),
        running: 1,
        models: 0,
    }];
    world.proxy_says(said);
    world.run_for(Duration::from_secs(30));
    assert_eq!(world.routed_to("d").into_iter().collect::<Vec<_>>(), [busy]);
}
