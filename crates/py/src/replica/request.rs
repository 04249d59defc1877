//! One request, as the code around user code sees it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use eagleray_replica::{Body, Message, Room};
use eagleray_wire::{Flags, RequestHead, is_model_header, is_session_header, region::Attachment};
use parking_lot::Mutex;
use pyo3::{
    exceptions::{PyRuntimeError, PyTypeError, PyValueError},
    intern,
    prelude::*,
    types::{PyBytes, PyDict, PyString},
};

use super::{Loop, headers, immediate::Immediate, scope};
use crate::region::{self, Content, Region};

/// Heads of plain answers, as `respond_plain` numbers them: status 200 and one content type.
const PLAIN: [&str; 3] = [
    "text/plain",
    "text/plain; charset=utf-8",
    "application/json",
];
/// No content-length was declared.
const ANY_LENGTH: u64 = u64::MAX;
/// A wait of a thread is cut into pieces of this length.
const SLICE: Duration = Duration::from_secs(1);

#[pyclass(frozen, module = "eagleray._core", weakref)]
pub(crate) struct Request {
    core: Arc<eagleray_replica::Request>,
    of_loop: Arc<Loop>,
    /// A call through a handle, not HTTP.
    is_call: bool,
    /// HEAD: the answer has no body.
    bodyless: AtomicBool,
    /// Body bytes that the declared content-length still promises.
    promised: AtomicU64,
    waits: Mutex<Waits>,
    /// Of a call: what segments of its body name.
    attachments: Mutex<Vec<Attachment>>,
}

#[derive(Default)]
struct Waits {
    task: Option<Py<PyAny>>,
    /// Futures of `receive` and `writable`.
    reader: Option<Py<PyAny>>,
    writer: Option<Py<PyAny>>,
}

#[pymethods]
impl Request {
    /// Claims the request. False: there is nothing to do.
    fn claim(&self) -> bool {
        let claimed = self.core.claim();
        if !claimed {
            self.forget();
        }
        claimed
    }

    /// Claims the request for user code and returns its scope; None: there is nothing to do.
    fn begin<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        if !self.claim() {
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
            RequestHead::Http(head) => {
                let named = head.headers.iter().find(|(name, _)| is_model_header(name));
                named.map_or_else(|| intern!(py, "").clone(), |(_, value)| text(py, value))
            }
        })
    }

    #[getter]
    fn session_id<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        Ok(match self.head()? {
            RequestHead::Call(head) => text(py, head.session_id),
            RequestHead::Http(head) => {
                let named = head
                    .headers
                    .iter()
                    .find(|(name, _)| is_session_header(name));
                named.map_or_else(|| intern!(py, "").clone(), |(_, value)| text(py, value))
            }
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
        status: u16,
        headers: &Bound<'_, PyAny>,
        body: &[u8],
        done: bool,
    ) -> PyResult<()> {
        let (pairs, length) = headers::from_python(headers)?;
        let fields = pairs
            .iter()
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let body = if self.has_no_body(status)? {
            &[]
        } else {
            match length {
                Some(length) if length != body.len() as u64 => {
                    return Err(wrong_length(length, body.len() as u64));
                }
                _ => body,
            }
        };
        self.core
            .respond(status, fields, body, done)
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
        if done {
            self.forget();
        }
        Ok(())
    }

    /// The whole answer with status 200: `kind` 0 is plain text, 1 the same in UTF-8, 2 JSON.
    fn respond_plain(&self, kind: usize, body: &Bound<'_, PyAny>) -> PyResult<()> {
        let content_type = PLAIN
            .get(kind)
            .ok_or_else(|| PyValueError::new_err("no such kind of answer"))?;
        let data = if let Ok(text) = body.cast::<PyString>() {
            text.to_str()?.as_bytes()
        } else if let Ok(bytes) = body.cast::<PyBytes>() {
            bytes.as_bytes()
        } else {
            return Err(PyTypeError::new_err("a plain answer is str or bytes"));
        };
        let data = if self.has_no_body(200)? { &[] } else { data };
        let fields = [(b"content-type".as_slice(), content_type.as_bytes())];
        self.core
            .respond(200, fields, data, true)
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
        self.forget();
        Ok(())
    }

    /// The head of an answer whose body follows. 0: nobody wants it, 1: go on, 2: wait for room.
    fn start(&self, status: u16, headers: &Bound<'_, PyAny>) -> PyResult<u8> {
        let (pairs, length) = headers::from_python(headers)?;
        let fields = pairs
            .iter()
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let has_no_body = self.has_no_body(status)?;
        let room = self
            .core
            .start(status, fields)
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
        // Relaxed: one thread at a time answers.
        if has_no_body {
            self.bodyless.store(true, Ordering::Relaxed);
        } else if let Some(length) = length {
            self.promised.store(length, Ordering::Relaxed);
        }
        Ok(number(room))
    }

    /// More of the body. `end`: the last. As `start`. An error: it is not what the content-length promised; nothing
    /// was sent.
    #[pyo3(signature = (data, end = false))]
    fn send(&self, data: &[u8], end: bool) -> PyResult<u8> {
        let data = if self.bodyless.load(Ordering::Relaxed) {
            &[]
        } else {
            self.count(data.len() as u64, end)?;
            data
        };
        Ok(number(
            self.core
                .send(data, if end { Flags::END } else { Flags::NONE }),
        ))
    }

    /// The answer breaks off here, and whoever reads it can tell.
    fn abort(&self) {
        self.core
            .send(&[], Flags::END.with(Flags::DONE).with(Flags::ERROR));
        self.forget();
    }

    /// The pickled result of a call, or its pickled exception.
    #[pyo3(signature = (data, error = false))]
    fn respond_value(&self, data: &Bound<'_, PyAny>, error: bool) -> PyResult<()> {
        let mut flags = Flags::END.with(Flags::DONE);
        if error {
            flags = flags.with(Flags::ERROR);
        }
        self.send_body(data, flags)?;
        self.forget();
        Ok(())
    }

    /// One item of a streaming call. As `start`.
    fn send_item(&self, data: &Bound<'_, PyAny>) -> PyResult<u8> {
        self.send_body(data, Flags::END_OF_MESSAGE).map(number)
    }

    /// The end of a streaming call.
    fn end_items(&self) {
        self.core.send(&[], Flags::END.with(Flags::DONE));
        self.forget();
    }

    /// Accepts a WebSocket; the field for the subprotocol is among the headers. As `start`.
    fn accept(&self, headers: &Bound<'_, PyAny>) -> PyResult<u8> {
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
    fn send_message(&self, message: &Bound<'_, PyAny>) -> PyResult<u8> {
        let (data, is_text) = if let Ok(text) = message.cast::<PyString>() {
            (text.to_str()?.as_bytes(), true)
        } else if let Ok(bytes) = message.cast::<PyBytes>() {
            (bytes.as_bytes(), false)
        } else {
            return Err(PyTypeError::new_err("a message is str or bytes"));
        };
        Ok(number(self.core.send_message(data, is_text)))
    }

    /// Closes an accepted WebSocket; nothing can be sent after it, and `done` is still to come.
    fn close(&self, code: u16, reason: &str) {
        self.core.close_websocket(code, reason.as_bytes());
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
    fn done(&self) {
        self.core.done();
        self.forget();
    }
}

impl Request {
    pub(crate) fn new(core: Arc<eagleray_replica::Request>, of_loop: Arc<Loop>) -> Self {
        // One that cannot be read is an error where somebody looks at it.
        let (is_call, bodyless) = match core.head() {
            Ok(RequestHead::Http(head)) => (false, head.method == b"HEAD"),
            Ok(RequestHead::Call(_)) => (true, false),
            Err(_) => (false, false),
        };
        Self {
            core,
            of_loop,
            is_call,
            bodyless: AtomicBool::new(bodyless),
            promised: AtomicU64::new(ANY_LENGTH),
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
        content.to_python(py)
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

    /// Counts body bytes against the declared content-length.
    fn count(&self, bytes: u64, end: bool) -> PyResult<()> {
        let promised = self.promised.load(Ordering::Relaxed);
        if promised == ANY_LENGTH {
            return Ok(());
        }
        let left = promised
            .checked_sub(bytes)
            .filter(|left| !end || *left == 0)
            .ok_or_else(|| wrong_length(promised, bytes))?;
        self.promised.store(left, Ordering::Relaxed);
        Ok(())
    }

    fn has_no_body(&self, status: u16) -> PyResult<bool> {
        // Below 200 an answer is still to come, and ASGI has no message for that.
        if !(200..=999).contains(&status) {
            return Err(PyValueError::new_err(format!(
                "{status} is no HTTP status of an answer"
            )));
        }
        Ok(self.bodyless.load(Ordering::Relaxed) || status == 204 || status == 304)
    }

    /// No event will name it any more.
    fn forget(&self) {
        let entry = self.of_loop.active.lock().remove(&self.core.serial());
        let task = self.waits.lock().task.take();
        // Dropped here, outside the locks: a last reference may run foreign code.
        drop((entry, task));
    }

    /// ASGI's next message; None: nothing yet.
    fn message<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let message = PyDict::new(py);
        if self.core.is_websocket() {
            return self.websocket_message(py, message);
        }
        match self.core.read() {
            Body::Data { bytes, more } => {
                message.set_item(intern!(py, "type"), intern!(py, "http.request"))?;
                message.set_item(intern!(py, "body"), PyBytes::new(py, &bytes))?;
                message.set_item(intern!(py, "more_body"), more)?;
            }
            Body::Last => {
                message.set_item(intern!(py, "type"), intern!(py, "http.request"))?;
                message.set_item(intern!(py, "body"), PyBytes::new(py, &[]))?;
                message.set_item(intern!(py, "more_body"), false)?;
            }
            Body::Disconnected => {
                message.set_item(intern!(py, "type"), intern!(py, "http.disconnect"))?;
            }
            Body::Pending => return Ok(None),
        }
        Ok(Some(message))
    }

    /// The same of a WebSocket.
    fn websocket_message<'py>(
        &self,
        py: Python<'py>,
        message: Bound<'py, PyDict>,
    ) -> PyResult<Option<Bound<'py, PyDict>>> {
        let (kind, received) = (intern!(py, "type"), intern!(py, "websocket.receive"));
        match self.core.read_message() {
            Message::Text(data) => {
                message.set_item(kind, received)?;
                message.set_item(intern!(py, "text"), text(py, &data))?;
            }
            Message::Binary(data) => {
                message.set_item(kind, received)?;
                message.set_item(intern!(py, "bytes"), PyBytes::new(py, &data))?;
            }
            Message::Closed { code, reason } => {
                message.set_item(kind, intern!(py, "websocket.disconnect"))?;
                message.set_item(intern!(py, "code"), code)?;
                message.set_item(intern!(py, "reason"), text(py, &reason))?;
            }
            Message::Pending => return Ok(None),
        }
        Ok(Some(message))
    }

    fn future<'py>(
        &self,
        py: Python<'py>,
        place: impl Fn(&mut Waits) -> &mut Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let create = self
            .of_loop
            .create_future
            .get()
            .ok_or_else(|| PyRuntimeError::new_err("the replica has no loop"))?;
        let future = create.bind(py).call0()?;
        let before = place(&mut self.waits.lock()).replace(future.clone().unbind());
        drop(before);
        Ok(future)
    }

    /// On the loop: body bytes, room or a cancellation came.
    pub(super) fn on_event(&self, py: Python<'_>) -> PyResult<()> {
        let cancelled = self.core.is_cancelled();
        let reader = self.waits.lock().reader.take();
        // One that was cancelled meanwhile takes no message: it is for the next that asks.
        if let Some(reader) = reader
            && !is_done(reader.bind(py))?
        {
            if self.core.is_websocket() {
                resolve(reader.bind(py), py.None().bind(py))?;
            } else {
                match self.message(py)? {
                    Some(message) => resolve(reader.bind(py), message.as_any())?,
                    None => self.waits.lock().reader = Some(reader),
                }
            }
        }
        if cancelled || self.core.poll_writable() != Room::Wait {
            let writer = self.waits.lock().writer.take();
            if let Some(writer) = writer {
                resolve(writer.bind(py), py.None().bind(py))?;
            }
        }
        if cancelled {
            let task = self.waits.lock().task.take();
            if let Some(task) = task {
                task.bind(py).call_method0(intern!(py, "cancel"))?;
            }
        }
        Ok(())
    }
}

fn is_done(future: &Bound<'_, PyAny>) -> PyResult<bool> {
    future
        .call_method0(intern!(future.py(), "done"))?
        .is_truthy()
}

fn resolve(future: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = future.py();
    if !is_done(future)? {
        future.call_method1(intern!(py, "set_result"), (value,))?;
    }
    Ok(())
}

const fn number(room: Room) -> u8 {
    match room {
        Room::Gone => 0,
        Room::Yes => 1,
        Room::Wait => 2,
    }
}

fn wrong_length(promised: u64, bytes: u64) -> PyErr {
    PyValueError::new_err(format!(
        "content-length promises {promised} bytes more of the body, and {bytes} are there"
    ))
}

fn text<'py>(py: Python<'py>, bytes: &[u8]) -> Bound<'py, PyString> {
    PyString::new(py, &String::from_utf8_lossy(bytes))
}

fn not_http() -> PyErr {
    PyRuntimeError::new_err("a call through a handle has no scope")
}
