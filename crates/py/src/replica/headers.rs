//! Header fields between ASGI's pairs of bytes and the wire's.

use eagleray_wire::Headers;
use pyo3::{
    exceptions::{PyTypeError, PyValueError},
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

type Pair<'py> = (Bound<'py, PyBytes>, Bound<'py, PyBytes>);

/// Field pairs of an answer and the content-length among them, checked: what would break the answer's framing never
/// leaves the process.
pub(super) fn from_python<'py>(
    headers: &Bound<'py, PyAny>,
) -> PyResult<(Vec<Pair<'py>>, Option<u64>)> {
    let mut pairs = Vec::new();
    let mut length = None;
    for item in headers.try_iter()? {
        let (name, value) = two(item?)?;
        let pair = (lower(bytes(name)?), bytes(value)?);
        let (name, value) = (pair.0.as_bytes(), pair.1.as_bytes());
        if name.is_empty() || !name.iter().all(|byte| is_name_byte(*byte)) {
            return Err(PyValueError::new_err(format!(
                "invalid header name {:?}",
                String::from_utf8_lossy(name)
            )));
        }
        if !value.iter().all(|byte| is_value_byte(*byte)) {
            return Err(PyValueError::new_err(format!(
                "invalid value of header {:?}: {:?}",
                String::from_utf8_lossy(name),
                String::from_utf8_lossy(value)
            )));
        }
        if name == b"content-length" {
            let found = number(value);
            if found.is_none() || length.is_some_and(|other| Some(other) != found) {
                return Err(PyValueError::new_err(format!(
                    "invalid content-length {:?}",
                    String::from_utf8_lossy(value)
                )));
            }
            length = found;
        }
        pairs.push(pair);
    }
    Ok((pairs, length))
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

fn number(digits: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(digits).ok()?;
    // `parse` takes a sign too.
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())?
}

fn bytes(value: Bound<'_, PyAny>) -> PyResult<Bound<'_, PyBytes>> {
    value.cast_into().map_err(|error| {
        PyTypeError::new_err(format!(
            "header names and values are bytes, got {:?}",
            error.into_inner()
        ))
    })
}

const fn is_name_byte(byte: u8) -> bool {
    // Upper case is not a name on this wire, as in HTTP/2.
    byte.is_ascii_lowercase()
        || byte.is_ascii_digit()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

const fn is_value_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}
