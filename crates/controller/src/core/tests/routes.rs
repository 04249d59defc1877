//! Route prefixes: conflicts, bad ones, and when a route moves.

use super::world::{Behaviour, World, application, deployment, simple, with_revision};

#[test]
fn a_prefix_of_another_application_is_a_conflict_and_nothing_changes() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 1));
    world.run();
    let mut other = application("b", vec![deployment("d", "v1", 1)]);
    other.route_prefix = "/a".into();
    let call = world.deploy(with_revision(other));
    world.run();
    let (kind, message) = world.error(call);
    assert_eq!(kind, "conflict");
    assert!(message.contains("used by application 'a'"), "{message}");
    assert_eq!(
        (world.processes.len(), world.stored.root.applications.len()),
        (1, 1)
    );
}

#[test]
fn a_bad_prefix_is_invalid() {
    let mut world = World::new(1);
    let mut spec = simple("v1", 1);
    spec.route_prefix = "no-slash".into();
    let call = world.deploy(spec);
    assert_eq!(world.error(call).0, "invalid");
}

#[test]
fn a_prefix_is_free_again_once_its_application_is_deleted() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 1));
    world.run();
    world.delete("a");
    let mut other = application("b", vec![deployment("d", "v1", 1)]);
    other.route_prefix = "/a".into();
    world.deploy(with_revision(other));
    world.run();
    assert_eq!(world.routes.routes.len(), 1);
    assert_eq!(world.routes.routes[0].ingress.application, "b");
}

#[test]
fn a_route_changes_at_once_when_the_ingress_keeps_its_replicas() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 1));
    world.run();
    world.take_words();
    let mut spec = simple("v1", 1);
    spec.route_prefix = "/new".into();
    world.deploy(with_revision(spec));
    world.run();
    assert_eq!(world.routes.routes[0].prefix, "/new");
    assert_eq!(world.take_words(), Vec::<String>::new());
}

#[test]
fn a_route_stays_with_the_old_ingress_until_the_new_one_answers() {
    let mut world = World::new(1);
    world.deploy(application("a", vec![deployment("old", "v1", 1)]));
    world.run();
    world.behaviours.insert("v2".into(), Behaviour::StartHangs);
    world.deploy(application("a", vec![deployment("new", "v2", 1)]));
    world.run();
    assert_eq!(world.routes.routes[0].ingress.deployment, "old");
    assert_eq!(world.routed_to("old").len(), 1);
    world.behaviours.clear();
    world.run();
    assert_eq!(world.routes.routes[0].ingress.deployment, "new");
    assert_eq!(world.processes.len(), 1);
}

#[test]
fn an_application_without_a_prefix_has_no_route() {
    let mut world = World::new(1);
    let mut spec = simple("v1", 1);
    spec.route_prefix = String::new();
    world.deploy(with_revision(spec));
    world.run();
    assert!(world.routes.routes.is_empty());
    assert_eq!(world.routed_to("d").len(), 1, "handles reach it");
}
