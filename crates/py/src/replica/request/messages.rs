//! What ASGI's `receive` returns of a request: its body, piece by piece, or the messages of its WebSocket.

use eagleray_replica::{Body, Message};
use pyo3::{
    intern,
    prelude::*,
    types::{PyBytes, PyDict},
};

use super::Request;
use crate::replica::text::text;

impl Request {
    /// ASGI's next message; None: nothing yet.
    pub(super) fn message<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
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
                let bytes = PyBytes::new_with(py, data.len(), |room| {
                    data.copy_to(room);
                    Ok(())
                })?;
                message.set_item(intern!(py, "bytes"), bytes)?;
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
}
