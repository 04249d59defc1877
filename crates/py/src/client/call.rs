//! One call through a handle, and how event loops hear of its end.
//!
//! The router's thread never touches Python: it stores the outcome, wakes threads that wait for it, and tells each
//! event loop through that loop's own eventfd, one write for many calls.

use std::{
    os::fd::{AsRawFd, OwnedFd},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use eagleray_replica::Cancel;
use parking_lot::{Condvar, Mutex};
use pyo3::{prelude::*, types::PyBytes};
use rustix::event::{EventfdFlags, eventfd};
use tokio::sync::Notify;

use super::control::SLICE;

/// How a call ended.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    /// The pickled result, or with `true` the pickled exception.
    Answer(Bytes, bool),
    /// The name of the code in the error table, and what is known besides.
    Failure(&'static str, String),
}

#[derive(Debug, Default)]
struct Progress {
    outcome: Option<Outcome>,
    waiting: Vec<(Arc<Queue>, u64)>,
}

/// Shared by the caller and the router's thread.
#[derive(Debug, Default)]
pub(super) struct State {
    progress: Mutex<Progress>,
    done: Condvar,
    /// The caller wants no answer any more.
    pub(super) cancelled: Notify,
}

impl State {
    /// Stores the outcome, the first one only, and wakes whoever waits.
    pub(super) fn finish(&self, outcome: Outcome) {
        let waiting = {
            let mut progress = self.progress.lock();
            if progress.outcome.is_some() {
                return;
            }
            progress.outcome = Some(outcome);
            std::mem::take(&mut progress.waiting)
        };
        self.done.notify_all();
        for (queue, token) in waiting {
            queue.push(token);
        }
    }

    fn is_done(&self) -> bool {
        self.progress.lock().outcome.is_some()
    }
}

impl Cancel for State {
    fn cancel(&self) {
        self.cancelled.notify_one();
    }
}

/// The end of a call at its caller. Dropping it leaves the call alone.
#[pyclass(frozen, module = "eagleray._core")]
#[derive(Debug)]
pub(crate) struct Call {
    state: Arc<State>,
    request_id: String,
}

impl Call {
    pub(super) fn new(state: Arc<State>, request_id: String) -> Self {
        Self { state, request_id }
    }
}

#[pymethods]
impl Call {
    #[getter]
    fn request_id(&self) -> &str {
        &self.request_id
    }

    /// Waits for the end. False after `timeout_s`.
    #[pyo3(signature = (timeout_s=None))]
    fn wait(&self, py: Python<'_>, timeout_s: Option<f64>) -> PyResult<bool> {
        let limit =
            timeout_s.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::ZERO));
        let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
        loop {
            let done = py.detach(|| {
                let mut progress = self.state.progress.lock();
                if progress.outcome.is_none() {
                    let slice = Instant::now() + SLICE;
                    let until = deadline.map_or(slice, |deadline| deadline.min(slice));
                    self.state.done.wait_until(&mut progress, until);
                }
                progress.outcome.is_some()
            });
            if done {
                return Ok(true);
            }
            py.check_signals()?;
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(false);
            }
        }
    }

    fn done(&self) -> bool {
        self.state.is_done()
    }

    /// Puts `token` into the queue at the end of the call. False: it has ended, and the queue hears nothing.
    fn notify(&self, completions: &Completions, token: u64) -> bool {
        let mut progress = self.state.progress.lock();
        if progress.outcome.is_some() {
            return false;
        }
        progress
            .waiting
            .push((Arc::clone(&completions.queue), token));
        true
    }

    /// Asks for the end of the call. The outcome is a failure with code `Cancelled`, unless it was there first.
    fn cancel(&self) {
        Cancel::cancel(&*self.state);
    }

    /// Code and text of why there is no answer; `None` if there is one, or the call goes on.
    fn failure(&self) -> Option<(&'static str, String)> {
        match &self.state.progress.lock().outcome {
            Some(Outcome::Failure(code, message)) => Some((code, message.clone())),
            _ => None,
        }
    }

    /// The pickled result or exception, and whether it is an exception.
    fn result<'py>(&self, py: Python<'py>) -> Option<(Bound<'py, PyBytes>, bool)> {
        let outcome = self.state.progress.lock().outcome.clone();
        match outcome {
            Some(Outcome::Answer(data, is_error)) => Some((PyBytes::new(py, &data), is_error)),
            _ => None,
        }
    }
}

#[derive(Debug)]
struct Queue {
    tokens: Mutex<Vec<u64>>,
    wake: OwnedFd,
}

impl Queue {
    fn push(&self, token: u64) {
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

/// Ended calls that one event loop waits for: a descriptor to watch, and tokens to take when it is readable. It
/// holds at most one token for each call that is being awaited.
#[pyclass(frozen, module = "eagleray._core")]
#[derive(Debug)]
pub(crate) struct Completions {
    queue: Arc<Queue>,
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
