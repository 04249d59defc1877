//! Replicas that are lost: one that had been counted on is replaced, one on trial has failed.

use std::time::Duration;

use super::{failures, lifecycle, outbox::Outbox};
use crate::books::{deployment::Deployment, replica::Replica};

/// A replica is not well, or cannot be reached. One that was counted on serves until its replacement does; one on trial
/// is not waited for, since nothing counts on it.
pub(super) fn lost(
    deployment: &mut Deployment,
    id: &str,
    message: &str,
    now: Duration,
    out: &mut Outbox,
) {
    let on_trial = |replica: &&mut Replica| replica.trial.is_on() && replica.state.serving();
    let Some(replica) = deployment.replicas.get_mut(id).filter(on_trial) else {
        return lifecycle::replace(deployment, id, message, out);
    };
    lifecycle::stop(replica, out);
    let replica = replica.clone();
    failures::on_trial(deployment, &replica, message, now, out);
}
