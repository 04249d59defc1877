//! Applications and deployments that go.

use eagleray_types::control::api_response;

use super::world::{World, application, deployment, simple};

#[test]
fn a_deleted_application_leaves_nothing() {
    let mut world = World::new(1);
    world.deploy(application(
        "a",
        vec![deployment("d", "v1", 2), deployment("e", "v1", 1)],
    ));
    world.run();
    let call = world.delete("a");
    world.step(0);
    assert_eq!(world.status("a").status, "DELETING");
    assert!(world.reply(call).is_none());
    world.run();
    assert!(matches!(
        world.reply(call),
        Some(api_response::Body::Done(_))
    ));
    assert!(
        world.processes.is_empty() && world.routed.is_empty() && world.routes.routes.is_empty()
    );
    assert!(world.stored.root.applications.is_empty());
    assert!(world.core.books.applications.is_empty() && world.core.books.register.len() == 0);
    let call = world.delete("unknown");
    world.run();
    assert!(
        matches!(world.reply(call), Some(api_response::Body::Done(_))),
        "an unknown name is gone"
    );
}

#[test]
fn a_delete_that_has_begun_is_durable_and_deletes_nothing_that_comes_later() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 1));
    world.run();
    let begun = world.begin_delete("a");
    while world.reply(begun).is_none() {
        assert!(world.step(0));
    }
    assert!(world.stored.root.applications.is_empty());
    assert_eq!(world.status("a").status, "DELETING");
    let waiting = world.await_deleted("a");
    assert!(world.reply(waiting).is_none());
    world.deploy(simple("v1", 1));
    world.run();
    assert!(
        world.reply(waiting).is_some(),
        "what it waited for is not there any more"
    );
    for _ in 0..2 {
        let late = world.await_deleted("a");
        world.run();
        assert!(world.reply(late).is_some());
        assert_eq!(world.status("a").status, "RUNNING");
    }
    world.begin_delete("a");
    let waiting = world.await_deleted("a");
    world.run();
    assert!(world.reply(waiting).is_some() && world.processes.is_empty());
}

#[test]
fn an_application_that_is_deployed_while_it_is_deleted_lives() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 1));
    world.run();
    let delete = world.delete("a");
    let deploy = world.deploy(simple("v1", 1));
    world.run();
    assert!(world.reply(delete).is_some() && world.reply(deploy).is_some());
    assert_eq!(
        (world.status("a").status.as_str(), world.processes.len()),
        ("RUNNING", 1)
    );
}

#[test]
fn waits_end_when_the_application_is_replaced_or_deleted() {
    let mut world = World::new(1);
    world
        .behaviours
        .insert("v1".into(), super::world::Behaviour::StartHangs);
    world.deploy(simple("v1", 1));
    world.run();
    let call = world.wait_for("a");
    world.delete("a");
    world.run();
    assert_eq!(world.error(call).0, "not_found");
    let unknown = world.wait_for("a");
    assert_eq!(world.error(unknown).0, "not_found");
}

#[test]
fn a_deployment_that_is_no_longer_there_goes_after_the_others_have_rolled() {
    let mut world = World::new(1);
    world.deploy(application(
        "a",
        vec![deployment("d", "v1", 1), deployment("e", "v1", 1)],
    ));
    world.run();
    world
        .behaviours
        .insert("v2".into(), super::world::Behaviour::StartHangs);
    world.deploy(application("a", vec![deployment("d", "v2", 1)]));
    world.run();
    assert_eq!(world.routed_to("e").len(), 1, "what still runs may call it");
    world.behaviours.clear();
    world.run();
    assert_eq!(world.routed_to("e").len(), 0);
    assert_eq!(world.processes.len(), 1);
    world.assert_at_rest();
}

#[test]
fn to_delete_what_has_no_name_deletes_nothing() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 1));
    world.run();
    for call in [world.delete(""), world.begin_delete("")] {
        world.run();
        assert!(world.reply(call).is_some());
    }
    assert_eq!(world.status("a").status, "RUNNING");
    world.assert_at_rest();
}
