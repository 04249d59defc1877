//! `Region`: bytes of a value beside its message, as Python sees them: a read-only buffer.

use std::{ffi::c_int, sync::Arc};

use bytes::Bytes;
use eagleray_client::Content;
use eagleray_wire::region::{Attachment, Lent};
use pyo3::{buffer::PyBuffer, exceptions::PyBufferError, ffi, prelude::*, types::PyBytes};

/// The body of a value that lies in shared memory, or came in its place. `memoryview` shows it.
#[pyclass(frozen, module = "eagleray._core")]
#[derive(Debug)]
pub(crate) struct Region {
    attachment: Attachment,
}

impl Region {
    pub(crate) const fn new(attachment: Attachment) -> Self {
        Self { attachment }
    }

    pub(crate) const fn attachment(&self) -> &Attachment {
        &self.attachment
    }

    /// Where the bytes are, for as long as `self` lives.
    fn bytes(&self) -> PyResult<(*const u8, usize)> {
        let (pointer, length) = match &self.attachment {
            Attachment::Lent(lent) => {
                let bytes: &[u8] = (**lent).as_ref();
                (bytes.as_ptr(), bytes.len())
            }
            Attachment::Received(received) => {
                let map = received.map().map_err(|error| {
                    PyBufferError::new_err(format!("a value cannot be mapped: {error}"))
                })?;
                (map.as_ptr(), map.len())
            }
            Attachment::Data(data) => (data.as_ptr(), data.len()),
            Attachment::Lost => {
                return Err(PyBufferError::new_err(
                    "a value was lost on its way, because this process has no file descriptor left; raise its limit \
                     (ulimit -n)",
                ));
            }
        };
        Ok((pointer, length))
    }
}

#[pymethods]
impl Region {
    fn __len__(&self) -> usize {
        usize::try_from(self.attachment.length()).unwrap_or(usize::MAX)
    }

    /// Whether it lies in memory that another process filled, or may read.
    #[getter]
    const fn shared(&self) -> bool {
        matches!(
            self.attachment,
            Attachment::Lent(_) | Attachment::Received(_)
        )
    }

    #[expect(unsafe_code, reason = "the buffer protocol is one of raw pointers")]
    #[expect(clippy::needless_pass_by_value, reason = "the slot's signature")]
    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        let (pointer, length) = slf.get().bytes()?;
        let length = ffi::Py_ssize_t::try_from(length)
            .map_err(|_| PyBufferError::new_err("a value is longer than a buffer may be"))?;
        // SAFETY: `view` is the interpreter's, to be filled. The bytes live as long as `slf`, of which the view takes a
        // reference: the class is frozen, so its attachment never changes, and the attachment keeps its memory. They are
        // given out for reading only.
        let failed = unsafe {
            ffi::PyBuffer_FillInfo(
                view,
                slf.as_ptr(),
                pointer.cast_mut().cast(),
                length,
                1,
                flags,
            )
        };
        if failed != 0 {
            return Err(PyErr::fetch(slf.py()));
        }
        Ok(())
    }
}

/// Calls `lend` with the bytes of `parts`, without the interpreter lock.
///
/// # Errors
/// A part is no contiguous buffer of bytes.
#[expect(
    unsafe_code,
    reason = "bytes of other objects, copied without the interpreter lock"
)]
pub(crate) fn with_parts<T: Send>(
    py: Python<'_>,
    parts: &[Bound<'_, PyAny>],
    lend: impl FnOnce(&[&[u8]]) -> T + Send,
) -> PyResult<T> {
    let buffers = parts
        .iter()
        .map(PyBuffer::<u8>::get)
        .collect::<PyResult<Vec<_>>>()?;
    let mut slices = Vec::with_capacity(buffers.len());
    for buffer in &buffers {
        let bytes = buffer
            .as_slice_ptr()
            .ok_or_else(|| PyBufferError::new_err("a part of a value is not contiguous"))?;
        // SAFETY: `buffers` holds the export until the end of this function, so the memory stays where it is. Another
        // thread of user code that writes to an object while it is being sent sends what it has then, in whatever mixture;
        // the bytes are only copied, and no decision is made on them.
        slices.push(unsafe { bytes.as_ref() });
    }
    let lent = py.detach(|| lend(&slices));
    drop(slices);
    drop(buffers);
    Ok(lent)
}

/// A region that was made here.
pub(crate) fn lent(lent: Option<Arc<Lent>>) -> Option<Region> {
    lent.map(|lent| Region::new(Attachment::Lent(lent)))
}

/// From `bytes` or a `Region`; `None`: it is neither.
pub(crate) fn from_python(value: &Bound<'_, PyAny>) -> Option<Content> {
    if let Ok(bytes) = value.cast::<PyBytes>() {
        return Some(Content::Bytes(Bytes::copy_from_slice(bytes.as_bytes())));
    }
    let region = value.cast::<Region>().ok()?;
    Some(Content::Region(region.get().attachment().clone()))
}

pub(crate) fn to_python<'py>(content: &Content, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
    Ok(match content {
        Content::Bytes(bytes) => PyBytes::new(py, bytes).into_any(),
        Content::Region(attachment) => Bound::new(py, Region::new(attachment.clone()))?.into_any(),
    })
}
