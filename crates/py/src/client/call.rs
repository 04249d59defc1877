//! `Call`: the caller's end of one call through a handle, as Python sees it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use eagleray_client::{Arguments, Dispatched, Outcome, Refusal, Reservation, SLICE, Segment, Sent};
use eagleray_types::Cancel as _;
use pyo3::{
    exceptions::{PyRuntimeError, PyTypeError},
    prelude::*,
};

use super::completions::Completions;
use crate::region;

/// The end of a call at its caller. Dropping it leaves the call alone, unless it is a reservation that was not used.
#[pyclass(frozen, module = "eagleray._core")]
#[derive(Debug)]
pub(crate) struct Call {
    shared: Arc<eagleray_client::Call>,
    reservation: Option<Reservation>,
    request_id: String,
}

impl Call {
    pub(super) fn new(sent: Sent) -> Self {
        Self {
            shared: sent.call,
            reservation: sent.reservation,
            request_id: sent.request_id,
        }
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
            if py.detach(|| self.shared.wait_until(until)) {
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
        self.shared.is_ready()
    }

    /// Puts `token` into the queue once the call is ready. False: it is, and the queue hears nothing.
    fn notify(&self, completions: &Completions, token: u64) -> bool {
        self.shared.notify(&completions.completions, token)
    }

    /// Asks for the end of the call. The outcome is a failure with code `Cancelled`, unless it was there first.
    fn cancel(&self) {
        self.shared.cancel();
    }

    /// The next item; `None`: none is there.
    fn next<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let item = self.shared.pop();
        item.map(|item| region::to_python(&item, py)).transpose()
    }

    /// Gives the call that the reserved slot runs. `arguments` as `Router.call` has them.
    fn dispatch(&self, arguments: &Bound<'_, PyAny>, stream: bool) -> PyResult<()> {
        let arguments = arguments_from_python(arguments)?;
        let reservation = self.reservation.as_ref();
        reservation
            .ok_or_else(|| {
                PyRuntimeError::new_err(
                    "this call has its arguments; only a reservation is dispatched",
                )
            })?
            .dispatch(Dispatched { arguments, stream });
        Ok(())
    }

    /// Code and text of why there is no answer; `None` if there is one, or the call goes on. With code `Upstream` the
    /// text is the number of the argument, among those that are answers.
    fn failure(&self) -> Option<(&'static str, String, Option<Refusal>)> {
        match self.shared.outcome()? {
            Outcome::Failure(failed) => Some((failed.code, failed.message, failed.refusal)),
            Outcome::Upstream(number) => Some(("Upstream", number.to_string(), None)),
            Outcome::Answer(..) | Outcome::End => None,
        }
    }

    /// The body of the result or exception, `bytes` or a `Region`, and whether it is an exception.
    fn result<'py>(&self, py: Python<'py>) -> PyResult<Option<(Bound<'py, PyAny>, bool)>> {
        match self.shared.outcome() {
            Some(Outcome::Answer(content, is_error)) => {
                Ok(Some((region::to_python(&content, py)?, is_error)))
            }
            _ => Ok(None),
        }
    }
}

/// From `bytes` or a `Region`, or from a list of `(kind, bytes, Region or Call)`.
pub(super) fn arguments_from_python(value: &Bound<'_, PyAny>) -> PyResult<Arguments> {
    if let Some(content) = region::from_python(value) {
        return Ok(Arguments::Whole(content));
    }
    let mut segments = Vec::new();
    for entry in value.try_iter()? {
        let (kind, content): (u8, Bound<'_, PyAny>) = entry?.extract()?;
        let segment = if let Some(content) = region::from_python(&content) {
            Segment::Content(content)
        } else if let Ok(call) = content.cast::<Call>() {
            Segment::Answer(Arc::clone(&call.get().shared))
        } else {
            return Err(PyTypeError::new_err(
                "a segment is bytes, a Region or a Call",
            ));
        };
        segments.push((kind, segment));
    }
    Ok(Arguments::Segments(segments))
}
