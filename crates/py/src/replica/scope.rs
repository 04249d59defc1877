//! The ASGI scope of a request, built when user code is about to see it.

use eagleray_wire::{Headers, HttpHead};
use pyo3::{
    intern,
    prelude::*,
    sync::PyOnceLock,
    types::{PyBytes, PyDict, PyList, PyString},
};

use super::headers;

static ASGI: PyOnceLock<Py<PyDict>> = PyOnceLock::new();

pub(super) fn build<'py>(py: Python<'py>, head: &HttpHead<'_>) -> PyResult<Bound<'py, PyDict>> {
    let scope = PyDict::new(py);
    let kind = if head.websocket {
        intern!(py, "websocket")
    } else {
        intern!(py, "http")
    };
    scope.set_item(intern!(py, "type"), kind)?;
    scope.set_item(intern!(py, "asgi"), asgi(py)?)?;
    scope.set_item(intern!(py, "http_version"), version(py, head.version))?;
    if head.websocket {
        scope.set_item(
            intern!(py, "subprotocols"),
            subprotocols(py, &head.headers)?,
        )?;
    } else {
        scope.set_item(intern!(py, "method"), method(py, head.method))?;
    }
    scope.set_item(intern!(py, "scheme"), scheme(py, head))?;
    scope.set_item(intern!(py, "path"), path(py, head.path))?;
    scope.set_item(intern!(py, "raw_path"), PyBytes::new(py, head.path))?;
    scope.set_item(intern!(py, "query_string"), PyBytes::new(py, head.query))?;
    scope.set_item(intern!(py, "root_path"), path(py, head.root_path))?;
    scope.set_item(intern!(py, "headers"), headers::to_list(py, &head.headers)?)?;
    scope.set_item(intern!(py, "client"), address(py, head.client))?;
    scope.set_item(intern!(py, "server"), address(py, head.server))?;
    Ok(scope)
}

fn asgi(py: Python<'_>) -> PyResult<&Bound<'_, PyDict>> {
    let made = ASGI.get_or_try_init(py, || {
        let asgi = PyDict::new(py);
        asgi.set_item("version", "3.0")?;
        asgi.set_item("spec_version", "2.4")?;
        Ok::<_, PyErr>(asgi.unbind())
    })?;
    Ok(made.bind(py))
}

fn version(py: Python<'_>, version: u8) -> &Bound<'_, PyString> {
    match version {
        10 => intern!(py, "1.0"),
        20 => intern!(py, "2"),
        _ => intern!(py, "1.1"),
    }
}

fn scheme<'py>(py: Python<'py>, head: &HttpHead<'_>) -> &'py Bound<'py, PyString> {
    match (head.websocket, head.tls) {
        (false, false) => intern!(py, "http"),
        (false, true) => intern!(py, "https"),
        (true, false) => intern!(py, "ws"),
        (true, true) => intern!(py, "wss"),
    }
}

fn method<'py>(py: Python<'py>, method: &[u8]) -> Bound<'py, PyString> {
    match method {
        b"GET" => intern!(py, "GET").clone(),
        b"POST" => intern!(py, "POST").clone(),
        b"PUT" => intern!(py, "PUT").clone(),
        b"HEAD" => intern!(py, "HEAD").clone(),
        other => PyString::new(py, &String::from_utf8_lossy(other)),
    }
}

/// What the client offers, in its order.
fn subprotocols<'py>(py: Python<'py>, headers: &Headers<'_>) -> PyResult<Bound<'py, PyList>> {
    let offered = headers
        .iter()
        .filter(|(name, _)| *name == b"sec-websocket-protocol")
        .flat_map(|(_, value)| value.split(|byte| *byte == b','))
        .map(|one| PyString::new(py, &String::from_utf8_lossy(one.trim_ascii())));
    PyList::new(py, offered.collect::<Vec<_>>())
}

/// Percent-decoded, and never an error: what is no UTF-8 shows as U+FFFD, and `raw_path` has the bytes.
fn path<'py>(py: Python<'py>, raw: &[u8]) -> Bound<'py, PyString> {
    if raw.is_empty() {
        return intern!(py, "").clone();
    }
    if !raw.contains(&b'%') {
        return PyString::new(py, &String::from_utf8_lossy(raw));
    }
    let mut decoded = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%'
            && let Some(&[high, low]) = after.first_chunk::<2>()
            && let (Some(high), Some(low)) = (digit(high), digit(low))
        {
            decoded.push(high << 4 | low);
            rest = &after[2..];
        } else {
            decoded.push(*first);
            rest = after;
        }
    }
    PyString::new(py, &String::from_utf8_lossy(&decoded))
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

fn address<'py>(
    py: Python<'py>,
    (host, port): (&[u8], u16),
) -> Option<(Bound<'py, PyString>, u16)> {
    (!host.is_empty()).then(|| (PyString::new(py, &String::from_utf8_lossy(host)), port))
}
