//! One request, as the code around user code sees it: all methods that Python has of it are here, and what it waits for
//! (`waits.rs`), receives (`messages.rs`) and sends (`answers.rs`) beside.

mod answers;
mod messages;
mod waits;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use eagleray_client::Content;
use eagleray_replica::Room;
use eagleray_wire::{RequestHead, region::Attachment};
use parking_lot::Mutex;
use pyo3::{
    exceptions::{PyRuntimeError, PyValueError},
    prelude::*,
    types::{PyBytes, PyDict, PyString},
};

use super::{Loop, child, headers, immediate::Immediate, scope, text::text};
use crate::region::{self, Region};
use answers::{bad_answer, payload, text_or_bytes};
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
        self.core.is_call()
    }

    /// Whether it asks for a WebSocket.
    #[getter]
    fn is_websocket(&self) -> bool {
        self.core.is_websocket()
    }

    #[getter]
    fn request_id<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        Ok(text(py, self.head()?.request_id()))
    }

    /// The id of the trace that it belongs to; or empty.
    #[getter]
    fn trace_id<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        Ok(text(py, self.head()?.trace_id()))
    }

    /// Where the request entered: a route prefix, or empty if it did not come over HTTP.
    #[getter]
    fn route<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        Ok(text(py, self.head()?.route()))
    }

    /// Which route of user code takes it, by its number from 1.
    fn set_route(&self, number: u32) {
        self.core.set_route(number);
    }

    /// User code has raised an exception of this type.
    fn note_failure(&self, name: &str) {
        self.core.note_failure(name);
    }

    #[getter]
    fn multiplexed_model_id<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        Ok(text(py, self.head()?.multiplexed_model_id()))
    }

    #[getter]
    fn session_id<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        Ok(text(py, self.head()?.session_id()))
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
        let pairs = headers::from_python(headers)?;
        self.core
            .answer(status, headers::borrow(&pairs), body, done)
            .map_err(bad_answer)?;
        if done {
            self.forget();
        }
        Ok(())
    }

    /// The whole answer with status 200: `kind` 0 is plain text, 1 the same in UTF-8, 2 JSON.
    fn respond_plain(&self, py: Python<'_>, kind: usize, body: &Bound<'_, PyAny>) -> PyResult<()> {
        self.say_last(py, |core| {
            let content_type = PLAIN
                .get(kind)
                .ok_or_else(|| PyValueError::new_err("no such kind of answer"))?;
            let (data, _is_text) = text_or_bytes(body, "a plain answer")?;
            let fields = [(b"content-type".as_slice(), content_type.as_bytes())];
            core.answer(200, fields, data, true).map_err(bad_answer)?;
            Ok(())
        })
    }

    /// The head of an answer whose body follows. 0: nobody wants it, 1: go on, 2: wait for room.
    fn start(&self, py: Python<'_>, status: u16, headers: &Bound<'_, PyAny>) -> PyResult<u8> {
        self.say(py, |core| {
            let pairs = headers::from_python(headers)?;
            core.begin_answer(status, headers::borrow(&pairs))
                .map_err(bad_answer)
        })
    }

    /// More of the body. `end`: the last. As `start`. An error: it is not what the content-length promised; nothing
    /// was sent.
    #[pyo3(signature = (data, end = false))]
    fn send(&self, py: Python<'_>, data: &[u8], end: bool) -> PyResult<u8> {
        self.say(py, |core| core.answer_part(data, end).map_err(bad_answer))
    }

    /// The answer breaks off here, and whoever reads it can tell.
    fn abort(&self, py: Python<'_>) -> PyResult<()> {
        self.say_last(py, |core| {
            core.abort();
            Ok(())
        })
    }

    /// The pickled result of a call, or its pickled exception.
    #[pyo3(signature = (data, error = false))]
    fn respond_value(&self, py: Python<'_>, data: &Bound<'_, PyAny>, error: bool) -> PyResult<()> {
        self.say_last(py, |core| {
            core.answer_value(payload(data)?, error);
            Ok(())
        })
    }

    /// One item of a streaming call. As `start`.
    fn send_item(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<u8> {
        self.say(py, |core| Ok(core.send_item(payload(data)?)))
    }

    /// The end of a streaming call.
    fn end_items(&self, py: Python<'_>) -> PyResult<()> {
        self.say_last(py, |core| {
            core.end_items();
            Ok(())
        })
    }

    /// Accepts a WebSocket; the field for the subprotocol is among the headers. As `start`.
    fn accept(&self, py: Python<'_>, headers: &Bound<'_, PyAny>) -> PyResult<u8> {
        self.say(py, |core| {
            let pairs = headers::from_python(headers)?;
            core.accept_websocket(headers::borrow(&pairs))
                .map_err(bad_answer)
        })
    }

    /// A whole message of an accepted WebSocket: str as text, bytes as they are. As `start`.
    fn send_message(&self, py: Python<'_>, message: &Bound<'_, PyAny>) -> PyResult<u8> {
        self.say(py, |core| {
            let (data, is_text) = text_or_bytes(message, "a message")?;
            Ok(core.send_message(data, is_text))
        })
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
        self.say_last(py, |core| {
            core.done();
            Ok(())
        })
    }
}

impl Request {
    pub(crate) fn new(core: Arc<eagleray_replica::Request>, of_loop: Arc<Loop>) -> Self {
        Self {
            core,
            of_loop,
            waits: Mutex::default(),
            attachments: Mutex::default(),
        }
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

fn not_http() -> PyErr {
    PyRuntimeError::new_err("a call through a handle has no scope")
}
