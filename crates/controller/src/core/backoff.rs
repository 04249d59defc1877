//! How often and how fast a version is started again after it failed.
//!
//! The wait doubles from 0.1 s to 30 s, once for each round of `num_replicas` failures: replicas that fail side by
//! side are one round, so a deployment of ten gives up as soon as a deployment of one. A version that never came
//! up is given up after `min(max_constructor_retry_count, 3 * num_replicas)` failures; one that did come up is
//! tried for ever.

use std::time::Duration;

use eagleray_types::control::DeploymentOptions;

/// A replica that ran this long before it died is no crash loop.
pub(crate) const STABLE: Duration = Duration::from_secs(10);
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// What is known of starting one version.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Attempts {
    /// Failures since the last replica that lived for [`STABLE`].
    pub(crate) failures: u32,
    /// No start before this time.
    pub(crate) next_start: Option<Duration>,
    /// A replica of this version has been ready.
    pub(crate) proven: bool,
    /// It never came up and is not tried again before the next deploy.
    pub(crate) gave_up: bool,
    pub(crate) last_error: String,
}

impl Attempts {
    pub(crate) fn may_start(&self, now: Duration) -> bool {
        !self.gave_up && self.next_start.is_none_or(|at| at <= now)
    }

    /// A replica failed to start. Returns whether the limit is reached.
    pub(crate) fn start_failed(
        &mut self,
        now: Duration,
        options: &DeploymentOptions,
        error: String,
    ) -> bool {
        self.last_error = error;
        self.failures = self.failures.saturating_add(1);
        self.next_start = Some(now + wait(self.failures - 1, options.num_replicas));
        let limit_reached = self.failures >= limit(options);
        self.gave_up = limit_reached && !self.proven;
        limit_reached
    }

    /// A replica that was ready died after `ran`: it is replaced at once, unless it keeps dying young. Returns
    /// whether the limit is reached.
    pub(crate) fn died(
        &mut self,
        now: Duration,
        ran: Duration,
        options: &DeploymentOptions,
        error: String,
    ) -> bool {
        self.last_error = error;
        if ran >= STABLE {
            self.failures = 0;
            self.next_start = None;
            return false;
        }
        self.failures = self.failures.saturating_add(1);
        self.next_start = self
            .failures
            .checked_sub(2)
            .map(|level| now + wait(level, options.num_replicas));
        self.failures >= limit(options)
    }

    /// A new deploy of the same version tries again from the beginning.
    pub(crate) fn reset(&mut self) {
        *self = Self {
            proven: self.proven,
            ..Self::default()
        };
    }
}

/// Start failures after which a version that never came up is given up.
pub(crate) fn limit(options: &DeploymentOptions) -> u32 {
    options
        .max_constructor_retry_count
        .min(options.num_replicas.saturating_mul(3))
        .max(1)
}

fn wait(failures_before: u32, num_replicas: u32) -> Duration {
    let doublings = (failures_before / num_replicas.max(1)).min(16);
    (FIRST_WAIT * 2_u32.pow(doublings)).min(LONGEST_WAIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(num_replicas: u32) -> DeploymentOptions {
        DeploymentOptions {
            num_replicas,
            max_constructor_retry_count: 20,
            ..Default::default()
        }
    }

    #[test]
    fn waits_double_from_a_tenth_of_a_second_to_thirty_seconds() {
        let mut attempts = Attempts {
            proven: true,
            ..Default::default()
        };
        let mut waits = Vec::new();
        for _ in 0..12 {
            attempts.start_failed(Duration::ZERO, &options(1), String::new());
            waits.push(attempts.next_start.unwrap().as_millis());
        }
        assert_eq!(
            waits,
            [
                100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000, 30000
            ]
        );
    }

    #[test]
    fn replicas_that_fail_side_by_side_are_one_round() {
        let mut attempts = Attempts::default();
        let mut waits = Vec::new();
        while !attempts.start_failed(Duration::ZERO, &options(3), String::new()) {
            waits.push(attempts.next_start.unwrap().as_millis());
        }
        assert!(attempts.gave_up);
        assert_eq!(waits, [100, 100, 100, 200, 200, 200, 400, 400]);
    }

    #[test]
    fn the_retry_count_of_the_user_is_a_lower_limit() {
        assert_eq!(limit(&options(1)), 3);
        assert_eq!(limit(&options(10)), 20);
        assert_eq!(
            limit(&DeploymentOptions {
                max_constructor_retry_count: 2,
                ..options(1)
            }),
            2
        );
    }

    #[test]
    fn a_first_death_costs_no_wait_and_dying_young_does() {
        let mut attempts = Attempts {
            proven: true,
            ..Default::default()
        };
        let (now, young) = (Duration::from_secs(100), Duration::from_secs(2));
        attempts.died(now, young, &options(1), String::new());
        assert!(attempts.may_start(now));
        attempts.died(now, young, &options(1), String::new());
        assert!(!attempts.may_start(now) && attempts.may_start(now + FIRST_WAIT));
        attempts.died(now, STABLE, &options(1), String::new());
        assert!(attempts.may_start(now));
    }
}
