//! Statuses of deployments: Ray Serve's words and transitions.
//!
//! A deployment's status is a small state machine of its own ([`StatusInfo::on`]); an application's status follows
//! from those of its deployments. What its load does to a deployment that is being updated leaves it `UPDATING`: there
//! the application counts as running although the update is not over. Another difference on purpose: a replica that dies once during an update, or that nobody
//! can connect to any more, is simply replaced and the status stays `UPDATING`; only failures up to the retry limit, or
//! a failed health check by the replica's own word, make it `DEPLOY_FAILED`, so one crash does not fail a deploy that
//! succeeds a second later.

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
    Autoscaling,
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
    /// The load asks for more, or for fewer.
    AutoscaledUp,
    AutoscaledDown,
    TargetReached,
    StartFailed,
    HealthFailed,
    /// Nobody new can connect to a replica that is well by its own word.
    ReachLost,
    /// A new `user_config` was refused, and the update stopped.
    ConfigRefused,
    /// It does not live, and the application is rolled back for that.
    TakenBack,
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
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Unspecified => "UNSPECIFIED",
            Self::ConfigUpdateStarted => "CONFIG_UPDATE_STARTED",
            Self::ConfigUpdateCompleted => "CONFIG_UPDATE_COMPLETED",
            Self::Autoscaling => "AUTOSCALING",
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
        (S::Healthy | S::Upscaling | S::Downscaling, I::AutoscaledUp) => {
            (S::Upscaling, T::Autoscaling)
        }
        (S::Healthy | S::Upscaling | S::Downscaling, I::AutoscaledDown) => {
            (S::Downscaling, T::Autoscaling)
        }
        (
            S::Updating | S::Unhealthy | S::DeployFailed,
            I::ScaledUp | I::ScaledDown | I::AutoscaledUp | I::AutoscaledDown,
        ) => return None,
        (S::Updating, I::TargetReached) => (S::Healthy, T::ConfigUpdateCompleted),
        (S::Upscaling, I::TargetReached) => (S::Healthy, T::UpscaleCompleted),
        (S::Downscaling, I::TargetReached) => (S::Healthy, T::DownscaleCompleted),
        (S::Unhealthy | S::DeployFailed, I::TargetReached) => (S::Healthy, T::Unspecified),
        (S::Healthy, I::TargetReached) => return None,
        (S::Updating | S::DeployFailed, I::StartFailed) => {
            (S::DeployFailed, T::ReplicaStartupFailed)
        }
        (_, I::ConfigRefused) => (S::DeployFailed, T::ReplicaStartupFailed),
        (S::DeployFailed, I::TakenBack) => return None,
        (_, I::TakenBack) => (S::DeployFailed, T::HealthCheckFailed),
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

#[cfg(test)]
mod tests {
    use super::*;

    // contract: 8/deployment
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
        let taken_back = Some((S::DeployFailed, T::HealthCheckFailed));
        let by_load = |status| Some((status, T::Autoscaling));
        let done = |trigger| Some((S::Healthy, trigger));
        #[rustfmt::skip]
        let table = [
            (I::Delete, [Some((S::Updating, T::Deleting)); 6]),
            (I::Configured, [started; 6]),
            (I::ScaledUp, [None, up, None, None, up, up]),
            (I::ScaledDown, [None, down, None, None, down, down]),
            (I::AutoscaledUp, [None, by_load(S::Upscaling), None, None, by_load(S::Upscaling), by_load(S::Upscaling)]),
            (I::AutoscaledDown, [None, by_load(S::Downscaling), None, None, by_load(S::Downscaling), by_load(S::Downscaling)]),
            (I::TargetReached, [done(T::ConfigUpdateCompleted), None, done(T::Unspecified), done(T::Unspecified), done(T::UpscaleCompleted), done(T::DownscaleCompleted)]),
            (I::StartFailed, [start_failed, None, None, start_failed, Some((S::Unhealthy, T::ReplicaStartupFailed)), Some((S::Unhealthy, T::ReplicaStartupFailed))]),
            (I::ConfigRefused, [start_failed; 6]),
            (I::TakenBack, [taken_back, taken_back, taken_back, None, taken_back, taken_back]),
            (I::HealthFailed, [Some((S::DeployFailed, T::HealthCheckFailed)), sick, sick, None, sick, sick]),
        ];
        for (input, row) in table {
            for (from, expected) in all.into_iter().zip(row) {
                assert_eq!(transition(from, input), expected, "{from:?} on {input:?}");
            }
        }
    }
}
