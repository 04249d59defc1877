//! The caller's end of one call through a handle.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use eagleray_replica::Cancel;
use pyo3::prelude::*;

use super::{
    arguments::Arguments,
    completions::Completions,
    control::SLICE,
    state::{Dispatched, Outcome, State},
};

/// `max_queued_requests`, and status and seconds of the HTTP answer, of a queue that is full.
type Refusal = Option<(i64, u32, u32)>;

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

    pub(super) fn state(&self) -> &Arc<State> {
        &self.state
    }
}

#[pymethods]
impl Call {
    #[getter]
    fn request_id(&self) -> &str {
        &self.request_id
    }

    /// Waits for an item or the end. False after `timeout_s`.
    #[pyo3(signature = (timeout_s=None))]
    fn wait(&self, py: Python<'_>, timeout_s: Option<f64>) -> PyResult<bool> {
        let limit =
            timeout_s.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::ZERO));
        let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
        loop {
            let slice = Instant::now() + SLICE;
            let until = deadline.map_or(slice, |deadline| deadline.min(slice));
            if py.detach(|| self.state.wait_until(until)) {
                return Ok(true);
            }
            py.check_signals()?;
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(false);
            }
        }
    }

    /// Whether there is an item, or the end.
    fn ready(&self) -> bool {
        self.state.is_ready()
    }

    /// Puts `token` into the queue once the call is ready. False: it is, and the queue hears nothing.
    fn notify(&self, completions: &Completions, token: u64) -> bool {
        self.state.notify(&completions.queue, token)
    }

    /// Asks for the end of the call. The outcome is a failure with code `Cancelled`, unless it was there first.
    fn cancel(&self) {
        Cancel::cancel(&*self.state);
    }

    /// The next item; `None`: none is there.
    fn next<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let item = self.state.pop();
        item.map(|item| item.to_python(py)).transpose()
    }

    /// Gives the call that the reserved slot runs. `arguments` as `Router.call` has them.
    fn dispatch(&self, arguments: &Bound<'_, PyAny>, stream: bool) -> PyResult<()> {
        let arguments = Arguments::from_python(arguments)?;
        self.state.dispatch(Dispatched { arguments, stream });
        Ok(())
    }

    /// Code and text of why there is no answer; `None` if there is one, or the call goes on. With code `Upstream` the
    /// text is the number of the argument, among those that are answers.
    fn failure(&self) -> Option<(&'static str, String, Refusal)> {
        match self.state.outcome()? {
            Outcome::Failure(failed) => Some((failed.code, failed.message, failed.refusal)),
            Outcome::Upstream(number) => Some(("Upstream", number.to_string(), None)),
            Outcome::Answer(..) | Outcome::End => None,
        }
    }

    /// The body of the result or exception, `bytes` or a `Region`, and whether it is an exception.
    fn result<'py>(&self, py: Python<'py>) -> PyResult<Option<(Bound<'py, PyAny>, bool)>> {
        match self.state.outcome() {
            Some(Outcome::Answer(content, is_error)) => {
                Ok(Some((content.to_python(py)?, is_error)))
            }
            _ => Ok(None),
        }
    }
}
