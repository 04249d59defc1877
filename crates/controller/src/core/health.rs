//! Who is asked for its health, and who is replaced for it: [`crate::books::health`] says when.

use std::time::Duration;

use eagleray_types::control::{CheckHealth, Outcome, replica_command};

use super::{
    clip::{IN_LOG, IN_MESSAGE, clip},
    outbox::Outbox,
    recycling, trial,
};
use crate::books::{
    deployment::Deployment,
    health::{FAILURES_UNTIL_REPLACED, HealthStep},
    replica::Replica,
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
    if outcome.resident_bytes > 0 {
        replica.memory_bytes = outcome.resident_bytes;
    }
    if outcome.failure.is_empty() {
        // Its trial may be over now.
        let matters = replica.trial.is_on() && replica.health.failing().is_some();
        replica.health.passed();
        recycling::look(deployment, id, outcome, out) || matters
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
