//! `Completions`: how an event loop hears of calls.

use std::{
    os::fd::{AsFd as _, AsRawFd as _},
    sync::Arc,
};

use pyo3::prelude::*;

/// Calls that one event loop waits for: a descriptor to watch, and tokens to take when it is readable. It holds at
/// most one token for each call that is being awaited.
#[pyclass(frozen, module = "eagleray._core")]
#[derive(Debug)]
pub(crate) struct Completions {
    pub(super) completions: Arc<eagleray_client::Completions>,
}

#[pymethods]
impl Completions {
    #[new]
    fn new() -> PyResult<Self> {
        Ok(Self {
            completions: Arc::new(eagleray_client::Completions::new()?),
        })
    }

    /// For calls that are not the native router's: says that one is ready. From any thread.
    fn push(&self, token: u64) {
        self.completions.push(token);
    }

    fn fileno(&self) -> i32 {
        self.completions.as_fd().as_raw_fd()
    }

    /// Takes what is there.
    fn drain(&self) -> Vec<u64> {
        self.completions.drain()
    }
}
