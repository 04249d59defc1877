//! How event loops hear of calls: each loop that awaits has one queue with one eventfd, and one write wakes it for many
//! calls. The router's thread never touches Python; what it leaves here are numbers.

use std::{
    os::fd::{AsRawFd, OwnedFd},
    sync::Arc,
};

use parking_lot::Mutex;
use pyo3::prelude::*;
use rustix::event::{EventfdFlags, eventfd};

#[derive(Debug)]
pub(super) struct Queue {
    tokens: Mutex<Vec<u64>>,
    wake: OwnedFd,
}

impl Queue {
    pub(super) fn push(&self, token: u64) {
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
}

/// Calls that one event loop waits for: a descriptor to watch, and tokens to take when it is readable. It holds at
/// most one token for each call that is being awaited.
#[pyclass(frozen, module = "eagleray._core")]
#[derive(Debug)]
pub(crate) struct Completions {
    pub(super) queue: Arc<Queue>,
}

#[pymethods]
impl Completions {
    #[new]
    fn new() -> PyResult<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(std::io::Error::from)?;
        Ok(Self {
            queue: Arc::new(Queue {
                tokens: Mutex::new(Vec::new()),
                wake,
            }),
        })
    }

    /// For calls that are not the native router's: says that one is ready. From any thread.
    fn push(&self, token: u64) {
        self.queue.push(token);
    }

    fn fileno(&self) -> i32 {
        self.queue.wake.as_raw_fd()
    }

    /// Takes what is there.
    fn drain(&self) -> Vec<u64> {
        // Before the tokens are taken: one that comes in between wakes the loop again.
        rustix::io::read(&self.queue.wake, &mut [0; 8]).ok();
        std::mem::take(&mut *self.queue.tokens.lock())
    }
}
