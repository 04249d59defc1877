//! When something was, on a clock that nobody sets.
//!
//! The monotonic clock runs evenly and says no date; the wall clock says one and jumps. So the two are read together once (the
//! anchor), and from then on the monotonic clock tells how much later it is. Where the two have come apart by more than
//! [`ATTENTION_MS`] (somebody has set the clock, or the machine has slept), the anchor is taken anew: forwards leaves a gap,
//! backwards adds to slots that are there already, which know how long they cover. What lies in the future then is of a clock
//! that was wrong; whoever reads leaves it out, and it is overwritten as its time comes.

/// One moment by both clocks, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    pub monotonic_ms: u64,
    /// Since 1970.
    pub wall_ms: u64,
}

const ATTENTION_MS: u64 = 1_000;

#[derive(Debug)]
pub(crate) struct Clock {
    anchor: Moment,
}

impl Clock {
    pub(crate) fn new(now: Moment) -> Self {
        Self { anchor: now }
    }

    /// The time of a moment, and how far the wall clock has jumped if it has.
    pub(crate) fn time_ms(&mut self, now: Moment) -> (u64, Option<i64>) {
        let passed = now.monotonic_ms.saturating_sub(self.anchor.monotonic_ms);
        let expected = self.anchor.wall_ms.saturating_add(passed);
        if expected.abs_diff(now.wall_ms) <= ATTENTION_MS {
            return (expected, None);
        }
        self.anchor = now;
        let jump = i128::from(now.wall_ms) - i128::from(expected);
        (now.wall_ms, Some(i64::try_from(jump).unwrap_or(i64::MAX)))
    }
}
