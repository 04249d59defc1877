//! Versions that do not come up, replicas that die or are sick, stores that fail.

use std::time::Duration;

use eagleray_types::control::{Condition, Failed, SocketLost, node_event, replica_event};

use super::world::{Behaviour, World, application, deployment, simple, with_revision};

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn a_version_that_never_starts_is_given_up_with_its_traceback() {
    let mut world = World::new(1);
    world.behaviours.insert("bad".into(), Behaviour::StartFails);
    world.deploy(simple("bad", 2));
    world.step(0);
    let wait = world.wait_for("a");
    world.run_for(MINUTE);
    let status = world.settled(wait).unwrap();
    assert_eq!(status.status, "DEPLOY_FAILED");
    let deployment = &status.deployments[0];
    assert_eq!(
        (
            deployment.status.as_str(),
            deployment.status_trigger.as_str()
        ),
        ("DEPLOY_FAILED", "REPLICA_STARTUP_FAILED")
    );
    for part in [
        "Traceback: ValueError",
        "6 time(s)",
        "deploy again",
        "/run/logs/replica_a_d_",
    ] {
        assert!(
            deployment.message.contains(part),
            "{part} in {}",
            deployment.message
        );
        assert!(
            status.message.contains(part),
            "{part} in {}",
            status.message
        );
    }
    assert_eq!(
        world
            .take_words()
            .iter()
            .filter(|word| word.starts_with("spawn"))
            .count(),
        6
    );
    assert!(world.processes.is_empty());
    assert!(
        !world.routed.values().next().unwrap().unavailable.is_empty(),
        "requests fail at once"
    );
}

#[test]
fn while_it_is_retried_the_message_says_how_often_still() {
    let mut world = World::new(1);
    world
        .behaviours
        .insert("bad".into(), Behaviour::StartCrashes);
    world.deploy(simple("bad", 1));
    world.run();
    let deployment = &world.status("a").deployments[0];
    assert_eq!(deployment.status, "UPDATING");
    assert!(
        deployment.message.contains("Retrying 2 more time(s)"),
        "{}",
        deployment.message
    );
    assert!(
        deployment.message.contains("signal 9"),
        "{}",
        deployment.message
    );
}

#[test]
fn the_old_version_serves_at_full_size_while_the_new_one_fails() {
    let mut world = World::new(1);
    world.deploy(simple("good", 3));
    world.run();
    world.behaviours.insert("bad".into(), Behaviour::StartFails);
    world.deploy(simple("bad", 3));
    world.run_for(MINUTE);
    assert_eq!(world.status("a").status, "DEPLOY_FAILED");
    assert!(world.status("a").message.contains("keeps serving"));
    assert_eq!(world.routed_to("d").len(), 3);
    let victim = world.running("good")[0].clone();
    world.kill(&victim);
    world.run_for(MINUTE);
    assert_eq!(
        (world.running("good").len(), world.routed_to("d").len()),
        (3, 3),
        "the old version is replaced, too"
    );
    assert_eq!(world.running("bad").len(), 0);
    assert_eq!(world.status("a").status, "DEPLOY_FAILED");
}

#[test]
fn deploying_a_version_again_that_was_given_up_tries_again() {
    let mut world = World::new(1);
    world.behaviours.insert("v1".into(), Behaviour::StartFails);
    world.deploy(simple("v1", 1));
    world.run_for(MINUTE);
    assert_eq!(world.status("a").status, "DEPLOY_FAILED");
    world.behaviours.clear();
    world.deploy(simple("v1", 1));
    world.run();
    assert_eq!(world.status("a").status, "RUNNING");
    assert_eq!(world.status("a").message, "");
}

#[test]
fn a_deploy_after_a_failed_one_goes_from_what_serves() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 2));
    world.run();
    world.behaviours.insert("v2".into(), Behaviour::StartFails);
    world.deploy(simple("v2", 2));
    world.run_for(MINUTE);
    world.deploy(simple("v3", 2));
    while world.step(0) {
        assert!(world.routed_to("d").len() >= 2);
    }
    assert_eq!((world.running("v3").len(), world.processes.len()), (2, 2));
}

#[test]
fn a_replica_that_dies_is_replaced_at_once() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 2));
    world.run_for(MINUTE);
    let victim = world.running("v1")[0].clone();
    world.take_words();
    world.kill(&victim);
    assert!(world.take_words().contains(&"spawn a/d".to_owned()));
    assert_eq!(world.routed_to("d").len(), 1);
    let deployment = &world.status("a").deployments[0];
    assert_eq!(
        (
            deployment.status.as_str(),
            deployment.status_trigger.as_str()
        ),
        ("UNHEALTHY", "HEALTH_CHECK_FAILED")
    );
    assert!(
        deployment.message.contains("signal 9"),
        "{}",
        deployment.message
    );
    world.run();
    assert_eq!(world.routed_to("d").len(), 2);
    assert_eq!(world.status("a").status, "RUNNING");
    world.assert_at_rest();
}

#[test]
fn a_crash_loop_after_ready_is_slowed_down() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 1));
    world.run_for(MINUTE);
    world.take_words();
    let end = world.now + MINUTE;
    while world.now < end {
        if let Some(id) = world.routed_to("d").first().cloned() {
            world.kill(&id);
        }
        world.run_for(Duration::from_millis(100));
    }
    let starts = world
        .take_words()
        .iter()
        .filter(|word| word.starts_with("spawn"))
        .count();
    assert!((5..=10).contains(&starts), "{starts} starts in a minute");
    let deployment = &world.status("a").deployments[0];
    assert_eq!(deployment.status, "UNHEALTHY");
    for part in [
        "crash loop: ",
        " deaths in ",
        "last: replica ",
        "signal 9",
        "deploy again",
        "Next start in ",
    ] {
        assert!(
            deployment.message.contains(part),
            "{part} in {}",
            deployment.message
        );
    }
    while world.routed_to("d").is_empty() {
        world.run_for(Duration::from_secs(1));
    }
    let deployment = &world.status("a").deployments[0];
    assert_eq!(deployment.status, "UNHEALTHY", "ready is not well yet");
    assert!(
        deployment.message.contains("runs again"),
        "{}",
        deployment.message
    );
    world.run_for(Duration::from_secs(11));
    assert_eq!(world.status("a").status, "RUNNING", "and it recovers");
    assert_eq!(world.status("a").message, "");
    world.assert_at_rest();
}

#[test]
fn a_version_that_served_and_cannot_start_any_more_is_a_crash_loop_and_comes_back_by_itself() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 1));
    world.run_for(MINUTE);
    world.behaviours.insert("v1".into(), Behaviour::StartFails);
    world.take_words();
    let victim = world.running("v1")[0].clone();
    world.kill(&victim);
    world.run_for(MINUTE);
    let starts = world
        .take_words()
        .iter()
        .filter(|word| word.starts_with("spawn"))
        .count();
    assert!((5..=10).contains(&starts), "{starts} starts in a minute");
    let deployment = &world.status("a").deployments[0];
    assert_eq!(deployment.status, "UNHEALTHY");
    for part in [
        "crash loop: ",
        "last: ",
        "Traceback: ValueError",
        "one at a time",
    ] {
        assert!(
            deployment.message.contains(part),
            "{part} in {}",
            deployment.message
        );
    }
    world.behaviours.clear();
    world.run_for(MINUTE);
    assert_eq!(world.status("a").status, "RUNNING");
}

#[test]
fn deploying_the_same_again_ends_the_wait_of_a_crash_loop() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 1));
    world.run_for(MINUTE);
    for _ in 0..6 {
        let victim = world.running("v1").pop().unwrap();
        world.kill(&victim);
        world.run_for(Duration::from_secs(1));
    }
    assert!(world.running("v1").is_empty(), "it waits");
    world.deploy(simple("v1", 1));
    world.run();
    assert_eq!(world.status("a").status, "RUNNING");
}

#[test]
fn the_crash_loop_of_one_application_leaves_the_budget_of_another_alone() {
    let mut world = World::new(1);
    world.deploy(application("b", vec![deployment("d", "good", 1)]));
    world.deploy(simple("v1", 1));
    world.run_for(MINUTE);
    // The first one is old, which is no failure.
    for _ in 0..6 {
        let victim = world.running("v1").pop().unwrap();
        world.kill(&victim);
        world.run_for(Duration::from_secs(1));
    }
    assert!(world.running("v1").is_empty(), "it waits");
    world.take_words();
    let victim = world.running("good").pop().unwrap();
    world.kill(&victim);
    assert!(
        world.take_words().contains(&"spawn b/d".to_owned()),
        "at once"
    );
}

#[test]
fn a_crash_loop_of_many_replicas_tries_one_at_a_time() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 4));
    world.run_for(MINUTE);
    world
        .behaviours
        .insert("v1".into(), Behaviour::StartCrashes);
    for victim in world.running("v1") {
        world.kill(&victim);
    }
    world.run_for(MINUTE);
    world.take_words();
    world.run_for(MINUTE);
    let starts = world
        .take_words()
        .iter()
        .filter(|word| word.starts_with("spawn"))
        .count();
    assert!(
        (2..=3).contains(&starts),
        "{starts} starts in the second minute"
    );
    world.behaviours.clear();
    world.run_for(MINUTE);
    assert_eq!(
        world.routed_to("d").len(),
        4,
        "the others follow the one that proved itself"
    );
    assert_eq!(world.status("a").status, "RUNNING");
}

#[test]
fn a_death_from_outside_is_told_by_the_signal_and_not_by_what_is_said_of_it() {
    // Five deaths are a crash loop, unless somebody on the machine kills: then it takes five of each.
    for (signal, reason, loops) in [
        (9, "the machine is short of memory", false),
        (11, "signal 11 (SIGSEGV) after the SIGKILL of a child", true),
        (0, "it had closed its connection, and got a SIGKILL", true),
    ] {
        let mut world = World::new(1);
        world.deploy(simple("v1", 3));
        world.run();
        for _ in 0..3 {
            for victim in world.running("v1") {
                world.end_with(&victim, signal, reason);
            }
            world.run_for(Duration::from_secs(2));
        }
        let message = world.status("a").deployments[0].message.clone();
        assert_eq!(message.contains("crash loop"), loops, "{reason}: {message}");
    }
}

#[test]
fn replicas_that_do_not_live_start_ten_times_in_the_first_minute() {
    for behaviour in [Behaviour::StartCrashes, Behaviour::StartFails] {
        let mut world = World::new(1);
        world.deploy(simple("v1", 3));
        world.run_for(MINUTE);
        world.behaviours.insert("v1".into(), behaviour);
        world.take_words();
        for victim in world.running("v1") {
            world.kill(&victim);
        }
        world.run_for(MINUTE);
        let words = world.take_words();
        let starts = words.iter().filter(|word| word.starts_with("spawn"));
        let starts = starts.count();
        assert!((5..=10).contains(&starts), "{starts} starts");
        assert!(
            world.status("a").deployments[0]
                .message
                .contains("crash loop")
        );
    }
}

#[test]
fn all_may_die_young_once_and_come_back_when_one_has_settled() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 10));
    world.run_for(Duration::from_secs(2));
    for victim in world.running("v1") {
        world.kill(&victim);
    }
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.routed_to("d").len(), 10);
}

#[test]
fn an_exception_of_any_length_makes_a_message_of_bounded_length() {
    let mut world = World::new(1);
    world.behaviours.insert("v1".into(), Behaviour::StartHangs);
    world.deploy(simple("v1", 1));
    world.run();
    let id = world.running("v1")[0].clone();
    let message = format!("first {} last", "x".repeat(1 << 20));
    world.say(&id, replica_event::Body::StartFailed(Failed { message }));
    world.run();
    let message = &world.status("a").deployments[0].message;
    assert!(message.len() < 20_000, "{}", message.len());
    assert!(message.contains("first x") && message.contains("x last"));
}

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
        super::super::Event::Node(node_event::Body::SocketLost(SocketLost {
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

#[test]
fn one_application_that_fails_leaves_the_others_alone() {
    let mut world = World::new(1);
    world.deploy(application("b", vec![deployment("d", "v1", 1)]));
    world.run();
    world
        .behaviours
        .insert("bad".into(), Behaviour::StartCrashes);
    world.take_words();
    world.deploy(simple("bad", 1));
    world.run_for(MINUTE);
    assert_eq!(world.status("b").status, "RUNNING");
    assert!(world.take_words().iter().all(|word| word != "spawn b/d"));
}

#[test]
fn a_deploy_that_cannot_be_stored_changes_nothing() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 1));
    world.run();
    world.take_words();
    world.fail_saves = true;
    let call = world.deploy(simple("v2", 1));
    world.run();
    let (kind, message) = world.error(call);
    assert_eq!((kind, message), ("internal", "disk full"));
    assert_eq!(
        (world.take_words().len(), world.running("v1").len()),
        (0, 1)
    );
    world.fail_saves = false;
    world.run_for(Duration::from_secs(5));
    let call = world.deploy(simple("v2", 1));
    world.run();
    assert!(!world.notes(call).is_empty());
    assert_eq!(world.running("v2").len(), 1);
}

#[test]
fn a_deploy_that_names_a_missing_blob_is_refused() {
    let mut world = World::new(1);
    world.missing_files = true;
    let call = world.deploy(simple("v1", 1));
    world.run();
    assert_eq!(world.error(call).0, "invalid");
    assert!(world.processes.is_empty());
}

#[test]
fn a_slow_start_says_so() {
    let mut world = World::new(1);
    world.behaviours.insert("v1".into(), Behaviour::StartHangs);
    world.deploy(simple("v1", 1));
    world.run_for(Duration::from_secs(20));
    assert_eq!(world.status("a").deployments[0].message, "");
    world.run_for(MINUTE);
    assert!(
        world.status("a").deployments[0]
            .message
            .contains("more than 30 s")
    );
}

#[test]
fn too_many_changes_at_once_are_refused_and_the_rest_are_done() {
    let mut world = World::new(1);
    let calls: Vec<_> = (0..100)
        .map(|number| world.deploy(simple(&format!("v{number}"), 1)))
        .collect();
    world.run();
    let refused = calls.iter().filter(|call| {
        matches!(
            world.reply(**call),
            Some(eagleray_types::control::api_response::Body::Error(_))
        )
    });
    assert_eq!(refused.count(), 100 - 65);
    assert_eq!(world.running("v64").len(), 1);
}
