//! Route prefixes: conflicts, bad ones, and when a route moves.

use std::time::Duration;

use serde_json::json;

use super::{
    builds::{apply, done, failed},
    world::{Behaviour, World, application, deployment, simple, with_revision},
};
use eagleray_types::control::{ApplicationSpec, DeclaredApplication};

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

fn at(name: &str, prefix: &str, version: &str) -> ApplicationSpec {
    let mut spec = application(name, vec![deployment("d", version, 1)]);
    spec.route_prefix = prefix.into();
    with_revision(spec)
}

fn declared(name: &str, prefix: &str) -> DeclaredApplication {
    let config = json!({"name": name, "route_prefix": prefix, "import_path": "shop:app"});
    DeclaredApplication {
        name: name.into(),
        config: config.to_string(),
    }
}

/// By prefix: who answers there.
fn routes(world: &World) -> Vec<(String, String)> {
    let routes = world.routes.routes.iter();
    let mut all: Vec<_> = routes
        .map(|one| (one.prefix.clone(), one.ingress.application.clone()))
        .collect();
    all.sort();
    all
}

fn two(first: (&str, &str), second: (&str, &str)) -> Vec<(String, String)> {
    [first, second]
        .map(|(prefix, name)| (prefix.to_owned(), name.to_owned()))
        .to_vec()
}

/// Two applications run as declared, and change places in the next config.
fn changing_places() -> World {
    let mut world = World::new(1);
    world.apply(apply(vec![declared("a", "/a"), declared("b", "/b")]));
    world.run();
    world.built(done(1, at("a", "/a", "v1")));
    world.built(done(2, at("b", "/b", "w1")));
    world.run();
    assert_eq!(routes(&world), two(("/a", "a"), ("/b", "b")));
    world.apply(apply(vec![declared("a", "/b"), declared("b", "/a")]));
    world.run();
    world
}

#[test]
fn applications_that_are_declared_change_places_at_once() {
    let mut world = changing_places();
    world.built(done(3, at("a", "/b", "v1")));
    world.run();
    assert_eq!(routes(&world), two(("/a", "a"), ("/b", "b")), "one waits");
    assert_eq!(world.status("a").status, "DEPLOYING");
    let why = world.status("a").why;
    assert!(
        why[0].sentence.contains("no other application is at /b"),
        "{why:?}"
    );
    world.built(done(4, at("b", "/a", "w1")));
    world.run();
    assert_eq!(routes(&world), two(("/a", "b"), ("/b", "a")));
    assert_eq!(world.status("a").why, []);
    assert_eq!(world.status("a").status, "RUNNING");
    world.assert_at_rest();
}

#[test]
fn a_place_is_kept_until_who_is_there_has_come_up_elsewhere() {
    let mut world = changing_places();
    world.behaviours.insert("w2".into(), Behaviour::StartHangs);
    world.built(done(3, at("a", "/b", "v1")));
    world.built(done(4, at("b", "/a", "w2")));
    world.run();
    assert_eq!(routes(&world), two(("/a", "a"), ("/b", "b")));
    world.restart_controller(2);
    world.start();
    world.run();
    assert_eq!(routes(&world), two(("/a", "a"), ("/b", "b")));
    world.behaviours.clear();
    world.run();
    assert_eq!(routes(&world), two(("/a", "b"), ("/b", "a")));
    world.assert_at_rest();
}

#[test]
fn who_cannot_leave_stays_and_nobody_comes() {
    let mut world = changing_places();
    world.built(failed(4, "SyntaxError"));
    world.run();
    world.built(done(3, at("a", "/b", "v1")));
    world.run();
    assert_eq!(routes(&world), two(("/a", "a"), ("/b", "b")));
    let message = world.status("a").message;
    assert!(message.contains("used by application 'b'"), "{message}");
    world.delete("b");
    world.run_for(Duration::from_secs(11));
    world.apply(apply(vec![declared("a", "/b")]));
    world.run();
    let number = world.building().into_iter().max().unwrap();
    world.built(done(number, at("a", "/b", "v1")));
    world.run();
    assert_eq!(world.routes.routes[0].prefix, "/b");
}
