//! Statuses of deployments and applications: Ray Serve's words and transitions.
//!
//! A deployment's status is a small state machine of its own ([`StatusInfo::on`]); an application's status follows
//! from those of its deployments. One difference on purpose: a replica that dies once during an update, or that nobody
//! can connect to any more, is simply replaced and the status stays `UPDATING`; only failures up to the retry limit, or
//! a failed health check by the replica's own word, make it `DEPLOY_FAILED`, so one crash does not fail a deploy that
//! succeeds a second later.

use std::{collections::BTreeMap, time::Duration};

use eagleray_types::control::{ApplicationStatus, DeploymentStatus, ReplicaStatus};

use super::{
    ReplicaState,
    condition::hung_text,
    configure,
    model::{Application, Deployment},
};

/// From here on the status of a starting deployment says that it is slow.
pub(crate) const SLOW_START: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Updating,
    Healthy,
    Unhealthy,
    DeployFailed,
    Upscaling,
    Downscaling,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trigger {
    Unspecified,
    ConfigUpdateStarted,
    ConfigUpdateCompleted,
    UpscaleCompleted,
    DownscaleCompleted,
    ReplicaStartupFailed,
    HealthCheckFailed,
    Deleting,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StatusInput {
    /// A new configuration, other than a new `num_replicas` alone.
    Configured,
    ScaledUp,
    ScaledDown,
    TargetReached,
    StartFailed,
    HealthFailed,
    /// Nobody new can connect to a replica that is well by its own word.
    ReachLost,
    /// A new `user_config` was refused, and the update stopped.
    ConfigRefused,
    Delete,
}

impl Status {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Updating => "UPDATING",
            Self::Healthy => "HEALTHY",
            Self::Unhealthy => "UNHEALTHY",
            Self::DeployFailed => "DEPLOY_FAILED",
            Self::Upscaling => "UPSCALING",
            Self::Downscaling => "DOWNSCALING",
        }
    }
}

impl Trigger {
    const fn word(self) -> &'static str {
        match self {
            Self::Unspecified => "UNSPECIFIED",
            Self::ConfigUpdateStarted => "CONFIG_UPDATE_STARTED",
            Self::ConfigUpdateCompleted => "CONFIG_UPDATE_COMPLETED",
            Self::UpscaleCompleted => "UPSCALE_COMPLETED",
            Self::DownscaleCompleted => "DOWNSCALE_COMPLETED",
            Self::ReplicaStartupFailed => "REPLICA_STARTUP_FAILED",
            Self::HealthCheckFailed => "HEALTH_CHECK_FAILED",
            Self::Deleting => "DELETING",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StatusInfo {
    pub(crate) status: Status,
    pub(crate) trigger: Trigger,
    pub(crate) message: String,
}

impl StatusInfo {
    pub(crate) fn new() -> Self {
        Self {
            status: Status::Updating,
            trigger: Trigger::ConfigUpdateStarted,
            message: String::new(),
        }
    }

    /// Takes one input with the message that goes with it.
    pub(crate) fn on(&mut self, input: StatusInput, message: impl Into<String>) {
        if let Some((status, trigger)) = transition(self.status, input) {
            *self = Self {
                status,
                trigger,
                message: message.into(),
            };
        }
    }
}

/// The table of section 8.2 of the public contract; `None` leaves status, trigger and message as they are.
const fn transition(from: Status, input: StatusInput) -> Option<(Status, Trigger)> {
    use {Status as S, StatusInput as I, Trigger as T};
    Some(match (from, input) {
        (_, I::Delete) => (S::Updating, T::Deleting),
        (_, I::Configured) => (S::Updating, T::ConfigUpdateStarted),
        (S::Healthy | S::Upscaling | S::Downscaling, I::ScaledUp) => {
            (S::Upscaling, T::ConfigUpdateStarted)
        }
        (S::Healthy | S::Upscaling | S::Downscaling, I::ScaledDown) => {
            (S::Downscaling, T::ConfigUpdateStarted)
        }
        (S::Updating | S::Unhealthy | S::DeployFailed, I::ScaledUp | I::ScaledDown) => return None,
        (S::Updating, I::TargetReached) => (S::Healthy, T::ConfigUpdateCompleted),
        (S::Upscaling, I::TargetReached) => (S::Healthy, T::UpscaleCompleted),
        (S::Downscaling, I::TargetReached) => (S::Healthy, T::DownscaleCompleted),
        (S::Unhealthy | S::DeployFailed, I::TargetReached) => (S::Healthy, T::Unspecified),
        (S::Healthy, I::TargetReached) => return None,
        (S::Updating | S::DeployFailed, I::StartFailed) => {
            (S::DeployFailed, T::ReplicaStartupFailed)
        }
        (_, I::ConfigRefused) => (S::DeployFailed, T::ReplicaStartupFailed),
        (S::Updating, I::HealthFailed) => (S::DeployFailed, T::HealthCheckFailed),
        (S::Upscaling | S::Downscaling, I::StartFailed) => (S::Unhealthy, T::ReplicaStartupFailed),
        (S::Healthy | S::Upscaling | S::Downscaling | S::Unhealthy, I::HealthFailed) => {
            (S::Unhealthy, T::HealthCheckFailed)
        }
        (S::Healthy | S::Upscaling | S::Downscaling | S::Unhealthy, I::ReachLost) => {
            (S::Unhealthy, T::HealthCheckFailed)
        }
        (S::Healthy | S::Unhealthy, I::StartFailed)
        | (S::DeployFailed, I::HealthFailed | I::ReachLost)
        | (S::Updating, I::ReachLost) => return None,
    })
}

/// The status of an application, from those of its deployments, in the order of the contract. One that it no longer has
/// may still drain, which is no part of the deploy.
pub(crate) fn application_word(application: &Application) -> &'static str {
    if application.deleting() {
        return "DELETING";
    }
    let any = |wanted: &[Status]| {
        application
            .deployments
            .values()
            .filter(|one| one.target.is_some())
            .any(|one| wanted.contains(&one.status.status))
    };
    if any(&[Status::DeployFailed]) {
        "DEPLOY_FAILED"
    } else if any(&[Status::Unhealthy]) {
        "UNHEALTHY"
    } else if any(&[Status::Updating, Status::Upscaling, Status::Downscaling]) {
        "DEPLOYING"
    } else {
        "RUNNING"
    }
}

pub(crate) fn render(application: &Application, now: Duration) -> ApplicationStatus {
    let deployments: Vec<_> = application
        .deployments
        .values()
        .map(|one| render_deployment(one, now))
        .collect();
    let status = application_word(application);
    let failing =
        |one: &&DeploymentStatus| matches!(one.status.as_str(), "DEPLOY_FAILED" | "UNHEALTHY");
    let message = match status {
        "DEPLOY_FAILED" | "UNHEALTHY" => deployments
            .iter()
            .filter(failing)
            .map(|one| {
                format!(
                    "deployment '{}' is {}: {}",
                    one.name, one.status, one.message
                )
            })
            .collect::<Vec<_>>()
            .join("\n"),
        _ => String::new(),
    };
    let spec = application.target.as_ref().map(|revision| &revision.spec);
    ApplicationStatus {
        name: application.name.clone(),
        status: status.to_owned(),
        message,
        last_deployed_time_s: application.deployed_at_s,
        route_prefix: spec
            .map(|spec| spec.route_prefix.clone())
            .unwrap_or_default(),
        revision: spec.map(|spec| spec.revision.clone()).unwrap_or_default(),
        deployments,
        ingress: spec.map(|spec| spec.ingress.clone()).unwrap_or_default(),
    }
}

fn render_deployment(deployment: &Deployment, now: Duration) -> DeploymentStatus {
    let mut replica_states = BTreeMap::new();
    for replica in deployment.replicas.values() {
        *replica_states
            .entry(replica.state.word().to_owned())
            .or_default() += 1;
    }
    let mut message = deployment.status.message.clone();
    if let Some(next) = next_step(deployment, now) {
        message.push_str(&next);
    }
    if let Some(slow) = slow_start(deployment, now).filter(|_| message.is_empty()) {
        message = slow;
    }
    if let Some(progress) = configure::progress(deployment, now).filter(|_| message.is_empty()) {
        message = progress;
    }
    for hung in deployment
        .replicas
        .values()
        .filter_map(|replica| hung_text(replica, now))
    {
        if !message.is_empty() {
            message.push('\n');
        }
        message.push_str(&hung);
    }
    DeploymentStatus {
        name: deployment.key.deployment.clone(),
        status: deployment.status.status.word().to_owned(),
        status_trigger: deployment.status.trigger.word().to_owned(),
        message,
        replica_states,
        abandoned_requests: deployment
            .replicas
            .values()
            .map(|replica| replica.condition.abandoned)
            .sum(),
        replicas: deployment
            .replicas
            .values()
            .map(|replica| ReplicaStatus {
                replica_id: replica.id.clone(),
                state: replica.state.word().to_owned(),
                pid: replica.pid,
                version: replica.spec.version().to_owned(),
                hung_milliseconds: replica.condition.hung_milliseconds(now),
                abandoned_requests: replica.condition.abandoned,
            })
            .collect(),
    }
}

/// What comes next of a version that fails: only the clock knows, so it is not part of the message that is kept.
fn next_step(deployment: &Deployment, now: Duration) -> Option<String> {
    if deployment.status.status == Status::Healthy {
        return None;
    }
    let version = deployment.target.as_ref()?.version();
    let attempts = deployment.attempts.get(version)?;
    if let Some((over, _)) = deployment.crash_loop_over_at(version) {
        let left = over.saturating_sub(now).as_secs_f64().ceil();
        return Some(format!(
            "\nA replica runs again; if it lives {left} s more, the crash loop is over."
        ));
    }
    let wait = attempts.next_start?.checked_sub(now)?;
    (wait >= Duration::from_secs(1))
        .then(|| format!("\nNext start in {} s.", wait.as_secs_f64().ceil()))
}

fn slow_start(deployment: &Deployment, now: Duration) -> Option<String> {
    let slow = deployment
        .replicas
        .values()
        .filter(|replica| {
            replica.state == ReplicaState::Starting && now >= replica.spawned_at + SLOW_START
        })
        .count();
    (slow > 0).then(|| {
        format!(
            "{slow} replica(s) have been starting for more than {} s. Constructors have no time limit; if this one \
             should be quick, look at the replica's log for what it waits for.",
            SLOW_START.as_secs()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_follow_the_published_table() {
        use {Status as S, StatusInput as I, Trigger as T};
        let all = [
            S::Updating,
            S::Healthy,
            S::Unhealthy,
            S::DeployFailed,
            S::Upscaling,
            S::Downscaling,
        ];
        let started = Some((S::Updating, T::ConfigUpdateStarted));
        let (up, down) = (
            Some((S::Upscaling, T::ConfigUpdateStarted)),
            Some((S::Downscaling, T::ConfigUpdateStarted)),
        );
        let start_failed = Some((S::DeployFailed, T::ReplicaStartupFailed));
        let sick = Some((S::Unhealthy, T::HealthCheckFailed));
        let done = |trigger| Some((S::Healthy, trigger));
        #[rustfmt::skip]
        let table = [
            (I::Delete, [Some((S::Updating, T::Deleting)); 6]),
            (I::Configured, [started; 6]),
            (I::ScaledUp, [None, up, None, None, up, up]),
            (I::ScaledDown, [None, down, None, None, down, down]),
            (I::TargetReached, [done(T::ConfigUpdateCompleted), None, done(T::Unspecified), done(T::Unspecified), done(T::UpscaleCompleted), done(T::DownscaleCompleted)]),
            (I::StartFailed, [start_failed, None, None, start_failed, Some((S::Unhealthy, T::ReplicaStartupFailed)), Some((S::Unhealthy, T::ReplicaStartupFailed))]),
            (I::ConfigRefused, [start_failed; 6]),
            (I::HealthFailed, [Some((S::DeployFailed, T::HealthCheckFailed)), sick, sick, None, sick, sick]),
        ];
        for (input, row) in table {
            for (from, expected) in all.into_iter().zip(row) {
                assert_eq!(transition(from, input), expected, "{from:?} on {input:?}");
            }
        }
    }
}
