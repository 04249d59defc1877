//! What waits on the loop for a request, and how an event from the I/O thread ends that.

use eagleray_replica::Room;
use pyo3::{exceptions::PyRuntimeError, intern, prelude::*};

use super::Request;

#[derive(Default)]
pub(super) struct Waits {
    pub(super) task: Option<Py<PyAny>>,
    /// Futures of `receive` and `writable`.
    pub(super) reader: Option<Py<PyAny>>,
    pub(super) writer: Option<Py<PyAny>>,
}

impl Request {
    /// A new future in this place of the waits; the next event that it is for ends it.
    pub(super) fn future<'py>(
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
    pub(in crate::replica) fn on_event(&self, py: Python<'_>) -> PyResult<()> {
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
