//! The ASGI scope of a request, built when user code is about to see it.

use eagleray_wire::{HttpHead, percent_decoded};
use pyo3::{
    intern,
    prelude::*,
    sync::PyOnceLock,
    types::{PyBytes, PyDict, PyList, PyString},
};

use super::{headers, text::text};

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
        scope.set_item(intern!(py, "subprotocols"), subprotocols(py, head)?)?;
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
        other => text(py, other),
    }
}

fn subprotocols<'py>(py: Python<'py>, head: &HttpHead<'_>) -> PyResult<Bound<'py, PyList>> {
    let offered = head.subprotocols().map(|one| text(py, one));
    PyList::new(py, offered.collect::<Vec<_>>())
}

/// What is no UTF-8 shows as U+FFFD; `raw_path` has the bytes.
fn path<'py>(py: Python<'py>, raw: &[u8]) -> Bound<'py, PyString> {
    if raw.is_empty() {
        return intern!(py, "").clone();
    }
    text(py, &percent_decoded(raw))
}

fn address<'py>(
    py: Python<'py>,
    (host, port): (&[u8], u16),
) -> Option<(Bound<'py, PyString>, u16)> {
    (!host.is_empty()).then(|| (text(py, host), port))
}
