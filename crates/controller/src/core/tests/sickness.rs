//! Replicas that run and are not well: sick, hung, cut off.

use std::time::Duration;

use eagleray_types::control::{Condition, SocketLost, node_event, replica_event};

use super::world::{Behaviour, World, from_node, simple, with_revision};

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn three_failed_health_checks_replace_a_replica_and_the_replacement_starts_first() {
    for behaviour in [Behaviour::Sick, Behaviour::Silent] {
        let mut world = World::new(1);
        world.deploy(simple("v1", 1));
        world.run_for(MINUTE);
        let sick = world.running("v1")[0].clone();
        world.behaviours.insert("v1".into(), behaviour);
        world.take_words();
        while !world.take_words().contains(&"spawn a/d".to_owned()) {
            assert!(
                world.step(0) || {
                    world.now = world.core.next_timeout().unwrap();
                    world.feed(super::super::Event::Timeout);
                    true
                }
            );
        }
        assert!(
            world.routed_to("d").contains(&sick),
            "it serves until its replacement does"
        );
        assert_eq!(world.processes[&sick].told, (1, 1), "its rank is given up");
        let successor = world.processes.iter().find(|(id, _)| **id != sick).unwrap();
        assert_eq!(successor.1.told, (0, 1), "and the successor starts with it");
        assert_eq!(
            world.status("a").deployments[0].status_trigger,
            "HEALTH_CHECK_FAILED"
        );
        assert_eq!(
            world.status("a").deployments[0].replica_states["PENDING_MIGRATION"],
            1
        );
        world.behaviours.clear();
        world.run();
        assert!(!world.routed_to("d").contains(&sick));
        assert_eq!((world.routed_to("d").len(), world.processes.len()), (1, 1));
        assert_eq!(world.status("a").status, "RUNNING");
    }
}

fn hung(milliseconds: u64) -> replica_event::Body {
    replica_event::Body::Condition(Condition {
        hung_milliseconds: milliseconds,
        stacks: if milliseconds > 0 {
            "File \"model.py\""
        } else {
            ""
        }
        .into(),
        ..Default::default()
    })
}

fn with_hang_timeout(seconds: f64) -> eagleray_types::control::ApplicationSpec {
    let mut spec = simple("v1", 2);
    spec.deployments[0].options.hang_timeout_s = seconds;
    with_revision(spec)
}

#[test]
fn a_hung_replica_is_shown_with_its_stack_and_ended_and_replaced_after_its_time() {
    let mut world = World::new(1);
    world.deploy(with_hang_timeout(300.0));
    world.run_for(MINUTE);
    let sick = world.running("v1")[0].clone();
    world.behaviours.insert("v1".into(), Behaviour::Silent);
    world.hung.insert(sick.clone());
    world.say(&sick, hung(1_000));
    world.run_for(Duration::from_secs(290));
    let status = world.status("a").deployments[0].clone();
    assert_eq!(
        status.status, "HEALTHY",
        "silence is no failed health check"
    );
    assert!(status.message.contains(&sick), "{}", status.message);
    assert!(status.message.contains("model.py"), "{}", status.message);
    assert!(status.message.contains("291.0 s"), "{}", status.message);
    world.behaviours.clear();
    world.run_for(Duration::from_secs(30));
    assert!(!world.processes.contains_key(&sick));
    assert_eq!(world.routed_to("d").len(), 2);
    assert_eq!(world.status("a").status, "RUNNING");
}

#[test]
fn a_replica_that_turns_again_in_time_is_left_alone_and_so_is_one_without_a_limit() {
    for (limit, hangs) in [(300.0, 200), (0.0, 5_000)] {
        let mut world = World::new(1);
        world.deploy(with_hang_timeout(limit));
        world.run_for(MINUTE);
        let before = world.running("v1");
        world.say(&before[0], hung(1_000));
        world.run_for(Duration::from_secs(hangs));
        assert_ne!(world.status("a").deployments[0].message, "");
        world.say(&before[0], hung(0));
        world.run_for(20 * MINUTE);
        assert_eq!(world.status("a").deployments[0].message, "");
        assert_eq!(world.running("v1"), before);
    }
}

#[test]
fn requests_that_run_for_nobody_are_summed_up() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 2));
    world.run_for(MINUTE);
    for (id, count) in world.running("v1").iter().zip([2, 3]) {
        let condition = Condition {
            abandoned_requests: count,
            ..Default::default()
        };
        world.say(id, replica_event::Body::Condition(condition));
    }
    world.run_for(MINUTE);
    assert_eq!(world.status("a").deployments[0].abandoned_requests, 5);
}

#[test]
fn a_replica_whose_socket_was_removed_is_replaced_and_the_replacement_starts_first() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 2));
    world.run_for(MINUTE);
    let lost = world.running("v1")[0].clone();
    let epoch = world.processes[&lost].spawn.epoch;
    let event = |epoch| {
        from_node(node_event::Body::SocketLost(SocketLost {
            replica_id: lost.clone(),
            epoch,
        }))
    };
    world.feed(event(epoch + 1));
    assert_eq!(world.status("a").status, "RUNNING", "of another life");
    for _ in 0..3 {
        world.feed(event(epoch));
        assert!(
            world.routed_to("d").contains(&lost),
            "it serves all the while"
        );
    }
    let message = &world.status("a").deployments[0].message;
    assert!(message.contains("socket file"), "{message}");
    world.run();
    assert_eq!(world.running("v1").len(), 2);
    assert!(!world.running("v1").contains(&lost));
    assert_eq!(world.status("a").status, "RUNNING");
    world.assert_at_rest();
}

#[test]
fn health_checks_come_at_their_period_and_healthy_replicas_stay() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 3));
    world.run();
    let before = world.routed_to("d");
    world.run_for(10 * MINUTE);
    assert_eq!(world.routed_to("d"), before);
    assert_eq!(world.status("a").status, "RUNNING");
}
