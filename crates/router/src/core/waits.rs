//! How long requests have waited until they were sent to a replica, in the buckets of the metric that says so.
//!
//! Counted where a request is sent, which costs a comparison for one that did not wait, and taken now and again by whoever
//! shows it.

use std::time::Duration;

/// Upper bounds of the buckets, in milliseconds. One more bucket takes what lies beyond.
pub const WAIT_BOUNDS_MS: [u64; 19] = [
    1, 2, 5, 10, 20, 50, 100, 200, 300, 400, 500, 1000, 2000, 5000, 10_000, 60_000, 120_000,
    300_000, 600_000,
];

/// What was counted since somebody took it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waits {
    pub buckets: [u64; WAIT_BOUNDS_MS.len() + 1],
    pub sum: Duration,
}

impl Waits {
    #[inline]
    pub(super) fn count(&mut self, waited: Duration) {
        let bucket = if waited <= Duration::from_millis(1) {
            0
        } else {
            WAIT_BOUNDS_MS.partition_point(|bound| Duration::from_millis(*bound) < waited)
        };
        if let Some(count) = self.buckets.get_mut(bucket) {
            *count += 1;
        }
        self.sum += waited;
    }

    /// Adds what another has counted.
    pub fn add(&mut self, other: &Self) {
        for (sum, count) in self.buckets.iter_mut().zip(other.buckets) {
            *sum += count;
        }
        self.sum += other.sum;
    }

    pub fn is_empty(&self) -> bool {
        self.buckets.iter().all(|count| *count == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_in_the_bucket_whose_bound_it_does_not_exceed() {
        let mut waits = Waits::default();
        for microseconds in [0, 1000, 1001, 2000, 2001, 700_000_000] {
            waits.count(Duration::from_micros(microseconds));
        }
        assert_eq!(waits.buckets[..4], [2, 2, 1, 0]);
        assert_eq!(waits.buckets[19], 1);
        assert_eq!(waits.sum, Duration::from_micros(700_006_002));
        let mut both = waits.clone();
        both.add(&waits);
        assert_eq!(both.buckets[..3], [4, 4, 2]);
        assert!(!both.is_empty() && Waits::default().is_empty());
    }
}
