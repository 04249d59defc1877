//! Who is asked for its health, and who is replaced for it: [`crate::books::health`] says when.

use std::time::Duration;

use eagleray_types::control::{CheckHealth, Outcome, replica_command};

use super::{
    clip::{IN_MESSAGE, clip},
    command::Level,
    lifecycle,
    outbox::Outbox,
};
use crate::books::{
    deployment::Deployment,
    health::{FAILURES_UNTIL_REPLACED, HealthStep},
    replica::Replica,
    replica_state::ReplicaInput,
};

/// Does what [`crate::books::health::Health::due`] has said.
pub(super) fn step(
    deployment: &mut Deployment,
    id: &str,
    step: HealthStep,
    now: Duration,
    out: &mut Outbox,
) {
    let Some(replica) = deployment.replicas.get_mut(id) else {
        return;
    };
    match step {
        HealthStep::Nothing => {}
        HealthStep::Ask => ask(replica, now, out),
        HealthStep::TimedOut => {
            let timeout = replica.spec.options().health_check_timeout_s;
            let failure = format!("no answer within {timeout} s");
            failed(deployment, id, &failure, out);
        }
    }
}

fn ask(replica: &mut Replica, now: Duration, out: &mut Outbox) {
    let question = out.next_question();
    replica.health.plan(now, out.draw());
    replica.health.asked(question, now);
    let body = replica_command::Body::CheckHealth(CheckHealth { id: question });
    out.tell(&replica.id, body);
}

/// A replica answers.
pub(super) fn on_health(
    deployment: &mut Deployment,
    id: &str,
    outcome: &Outcome,
    out: &mut Outbox,
) {
    let Some(replica) = deployment.replicas.get_mut(id) else {
        return;
    };
    if !replica.health.answered(outcome.id) {
        return;
    }
    match outcome.failure.as_str() {
        "" => {
            replica.health.passed();
            recycle(deployment, id, outcome.accepted, out);
        }
        failure => failed(deployment, id, failure, out),
    }
}

fn failed(deployment: &mut Deployment, id: &str, failure: &str, out: &mut Outbox) {
    let Some(replica) = deployment.replicas.get_mut(id) else {
        return;
    };
    if replica.health.failed() {
        let message = format!(
            "replica {id} failed {FAILURES_UNTIL_REPLACED} health checks in a row and is being replaced; the last \
             failure: {}",
            clip(failure, IN_MESSAGE)
        );
        lifecycle::replace(deployment, id, &message, out);
    }
}

/// A replica that has done its share is replaced when nothing else is under way in its deployment: one at a time,
/// and never in the middle of an update. Until then it works on.
fn recycle(deployment: &mut Deployment, id: &str, accepted: u64, out: &mut Outbox) {
    let Some(spec) = deployment.aim() else {
        return;
    };
    let limit = spec.options().max_requests_per_replica;
    if limit == 0 || accepted < limit {
        return;
    }
    let count = deployment.wanted_of(spec) as usize;
    let complete = deployment.replicas.len() == count && deployment.running(spec) == count;
    let replica = deployment.replicas.get_mut(id).filter(|_| complete);
    if replica.is_some_and(|one| one.step(ReplicaInput::Unhealthy)) {
        let reason = format!("{accepted} requests reach max_requests_per_replica, {limit}");
        let message = format!("{}: replica {id} is replaced: {reason}", deployment.key);
        out.log(Level::Info, message);
    }
}
