//! A controller that begins anew among replicas that live.

use std::time::Duration;

use eagleray_types::control::{ListedReplica, node_event};

use super::world::{Behaviour, World, application, deployment, from_node, simple};
use crate::core::Event;

#[test]
fn a_restarted_controller_adopts_what_lives_and_starts_nothing() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 3));
    world.run();
    let before = world.routed_to("d");
    world.restart_controller(2);
    world.start();
    while world.step(0) {
        assert_eq!(world.routed_to("d"), before);
    }
    let words = world.take_words();
    assert!(
        words.iter().all(|word| word.starts_with("options")),
        "{words:?}"
    );
    assert_eq!(world.status("a").status, "RUNNING");
    world.assert_at_rest();
}

#[test]
fn nothing_is_decided_before_the_list_arrives() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 2));
    world.run();
    let before = world.routed_to("d");
    world.restart_controller(2);
    world.deploy(simple("v2", 2));
    world.run();
    world.now += Duration::from_secs(100);
    world.feed(Event::Timeout);
    assert_eq!(world.take_words(), Vec::<String>::new());
    assert_eq!(world.routed_to("d"), before);
    world.start();
    world.run();
    assert_eq!((world.running("v2").len(), world.processes.len()), (2, 2));
}

#[test]
fn replicas_that_died_meanwhile_are_replaced() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 2));
    world.run();
    world.restart_controller(2);
    let gone = world.processes.keys().next().unwrap().clone();
    world.processes.remove(&gone);
    world.start();
    world.run();
    assert_eq!(world.routed_to("d").len(), 2);
    assert!(!world.routed_to("d").contains(&gone));
}

#[test]
fn replicas_that_nothing_wants_are_stopped() {
    let mut world = World::new(1);
    let strange = ListedReplica {
        replica_id: "strange".into(),
        epoch: 1,
        label: vec![1, 2, 3],
        ..Default::default()
    };
    world.restart_controller(2);
    let listed = eagleray_types::control::Listed {
        replicas: vec![strange],
        ..Default::default()
    };
    world.feed(from_node(node_event::Body::Listed(listed)));
    assert_eq!(world.take_words(), ["stop"]);
}

#[test]
fn an_update_goes_on_where_the_last_controller_left_it() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 2));
    world.run();
    world.behaviours.insert("v2".into(), Behaviour::StartHangs);
    world.deploy(simple("v2", 2));
    world.run();
    world.restart_controller(2);
    world.start();
    world.run();
    assert_eq!(
        (world.running("v1").len(), world.running("v2").len()),
        (2, 1)
    );
    assert_eq!(world.status("a").status, "DEPLOYING");
    world.behaviours.clear();
    world.run();
    assert_eq!((world.running("v2").len(), world.processes.len()), (2, 2));
}

#[test]
fn a_delete_that_was_accepted_is_finished_by_the_next_controller() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 2));
    world.run();
    world.delete("a");
    while world.stored.root.applications.len() == 1 {
        assert!(world.step(0));
    }
    world.restart_controller(2);
    world.start();
    world.run();
    assert!(world.processes.is_empty() && world.routed.is_empty());
}

#[test]
fn after_the_whole_machine_restarted_the_same_applications_come_up() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 2));
    world.deploy(application("b", vec![deployment("d", "v1", 1)]));
    world.run();
    world.restart_controller(2);
    world.processes.clear();
    world.start();
    world.run();
    assert_eq!(
        (
            world.status("a").status.as_str(),
            world.status("b").status.as_str()
        ),
        ("RUNNING", "RUNNING")
    );
    assert_eq!(world.processes.len(), 3);
}

#[test]
fn what_is_stored_gives_the_same_desired_state() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 2));
    world.run();
    world.deploy(simple("v2", 3));
    world.run();
    let before = world.core.books.desired.root();
    world.restart_controller(9);
    assert_eq!(world.core.books.desired.root(), before);
    world.start();
    world.run();
    assert_eq!(world.core.books.desired.root(), before);
    let call = world.rollback("a", "");
    world.run();
    assert!(!world.notes(call).is_empty());
    assert_eq!(
        world.running("v1").len(),
        2,
        "the earlier revision is there, too"
    );
}
