//! The number of replicas follows the load: what was measured is given to [`eagleray_autoscaler`], and what it says is in
//! force.
//!
//! A decision is made when something has changed that it rests on (a report of a router, a replica that begins or ends, a
//! deploy) and when the last one said that time alone may change it. Between two versions the number stays: which of them
//! would have to follow the load is not known before the new one has shown that it serves. After an update that was given
//! up, what serves follows its load again.

use std::{cmp::Ordering, time::Duration};

use eagleray_autoscaler::{Config, Decision, Hold, Measured};
use eagleray_types::{
    DeploymentKey,
    control::{ApiError, AutoscalingDecision, AutoscalingStatus, Supposed, WhatIf, WhatIfAnswer},
};
use serde_json::{Map, Value};

use super::{
    Core,
    command::Level,
    outbox::{About, EventLevel, Outbox},
    timers::Timer,
    validate::api_error,
};
use crate::books::{
    Books,
    autoscaling::Decided,
    deployment::Deployment,
    desired::{Change, Desired},
    events::EventKind,
    loads::Loads,
    policy::Policy,
    status::StatusInput,
};

/// A deployment's decisions are told of once in so long; what was decided meanwhile is told of together.
const TOLD_EVERY: Duration = Duration::from_secs(1);
/// Who has said nothing this long after all could have spoken is taken to have nothing: one router that is stopped does
/// not keep everything at its size for ever.
const WAITED_FOR: Duration = Duration::from_secs(30);

impl Core {
    /// Loads of these deployments have changed.
    pub(super) fn rescale(&mut self, changed: &[DeploymentKey], now: Duration) {
        for key in changed {
            self.policies.on_change(&key.application);
            self.rescale_one(key, now);
        }
    }

    pub(super) fn rescale_one(&mut self, key: &DeploymentKey, now: Duration) {
        let Books {
            applications,
            desired,
            loads,
            ..
        } = &mut self.books;
        let application = applications.get_mut(&key.application);
        let Some(deployment) = application.and_then(|one| one.deployments.get_mut(&key.deployment))
        else {
            return;
        };
        // Nothing is decided before it is known what lives.
        if !self.listed || deployment.autoscaling.is_none() {
            return;
        }
        if look(deployment, desired, loads, now, &mut self.out) {
            self.touched.insert(key.application.clone());
        }
        let timer = Timer::Deployment(key.clone());
        self.timers.set(timer, deployment.next_timeout());
    }

    /// All routers have spoken, or had the time to: what was held for that is looked at. Returns when it may be so.
    pub(super) fn heard_at(&self) -> Option<Duration> {
        let spoken = self.books.loads.whole_at()?;
        let times = [spoken, spoken + WAITED_FOR];
        times.into_iter().find(|at| *at > self.out.now)
    }

    /// Whether a low load is one, and has become so since the last look.
    pub(super) fn begins_to_hear_all(&mut self, now: Duration) -> bool {
        let heard = heard_all(&self.books.loads, now);
        heard && !std::mem::replace(&mut self.heard_all, true)
    }
}

fn heard_all(loads: &Loads, now: Duration) -> bool {
    let waited = loads.whole_at().is_some_and(|at| at + WAITED_FOR <= now);
    loads.is_whole(now) || waited
}

/// What is known of a deployment now.
pub(super) fn measured(deployment: &Deployment, loads: &Loads, now: Duration) -> Measured {
    let load = loads.of(&deployment.key);
    let autoscaling = deployment.autoscaling.as_ref();
    let wish = autoscaling.and_then(|one| one.policy.as_ref().map(Policy::wish));
    Measured {
        queued: load.queued,
        running: load.running,
        ready: deployment.routable().count() as u32,
        wanted: deployment.wanted.target,
        heard_all: heard_all(loads, now),
        wish: wish.unwrap_or_default(),
    }
}

/// Decides for one deployment. Returns whether another number of its replicas is wanted now.
pub(super) fn look(
    deployment: &mut Deployment,
    desired: &mut Desired,
    loads: &Loads,
    now: Duration,
    out: &mut Outbox,
) -> bool {
    let measured = measured(deployment, loads, now);
    let rolls = rolls(deployment);
    let Some(autoscaling) = &mut deployment.autoscaling else {
        return false;
    };
    let decision = autoscaling.look(measured, rolls, now);
    let (before, after) = (measured.wanted, decision.replicas);
    let scales = before != after;
    if scales {
        let decided = Decided {
            at_s: out.wall_now_s,
            from: before,
            to: after,
            reason: decision.reason.to_string(),
        };
        autoscaling.note(decided);
        let change = Change::Autoscale {
            deployment: deployment.key.clone(),
            replicas: after,
        };
        if desired.apply(&change) {
            out.want_save();
        }
        let input = match before.cmp(&after) {
            Ordering::Less => StatusInput::AutoscaledUp,
            _ => StatusInput::AutoscaledDown,
        };
        deployment.status.on(input, "");
        deployment.autoscale(after);
    }
    tell(deployment, now, out);
    scales
}

/// What the status says of it; `None`: its number is stated.
pub(super) fn shown(
    deployment: &Deployment,
    loads: &Loads,
    now: Duration,
) -> Option<AutoscalingStatus> {
    let autoscaling = deployment.autoscaling.as_ref()?;
    let measured = measured(deployment, loads, now);
    let bounds = autoscaling.bounds();
    let policy = autoscaling.policy.as_ref();
    let last = autoscaling.last.as_ref().map(|(_, decision)| decision);
    let decisions = autoscaling.decided.iter().map(|one| AutoscalingDecision {
        at_s: one.at_s,
        from: one.from,
        to: one.to,
        reason: one.reason.clone(),
    });
    Some(AutoscalingStatus {
        config: autoscaling.text().to_owned(),
        min_replicas: bounds.low,
        max_replicas: bounds.high,
        target_ongoing_requests: autoscaling.config.target_ongoing_requests,
        replicas: measured.wanted,
        ready: measured.ready,
        asked: last.map_or(measured.wanted, |one| one.asked),
        queued: measured.queued,
        running: measured.running,
        heard_all: measured.heard_all,
        hold: last.map_or_else(String::new, |one| words(one, now)),
        decisions: decisions.collect(),
        policy: policy.map_or_else(String::new, |one| one.name.clone()),
        policy_error: policy.map_or_else(String::new, |one| one.error.clone()),
    })
}

/// What holds it, in words; empty: nothing does.
pub(super) fn words(decision: &Decision, now: Duration) -> String {
    let hold = decision.hold.as_ref();
    hold.map(|hold| hold.words(now)).unwrap_or_default()
}

/// The same load by another configuration: the function is run again, on a copy of what it keeps.
pub(super) fn what_if(
    books: &Books,
    question: &WhatIf,
    now: Duration,
) -> Result<WhatIfAnswer, ApiError> {
    let WhatIf {
        application,
        deployment,
        changes,
    } = question;
    let found = books.applications.get(application);
    let found = found.and_then(|one| one.deployments.get(deployment));
    let Some(found) = found else {
        let message =
            format!("there is no deployment '{deployment}' of an application '{application}'");
        return Err(api_error("not_found", message));
    };
    let (Some(autoscaling), Some(status)) = (&found.autoscaling, shown(found, &books.loads, now))
    else {
        let message = format!(
            "{application}/{deployment} runs a stated number of replicas: it has no autoscaling_config, so its load \
             changes nothing"
        );
        return Err(api_error("conflict", message));
    };
    let what_if = match changes.as_str() {
        "" => None,
        changes => {
            let config = changed(autoscaling.text(), changes)?;
            let bounds = config.bounds(autoscaling.capacity);
            let measured = measured(found, &books.loads, now);
            let decision = autoscaling.what_if(&config, measured, now);
            Some(Supposed {
                replicas: decision.asked.clamp(bounds.low, bounds.high),
                replicas_now: decision.replicas,
                asked: decision.asked,
                hold: words(&decision, now),
            })
        }
    };
    Ok(WhatIfAnswer { status, what_if })
}

/// A configuration with other keys in it.
fn changed(text: &str, changes: &str) -> Result<Config, ApiError> {
    let invalid = |error: String| api_error("invalid", error);
    let read = |text: &str| -> Result<Map<String, Value>, ApiError> {
        serde_json::from_str(text).map_err(|error| invalid(error.to_string()))
    };
    let mut keys = read(text)?;
    keys.extend(read(changes)?);
    Config::of_json(&Value::from(keys).to_string()).map_err(|error| invalid(error.to_string()))
}

/// It is between two versions, of which the new one may still come up.
pub(super) fn rolls(deployment: &Deployment) -> bool {
    let given_up = deployment.target_attempts().is_some_and(|one| one.gave_up);
    deployment.fallback().is_some() && !given_up
}

fn tell(deployment: &mut Deployment, now: Duration, out: &mut Outbox) {
    let wanted = deployment.wanted.target;
    let Some(autoscaling) = &mut deployment.autoscaling else {
        return;
    };
    if now < autoscaling.tell_at {
        return;
    }
    let (Some(before), Some(last)) = (autoscaling.untold.take(), autoscaling.decided.front())
    else {
        return;
    };
    autoscaling.tell_at = now + TOLD_EVERY;
    if before == wanted {
        return;
    }
    let hold = autoscaling
        .last
        .as_ref()
        .and_then(|(_, decision)| decision.hold.as_ref());
    let hold = match hold {
        Some(hold @ Hold::MaxReplicas { .. }) => format!("; {}", hold.words(now)),
        _ => String::new(),
    };
    let message = format!(
        "scaled from {before} to {wanted} replica(s) by its load: {}{hold}",
        last.reason
    );
    let about = About::deployment(&deployment.key);
    out.event(EventKind::Scale, EventLevel::Info, about, &message);
    let message = format!("{} is {message}", deployment.key);
    out.log(Level::Info, message);
}
