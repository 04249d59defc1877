//! The health gate of an update: a new replica is on trial before anything counts on it.
//!
//! A replica of a version that has not run at full size yet is *on trial* from the moment that it is ready until
//! `min_ready_s` have passed, and for as long as it is not well by then: a health check has failed, or its event loop
//! stands still. It gets requests meanwhile, since what is wrong with a version often shows only under them. But the
//! rollout takes it for one that still starts, so what ran before stays at full size; and one that is lost on trial has
//! failed to start, which is what takes a version back.
//!
//! Times follow from the options of the moment, so a deploy that changes nothing but them counts for trials that are
//! open. A controller that begins anew begins them anew, since it has not seen what was before.

use std::time::Duration;

use eagleray_types::control::DeploymentOptions;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Trial {
    /// `None`: it is over, or there is none.
    since: Option<Duration>,
}

impl Trial {
    pub(crate) fn begin(now: Duration, options: &DeploymentOptions) -> Self {
        let since = (options.min_ready_s > 0.0).then_some(now);
        Self { since }
    }

    pub(crate) const fn is_on(self) -> bool {
        self.since.is_some()
    }

    /// When it is over if the replica is well by then.
    pub(crate) fn over_at(self, options: &DeploymentOptions) -> Option<Duration> {
        let time = Duration::try_from_secs_f64(options.min_ready_s).ok()?;
        Some(self.since? + time)
    }

    pub(crate) fn end(&mut self) {
        self.since = None;
    }
}
