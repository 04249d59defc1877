//! How many requests went into the pool's queue and how many came out of it, for those who need no more of the pool.

use std::sync::atomic::{AtomicU64, Ordering};

/// Two counters. All accesses are relaxed: each reading is a hint, and nothing else is published by them.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    pushed: AtomicU64,
    popped: AtomicU64,
}

impl Flow {
    /// One more is about to go in. Only the I/O thread may call this.
    pub(crate) fn push(&self) {
        // One writer, so no exchange is needed.
        let pushed = self.pushed.load(Ordering::Relaxed);
        self.pushed.store(pushed + 1, Ordering::Relaxed);
    }

    /// One came out.
    pub(crate) fn pop(&self) {
        self.popped.fetch_add(1, Ordering::Relaxed);
    }

    /// How many came out so far.
    pub(crate) fn popped(&self) -> u64 {
        self.popped.load(Ordering::Relaxed)
    }

    /// Whether some are in.
    pub(crate) fn waits(&self) -> bool {
        self.pushed.load(Ordering::Relaxed) != self.popped()
    }
}
