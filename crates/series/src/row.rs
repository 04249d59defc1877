//! What is known of one thing in one slot of time, and how two such are added up.

use std::sync::Arc;

use eagleray_metrics::registry::REQUEST_MS;

/// Upper bounds of the buckets of latencies; a last bucket has none.
pub const BOUNDS_MS: &[f64] = REQUEST_MS;
pub const BUCKETS: usize = BOUNDS_MS.len() + 1;

/// What a row is of: an application as HTTP clients see it (no deployment), a deployment (no replica), or a replica.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject {
    pub application: Arc<str>,
    pub deployment: Arc<str>,
    pub replica: Arc<str>,
}

impl Subject {
    pub fn of_application(application: &str) -> Self {
        Self::new(application, "", "")
    }

    pub fn new(application: &str, deployment: &str, replica: &str) -> Self {
        Self {
            application: application.into(),
            deployment: deployment.into(),
            replica: replica.into(),
        }
    }

    pub fn is_replica(&self) -> bool {
        !self.replica.is_empty()
    }
}

/// What was counted and measured. Totals are of the slot alone, and not since anybody's start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    pub requests: u64,
    /// Of those, the ones that failed.
    pub errors: u64,
    /// Requests by how long they took.
    pub latency: [u64; BUCKETS],
    /// The most that waited, of all samples.
    pub queued: u64,
    /// The most that were under way.
    pub ongoing: u64,
    /// The last that was wanted; `None`: nobody has said.
    pub wanted: Option<u64>,
    pub ready: Option<u64>,
    pub cpu_ms: u64,
    /// The most.
    pub memory_kib: u64,
}

impl Row {
    /// Adds what was measured after this.
    pub fn add(&mut self, later: &Self) {
        self.requests = self.requests.saturating_add(later.requests);
        self.errors = self.errors.saturating_add(later.errors);
        for (sum, count) in self.latency.iter_mut().zip(later.latency) {
            *sum = sum.saturating_add(count);
        }
        self.queued = self.queued.max(later.queued);
        self.ongoing = self.ongoing.max(later.ongoing);
        self.wanted = later.wanted.or(self.wanted);
        self.ready = later.ready.or(self.ready);
        self.cpu_ms = self.cpu_ms.saturating_add(later.cpu_ms);
        self.memory_kib = self.memory_kib.max(later.memory_kib);
    }

    /// Milliseconds within which this share of the requests was answered: exact to the bucket, and within it as if its requests
    /// were spread evenly, as Prometheus has it. Beyond the last bound it is that bound. `None`: there were none.
    pub fn quantile_ms(&self, share: f64) -> Option<f64> {
        let total: u64 = self
            .latency
            .iter()
            .fold(0, |sum, count| sum.saturating_add(*count));
        if total == 0 {
            return None;
        }
        let rank = share.clamp(0.0, 1.0) * total as f64;
        let mut below = 0.0;
        for (index, count) in self.latency.iter().enumerate() {
            let upto = below + *count as f64;
            if *count > 0 && upto >= rank {
                let lower = index.checked_sub(1).map_or(0.0, |before| BOUNDS_MS[before]);
                let Some(upper) = BOUNDS_MS.get(index) else {
                    return Some(lower);
                };
                return Some(lower + (upper - lower) * ((rank - below) / *count as f64));
            }
            below = upto;
        }
        BOUNDS_MS.last().copied()
    }

    /// How much happens here: whoever has most of it stays when room is short.
    pub(crate) fn weight(&self) -> u64 {
        self.requests
            .saturating_add(self.queued)
            .saturating_add(self.ongoing)
    }
}
