//! What the node keeps to fork replicas from ends with what needs it.

use super::world::{Behaviour, World, simple};

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
