//! What a RESPONSE says before its data.

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    HeadError,
    headers::{Headers, put_counted},
    parts::Reader,
};

/// The head of an HTTP response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseHead<'a> {
    pub status: u16,
    pub headers: Headers<'a>,
}

/// A RESPONSE's payload, taken apart by its flags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponsePayload<'a> {
    pub head: Option<ResponseHead<'a>>,
    pub trailers: Option<Headers<'a>>,
    /// Offset of the data in the payload, so that it can be sliced without a copy.
    pub data_offset: usize,
}

impl<'a> ResponsePayload<'a> {
    pub fn decode(flags: crate::Flags, payload: &'a [u8]) -> Result<Self, HeadError> {
        let mut reader = Reader(payload);
        let head = if flags.contains(crate::Flags::HEAD) {
            let status = reader.u16("status")?;
            Some(ResponseHead {
                status,
                headers: Headers::read(&mut reader)?,
            })
        } else {
            None
        };
        let trailers = if flags.contains(crate::Flags::TRAILERS) {
            Some(Headers::read(&mut reader)?)
        } else {
            None
        };
        Ok(Self {
            head,
            trailers,
            data_offset: payload.len() - reader.0.len(),
        })
    }

    /// The data, sharing the frame's memory.
    pub fn data(&self, payload: &Bytes) -> Bytes {
        payload.slice(self.data_offset..)
    }
}

/// Appends a response head; data follows.
///
/// # Errors
/// More than 65,535 fields, a longer name, or a head over [`MAX_HEAD_BYTES`] do not fit; `out` is as it was.
pub fn encode_response_head<'f>(
    out: &mut BytesMut,
    status: u16,
    headers: impl IntoIterator<Item = (&'f [u8], &'f [u8])>,
) -> Result<(), HeadError> {
    let start = out.len();
    out.put_u16_le(status);
    put_counted(out, headers).inspect_err(|_| out.truncate(start))
}

/// Appends a block of trailers: after the head of the same frame, or first in a frame without one.
///
/// # Errors
/// As [`encode_response_head`]; `out` is as it was.
pub fn encode_trailers<'f>(
    out: &mut BytesMut,
    trailers: impl IntoIterator<Item = (&'f [u8], &'f [u8])>,
) -> Result<(), HeadError> {
    let start = out.len();
    put_counted(out, trailers).inspect_err(|_| out.truncate(start))
}
