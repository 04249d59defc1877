//! How many requests went into the pool's queue and how many came out of it, for those who need no more of the pool.

use std::sync::atomic::{AtomicU64, Ordering};

/// Two counters. All accesses are relaxed: each reading is a hint, and nothing else is published by them.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    pushed: Alone,
    popped: Alone,
}

/// A counter in cache lines of its own: the two are written by different threads, for each request.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Alone(AtomicU64);

impl Flow {
    /// One more is about to go in. Only the I/O thread may call this.
    pub(crate) fn push(&self) {
        // One writer, so no exchange is needed.
        let pushed = self.pushed.0.load(Ordering::Relaxed);
        self.pushed.0.store(pushed + 1, Ordering::Relaxed);
    }

    /// One came out.
    pub(crate) fn pop(&self) {
        self.popped.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How many came out so far.
    pub(crate) fn popped(&self) -> u64 {
        self.popped.0.load(Ordering::Relaxed)
    }

    /// Whether some are in.
    pub(crate) fn waits(&self) -> bool {
        self.pushed.0.load(Ordering::Relaxed) != self.popped()
    }
}
