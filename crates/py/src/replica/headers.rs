//! Header fields between ASGI's pairs of bytes and the wire's.

use eagleray_wire::Headers;
use pyo3::{
    exceptions::PyTypeError,
    prelude::*,
    sync::PyOnceLock,
    types::{PyBytes, PyList, PyTuple},
};

/// Names that most requests have: their objects are made once.
const COMMON: [&[u8]; 24] = [
    b"host",
    b"accept",
    b"accept-encoding",
    b"accept-language",
    b"authorization",
    b"cache-control",
    b"connection",
    b"content-length",
    b"content-type",
    b"cookie",
    b"origin",
    b"pragma",
    b"referer",
    b"traceparent",
    b"tracestate",
    b"transfer-encoding",
    b"user-agent",
    b"x-api-key",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-port",
    b"x-forwarded-proto",
    b"x-real-ip",
    b"x-request-id",
];

static NAMES: PyOnceLock<Vec<Py<PyBytes>>> = PyOnceLock::new();

pub(super) fn to_list<'py>(py: Python<'py>, headers: &Headers<'_>) -> PyResult<Bound<'py, PyList>> {
    let names = NAMES.get_or_init(py, || {
        COMMON
            .iter()
            .map(|name| PyBytes::new(py, name).unbind())
            .collect()
    });
    let mut pairs = Vec::with_capacity(headers.len());
    for (name, value) in headers.iter() {
        let common = COMMON
            .iter()
            .position(|common| *common == name)
            .and_then(|at| names.get(at));
        let name = match common {
            Some(name) => name.bind(py).clone(),
            None => PyBytes::new(py, name),
        };
        pairs.push(PyTuple::new(py, [name, PyBytes::new(py, value)])?);
    }
    PyList::new(py, pairs)
}

pub(super) type Pair<'py> = (Bound<'py, PyBytes>, Bound<'py, PyBytes>);

/// Field pairs of an answer, with names in lower case.
pub(super) fn from_python<'py>(headers: &Bound<'py, PyAny>) -> PyResult<Vec<Pair<'py>>> {
    headers
        .try_iter()?
        .map(|item| {
            let (name, value) = two(item?)?;
            Ok((lower(bytes(name)?), bytes(value)?))
        })
        .collect()
}

/// The pairs as bytes.
pub(super) fn borrow<'a>(
    pairs: &'a [Pair<'_>],
) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone {
    pairs
        .iter()
        .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
}

/// ASGI asks for any iterable of two, and a tuple it is nearly always.
fn two(item: Bound<'_, PyAny>) -> PyResult<(Bound<'_, PyAny>, Bound<'_, PyAny>)> {
    let item = match item.cast_into::<PyTuple>() {
        Ok(tuple) => tuple,
        Err(error) => {
            let item = error.into_inner();
            let items = item.try_iter()?.take(3).collect::<PyResult<Vec<_>>>()?;
            PyTuple::new(item.py(), items)?
        }
    };
    item.extract()
}

/// ASGI asks for lower case, and many an application forgets.
fn lower(name: Bound<'_, PyBytes>) -> Bound<'_, PyBytes> {
    if name.as_bytes().iter().any(u8::is_ascii_uppercase) {
        return PyBytes::new(name.py(), &name.as_bytes().to_ascii_lowercase());
    }
    name
}

fn bytes(value: Bound<'_, PyAny>) -> PyResult<Bound<'_, PyBytes>> {
    value.cast_into().map_err(|error| {
        PyTypeError::new_err(format!(
            "header names and values are bytes, got {:?}",
            error.into_inner()
        ))
    })
}
