//! One request, as the code around user code sees it: all methods that Python has of it are here, and what it waits for
//! (`waits.rs`), receives (`messages.rs`) and promises (`promise.rs`) beside.

mod messages;
mod promise;
mod waits;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use eagleray_client::Content;
use eagleray_replica::Room;
use eagleray_wire::{
    Flags, Headers, RequestHead, is_model_header, is_session_header, region::Attachment,
};
use parking_lot::Mutex;
use pyo3::{
    exceptions::{PyRuntimeError, PyTypeError, PyValueError},
    intern,
    prelude::*,
    types::{PyBytes, PyDict, PyString},
};

use super::{Loop, child, headers, immediate::Immediate, scope};
use crate::region::{self, Region};
use promise::Promise;
use waits::Waits;

/// Heads of plain answers, as `respond_plain` numbers them: status 200 and one content type.
const PLAIN: [&str; 3] = [
    "text/plain",
    "text/plain; charset=utf-8",
    "application/json",
];
/// A wait of a thread is cut into pieces of this length.
const SLICE: Duration = Duration::from_secs(1);

#[pyclass(frozen, module = "eagleray._core", weakref)]
pub(crate) struct Request {
    core: Arc<eagleray_replica::Request>,
    of_loop: Arc<Loop>,
    /// A call through a handle, not HTTP.
    is_call: bool,
    promise: Promise,
    waits: Mutex<Waits>,
    /// Of a call: what segments of its body name.
    attachments: Mutex<Vec<Attachment>>,
}

#[pymethods]
impl Request {
    /// Claims the request. False: there is nothing to do.
    fn claim(&self, py: Python<'_>) -> PyResult<bool> {
        if child::came_back(py)? {
            return Ok(false);
        }
        let claimed = self.core.claim();
        if !claimed {
            self.forget();
        }
        Ok(claimed)
    }

    /// Claims the request for user code and returns its scope; None: there is nothing to do.
    fn begin<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        if !self.claim(py)? {
            return Ok(None);
        }
        self.scope(py).map(Some)
    }

    /// The ASGI scope of an HTTP request.
    fn scope<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let RequestHead::Http(head) = self.head()? else {
            return Err(not_http());
        };
        scope::build(py, &head)
    }

    /// `(method, stream)` of a call through a handle; None for HTTP.
    fn call<'py>(&self, py: Python<'py>) -> PyResult<Option<(Bound<'py, PyString>, bool)>> {
        Ok(match self.head()? {
            RequestHead::Call(head) => Some((text(py, head.method), head.stream)),
            RequestHead::Http(_) => None,
        })
    }

    #[getter]
    fn is_call(&self) -> bool {
        self.is_call
    }

    /// Whether it asks for a WebSocket.
    #[getter]
    fn is_websocket(&self) -> bool {
        self.core.is_websocket()
    }

    #[getter]
    fn request_id<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        Ok(match self.head()? {
            RequestHead::Http(head) => text(py, head.request_id),
            RequestHead::Call(head) => text(py, head.request_id),
        })
    }

    /// Where the request entered: a route prefix, or empty if it did not come over HTTP.
    #[getter]
    fn route(&self) -> PyResult<String> {
        Ok(self.identity()?.1)
    }

    #[getter]
    fn multiplexed_model_id<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        Ok(match self.head()? {
            RequestHead::Call(head) => text(py, head.multiplexed_model_id),
            RequestHead::Http(head) => field(py, &head.headers, is_model_header),
        })
    }

    #[getter]
    fn session_id<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        Ok(match self.head()? {
            RequestHead::Call(head) => text(py, head.session_id),
            RequestHead::Http(head) => field(py, &head.headers, is_session_header),
        })
    }

    /// Seconds left to answer; None: no limit.
    #[getter]
    fn remaining_s(&self) -> Option<f64> {
        let left = self
            .core
            .deadline()?
            .saturating_duration_since(std::time::Instant::now());
        Some(left.as_secs_f64())
    }

    #[getter]
    fn cancelled(&self) -> bool {
        self.core.is_cancelled()
    }

    /// Whether anything of an answer has been sent.
    #[getter]
    fn answered(&self) -> bool {
        self.core.has_answered()
    }

    /// The task that serves it on the loop; None: a thread does, or nobody any more.
    #[getter]
    fn task(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let waits = self.waits.lock();
        waits.task.as_ref().map(|task| task.clone_ref(py))
    }

    /// The task that is cancelled when nobody wants the answer.
    #[setter]
    fn set_task(&self, task: Py<PyAny>) {
        self.waits.lock().task = Some(task);
    }

    /// All of a complete body; None: more is to come.
    fn body<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.core.take_body().map(|body| PyBytes::new(py, &body))
    }

    /// The same of a call: `bytes` or a `Region`.
    fn value<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let value = self.core.take_value();
        value.map(|value| self.content(py, value)).transpose()
    }

    /// The body of a call that came in parts, put together.
    fn whole<'py>(&self, py: Python<'py>, body: &[u8]) -> PyResult<Bound<'py, PyAny>> {
        self.content(py, self.core.assemble(Bytes::copy_from_slice(body)))
    }

    /// The values that segments of the body only name. Once, after `value` or `whole`.
    fn regions(&self) -> Vec<Region> {
        let attachments = std::mem::take(&mut *self.attachments.lock());
        attachments.into_iter().map(Region::new).collect()
    }

    /// Copies buffers, one after the other, into a region: the body of a result. `None`: there is no room, and they go
    /// as bytes.
    #[expect(clippy::needless_pass_by_value, reason = "a list from Python")]
    fn share(&self, py: Python<'_>, parts: Vec<Bound<'_, PyAny>>) -> PyResult<Option<Region>> {
        region::with_parts(py, &parts, |parts| self.core.lend(parts)).map(region::lent)
    }

    /// ASGI's `receive`.
    fn receive<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self.message(py)? {
            Some(message) => {
                Ok(Bound::new(py, Immediate::new(message.into_any().unbind()))?.into_any())
            }
            None => self.future(py, |waits| &mut waits.reader),
        }
    }

    /// ASGI's next message of a WebSocket; None: nothing yet, and `readable` says when to look again.
    fn receive_now<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        self.message(py)
    }

    /// Awaitable, after `receive_now` has returned None. Nothing is lost when it is cancelled.
    fn readable<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.future(py, |waits| &mut waits.reader)
    }

    /// The whole answer. `done`: the slot is free with it.
    #[pyo3(signature = (status, headers, body, done = true))]
    fn respond(
        &self,
        py: Python<'_>,
        status: u16,
        headers: &Bound<'_, PyAny>,
        body: &[u8],
        done: bool,
    ) -> PyResult<()> {
        if child::came_back(py)? {
            return Ok(());
        }
        let (pairs, length) = headers::from_python(headers)?;
        let fields = pairs
            .iter()
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let body = self.promise.whole(status, length, body)?;
        self.core
            .respond(status, fields, body, done)
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
        if done {
            self.forget();
        }
        Ok(())
    }

    /// The whole answer with status 200: `kind` 0 is plain text, 1 the same in UTF-8, 2 JSON.
    fn respond_plain(&self, py: Python<'_>, kind: usize, body: &Bound<'_, PyAny>) -> PyResult<()> {
        if child::came_back(py)? {
            return Ok(());
        }
        let content_type = PLAIN
            .get(kind)
            .ok_or_else(|| PyValueError::new_err("no such kind of answer"))?;
        let (data, _is_text) = text_or_bytes(body, "a plain answer")?;
        let data = self.promise.whole(200, None, data)?;
        let fields = [(b"content-type".as_slice(), content_type.as_bytes())];
        self.core
            .respond(200, fields, data, true)
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
        self.forget();
        Ok(())
    }

    /// The head of an answer whose body follows. 0: nobody wants it, 1: go on, 2: wait for room.
    fn start(&self, py: Python<'_>, status: u16, headers: &Bound<'_, PyAny>) -> PyResult<u8> {
        if child::came_back(py)? {
            return Ok(number(Room::Gone));
        }
        let (pairs, length) = headers::from_python(headers)?;
        let fields = pairs
            .iter()
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let has_body = self.promise.has_body(status)?;
        let room = self
            .core
            .start(status, fields)
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
        if !has_body {
            self.promise.no_body();
        } else if let Some(length) = length {
            self.promise.length(length);
        }
        Ok(number(room))
    }

    /// More of the body. `end`: the last. As `start`. An error: it is not what the content-length promised; nothing
    /// was sent.
    #[pyo3(signature = (data, end = false))]
    fn send(&self, py: Python<'_>, data: &[u8], end: bool) -> PyResult<u8> {
        if child::came_back(py)? {
            return Ok(number(Room::Gone));
        }
        let data = self.promise.part(data, end)?;
        Ok(number(
            self.core
                .send(data, if end { Flags::END } else { Flags::NONE }),
        ))
    }

    /// The answer breaks off here, and whoever reads it can tell.
    fn abort(&self, py: Python<'_>) -> PyResult<()> {
        if child::came_back(py)? {
            return Ok(());
        }
        self.core
            .send(&[], Flags::END.with(Flags::DONE).with(Flags::ERROR));
        self.forget();
        Ok(())
    }

    /// The pickled result of a call, or its pickled exception.
    #[pyo3(signature = (data, error = false))]
    fn respond_value(&self, py: Python<'_>, data: &Bound<'_, PyAny>, error: bool) -> PyResult<()> {
        if child::came_back(py)? {
            return Ok(());
        }
        let mut flags = Flags::END.with(Flags::DONE);
        if error {
            flags = flags.with(Flags::ERROR);
        }
        self.send_body(data, flags)?;
        self.forget();
        Ok(())
    }

    /// One item of a streaming call. As `start`.
    fn send_item(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<u8> {
        if child::came_back(py)? {
            return Ok(number(Room::Gone));
        }
        self.send_body(data, Flags::END_OF_MESSAGE).map(number)
    }

    /// The end of a streaming call.
    fn end_items(&self, py: Python<'_>) -> PyResult<()> {
        if child::came_back(py)? {
            return Ok(());
        }
        self.core.send(&[], Flags::END.with(Flags::DONE));
        self.forget();
        Ok(())
    }

    /// Accepts a WebSocket; the field for the subprotocol is among the headers. As `start`.
    fn accept(&self, py: Python<'_>, headers: &Bound<'_, PyAny>) -> PyResult<u8> {
        if child::came_back(py)? {
            return Ok(number(Room::Gone));
        }
        let (pairs, _length) = headers::from_python(headers)?;
        let fields = pairs
            .iter()
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        self.core
            .accept_websocket(fields)
            .map(number)
            .map_err(|error| PyValueError::new_err(error.to_string()))
    }

    /// A whole message of an accepted WebSocket: str as text, bytes as they are. As `start`.
    fn send_message(&self, py: Python<'_>, message: &Bound<'_, PyAny>) -> PyResult<u8> {
        if child::came_back(py)? {
            return Ok(number(Room::Gone));
        }
        let (data, is_text) = text_or_bytes(message, "a message")?;
        Ok(number(self.core.send_message(data, is_text)))
    }

    /// Closes an accepted WebSocket; nothing can be sent after it, and `done` is still to come.
    fn close(&self, py: Python<'_>, code: u16, reason: &str) -> PyResult<()> {
        if child::came_back(py)? {
            return Ok(());
        }
        self.core.close_websocket(code, reason.as_bytes());
        Ok(())
    }

    /// Awaitable: returns when there is room, or nobody wants the answer.
    fn writable<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if self.core.poll_writable() == Room::Wait {
            return self.future(py, |waits| &mut waits.writer);
        }
        Ok(Bound::new(py, Immediate::new(py.None()))?.into_any())
    }

    /// Waits in a thread for room; False: nobody wants the answer.
    fn wait_writable(&self, py: Python<'_>) -> bool {
        py.detach(|| while !self.core.wait_writable(SLICE) {});
        self.core.poll_writable() != Room::Gone
    }

    /// A pool thread hands the request to the loop.
    fn move_to_loop(slf: &Bound<'_, Self>) {
        let this = slf.get();
        this.of_loop
            .active
            .lock()
            .insert(this.core.serial(), slf.clone().unbind());
        this.core.move_to_loop();
    }

    /// The request is over, its slot free.
    fn done(&self, py: Python<'_>) -> PyResult<()> {
        if child::came_back(py)? {
            return Ok(());
        }
        self.core.done();
        self.forget();
        Ok(())
    }
}

impl Request {
    pub(crate) fn new(core: Arc<eagleray_replica::Request>, of_loop: Arc<Loop>) -> Self {
        // One that cannot be read is an error where somebody looks at it.
        let (is_call, is_bodyless) = match core.head() {
            Ok(RequestHead::Http(head)) => (false, head.method == b"HEAD"),
            Ok(RequestHead::Call(_)) => (true, false),
            Err(_) => (false, false),
        };
        Self {
            core,
            of_loop,
            is_call,
            promise: Promise::of(is_bodyless),
            waits: Mutex::default(),
            attachments: Mutex::default(),
        }
    }

    /// The body of a value: `bytes` or a `Region`.
    fn send_body(&self, data: &Bound<'_, PyAny>, flags: Flags) -> PyResult<Room> {
        if let Ok(region) = data.cast::<Region>() {
            let attachment = region.get().attachment().clone();
            return Ok(self.core.send_attached(attachment, flags));
        }
        Ok(self.core.send(data.extract()?, flags))
    }

    fn content<'py>(
        &self,
        py: Python<'py>,
        (data, attachments): eagleray_replica::Value,
    ) -> PyResult<Bound<'py, PyAny>> {
        if attachments.is_empty() {
            return Ok(PyBytes::new(py, &data).into_any());
        }
        let (content, others) = Content::of(data, attachments);
        *self.attachments.lock() = others;
        region::to_python(&content, py)
    }

    /// What lies behind it, for a call that user code makes while it serves this request.
    pub(crate) fn core(&self) -> &eagleray_replica::Request {
        &self.core
    }

    /// Its id and its route, which calls that it makes inherit.
    pub(crate) fn identity(&self) -> PyResult<(String, String)> {
        let (request_id, route) = match self.head()? {
            RequestHead::Http(head) if head.root_path.is_empty() => (head.request_id, &b"/"[..]),
            RequestHead::Http(head) => (head.request_id, head.root_path),
            RequestHead::Call(head) => (head.request_id, head.route),
        };
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        Ok((text(request_id), text(route)))
    }

    fn head(&self) -> PyResult<RequestHead<'_>> {
        self.core
            .head()
            .map_err(|error| PyRuntimeError::new_err(error.to_string()))
    }

    /// No event will name it any more.
    fn forget(&self) {
        let entry = self.of_loop.active.lock().remove(&self.core.serial());
        let task = self.waits.lock().task.take();
        // Dropped here, outside the locks: a last reference may run foreign code.
        drop((entry, task));
    }
}

const fn number(room: Room) -> u8 {
    match room {
        Room::Gone => 0,
        Room::Yes => 1,
        Room::Wait => 2,
    }
}

/// The bytes of `what`, and whether it is a str.
fn text_or_bytes<'a>(value: &'a Bound<'_, PyAny>, what: &str) -> PyResult<(&'a [u8], bool)> {
    if let Ok(text) = value.cast::<PyString>() {
        Ok((text.to_str()?.as_bytes(), true))
    } else if let Ok(bytes) = value.cast::<PyBytes>() {
        Ok((bytes.as_bytes(), false))
    } else {
        Err(PyTypeError::new_err(format!("{what} is str or bytes")))
    }
}

fn text<'py>(py: Python<'py>, bytes: &[u8]) -> Bound<'py, PyString> {
    PyString::new(py, &String::from_utf8_lossy(bytes))
}

/// The value of the first field whose name this is; empty if there is none.
fn field<'py>(
    py: Python<'py>,
    headers: &Headers<'_>,
    is_name: impl Fn(&[u8]) -> bool,
) -> Bound<'py, PyString> {
    let named = headers.iter().find(|(name, _)| is_name(name));
    named.map_or_else(|| intern!(py, "").clone(), |(_, value)| text(py, value))
}

fn not_http() -> PyErr {
    PyRuntimeError::new_err("a call through a handle has no scope")
}
