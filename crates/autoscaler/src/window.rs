//! A load over the last seconds: a step function of time, kept as [`BUCKETS`] sums.
//!
//! The value holds until the next one is set, so a load that nobody reports again is not forgotten. However often it
//! changes, what is kept is the same size; the price is that the far end of the window is known to a bucket's width only.

use std::{collections::VecDeque, time::Duration};

use crate::config::Aggregation;

/// Sums of one window.
pub(crate) const BUCKETS: u32 = 64;

#[derive(Clone, Debug, PartialEq)]
struct Bucket {
    start: Duration,
    /// Value times seconds.
    integral: f64,
    seconds: f64,
    max: u64,
    min: u64,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Window {
    buckets: VecDeque<Bucket>,
    value: u64,
    /// Until when the value is in the sums.
    until: Option<Duration>,
}

impl Window {
    /// From `now` on the load is `value`; what is older than `span` is forgotten.
    pub(crate) fn set(&mut self, value: u64, now: Duration, span: Duration) {
        self.advance(now, span);
        self.value = value;
        if let Some(last) = self.buckets.back_mut() {
            last.max = last.max.max(value);
            last.min = last.min.min(value);
        }
    }

    /// As if it had only just begun.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    fn advance(&mut self, now: Duration, span: Duration) {
        let from = now.saturating_sub(span);
        let width = span / BUCKETS;
        let Some(until) = self.until.replace(now) else {
            return;
        };
        if width.is_zero() {
            self.buckets.clear();
            return;
        }
        let mut at = until.max(from);
        while at < now {
            if self
                .buckets
                .back()
                .is_none_or(|last| at >= last.start + width)
            {
                self.buckets.push_back(Bucket {
                    start: at,
                    integral: 0.0,
                    seconds: 0.0,
                    max: self.value,
                    min: self.value,
                });
            }
            let Some(last) = self.buckets.back_mut() else {
                return;
            };
            let end = now.min(last.start + width);
            let seconds = end.saturating_sub(at).as_secs_f64();
            last.integral += self.value as f64 * seconds;
            last.seconds += seconds;
            at = end;
        }
        while self
            .buckets
            .front()
            .is_some_and(|first| first.start + width <= from)
        {
            self.buckets.pop_front();
        }
    }

    /// One value for all of it; of a window that has only begun, the present one.
    pub(crate) fn aggregate(&self, how: Aggregation) -> f64 {
        let values = self.buckets.iter();
        match how {
            Aggregation::Max => values.fold(self.value, |most, one| most.max(one.max)) as f64,
            Aggregation::Min => values.fold(self.value, |least, one| least.min(one.min)) as f64,
            Aggregation::Mean => {
                let (integral, seconds) = values.fold((0.0, 0.0), |(integral, seconds), one| {
                    (integral + one.integral, seconds + one.seconds)
                });
                if seconds > 0.0 {
                    integral / seconds
                } else {
                    self.value as f64
                }
            }
        }
    }

    /// It has had no other value than the present one, so it says the same tomorrow unless that changes.
    pub(crate) fn is_settled(&self) -> bool {
        let same = |one: &Bucket| one.max == self.value && one.min == self.value;
        self.buckets.iter().all(same)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: Duration = Duration::from_secs(30);

    fn at(seconds: f64) -> Duration {
        Duration::from_secs_f64(1000.0 + seconds)
    }

    #[test]
    fn the_mean_is_over_time_and_forgets_what_is_older_than_the_span() {
        let mut window = Window::default();
        window.set(0, at(0.0), SPAN);
        window.set(30, at(20.0), SPAN);
        window.set(30, at(30.0), SPAN);
        assert!((window.aggregate(Aggregation::Mean) - 10.0).abs() < 1e-9);
        assert!(window.aggregate(Aggregation::Max) > 29.9);
        assert!(window.aggregate(Aggregation::Min) < 0.1);
        assert!(!window.is_settled());
        window.set(30, at(40.0), SPAN);
        let mean = window.aggregate(Aggregation::Mean);
        assert!((mean - 20.0).abs() < 0.5, "{mean}");
        window.set(30, at(51.0), SPAN);
        assert!(window.aggregate(Aggregation::Min) > 29.9);
        assert!(window.is_settled());
    }

    #[test]
    fn a_value_holds_until_the_next_one_however_long_that_takes() {
        let mut window = Window::default();
        window.set(7, at(0.0), SPAN);
        window.set(0, at(1e6), SPAN);
        let mean = window.aggregate(Aggregation::Mean);
        assert!((mean - 7.0).abs() < 1e-9, "{mean}");
        assert!(window.buckets.len() <= BUCKETS as usize + 1);
    }

    #[test]
    fn what_is_kept_does_not_grow_with_the_number_of_changes() {
        let mut window = Window::default();
        for step in 0..100_000_u32 {
            window.set(u64::from(step % 7), at(f64::from(step) * 0.01), SPAN);
        }
        assert!(window.buckets.len() <= BUCKETS as usize + 2);
        let mean = window.aggregate(Aggregation::Mean);
        assert!((mean - 3.0).abs() < 0.01, "{mean}");
    }

    #[test]
    fn no_span_is_the_present() {
        let mut window = Window::default();
        for (value, time) in [(5_u32, 0.0), (9, 1.0), (2, 3.0)] {
            window.set(value.into(), at(time), Duration::ZERO);
            assert!((window.aggregate(Aggregation::Mean) - f64::from(value)).abs() < 1e-9);
            assert!(window.is_settled());
        }
    }
}
