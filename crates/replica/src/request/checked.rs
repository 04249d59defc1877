//! Answers to HTTP as user code gives them: checked before anything is sent.
//!
//! What would break the framing of the answer, or what it has promised of its body, is an error and never leaves the
//! process; nothing of it was sent, and another answer may be tried. A body where there is none (HEAD, 204, 304) is left
//! out instead: user code need not know.

use bytes::BytesMut;
use eagleray_wire::{Flags, HeadError, encode_response_head};

use super::{Request, Room, State};

/// Why what user code gave is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadAnswer {
    /// Below 200 an answer is still to come, and user code has no message for that.
    #[error("{0} is no HTTP status of an answer")]
    Status(u16),
    #[error("content-length promises {promised} bytes more of the body, and {bytes} are there")]
    Length { promised: u64, bytes: usize },
    #[error("invalid header name {0:?}")]
    Name(String),
    #[error("invalid value of header {name:?}: {value:?}")]
    Value { name: String, value: String },
    /// It is no number, or another than one before.
    #[error("invalid content-length {0:?}")]
    ContentLength(String),
    #[error(transparent)]
    Head(#[from] HeadError),
}

/// What the head of an answer has promised of the body that follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Promise {
    Anything,
    /// Bytes that are still to come.
    Bytes(u64),
    /// No body: whatever user code sends is left out.
    Nothing,
}

impl Promise {
    /// What is sent of a part of the body. `end`: it is the last.
    fn part<'a>(&mut self, data: &'a [u8], end: bool) -> Result<&'a [u8], BadAnswer> {
        match self {
            Self::Anything => Ok(data),
            Self::Nothing => Ok(&[]),
            Self::Bytes(promised) => {
                let left = promised
                    .checked_sub(data.len() as u64)
                    .filter(|left| !end || *left == 0);
                *promised = left.ok_or(BadAnswer::Length {
                    promised: *promised,
                    bytes: data.len(),
                })?;
                Ok(data)
            }
        }
    }
}

impl Request {
    /// The whole answer at once, as [`Request::respond`].
    ///
    /// # Errors
    /// It is no answer; see the module.
    pub fn answer<'f>(
        &self,
        status: u16,
        fields: impl IntoIterator<Item = (&'f [u8], &'f [u8]), IntoIter: Clone>,
        body: &[u8],
        done: bool,
    ) -> Result<Room, BadAnswer> {
        let fields = fields.into_iter();
        let length = check_fields(fields.clone())?;
        let mut promise = self.promise(status, length)?;
        let body = promise.part(body, true)?;
        Ok(self.respond(status, fields, body, done)?)
    }

    /// The head of an answer whose body follows in parts, as [`Request::start`].
    ///
    /// # Errors
    /// It is no answer; see the module.
    pub fn begin_answer<'f>(
        &self,
        status: u16,
        fields: impl IntoIterator<Item = (&'f [u8], &'f [u8]), IntoIter: Clone>,
    ) -> Result<Room, BadAnswer> {
        let fields = fields.into_iter();
        let length = check_fields(fields.clone())?;
        let promise = self.promise(status, length)?;
        let mut head = BytesMut::with_capacity(256);
        encode_response_head(&mut head, status, fields)?;
        let mut state = self.state.lock();
        if !state.head_sent {
            state.promise = promise;
        }
        Ok(self.start_in(&mut state, &head))
    }

    /// More of the body. `end`: the last.
    ///
    /// # Errors
    /// It is not what the content-length promised.
    pub fn answer_part(&self, data: &[u8], end: bool) -> Result<Room, BadAnswer> {
        let mut state = self.state.lock();
        let State { promise, .. } = &mut *state;
        let data = promise.part(data, end)?;
        let flags = if end { Flags::END } else { Flags::NONE };
        Ok(self.send_in(&mut state, data, flags))
    }

    fn promise(&self, status: u16, length: Option<u64>) -> Result<Promise, BadAnswer> {
        if !(200..=999).contains(&status) {
            return Err(BadAnswer::Status(status));
        }
        Ok(match length {
            _ if self.is_bodyless || status == 204 || status == 304 => Promise::Nothing,
            Some(length) => Promise::Bytes(length),
            None => Promise::Anything,
        })
    }
}

/// The content-length among the fields of an answer, which may stand on the wire.
pub(super) fn check_fields<'f>(
    fields: impl Iterator<Item = (&'f [u8], &'f [u8])>,
) -> Result<Option<u64>, BadAnswer> {
    let mut length = None;
    for (name, value) in fields {
        if name.is_empty() || !name.iter().all(|byte| is_name_byte(*byte)) {
            return Err(BadAnswer::Name(text(name)));
        }
        if !value.iter().all(|byte| is_value_byte(*byte)) {
            return Err(BadAnswer::Value {
                name: text(name),
                value: text(value),
            });
        }
        if name == b"content-length" {
            let found = number(value);
            if found.is_none() || length.is_some_and(|other| Some(other) != found) {
                return Err(BadAnswer::ContentLength(text(value)));
            }
            length = found;
        }
    }
    Ok(length)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn number(digits: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(digits).ok()?;
    // `parse` takes a sign too.
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())?
}

const fn is_name_byte(byte: u8) -> bool {
    // Upper case is not a name on this wire, as in HTTP/2.
    byte.is_ascii_lowercase()
        || byte.is_ascii_digit()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

const fn is_value_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}
