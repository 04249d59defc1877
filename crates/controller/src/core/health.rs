//! Who is asked for its health, and who is replaced for it: [`crate::books::health`] says when.

use std::time::Duration;

use eagleray_types::control::{CheckHealth, Outcome, replica_command};

use super::{
    clip::{IN_LOG, IN_MESSAGE, clip},
    command::Level,
    outbox::Outbox,
    trial,
};
use crate::books::{
    deployment::Deployment,
    health::{FAILURES_UNTIL_REPLACED, HealthStep},
    replica::Replica,
    replica_state::ReplicaInput,
};

/// Does what [`crate::books::health::Health::due`] has said. Returns whether that may have others decided otherwise.
pub(super) fn step(
    deployment: &mut Deployment,
    id: &str,
    step: HealthStep,
    now: Duration,
    out: &mut Outbox,
) -> bool {
    let Some(replica) = deployment.replica_mut(id) else {
        return false;
    };
    match step {
        HealthStep::Nothing => false,
        HealthStep::Ask => {
            ask(replica, now, out);
            false
        }
        HealthStep::TimedOut => {
            let timeout = replica.spec.options().health_check_timeout_s;
            let failure = format!("no answer within {timeout} s");
            failed(deployment, id, &failure, now, out);
            true
        }
    }
}

fn ask(replica: &mut Replica, now: Duration, out: &mut Outbox) {
    let question = out.next_question();
    replica.health.plan(now, out.draw());
    replica.health.asked(question, now);
    let body = replica_command::Body::CheckHealth(CheckHealth { id: question });
    out.tell(&replica.node, &replica.id, body);
}

/// A replica answers. Returns whether that may have others decided otherwise: most answers change nothing.
pub(super) fn on_health(
    deployment: &mut Deployment,
    id: &str,
    outcome: &Outcome,
    now: Duration,
    out: &mut Outbox,
) -> bool {
    let Some(replica) = deployment.replica_mut(id) else {
        return false;
    };
    if !replica.health.answered(outcome.id) {
        return false;
    }
    if outcome.failure.is_empty() {
        // Its trial may be over now.
        let matters = replica.trial.is_on() && replica.health.failing().is_some();
        replica.health.passed();
        recycle(deployment, id, outcome.accepted, out) || matters
    } else {
        failed(deployment, id, &outcome.failure, now, out);
        true
    }
}

fn failed(deployment: &mut Deployment, id: &str, failure: &str, now: Duration, out: &mut Outbox) {
    let Some(replica) = deployment.replica_mut(id) else {
        return;
    };
    if replica.health.failed(&clip(failure, IN_LOG)) {
        let message = format!(
            "replica {id} failed {FAILURES_UNTIL_REPLACED} health checks in a row and is being replaced; the last \
             failure: {}",
            clip(failure, IN_MESSAGE)
        );
        trial::lost(deployment, id, &message, now, out);
    }
}

/// A replica that has done its share is replaced when nothing else is under way in its deployment: one at a time,
/// and never in the middle of an update. Until then it works on. Returns whether it is replaced.
fn recycle(deployment: &mut Deployment, id: &str, accepted: u64, out: &mut Outbox) -> bool {
    let Some(spec) = deployment.aim() else {
        return false;
    };
    let limit = spec.options().max_requests_per_replica;
    if limit == 0 || accepted < limit {
        return false;
    }
    let count = deployment.wanted_of(spec) as usize;
    let complete = deployment.replicas.len() == count && deployment.running(spec) == count;
    let Some(replica) = deployment.replicas.get_mut(id).filter(|_| complete) else {
        return false;
    };
    if !replica.step(ReplicaInput::Unhealthy) {
        return false;
    }
    let reason = format!("{accepted} requests reach max_requests_per_replica, {limit}");
    replica.goes(out.now, &reason);
    let message = format!("{}: replica {id} is replaced: {reason}", deployment.key);
    out.log(Level::Info, message);
    true
}
