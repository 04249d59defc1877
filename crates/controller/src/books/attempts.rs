//! How often and how fast a version is started again after it failed.
//!
//! A *failure* is a start that failed, or a death within [`STABLE`] of being ready. Three rules, for each version of
//! each deployment on its own, so that no application uses up what another may need:
//!
//! - The wait doubles from 0.1 s to 30 s, once for each round of as many failures as replicas
//!   are wanted: replicas that fail side by
//!   side are one round, so a deployment of ten gives up as soon as a deployment of one.
//! - A version that never came up is given up after `min(max_constructor_retry_count, 3 * wanted)` failures.
//! - One that did come up is tried for ever, but not at any speed. Five failures within 30 s are a **crash loop**, or
//!   one more than are wanted if that is more, so that all may die once. From then on one replica starts at a time,
//!   4 s after the last failure, then 8, 16 and 30 s, until one that was started in the loop has run for [`STABLE`]. Up
//!   to then six may start, or all that are wanted. So replicas that do not live start at most ten times in the first minute,
//!   or five times beyond those.
//!
//! While a replica of the version has run for [`SETTLED`], or when one is killed from outside, it is not the version that cannot
//! live: requests or somebody on the machine end replicas, more of them the more there are. Then it takes five failures
//! of each wanted replica.
//!
//! An old replica's death is no failure and costs no wait. It takes nothing back either: the 30 s are a sliding
//! window, so a version that now and then runs for a while cannot buy itself fast starts.

use std::{collections::VecDeque, time::Duration};

/// A replica that ran this long before it died is no crash loop.
pub(crate) const STABLE: Duration = Duration::from_secs(10);
/// A replica that has run this long does not die of its own start.
pub(crate) const SETTLED: Duration = Duration::from_secs(3);
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Failures within [`LOOP_WINDOW`] that make a crash loop; see the module.
const LOOP_FAILURES: u32 = 5;
const LOOP_WINDOW: Duration = Duration::from_secs(30);
const FIRST_LOOP_WAIT: Duration = Duration::from_secs(4);
/// Beyond this many replicas a round grows no more, so that what is remembered stays small.
const LARGEST_ROUND: u32 = 64;

/// By what the failures of a version are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Round {
    /// Replicas that are wanted of it: so many may fail side by side.
    pub(crate) wanted: u32,
    /// `max_constructor_retry_count`.
    pub(crate) retries: u32,
}

impl Round {
    /// Start failures after which a version that never came up is given up.
    pub(crate) fn limit(self) -> u32 {
        self.retries.min(self.wanted.saturating_mul(3)).max(1)
    }
}

/// What is known of starting one version.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Attempts {
    /// Failures since the last replica that lived for [`STABLE`].
    pub(crate) failures: u32,
    /// No start before this time.
    pub(crate) next_start: Option<Duration>,
    /// A replica of this version has been ready, for as long as its trial asks.
    pub(crate) proven: bool,
    /// It never came up and is not tried again before the next deploy.
    pub(crate) gave_up: bool,
    /// A replica failed to take the `user_config` of the newest revision: none is asked to any more.
    pub(crate) config_refused: bool,
    pub(crate) last_error: String,
    /// When the first of `failures` was.
    pub(crate) failing_since: Option<Duration>,
    pub(crate) crash_loop: Option<CrashLoop>,
    /// Replicas fail and none has settled: so many may have failed of late or be on trial, and one after that.
    pub(crate) slowed: Option<usize>,
    /// Times of the failures within [`LOOP_WINDOW`], oldest first; no more than make a crash loop.
    recent: VecDeque<Duration>,
}

/// A version whose replicas keep failing.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CrashLoop {
    /// A replica that was ready after this and runs for [`STABLE`] ends the loop.
    pub(crate) since: Duration,
    first_failure: Duration,
    failures: u32,
    waits: u32,
}

impl CrashLoop {
    /// `crash loop: 5 deaths in 12 s`.
    pub(crate) fn describe(&self, now: Duration) -> String {
        let seconds = now.saturating_sub(self.first_failure).as_secs_f64().ceil();
        format!(
            "crash loop: {} deaths in {} s",
            self.failures,
            seconds.max(1.0)
        )
    }
}

impl Attempts {
    /// How many replicas may start now, when `young` of this version start or have run for less than [`STABLE`].
    pub(crate) fn starts_allowed(&self, now: Duration, young: usize) -> usize {
        if self.gave_up || self.next_start.is_some_and(|at| at > now) {
            0
        } else if self.crash_loop.is_some() {
            1_usize.saturating_sub(young)
        } else if let Some(most) = self.slowed {
            most.saturating_sub(self.recent.len())
                .max(1)
                .saturating_sub(young)
        } else {
            usize::MAX
        }
    }

    /// A replica failed to start. `settled`: another of its version has run for [`SETTLED`]. Returns whether the limit
    /// is reached.
    pub(crate) fn start_failed(
        &mut self,
        now: Duration,
        settled: bool,
        round: Round,
        error: String,
    ) -> bool {
        self.failed(now, settled, round, error, 0);
        let limit_reached = self.failures >= round.limit();
        self.gave_up = limit_reached && !self.proven;
        limit_reached
    }

    /// A replica that was ready died after `ran`: it is replaced at once, unless it keeps dying young. Returns
    /// whether the limit is reached.
    pub(crate) fn died(
        &mut self,
        now: Duration,
        ran: Duration,
        settled: bool,
        round: Round,
        error: String,
    ) -> bool {
        if ran < STABLE {
            self.failed(now, settled, round, error, 1);
            return self.failures >= round.limit();
        }
        self.last_error = error;
        if self.crash_loop.is_none() {
            self.failures = 0;
            self.failing_since = None;
            self.next_start = None;
            self.slowed = None;
        }
        false
    }

    /// A replica that was ready at `ready_at` has run for [`STABLE`]. Returns whether that ends a crash loop.
    pub(crate) fn ran(&mut self, ready_at: Duration) -> bool {
        let over = self
            .crash_loop
            .as_ref()
            .is_some_and(|known| ready_at > known.since);
        if over {
            self.crash_loop = None;
            self.failures = 0;
            self.failing_since = None;
            self.next_start = None;
            self.slowed = None;
        }
        over
    }

    /// A new deploy of the same version tries again from the beginning.
    pub(crate) fn reset(&mut self) {
        *self = Self {
            proven: self.proven,
            ..Self::default()
        };
    }

    /// Books a failure, and the wait that follows. The first `free` of a row cost none.
    fn failed(&mut self, now: Duration, settled: bool, round: Round, error: String, free: u32) {
        self.last_error = error;
        self.failing_since.get_or_insert(now);
        self.failures = self.failures.saturating_add(1);
        // One that never came up is given up before long.
        self.remember(now, settled || !self.proven, round.wanted);
        let waits_already = self.next_start.is_some_and(|at| at > now);
        match &mut self.crash_loop {
            // What else fails while nothing may start was started before the loop was seen.
            Some(known) if known.waits > 0 && waits_already => known.failures += 1,
            Some(known) => {
                if known.waits > 0 {
                    known.failures += 1;
                }
                self.next_start = Some(now + doubled(FIRST_LOOP_WAIT, known.waits));
                known.waits = known.waits.saturating_add(1);
            }
            None => {
                self.next_start = (self.failures - 1)
                    .checked_sub(free)
                    .map(|level| now + wait(level, round.wanted));
            }
        }
    }

    fn remember(&mut self, now: Duration, patient: bool, wanted: u32) {
        let wanted = wanted.clamp(1, LARGEST_ROUND);
        let most = (LOOP_FAILURES * wanted) as usize;
        self.recent.push_back(now);
        while self.recent.len() > most
            || self
                .recent
                .front()
                .is_some_and(|at| now.saturating_sub(*at) > LOOP_WINDOW)
        {
            self.recent.pop_front();
        }
        let failures = self.recent.len();
        self.slowed = (!patient && wanted > 1).then_some(wanted.max(LOOP_FAILURES + 1) as usize);
        let enough = if patient || wanted == 1 {
            most
        } else {
            LOOP_FAILURES.max(wanted + 1) as usize
        };
        if failures >= enough && self.crash_loop.is_none() {
            self.crash_loop = Some(CrashLoop {
                since: now,
                first_failure: self.recent.front().copied().unwrap_or(now),
                failures: failures as u32,
                waits: 0,
            });
        }
    }
}

fn wait(failures_before: u32, wanted: u32) -> Duration {
    doubled(FIRST_WAIT, failures_before / wanted.max(1))
}

fn doubled(first: Duration, doublings: u32) -> Duration {
    (first * 2_u32.pow(doublings.min(16))).min(LONGEST_WAIT)
}

#[cfg(test)]
mod tests;
