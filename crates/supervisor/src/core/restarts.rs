//! How soon a native process of the node is started again: a pure policy.
//!
//! The first death costs no wait, since nobody should wait for a process that a person killed. One that dies within
//! a second of its start, again and again, waits longer each time, up to five seconds. And however long each of them
//! lived, after [`BURST`] deaths within [`WINDOW`] each start waits half a second, so that no pattern of deaths
//! makes a busy loop. Nothing is ever given up: without its proxy the node answers nobody, and what was wrong (a full
//! disk, no process ids left) may pass.

use std::{collections::VecDeque, time::Duration};

/// One that lived as long as this did start.
const STARTED_AFTER: Duration = Duration::from_secs(1);
const FIRST_DELAY: Duration = Duration::from_millis(50);
const LONGEST_DELAY: Duration = Duration::from_secs(5);
const WINDOW: Duration = Duration::from_secs(30);
const BURST: usize = 10;
const BURST_DELAY: Duration = Duration::from_millis(500);
/// Quick deaths in a row that are called a crash loop.
const LOOP: u32 = 5;

/// The deaths of one process.
#[derive(Debug, Default)]
pub(super) struct Restarts {
    /// In a row within [`STARTED_AFTER`] of the start.
    quick: u32,
    /// Within [`WINDOW`], oldest first; at most [`BURST`].
    deaths: VecDeque<Duration>,
}

impl Restarts {
    /// It died at `now` after `lived`. Returns how long to wait before it is started again.
    pub(super) fn died(&mut self, now: Duration, lived: Duration) -> Duration {
        self.quick = if lived < STARTED_AFTER {
            self.quick.saturating_add(1)
        } else {
            0
        };
        while self.deaths.len() >= BURST
            || self
                .deaths
                .front()
                .is_some_and(|at| now.saturating_sub(*at) > WINDOW)
        {
            self.deaths.pop_front();
        }
        self.deaths.push_back(now);
        let at_least = if self.deaths.len() >= BURST {
            BURST_DELAY
        } else {
            Duration::ZERO
        };
        delay(self.quick).max(at_least)
    }

    /// `crash loop: 7 deaths in a row within 1 s of the start`, if it is one.
    pub(super) fn crash_loop(&self) -> Option<String> {
        (self.quick >= LOOP).then(|| {
            format!(
                "crash loop: {} deaths in a row within {} s of the start",
                self.quick,
                STARTED_AFTER.as_secs()
            )
        })
    }
}

fn delay(quick_deaths: u32) -> Duration {
    match quick_deaths {
        0 | 1 => Duration::ZERO,
        more => FIRST_DELAY
            .saturating_mul(1 << (more - 2).min(10))
            .min(LONGEST_DELAY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_restart_is_immediate_and_a_crash_loop_slows_to_five_seconds() {
        let (mut restarts, now) = (Restarts::default(), Duration::ZERO);
        let delays: Vec<_> = (0..9)
            .map(|_| restarts.died(now, Duration::ZERO).as_millis())
            .collect();
        assert_eq!(delays, [0, 50, 100, 200, 400, 800, 1600, 3200, 5000]);
        assert!(restarts.crash_loop().unwrap().contains("9 deaths in a row"));
        let delay = restarts.died(now + WINDOW * 2, STARTED_AFTER);
        assert_eq!((delay, restarts.crash_loop()), (Duration::ZERO, None));
    }

    #[test]
    fn a_process_that_is_killed_every_second_is_back_within_half_a_second() {
        let (mut restarts, mut now) = (Restarts::default(), Duration::ZERO);
        for _ in 0..100 {
            now += STARTED_AFTER;
            let delay = restarts.died(now, STARTED_AFTER);
            assert!(delay <= BURST_DELAY);
            assert_eq!(restarts.crash_loop(), None);
            now += delay;
        }
    }

    #[test]
    fn whenever_a_process_dies_its_starts_are_bounded() {
        for seed in 0..500 {
            let mut random = fastrand::Rng::with_seed(seed);
            let longest = random.u64(1..3000);
            let (mut restarts, begin) = (Restarts::default(), Duration::ZERO);
            let (mut now, mut starts) = (begin, 0);
            while now < begin + WINDOW * 2 {
                starts += 1;
                let lived = Duration::from_millis(random.u64(..longest));
                now += lived;
                now += restarts.died(now, lived);
            }
            // The burst, and then two a second.
            assert!(
                starts <= BURST + 2 * 60,
                "seed {seed}: {starts} in a minute"
            );
            if longest < 1000 {
                assert!(starts <= 20, "seed {seed}: {starts} in a minute");
            }
        }
    }
}
