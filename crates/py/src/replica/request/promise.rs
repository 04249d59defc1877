//! What an answer promises of its body: that there is none, or its length. What breaks it is an error and is not sent.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use pyo3::{exceptions::PyValueError, prelude::*};

/// No content-length was declared.
const ANY_LENGTH: u64 = u64::MAX;

/// Everywhere `Relaxed`: one thread at a time answers.
pub(super) struct Promise {
    bodyless: AtomicBool,
    /// Body bytes that the declared content-length still promises.
    left: AtomicU64,
}

impl Promise {
    /// `is_bodyless`: the request is a HEAD.
    pub(super) fn of(is_bodyless: bool) -> Self {
        Self {
            bodyless: AtomicBool::new(is_bodyless),
            left: AtomicU64::new(ANY_LENGTH),
        }
    }

    /// Whatever follows is no part of the answer, as its status has no body.
    pub(super) fn no_body(&self) {
        self.bodyless.store(true, Relaxed);
    }

    /// The declared content-length.
    pub(super) fn length(&self, bytes: u64) {
        self.left.store(bytes, Relaxed);
    }

    /// Whether an answer with this status has a body. An error: it is none of an answer.
    pub(super) fn has_body(&self, status: u16) -> PyResult<bool> {
        // Below 200 an answer is still to come, and ASGI has no message for that.
        if !(200..=999).contains(&status) {
            return Err(PyValueError::new_err(format!(
                "{status} is no HTTP status of an answer"
            )));
        }
        Ok(!self.bodyless.load(Relaxed) && status != 204 && status != 304)
    }

    /// What is sent of the whole body of an answer that declares this length.
    pub(super) fn whole<'a>(
        &self,
        status: u16,
        length: Option<u64>,
        body: &'a [u8],
    ) -> PyResult<&'a [u8]> {
        if !self.has_body(status)? {
            return Ok(&[]);
        }
        match length {
            Some(length) if length != body.len() as u64 => Err(wrong_length(length, body.len())),
            _ => Ok(body),
        }
    }

    /// What is sent of a part of the body. `end`: the last.
    pub(super) fn part<'a>(&self, data: &'a [u8], end: bool) -> PyResult<&'a [u8]> {
        if self.bodyless.load(Relaxed) {
            return Ok(&[]);
        }
        let promised = self.left.load(Relaxed);
        if promised != ANY_LENGTH {
            let left = promised
                .checked_sub(data.len() as u64)
                .filter(|left| !end || *left == 0)
                .ok_or_else(|| wrong_length(promised, data.len()))?;
            self.left.store(left, Relaxed);
        }
        Ok(data)
    }
}

fn wrong_length(promised: u64, bytes: usize) -> PyErr {
    PyValueError::new_err(format!(
        "content-length promises {promised} bytes more of the body, and {bytes} are there"
    ))
}
