//! Everything that is not fine says why, in one sentence; what is fine says nothing.

use std::time::Duration;

use eagleray_types::control::{ApplicationStatus, Condition, DeploymentStatus, Why, replica_event};

use super::world::{Behaviour, World, application, deployment, simple, with_revision};

fn is_fine(deployment: &DeploymentStatus) -> bool {
    let running = |states: &std::collections::BTreeMap<String, u32>| {
        states
            .iter()
            .all(|(state, count)| *count == 0 || matches!(state.as_str(), "RUNNING" | "STOPPING"))
    };
    deployment.status == "HEALTHY"
        && running(&deployment.replica_states)
        && deployment.abandoned_requests == 0
        && deployment
            .replicas
            .iter()
            .all(|one| one.hung_milliseconds == 0)
}

impl World {
    /// At every step: who is not fine says why, and each reason is one line that says something.
    pub(super) fn assert_reasons(&self) {
        for status in self.core.statuses(self.now) {
            let mut reasons = status.why.clone();
            for deployment in &status.deployments {
                assert!(
                    is_fine(deployment) || !deployment.why.is_empty(),
                    "nothing says why: {deployment:?}"
                );
                reasons.extend(deployment.why.iter().cloned());
            }
            assert!(
                status.status == "RUNNING" || !reasons.is_empty(),
                "nothing says why: {status:?}"
            );
            for Why { code, sentence, .. } in &reasons {
                assert!(!code.is_empty() && !sentence.contains('\n'), "{sentence:?}");
                assert!(
                    sentence.ends_with(|last: char| !last.is_whitespace()),
                    "{sentence:?}"
                );
                assert!(sentence.len() < 1000, "{sentence}");
            }
        }
    }

    /// Codes of the only deployment.
    fn codes(&self) -> Vec<String> {
        let status = self.status("a");
        status.deployments[0]
            .why
            .iter()
            .map(|one| one.code.clone())
            .collect()
    }

    /// The reason with this code, of the only deployment.
    fn reason(&self, code: &str) -> Why {
        let why = self.status("a").deployments[0].why.clone();
        let found = why.iter().find(|one| one.code == code);
        found
            .unwrap_or_else(|| panic!("no {code} in {why:?}"))
            .clone()
    }
}

fn running(spec: eagleray_types::control::ApplicationSpec) -> World {
    let mut world = World::new(1);
    world.deploy(spec);
    world.run_for(Duration::from_secs(60));
    let status: ApplicationStatus = world.status("a");
    assert_eq!(status.status, "RUNNING");
    assert!(
        status.why.is_empty() && world.codes().is_empty(),
        "what is fine says nothing"
    );
    world
}

fn says(why: &Why, words: &[&str]) {
    for word in words {
        assert!(
            why.sentence.contains(word),
            "{word:?} is not in {:?}",
            why.sentence
        );
    }
}

#[test]
fn a_first_start_says_that_nobody_answers_and_what_the_replica_is_doing() {
    let mut world = World::new(1);
    world.behaviours.insert("v1".into(), Behaviour::StartHangs);
    world.deploy(simple("v1", 1));
    world.run_for(Duration::from_secs(12));
    assert_eq!(world.codes(), ["no_replica", "starting"]);
    let starting = world.reason("starting");
    says(&starting, &["12 s", "constructor"]);
    assert_eq!(starting.replica_id, world.running("v1")[0]);
    assert!(starting.help.contains("eagleray stack"));
}

#[test]
fn a_constructor_that_raises_says_how_often_what_and_when_it_is_tried_again() {
    let mut world = World::new(1);
    world.behaviours.insert("v1".into(), Behaviour::StartFails);
    world.deploy(simple("v1", 1));
    world.run();
    let began = world.wall_time_s();
    world.run_for(Duration::from_millis(50));
    let failed = world.reason("start_failed");
    says(
        &failed,
        &["1 of 3 starts", "ValueError", "The next start is in 1 s"],
    );
    assert!((failed.since_s - began).abs() < 1.0, "since it began");
    world.run_for(Duration::from_secs(60));
    assert_eq!(world.codes(), ["no_replica", "gave_up"]);
    says(
        &world.reason("gave_up"),
        &["3 times", "not tried again", "ValueError"],
    );
    says(&world.reason("no_replica"), &["503"]);
    assert_eq!(world.status("a").why[0].code, "deploy_failed");
}

#[test]
fn a_deploy_that_fails_says_what_serves_on() {
    let mut world = running(simple("v1", 1));
    world.behaviours.insert("v2".into(), Behaviour::StartFails);
    world.deploy(simple("v2", 1));
    world.run_for(Duration::from_secs(60));
    let why = &world.status("a").why[0];
    assert_eq!(why.code, "rolled_back");
    says(why, &["r2", "r1 serves on"]);
    assert!(why.help.contains("eagleray rollback a"));
    assert_eq!(world.codes(), ["gave_up"]);
}

#[test]
fn what_failed_is_not_what_serves_on_though_it_left_a_deployment_as_it_was() {
    let two = |version| {
        let deployments = vec![deployment("d", version, 1), deployment("e", "v1", 1)];
        application("a", deployments)
    };
    let mut world = running(two("v1"));
    world.behaviours.insert("v2".into(), Behaviour::StartFails);
    world.deploy(two("v2"));
    world.run_for(Duration::from_secs(60));
    let why = &world.status("a").why[0];
    assert_eq!(why.code, "rolled_back");
    says(why, &["r2 did not come up", "r1 serves on"]);
}

#[test]
fn a_crash_loop_says_when_the_next_start_is_and_what_ended_the_last() {
    let mut world = running(simple("v1", 1));
    world
        .behaviours
        .insert("v1".into(), Behaviour::StartCrashes);
    let id = world.running("v1")[0].clone();
    world.kill(&id);
    world.run_for(Duration::from_secs(5));
    let crash = world.reason("crash_loop");
    says(
        &crash,
        &["Crash loop: ", "The next start is in ", "SIGKILL"],
    );
    assert_eq!(world.codes()[0], "no_replica");
}

#[test]
fn a_hung_loop_says_since_when_and_where() {
    let mut world = running(simple("v1", 1));
    let id = world.running("v1")[0].clone();
    let hung = Condition {
        hung_milliseconds: 14_000,
        stacks:
            "Thread 0x1 (most recent call first):\n  File \"/srv/tokenizer.py\", line 88 in encode"
                .into(),
        abandoned_requests: 0,
    };
    world.say(&id, replica_event::Body::Condition(hung));
    world.run();
    let why = world.reason("loop_hung");
    says(&why, &["14 s", "tokenizer.py:88 in encode"]);
    assert!((why.since_s - (world.wall_time_s() - 14.0)).abs() < 0.1);
    assert!(why.help.contains(&format!("eagleray stack {id}")));
}

#[test]
fn requests_that_nobody_waits_for_are_counted_and_explained() {
    let mut world = running(simple("v1", 1));
    let id = world.running("v1")[0].clone();
    let condition = Condition {
        abandoned_requests: 3,
        ..Condition::default()
    };
    world.say(&id, replica_event::Body::Condition(condition));
    world.run();
    says(
        &world.reason("abandoned_requests"),
        &["3 requests run on", "sync code"],
    );
}

#[test]
fn a_sick_replica_says_what_its_checks_say_until_and_while_it_is_replaced() {
    let mut world = running(simple("v1", 1));
    world.behaviours.insert("v1".into(), Behaviour::Sick);
    while world.codes().is_empty() {
        world.now = world.core.next_timeout().unwrap();
        world.feed(super::super::Event::Timeout);
        world.run();
    }
    says(
        &world.reason("health_check_failed"),
        &["1 health check in a row", "after 3"],
    );
    world.behaviours.insert("v1".into(), Behaviour::StartHangs);
    let id = world.running("v1")[0].clone();
    for _ in 0..2 {
        world.behaviours.insert("v1".into(), Behaviour::Sick);
        world.now = world.core.next_timeout().unwrap();
        world.feed(super::super::Event::Timeout);
        world.behaviours.insert("v1".into(), Behaviour::StartHangs);
        world.run();
    }
    let replaced = world.reason("being_replaced");
    assert_eq!(replaced.replica_id, id);
    says(
        &replaced,
        &["3 health checks in a row", "serves until then"],
    );
}

#[test]
fn a_change_of_user_config_says_how_long_it_takes_and_what_it_raised() {
    let mut spec = simple("v1", 2);
    spec.deployments[0].options.user_config = "1".into();
    let mut world = running(with_revision(spec.clone()));
    world
        .behaviours
        .insert("v1".into(), Behaviour::ReconfigureHangs);
    spec.deployments[0].options.user_config = "2".into();
    world.deploy(with_revision(spec.clone()));
    world.run_for(Duration::from_secs(7));
    says(&world.reason("reconfiguring"), &["7 s", "no time limit"]);

    let mut world = running(with_revision(simple("v1", 2)));
    world
        .behaviours
        .insert("v1".into(), Behaviour::ReconfigureFails);
    world.deploy(with_revision(spec));
    world.run_for(Duration::from_secs(60));
    says(
        &world.reason("config_refused"),
        &["was refused", "keep the one before it"],
    );
}

#[test]
fn what_is_deleted_says_what_it_waits_for() {
    let mut world = running(simple("v1", 2));
    world.delete("a");
    while !world.core.books.is_deleting("a") {
        assert!(world.step(0));
    }
    let why = &world.status("a").why[0];
    assert_eq!(why.code, "deleting");
    says(why, &["2 replicas"]);
}

#[test]
fn a_replica_that_takes_its_time_to_stop_says_how_long() {
    let mut world = running(simple("v1", 1));
    // Its process does not end: nothing is stepped.
    world.delete("a");
    while world.processes.values().all(|one| one.stopping.is_none()) {
        assert!(world.step(0));
    }
    world.now += Duration::from_secs(9);
    says(&world.reason("stopping"), &["9 s", "killed after 20 s"]);
}

#[test]
fn a_deployment_that_the_newest_revision_does_not_have_says_that_it_goes() {
    let both = vec![deployment("d", "v1", 1), deployment("e", "v2", 1)];
    let mut world = running(application("a", both));
    world.behaviours.insert("v3".into(), Behaviour::StartHangs);
    world.deploy(simple("v3", 1));
    world.run();
    let status = world.status("a");
    let goes = status
        .deployments
        .iter()
        .find(|one| one.name == "e")
        .unwrap();
    assert_eq!(goes.why[0].code, "leaving");
}

#[test]
fn an_application_that_moves_says_where_it_is_until_then() {
    let mut world = running(simple("v1", 1));
    world.behaviours.insert("v2".into(), Behaviour::StartHangs);
    let mut spec = simple("v2", 1);
    spec.route_prefix = "/b".into();
    world.deploy(with_revision(spec));
    world.run();
    let why = &world.status("a").why[0];
    assert_eq!(why.code, "not_routed");
    says(why, &["still reachable at /a", "not at /b"]);
}

#[test]
fn a_death_that_was_made_good_is_no_reason_any_more() {
    let mut world = World::new(1);
    world.deploy(simple("v1", 1));
    world.run_for(Duration::from_secs(2));
    world.behaviours.insert("v1".into(), Behaviour::StartHangs);
    let id = world.running("v1")[0].clone();
    world.kill(&id);
    world.run();
    says(
        &world.reason("replicas_fail"),
        &["1 replica failed", "SIGKILL"],
    );
    world.behaviours.clear();
    world.run_for(Duration::from_secs(1));
    assert!(world.codes().is_empty(), "{:?}", world.codes());
}
