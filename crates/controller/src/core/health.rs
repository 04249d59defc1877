//! When a replica is asked for its health, and what its silence means.
//!
//! One question at a time, every `health_check_period_s` give or take a tenth; no answer within
//! `health_check_timeout_s` is a failure; three in a row and the replica is to be replaced. Constructors and
//! `reconfigure` may take their time: no question is asked while they run. Nor while the replica is hung.

use std::time::Duration;

use eagleray_types::control::DeploymentOptions;

use super::ReplicaState;

pub(crate) const FAILURES_UNTIL_REPLACED: u32 = 3;

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Health {
    next_at: Option<Duration>,
    /// Id and deadline of the question that is open.
    asked: Option<(u64, Duration)>,
    failures: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HealthStep {
    Nothing,
    Ask,
    TimedOut,
}

impl Health {
    /// What is due. After `Ask` the caller sends the question and calls [`Health::asked`].
    pub(crate) fn due(&mut self, now: Duration, state: ReplicaState) -> HealthStep {
        if !checked(state) {
            self.asked = None;
            return HealthStep::Nothing;
        }
        match self.asked {
            Some((_, deadline)) if deadline <= now => {
                self.asked = None;
                HealthStep::TimedOut
            }
            Some(_) => HealthStep::Nothing,
            None if self.next_at.is_none_or(|at| at <= now) => HealthStep::Ask,
            None => HealthStep::Nothing,
        }
    }

    /// Plans the next question. `spread` is between 0 and 1 and moves it by up to a tenth either way.
    pub(crate) fn plan(&mut self, now: Duration, options: &DeploymentOptions, spread: f64) {
        self.next_at = Some(now + seconds(options.health_check_period_s * (0.9 + 0.2 * spread)));
    }

    pub(crate) fn asked(&mut self, id: u64, now: Duration, options: &DeploymentOptions) {
        self.asked = Some((id, now + seconds(options.health_check_timeout_s)));
    }

    /// Takes the answer `id`; `false` when nobody waits for it.
    pub(crate) fn answered(&mut self, id: u64) -> bool {
        let expected = self.asked.is_some_and(|(asked, _)| asked == id);
        if expected {
            self.asked = None;
        }
        expected
    }

    /// Forgets the question that is open: the replica could not answer, for a reason that another rule deals with.
    pub(crate) fn excuse(&mut self, now: Duration, options: &DeploymentOptions, spread: f64) {
        self.asked = None;
        self.plan(now, options, spread);
    }

    pub(crate) fn passed(&mut self) {
        self.failures = 0;
    }

    /// Returns whether the replica is to be replaced.
    pub(crate) fn failed(&mut self) -> bool {
        self.failures += 1;
        self.failures >= FAILURES_UNTIL_REPLACED
    }

    pub(crate) fn next_timeout(&self, state: ReplicaState) -> Option<Duration> {
        if !checked(state) {
            return None;
        }
        self.asked.map(|(_, deadline)| deadline).or(self.next_at)
    }
}

const fn checked(state: ReplicaState) -> bool {
    matches!(state, ReplicaState::Running)
}

fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value)
        .unwrap_or(Duration::from_secs(10))
        // What is added to the time must be far from what overflows.
        .clamp(Duration::from_millis(1), Duration::from_secs(1_000_000_000))
}
