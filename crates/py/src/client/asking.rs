//! How a driver waits for an answer of its node or controller: with the interpreter detached, in slices after which
//! signals are looked at.

use std::time::{Duration, Instant};

use bytes::Bytes;
use eagleray_client::Asking;
use pyo3::{exceptions::PyConnectionError, prelude::*};

/// Makes one call and waits for its answer. `None` after `timeout`.
pub(super) fn call(
    py: Python<'_>,
    path: &str,
    request: &[u8],
    timeout: Option<Duration>,
) -> PyResult<Option<Bytes>> {
    let begun = Instant::now();
    let mut asking = Asking::new(path, request);
    loop {
        let step = py.detach(|| asking.step());
        let answer = step.map_err(|error| {
            PyConnectionError::new_err(format!("no answer from {path}: {error}"))
        })?;
        if answer.is_some() {
            return Ok(answer);
        }
        py.check_signals()?;
        if timeout.is_some_and(|timeout| begun.elapsed() > timeout) {
            return Ok(None);
        }
    }
}
