//! What Python sends of an answer, as the replica takes it.

use eagleray_replica::{BadAnswer, Payload, Room};
use pyo3::{
    exceptions::{PyTypeError, PyValueError},
    prelude::*,
    types::{PyBytes, PyString},
};

use super::Request;
use crate::{region::Region, replica::child};

impl Request {
    /// Sends something of the answer: as `start`. In a child that came back nobody takes it.
    pub(super) fn say(
        &self,
        py: Python<'_>,
        say: impl FnOnce(&eagleray_replica::Request) -> PyResult<Room>,
    ) -> PyResult<u8> {
        if child::came_back(py)? {
            return Ok(number(Room::Gone));
        }
        say(&self.core).map(number)
    }

    /// Sends what ends the request.
    pub(super) fn say_last(
        &self,
        py: Python<'_>,
        say: impl FnOnce(&eagleray_replica::Request) -> PyResult<()>,
    ) -> PyResult<()> {
        if !child::came_back(py)? {
            say(&self.core)?;
            self.forget();
        }
        Ok(())
    }
}

pub(super) const fn number(room: Room) -> u8 {
    match room {
        Room::Gone => 0,
        Room::Yes => 1,
        Room::Wait => 2,
    }
}

/// The bytes of `what`, and whether it is a str.
pub(super) fn text_or_bytes<'a>(
    value: &'a Bound<'_, PyAny>,
    what: &str,
) -> PyResult<(&'a [u8], bool)> {
    if let Ok(text) = value.cast::<PyString>() {
        Ok((text.to_str()?.as_bytes(), true))
    } else if let Ok(bytes) = value.cast::<PyBytes>() {
        Ok((bytes.as_bytes(), false))
    } else {
        Err(PyTypeError::new_err(format!("{what} is str or bytes")))
    }
}

/// The body of a value: `bytes` or a `Region`.
pub(super) fn payload<'a>(value: &'a Bound<'_, PyAny>) -> PyResult<Payload<'a>> {
    if let Ok(region) = value.cast::<Region>() {
        return Ok(Payload::Region(region.get().attachment().clone()));
    }
    Ok(Payload::Bytes(value.extract()?))
}

#[expect(clippy::needless_pass_by_value, reason = "used with map_err")]
pub(super) fn bad_answer(error: BadAnswer) -> PyErr {
    PyValueError::new_err(error.to_string())
}
