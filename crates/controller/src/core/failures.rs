//! Replicas that failed to start or died: booked, and said in words.
//!
//! The words say what happened, how often, what is done about it, where the output is, and what to do. What user
//! code wrote into an exception has no length that could be trusted, so it is cut: for the status, which is kept
//! and sent, and shorter for the log, which a crash loop must not fill.

use std::time::Duration;

use super::{
    clip::{IN_LOG, IN_MESSAGE, clip},
    configure,
    outbox::{About, EventLevel, Outbox},
};
use crate::books::{
    attempts,
    deployment::Deployment,
    events::EventKind,
    replica::Replica,
    replica_state::ReplicaInput,
    revision::VersionSpec,
    status::{Status, StatusInput},
};

const UNTIL_STABLE: &str = "Replicas start one at a time, up to 30 s apart, until one has run for 10 s. Correct what \
                            ends them and deploy again, or delete the application.";

/// What nobody can resist, whoever sends it: the kernel when memory is short, or a person.
pub(super) const SIGKILL: u32 = 9;

/// How a replica that was ready ended.
pub(super) struct Death<'a> {
    /// For people.
    pub(super) reason: &'a str,
    /// From outside, and not for what it did: that says nothing of whether the version can live.
    pub(super) killed: bool,
}

/// A replica that starts says that it cannot, or cannot be reached: it is ended. False: it does not start any more.
pub(super) fn on_start_failed(
    deployment: &mut Deployment,
    id: &str,
    error: &str,
    now: Duration,
    out: &mut Outbox,
) -> bool {
    let Some(replica) = deployment.replica_mut(id) else {
        return false;
    };
    if !replica.step(ReplicaInput::StartFailed) {
        return false;
    }
    out.stop(&replica.node, id, replica.epoch, 0);
    let spec = replica.spec.clone();
    start_failed(deployment, id, &spec, error, now, out);
    true
}

/// Books a failure to start (or to take a new configuration) and says so.
pub(super) fn start_failed(
    deployment: &mut Deployment,
    id: &str,
    spec: &VersionSpec,
    error: &str,
    now: Duration,
    out: &mut Outbox,
) {
    let what = What { error, hint: START };
    book(deployment, id, spec, &what, now, out);
}

/// A replica on trial is lost: that is how it failed to start.
pub(super) fn on_trial(
    deployment: &mut Deployment,
    replica: &Replica,
    reason: &str,
    now: Duration,
    out: &mut Outbox,
) {
    let ran = now.saturating_sub(replica.ready_at.unwrap_or(now));
    let error = format!(
        "replica {} was ready, and lost {:.1} s later, within its min_ready_s of {} s: {}",
        replica.id,
        ran.as_secs_f64(),
        replica.spec.options().min_ready_s,
        reason.trim_end(),
    );
    let what = What {
        error: &error,
        hint: TRIAL,
    };
    book(deployment, &replica.id, &replica.spec, &what, now, out);
}

/// How a start failed.
struct What<'a> {
    error: &'a str,
    /// Where to look first.
    hint: &'a str,
}

const START: &str = "This may be due to a problem with its constructor, its reconfigure method or its first health \
                     check.";
const TRIAL: &str = "It came up, and did not live for as long as min_ready_s asks.";

fn book(
    deployment: &mut Deployment,
    id: &str,
    spec: &VersionSpec,
    what: &What<'_>,
    now: Duration,
    out: &mut Outbox,
) {
    let What { error, hint } = what;
    let round = deployment.round_of(spec);
    let error = clip(error.trim_end(), IN_MESSAGE);
    let settled = deployment.has_settled(spec.version(), now);
    let attempts = deployment.attempts_of(spec.version());
    let limit_reached = attempts.start_failed(now, settled, round, error.clone().into_owned());
    let (failures, gave_up) = (attempts.failures, attempts.gave_up);
    let crash_loop = attempts.crash_loop.as_ref().map(|one| one.describe(now));
    let speaks = deployment.speaks_for(spec.version());
    let refused = limit_reached && !gave_up && configure::brings_config(deployment, spec);
    let refused = refused && configure::refuse(deployment);
    let next = match &crash_loop {
        _ if refused => {
            "It came with a new user_config, so the update has stopped, and the replicas keep the one that they \
             had before, or go back to it. Correct the error below and deploy again."
                .to_owned()
        }
        _ if gave_up => {
            let others_serve = deployment.routable().next().is_some();
            let kept = if others_serve {
                " What ran before keeps serving."
            } else {
                ""
            };
            format!("It is not tried again.{kept} Correct the error below and deploy again.")
        }
        Some(_) => UNTIL_STABLE.to_owned(),
        None if limit_reached => "It is tried again, with a pause of up to 30 s.".to_owned(),
        None => format!("Retrying {} more time(s).", round.limit() - failures),
    };
    let loops = crash_loop.map_or_else(String::new, |words| format!("{words}, last: "));
    let message = format!(
        "{loops}The deployment failed to start {failures} time(s) in a row. {hint} {next} What replica {id} wrote, if \
         anything, is in {}. Error:\n{error}",
        out.log_path(&deployment.key, id),
    );
    out.warn_of(&deployment.key, &message);
    let about = About::replica(&deployment.key, id);
    out.event(EventKind::Replica, EventLevel::Warning, about, &message);
    if speaks {
        if limit_reached {
            let input = if refused {
                StatusInput::ConfigRefused
            } else {
                StatusInput::StartFailed
            };
            deployment.status.on(input, message.as_str());
        }
        if deployment.status.status != Status::Healthy {
            deployment.status.message = message;
        }
    }
}

/// A replica that was ready is gone, and nobody told it to stop.
pub(super) fn died(
    deployment: &mut Deployment,
    replica: &Replica,
    death: &Death<'_>,
    now: Duration,
    out: &mut Outbox,
) {
    let ran = now.saturating_sub(replica.ready_at.unwrap_or(now));
    let spec = &replica.spec;
    let what = format!(
        "replica {} died ({}) after {:.1} s",
        replica.id,
        clip(death.reason, IN_LOG),
        ran.as_secs_f64(),
    );
    let output = out.log_path(&deployment.key, &replica.id);
    // One that nobody can resist, or that had lived, says nothing of whether the version can live.
    let settled =
        ran >= attempts::SETTLED || death.killed || deployment.has_settled(spec.version(), now);
    let round = deployment.round_of(spec);
    let attempts = deployment.attempts_of(spec.version());
    let limit_reached = attempts.died(now, ran, settled, round, what.clone());
    let message = match &attempts.crash_loop {
        Some(known) => format!(
            "{}, last: {what}; its output, if any, is in {output}. {UNTIL_STABLE}",
            known.describe(now)
        ),
        None => format!("{what} and is being replaced; its output, if any, is in {output}"),
    };
    if deployment.speaks_for(spec.version()) {
        if limit_reached || deployment.status.status != Status::Updating {
            deployment
                .status
                .on(StatusInput::HealthFailed, message.as_str());
        }
        deployment.status.message.clone_from(&message);
    }
    out.warn_of(&deployment.key, &message);
    let about = About::replica(&deployment.key, &replica.id);
    out.event(EventKind::Replica, EventLevel::Warning, about, &message);
}
