//! How many requests may wait here for a slot, beside those that have one.
//!
//! The rule: *as many as finish here in a millisecond, and have in the one before*, so that each is started within about
//! one. Requests that take long, or that are few, wait in their routers.

use std::time::{Duration, Instant};

/// What one look at the pace covers.
const PERIOD: Duration = Duration::from_millis(1);
/// Below this a wake-up for each costs little, and chance looks like a pace.
const LEAST: u32 = 4;
/// With so many a slot that falls free finds its next request here at any pace; more would only wait.
pub(super) const MOST: u32 = 32;
/// After one that has waited in vain, or could not wait here, nothing is taken ahead for so long.
const PAUSE: Duration = Duration::from_millis(20);

#[derive(Debug, Default)]
pub(super) struct Pace {
    /// The beginning of the period, and what has finished in it.
    since: Option<Instant>,
    finished: u32,
    /// Of the period before.
    last: u32,
    ahead: u32,
    paused_until: Option<Instant>,
}

impl Pace {
    /// How many may wait.
    pub(super) const fn ahead(&self) -> u32 {
        self.ahead
    }

    /// One more has finished. True: more may wait than before.
    pub(super) fn finished(&mut self, now: Instant) -> bool {
        let Some(since) = self.since else {
            self.since = Some(now);
            return false;
        };
        self.finished += 1;
        let elapsed = now.saturating_duration_since(since);
        if elapsed < PERIOD {
            return false;
        }
        let rate = u128::from(self.finished) * PERIOD.as_nanos() / elapsed.as_nanos();
        let rate = u32::try_from(rate).unwrap_or(MOST).min(MOST);
        let steady = rate.min(std::mem::replace(&mut self.last, rate));
        self.since = Some(now);
        self.finished = 0;
        if self.paused_until.is_some_and(|until| now < until) {
            return false;
        }
        // Down step by step: a pace that only varies shall not cost grants.
        let before = self.ahead;
        let lower = before.saturating_sub(before.div_ceil(8));
        let wanted = steady.max(lower);
        self.ahead = if wanted < LEAST { 0 } else { wanted };
        self.ahead > before
    }

    /// Nothing has finished for a while: what was seen before says nothing of now.
    pub(super) fn look(&mut self, now: Instant) {
        if self.ahead > 0
            && self
                .since
                .is_none_or(|since| now.saturating_duration_since(since) > 2 * PERIOD)
        {
            self.ahead = 0;
        }
    }

    pub(super) fn pause(&mut self, now: Instant) {
        self.ahead = 0;
        self.paused_until = Some(now + PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Finishes `count` requests, evenly over a time, and returns the pace's clock after it.
    fn finish(pace: &mut Pace, from: Instant, count: u32, over: Duration) -> Instant {
        for step in 1..=count {
            pace.finished(from + over * step / count);
        }
        from + over
    }

    #[test]
    fn as_many_wait_as_finish_in_a_millisecond() {
        let mut pace = Pace::default();
        let now = Instant::now();
        pace.finished(now);
        let now = finish(&mut pace, now, 100, Duration::from_millis(10));
        assert!((9..=11).contains(&pace.ahead()), "{}", pace.ahead());
        let now = finish(&mut pace, now, 1000, Duration::from_millis(10));
        assert_eq!(pace.ahead(), MOST);
        finish(&mut pace, now, 50, Duration::from_secs(1));
        assert_eq!(pace.ahead(), 0);
    }

    #[test]
    fn none_waits_where_requests_are_few_or_take_long() {
        let mut pace = Pace::default();
        let mut now = Instant::now();
        for _ in 0..100 {
            now += Duration::from_millis(2);
            pace.finished(now);
            assert_eq!(pace.ahead(), 0);
        }
    }

    #[test]
    fn a_pace_is_forgotten_when_nothing_finishes_and_during_a_pause() {
        let mut pace = Pace::default();
        let now = finish(&mut pace, Instant::now(), 200, Duration::from_millis(10));
        pace.look(now + PERIOD);
        assert!(pace.ahead() > 0);
        pace.look(now + 3 * PERIOD);
        assert_eq!(pace.ahead(), 0);
        pace.pause(now);
        let now = finish(&mut pace, now, 2000, PAUSE.mul_f32(0.9));
        assert_eq!(pace.ahead(), 0);
        finish(&mut pace, now, 200, Duration::from_millis(10));
        assert!(pace.ahead() > 0);
    }
}
