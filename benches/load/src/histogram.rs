//! Latencies in buckets that are at most 1/64 wider than their value.

/// Values below this have a bucket each; above, every power of two has this many.
const STEPS: u64 = 64;
const BUCKETS: usize = 64 * 59;

/// Counts of durations in nanoseconds.
#[derive(Debug)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    maximum: u64,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Self {
            counts: vec![0; BUCKETS],
            total: 0,
            maximum: 0,
        }
    }

    pub(crate) fn clear(&mut self) {
        self.counts.fill(0);
        self.total = 0;
        self.maximum = 0;
    }

    pub(crate) fn record(&mut self, nanoseconds: u64) {
        self.counts[bucket(nanoseconds)] += 1;
        self.total += 1;
        self.maximum = self.maximum.max(nanoseconds);
    }

    /// The upper edge of the bucket in which the quantile lies, in microseconds; 0 when nothing was recorded.
    pub(crate) fn quantile_us(&self, quantile: f64) -> f64 {
        let rank = (self.total as f64 * quantile).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return upper_edge(index).min(self.maximum) as f64 / 1000.0;
            }
        }
        0.0
    }

    pub(crate) fn maximum_us(&self) -> f64 {
        self.maximum as f64 / 1000.0
    }
}

fn bucket(value: u64) -> usize {
    if value < STEPS {
        return value as usize;
    }
    // The position of the top bit above the 6 that choose the step within its power of two.
    let power = u64::from(value.ilog2() - STEPS.ilog2());
    ((power + 1) * STEPS + (value >> power) - STEPS) as usize
}

fn upper_edge(bucket: usize) -> u64 {
    let (group, step) = (bucket as u64 / STEPS, bucket as u64 % STEPS);
    if group == 0 {
        return step;
    }
    let power = group - 1;
    let edge = u128::from(STEPS + step + 1) << power;
    u64::try_from(edge - 1).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_bucket_holds_its_value_and_little_more(value in any::<u64>(), shift in 0..64_u32) {
            let value = value >> shift;
            let index = bucket(value);
            prop_assert!(index < BUCKETS);
            let edge = upper_edge(index);
            prop_assert!(edge >= value && edge - value <= value / STEPS);
            prop_assert_eq!(bucket(edge), index);
        }
    }

    #[test]
    fn quantiles_of_a_known_set() {
        let mut histogram = Histogram::new();
        assert!(histogram.quantile_us(0.5).abs() < f64::EPSILON);
        for microseconds in 1..=100 {
            histogram.record(microseconds * 1000);
        }
        assert!((histogram.quantile_us(0.5) - 50.0).abs() < 1.0);
        assert!((histogram.quantile_us(0.99) - 99.0).abs() < 2.0);
        assert!((histogram.quantile_us(1.0) - 100.0).abs() < f64::EPSILON);
    }
}
