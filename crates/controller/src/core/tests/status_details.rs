//! What the status says of each replica and each deployment beside their states.

use std::time::Duration;

use eagleray_types::control::{CompiledRoutes, Ready, replica_event};

use super::world::{Behaviour, World, application, deployment, simple, with_revision};

#[test]
fn a_replica_says_since_when_it_runs_and_where_after_a_restart_of_the_controller_too() {
    let mut world = World::new(1);
    let wall_s = world.wall_time_s();
    world.run_for(Duration::from_secs(5));
    world.deploy(simple("v1", 1));
    world.run();
    let before = world.status("a").deployments[0].replicas[0].clone();
    assert!((before.started_at_s - wall_s - 5.0).abs() < 0.001);
    assert_eq!(before.node_id, "n1");
    assert_eq!(before.message, "");

    world.restart_controller(2);
    world.start();
    world.run_for(Duration::from_secs(60));
    let after = &world.status("a").deployments[0].replicas[0];
    assert!((after.started_at_s - before.started_at_s).abs() < 0.001);
}

// contract: 8/dead-replicas
#[test]
fn the_last_ten_dead_replicas_of_a_deployment_say_how_they_ended() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 1));
    world.run();
    let mut killed = Vec::new();
    for _ in 0..12 {
        let id = world.running("v1")[0].clone();
        world.kill(&id);
        killed.push(id);
        world.run_for(Duration::from_secs(60));
    }
    killed.reverse();
    let dead = world.status("a").deployments[0].dead_replicas.clone();
    let ids: Vec<String> = dead.iter().map(|one| one.replica_id.clone()).collect();
    assert_eq!(ids, killed[..10]);
    assert!(dead.iter().all(|one| one.state == "STOPPED"));
    assert_eq!(dead[0].message, "died: signal 9 (SIGKILL)");
}

#[test]
fn a_replica_that_was_told_to_end_did_not_die() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 1));
    world.run();
    world.deploy(simple("v2", 1));
    world.run();
    let dead = &world.status("a").deployments[0].dead_replicas;
    assert_eq!(dead.len(), 1);
    assert!(dead[0].message.starts_with("ended as it was told to"));
}

#[test]
fn a_replica_that_starts_says_what_it_is_doing() {
    let mut world = World::new(1);
    world.behaviours.insert("v1".into(), Behaviour::StartHangs);
    world.deploy(simple("v1", 1));
    world.run();
    let replica = world.status("a").deployments[0].replicas[0].clone();
    assert_eq!(replica.state, "STARTING");
    assert!(
        replica.message.contains("constructor"),
        "{}",
        replica.message
    );
}

#[test]
fn options_are_shown_and_what_variables_are_set_to_is_not() {
    let mut world = World::new(1);
    let mut spec = simple("v1", 3);
    let options = &mut spec.deployments[0].options;
    options.environment.insert("TOKEN".into(), "secret".into());
    options.max_ongoing_requests = 7;
    world.deploy(with_revision(spec));
    world.run();
    let status = world.status("a").deployments[0].clone();
    let options = status.options.unwrap();
    assert_eq!(options.environment["TOKEN"], "****");
    assert_eq!(
        (options.max_ongoing_requests, status.target_replicas),
        (7, 3)
    );
}

#[test]
fn calls_between_deployments_are_shown_as_their_arguments_tell() {
    let mut world = World::new(1);
    let mut ingress = deployment("ingress", "v1", 1);
    ingress.calls = vec!["model".into()];
    world.deploy(application(
        "a",
        vec![ingress, deployment("model", "v2", 1)],
    ));
    world.run();
    let calls = world.status("a").calls;
    assert_eq!(calls.len(), 1);
    assert_eq!(
        (calls[0].deployment.as_str(), &calls[0].calls),
        ("ingress", &vec!["model".to_owned()])
    );
}

#[test]
fn routes_are_compiled_as_the_newest_replica_says() {
    let mut world = World::new(1);
    world.behaviours.insert("v1".into(), Behaviour::StartHangs);
    world.deploy(with_revision(simple("v1", 1)));
    world.run();
    assert_eq!(world.status("a").compiled_routes, None);
    let id = world.running("v1")[0].clone();
    let routes = CompiledRoutes {
        compiled: 3,
        as_asgi: 1,
        ..CompiledRoutes::default()
    };
    let ready = Ready {
        compiled_routes: Some(routes.clone()),
        ..Ready::default()
    };
    world.processes.get_mut(&id).unwrap().ready = true;
    world.say(&id, replica_event::Body::Ready(ready));
    world.run();
    assert_eq!(world.status("a").compiled_routes, Some(routes));
}

#[test]
fn documentation_is_where_the_ingress_says_below_the_prefix() {
    for (prefix, expected) in [("/a", "/a/docs"), ("/", "/docs"), ("", "")] {
        let mut world = World::new(1);
        world.behaviours.insert("v1".into(), Behaviour::StartHangs);
        let mut spec = simple("v1", 1);
        spec.route_prefix = prefix.into();
        world.deploy(with_revision(spec));
        world.run();
        let id = world.running("v1")[0].clone();
        let ready = Ready {
            docs_path: "/docs".into(),
            ..Ready::default()
        };
        world.processes.get_mut(&id).unwrap().ready = true;
        world.say(&id, replica_event::Body::Ready(ready));
        world.run();
        assert_eq!(world.status("a").docs_path, expected);
    }
}
