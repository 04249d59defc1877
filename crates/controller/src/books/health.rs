//! When a replica is asked for its health, and what its silence means.
//!
//! One question at a time, every `health_check_period_s` give or take a tenth; no answer within
//! `health_check_timeout_s` is a failure; three in a row and the replica is to be replaced. Constructors and
//! `reconfigure` may take their time: no question is asked while they run. Nor while the replica is hung. Times follow
//! from the options of the moment, so a redeploy that changes them counts for the question that is open, too.

use std::time::Duration;

use eagleray_types::control::DeploymentOptions;

pub(crate) const FAILURES_UNTIL_REPLACED: u32 = 3;

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Health {
    planned: Option<Planned>,
    /// Id of the question that is open, and when it was asked.
    asked: Option<(u64, Duration)>,
    failures: u32,
    last_failure: String,
}

/// The next question, as it was planned. When it is due follows from the options of the moment.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Planned {
    from: Duration,
    /// Between 0 and 1: moves the question by up to a tenth either way.
    spread: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HealthStep {
    Nothing,
    Ask,
    TimedOut,
}

impl Health {
    /// What is due. `checked`: it is asked at all. After `Ask` the caller sends the question and calls
    /// [`Health::asked`].
    pub(crate) fn due(
        &mut self,
        now: Duration,
        options: &DeploymentOptions,
        checked: bool,
    ) -> HealthStep {
        if !checked {
            self.asked = None;
            return HealthStep::Nothing;
        }
        let due = self.next_timeout(options, checked);
        if due.is_some_and(|at| at > now) {
            HealthStep::Nothing
        } else if self.asked.take().is_some() {
            HealthStep::TimedOut
        } else {
            HealthStep::Ask
        }
    }

    /// Plans the next question. `spread` is between 0 and 1 and moves it by up to a tenth either way.
    pub(crate) fn plan(&mut self, now: Duration, spread: f64) {
        self.planned = Some(Planned { from: now, spread });
    }

    pub(crate) fn asked(&mut self, id: u64, now: Duration) {
        self.asked = Some((id, now));
    }

    /// Takes the answer `id`; `false` when nobody waits for it.
    pub(crate) fn answered(&mut self, id: u64) -> bool {
        self.asked.take_if(|(asked, _)| *asked == id).is_some()
    }

    /// Forgets the question that is open: the replica could not answer, for a reason that another rule deals with.
    pub(crate) fn excuse(&mut self, now: Duration, spread: f64) {
        self.asked = None;
        self.plan(now, spread);
    }

    pub(crate) fn passed(&mut self) {
        self.failures = 0;
        self.last_failure = String::new();
    }

    /// How many in a row have failed, and how the last did. `None`: the last has passed.
    pub(crate) fn failing(&self) -> Option<(u32, &str)> {
        (self.failures > 0).then_some((self.failures, self.last_failure.as_str()))
    }

    /// Returns whether the replica is to be replaced.
    pub(crate) fn failed(&mut self, failure: &str) -> bool {
        failure.clone_into(&mut self.last_failure);
        self.failures += 1;
        self.failures >= FAILURES_UNTIL_REPLACED
    }

    /// When [`Health::due`] has something to say; `None`: not for itself, or at once.
    pub(crate) fn next_timeout(
        &self,
        options: &DeploymentOptions,
        checked: bool,
    ) -> Option<Duration> {
        if !checked {
            return None;
        }
        let asked = self
            .asked
            .map(|(_, at)| at + seconds(options.health_check_timeout_s));
        asked.or_else(|| {
            let Planned { from, spread } = self.planned?;
            Some(from + seconds(options.health_check_period_s * (0.9 + 0.2 * spread)))
        })
    }
}

fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value)
        .unwrap_or(Duration::from_secs(10))
        // What is added to the time must be far from what overflows.
        .clamp(Duration::from_millis(1), Duration::from_secs(1_000_000_000))
}
