//! Requests that routers have refused because as many waited as may: since when, and how many.

use std::time::Duration;

/// One that comes later than this after the last is of another time.
const TOGETHER: Duration = Duration::from_secs(10);

/// Refusals that have come one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusals {
    pub(crate) since: Duration,
    pub(crate) count: u64,
    last_at: Duration,
}

impl Refusals {
    /// These and `count` more.
    pub(crate) fn with(before: Option<Self>, count: u64, now: Duration) -> Self {
        let goes_on = before.filter(|before| before.goes_on(now));
        Self {
            since: goes_on.map_or(now, |before| before.since),
            count: goes_on.map_or(0, |before| before.count) + count,
            last_at: now,
        }
    }

    /// Whether more are to be expected: the last is not long ago.
    pub(crate) fn goes_on(&self, now: Duration) -> bool {
        now.saturating_sub(self.last_at) < TOGETHER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_follow_each_other_are_counted_together() {
        let at = Duration::from_secs;
        let first = Refusals::with(None, 2, at(100));
        let both = Refusals::with(Some(first), 3, at(109));
        assert_eq!((both.since, both.count), (at(100), 5));
        assert!(both.goes_on(at(118)) && !both.goes_on(at(119)));
        let later = Refusals::with(Some(both), 1, at(119));
        assert_eq!((later.since, later.count), (at(119), 1));
    }
}
