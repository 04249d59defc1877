//! How event loops hear of calls: each loop that awaits has one queue with one eventfd, and one write wakes it for many
//! calls. The router's thread knows nothing of what waits; what it leaves here are numbers.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use parking_lot::Mutex;
use rustix::event::{EventfdFlags, eventfd};

/// Calls that one event loop waits for: a descriptor to watch, and tokens to take when it is readable. It holds at
/// most one token for each call that is being awaited.
#[derive(Debug)]
pub struct Completions {
    tokens: Mutex<Vec<u64>>,
    wake: OwnedFd,
}

impl Completions {
    /// # Errors
    /// No descriptor is left.
    pub fn new() -> std::io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self {
            tokens: Mutex::new(Vec::new()),
            wake,
        })
    }

    /// Says that the call which waits under this token is ready. From any thread; never waits.
    pub fn push(&self, token: u64) {
        let was_empty = {
            let mut tokens = self.tokens.lock();
            tokens.push(token);
            tokens.len() == 1
        };
        if was_empty {
            // It fails only when the counter is full, and then the loop is awake anyhow.
            rustix::io::write(&self.wake, &1u64.to_ne_bytes()).ok();
        }
    }

    /// Takes what is there.
    pub fn drain(&self) -> Vec<u64> {
        // Before the tokens are taken: one that comes in between wakes the loop again.
        rustix::io::read(&self.wake, &mut [0; 8]).ok();
        std::mem::take(&mut *self.tokens.lock())
    }
}

impl AsFd for Completions {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}
