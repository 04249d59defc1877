//! Bytes of the wire as text.

use pyo3::{prelude::*, types::PyString};

/// Never an error: what is no UTF-8 shows as U+FFFD.
pub(super) fn text<'py>(py: Python<'py>, bytes: &[u8]) -> Bound<'py, PyString> {
    PyString::new(py, &String::from_utf8_lossy(bytes))
}
