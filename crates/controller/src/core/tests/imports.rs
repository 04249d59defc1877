//! What the node keeps to fork replicas from ends with what needs it.

use eagleray_types::control::node_event;

use super::world::{Behaviour, World, from_node, simple};

#[test]
fn what_replicas_are_forked_from_ends_with_its_revision() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 2));
    world.run();
    let first = world.imports.clone();
    assert_eq!(first.len(), 1);
    world.deploy(simple("v1", 5));
    world.run();
    assert_eq!(world.imports, first, "a light option changes nothing");
    world.deploy(simple("v2", 2));
    world.run();
    assert_eq!(world.imports.len(), 1);
    assert!(world.imports.is_disjoint(&first));
    world.delete("a");
    world.run();
    assert!(world.imports.is_empty());
}

#[test]
fn both_are_kept_while_an_update_is_under_way() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 1));
    world.run();
    world.behaviours.insert("v2".into(), Behaviour::StartHangs);
    world.deploy(simple("v2", 1));
    world.run_for(std::time::Duration::from_secs(5));
    assert_eq!(world.imports.len(), 2);
    world.behaviours.clear();
    world.delete("a");
    world.run_for(std::time::Duration::from_secs(60));
    assert!(world.imports.is_empty());
}

#[test]
fn a_controller_that_begins_anew_has_what_is_over_forgotten() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 1));
    world.run();
    let kept = world.imports.clone();
    world.imports.insert("of a revision that is over".into());
    // No replica tells what the deployment imports, as of one that is at zero.
    world.processes.clear();
    world.restart_controller(2);
    world.start();
    world.feed(from_node(node_event::Body::Listed(world.listed())));
    assert_eq!(
        world.imports, kept,
        "what is over goes at once, what is wanted stays"
    );
    world.delete("a");
    world.run();
    assert!(world.imports.is_empty(), "and goes with its application");
}
