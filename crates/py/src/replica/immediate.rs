//! An awaitable that has its value already: no future, no turn of the loop.

use parking_lot::Mutex;
use pyo3::{exceptions::PyStopIteration, prelude::*};

#[pyclass(frozen, module = "eagleray._core")]
pub(crate) struct Immediate(Mutex<Option<Py<PyAny>>>);

impl Immediate {
    pub(crate) fn new(value: Py<PyAny>) -> Self {
        Self(Mutex::new(Some(value)))
    }
}

#[pymethods]
impl Immediate {
    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Err(PyStopIteration::new_err((self
            .0
            .lock()
            .take()
            .unwrap_or_else(|| py.None()),)))
    }
}
