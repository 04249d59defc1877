//! What all routers of one process share: the bound on queued memory and the count behind `max_queued_requests`.
//!
//! T proxy threads are T routers that share nothing else. The counts are exact, because a place is taken by one
//! compare-and-swap; they are touched only by requests that must wait.

use std::sync::{
    Arc, Weak,
    atomic::{AtomicUsize, Ordering},
};

use eagleray_types::DeploymentKey;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;

/// See the module. One per process, in an `Arc`.
#[derive(Debug)]
pub struct Limits {
    queued_bytes: Counter,
    max_queued_bytes: AtomicUsize,
    deployments: Mutex<FxHashMap<DeploymentKey, Weak<Counter>>>,
}

impl Limits {
    /// Queued memory of one process.
    pub const MAX_QUEUED_BYTES: usize = 256 * 1024 * 1024;
    /// What a waiting request costs besides its bytes.
    pub(super) const OVERHEAD_BYTES: usize = 512;

    pub fn new() -> Self {
        Self::with_max_queued_bytes(Self::MAX_QUEUED_BYTES)
    }

    pub fn with_max_queued_bytes(max_queued_bytes: usize) -> Self {
        Self {
            queued_bytes: Counter::default(),
            max_queued_bytes: AtomicUsize::new(max_queued_bytes),
            deployments: Mutex::default(),
        }
    }

    /// Takes another bound. What waits already stays.
    pub fn set_max_queued_bytes(&self, max_queued_bytes: usize) {
        self.max_queued_bytes
            .store(max_queued_bytes, Ordering::Relaxed);
    }

    /// Bytes that wait in the whole process.
    pub fn queued_bytes(&self) -> usize {
        self.queued_bytes.get()
    }

    /// Counts bytes that are kept for a request which is not submitted yet.
    pub fn reserve(self: &Arc<Self>) -> Reserved {
        Reserved {
            limits: Arc::clone(self),
            bytes: 0,
        }
    }

    pub(super) fn try_add_bytes(&self, bytes: usize) -> bool {
        let most = self.max_queued_bytes.load(Ordering::Relaxed);
        self.queued_bytes.try_add(bytes, most)
    }

    /// For a request that moves: it was taken once and is not refused now.
    pub(super) fn add_bytes(&self, bytes: usize) {
        self.queued_bytes.add(bytes);
    }

    pub(super) fn remove_bytes(&self, bytes: usize) {
        self.queued_bytes.remove(bytes);
    }

    /// The count of waiting requests of one deployment. Called when targets change, never for a request.
    pub(super) fn counter(&self, key: &DeploymentKey) -> Arc<Counter> {
        let mut deployments = self.deployments.lock();
        if let Some(counter) = deployments.get(key).and_then(Weak::upgrade) {
            return counter;
        }
        deployments.retain(|_, counter| counter.strong_count() > 0);
        let counter = Arc::new(Counter::default());
        deployments.insert(key.clone(), Arc::downgrade(&counter));
        counter
    }
}

/// Bytes within the bound on queued memory, given back when dropped.
#[derive(Debug)]
pub struct Reserved {
    limits: Arc<Limits>,
    bytes: usize,
}

impl Reserved {
    /// Makes it `bytes` in all, unless the bound is reached; it never becomes less.
    #[must_use]
    pub fn grow_to(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        let fits = more == 0 || self.limits.try_add_bytes(more);
        if fits {
            self.bytes += more;
        }
        fits
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.limits.remove_bytes(self.bytes);
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::new()
    }
}

// Relaxed everywhere: the numbers guard nothing but themselves.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicUsize);

impl Counter {
    pub(super) fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Adds, unless the sum would be above `limit`.
    pub(super) fn try_add(&self, amount: usize, limit: usize) -> bool {
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
                count.checked_add(amount).filter(|sum| *sum <= limit)
            })
            .is_ok()
    }

    pub(super) fn add(&self, amount: usize) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    pub(super) fn remove(&self, amount: usize) {
        self.0.fetch_sub(amount, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reserved_counts_until_it_is_dropped() {
        let limits = Arc::new(Limits::with_max_queued_bytes(100));
        let (mut first, mut second) = (limits.reserve(), limits.reserve());
        assert!(first.grow_to(60) && first.grow_to(50));
        assert!(!second.grow_to(41) && second.grow_to(40));
        assert_eq!(limits.queued_bytes(), 100);
        drop(first);
        assert_eq!(limits.queued_bytes(), 40);
        limits.set_max_queued_bytes(30);
        assert!(!limits.reserve().grow_to(1), "what waits stays");
        limits.set_max_queued_bytes(41);
        assert!(limits.reserve().grow_to(1));
    }
}
