//! Replicas that nobody can connect to.

use std::time::Duration;

use eagleray_types::control::{SocketLost, Unreachable, node_event};

use super::world::{Behaviour, World, from_node, simple};
use crate::core::Event;

const MINUTE: Duration = Duration::from_secs(60);

fn report(id: &str) -> Unreachable {
    Unreachable {
        replica_id: id.to_owned(),
        error: "it does not answer".to_owned(),
    }
}

#[test]
fn a_version_that_nobody_can_reach_replaces_nothing_and_is_given_up() {
    let mut world = World::new(1);
    world.deploy(simple("good", 2));
    world.run();
    let before = world.routed_to("d");
    world
        .behaviours
        .insert("bad".into(), Behaviour::Unreachable);
    world.deploy(simple("bad", 2));
    world.run_for(MINUTE);
    assert_eq!(world.routed_to("d"), before);
    let status = world.status("a");
    assert_eq!(status.status, "DEPLOY_FAILED");
    let message = &status.deployments[0].message;
    assert!(
        message.contains("nobody can connect to it: no way"),
        "{message}"
    );
    assert_eq!(world.running("bad").len(), 0);
}

#[test]
fn a_report_makes_the_controller_try_and_what_it_reaches_stays() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 2));
    world.run_for(MINUTE);
    let (before, tries) = (world.routed_to("d"), world.tries);
    let id = world.running("v1")[0].clone();
    for _ in 0..100 {
        world.feed(Event::Unreachable(report(&id)));
        world.run();
    }
    assert_eq!(world.tries, tries + 1, "however many report it");
    world.run_for(MINUTE);
    world.feed(from_node(node_event::Body::Unreachable(report(&id))));
    world.run();
    assert_eq!(world.tries, tries + 2);
    assert_eq!(
        (world.routed_to("d"), world.status("a").status),
        (before, "RUNNING".into())
    );
    world.feed(Event::Unreachable(report("nobody")));
    world.assert_at_rest();
}

#[test]
fn what_the_controller_cannot_reach_either_is_named_and_replaced_start_before_stop() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 2));
    world.run_for(MINUTE);
    let before = world.routed_to("d");
    let id = world.running("v1")[0].clone();
    world.behaviours.insert("v1".into(), Behaviour::Unreachable);
    world.feed(from_node(node_event::Body::Unreachable(report(&id))));
    world.step(0);
    world.behaviours.clear();
    let deployment = world.status("a").deployments[0].clone();
    assert_eq!(deployment.status, "UNHEALTHY");
    assert!(deployment.message.contains(&id) && deployment.message.contains("no way"));
    while world.step(0) {
        assert!(world.routed_to("d").len() >= 2);
    }
    assert!(!world.routed_to("d").contains(&id));
    assert_eq!(world.routed_to("d").intersection(&before).count(), 1);
    assert_eq!(world.status("a").status, "RUNNING");
    world.assert_at_rest();
}

#[test]
fn a_socket_that_is_removed_during_a_deploy_does_not_fail_it() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 2));
    while world.routed_to("d").is_empty() {
        assert!(world.step(0));
    }
    assert_eq!(world.status("a").status, "DEPLOYING");
    let id = world.routed_to("d").first().expect("one serves").clone();
    world.feed(from_node(node_event::Body::SocketLost(SocketLost {
        replica_id: id.clone(),
        epoch: 1,
    })));
    while world.step(0) {
        assert_ne!(world.status("a").status, "DEPLOY_FAILED");
    }
    assert_eq!(world.status("a").status, "RUNNING");
    assert!(!world.routed_to("d").contains(&id));
    world.assert_at_rest();
}

#[test]
fn a_replica_that_is_told_to_stop_meanwhile_stops() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 1));
    while world.core.books.register.len() == 0 || world.tries == 0 {
        assert!(world.step(0));
    }
    world.delete("a");
    world.run();
    assert!(world.processes.is_empty() && world.core.books.applications.is_empty());
}

#[test]
fn the_next_controller_tries_what_it_adopts() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 2));
    world.run();
    world.restart_controller(2);
    world.behaviours.insert("v1".into(), Behaviour::Unreachable);
    world.start();
    world.step(0);
    world.behaviours.clear();
    let before = world.running("v1");
    for _ in 0..2 {
        world.step(0);
    }
    world.run_for(MINUTE);
    assert_eq!(world.status("a").status, "RUNNING");
    assert_eq!(world.routed_to("d").len(), 2);
    assert!(before.iter().any(|id| !world.routed_to("d").contains(id)));
}
