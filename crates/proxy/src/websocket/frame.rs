//! Frames of RFC 6455, without a socket.
//!
//! The data of a message is handed on as it comes and never gathered here, so a connection costs its read buffer however
//! long its messages are. Every length is checked on the header, before a byte of payload is waited for. What breaks a
//! rule is an error with the code that says so to the client; after it nothing more can be read.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::utf8::{NotUtf8, Utf8};

/// Codes of a closing frame: RFC 6455, section 7.4.1, and the registry that continues it.
pub(crate) mod code {
    pub(crate) const PROTOCOL_ERROR: u16 = 1002;
    /// Never sent: there was no code.
    pub(crate) const NONE: u16 = 1005;
    /// Never sent: there was no closing frame.
    pub(crate) const BROKEN_OFF: u16 = 1006;
    pub(crate) const NOT_UTF8: u16 = 1007;
    pub(crate) const TOO_LONG: u16 = 1009;
    pub(crate) const INTERNAL_ERROR: u16 = 1011;
    pub(crate) const RESTART: u16 = 1012;
}

/// Longest payload of a frame that controls.
const MAX_CONTROL: usize = 125;
/// Longest reason: what a closing frame holds beside its code.
const MAX_REASON: usize = MAX_CONTROL - 2;

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
const FINAL: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;

/// What a client sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The next bytes of a message; it ends with them if `is_complete`.
    Data {
        bytes: BytesMut,
        is_text: bool,
        is_complete: bool,
    },
    Ping(BytesMut),
    Pong,
    /// Code and reason are checked; `None`: the client gave no code.
    Close(Option<(u16, Bytes)>),
}

/// A client that breaks a rule: the code and the words it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    pub(crate) code: u16,
    pub(crate) reason: &'static str,
}

const fn broken(reason: &'static str) -> Broken {
    Broken {
        code: code::PROTOCOL_ERROR,
        reason,
    }
}

impl From<NotUtf8> for Broken {
    fn from(NotUtf8: NotUtf8) -> Self {
        Self {
            code: code::NOT_UTF8,
            reason: "text is not UTF-8",
        }
    }
}

/// Takes apart what a client sends.
#[derive(Debug)]
pub(crate) struct Decoder {
    longest: u64,
    /// Of the message that is being received.
    message: Option<Message>,
    utf8: Utf8,
    /// Of the data frame whose header was read, what is left of its payload.
    payload: Option<Payload>,
}

#[derive(Debug)]
struct Message {
    is_text: bool,
    length: u64,
}

#[derive(Debug)]
struct Payload {
    left: u64,
    mask: [u8; 4],
    is_final: bool,
}

struct Header {
    opcode: u8,
    is_final: bool,
    length: u64,
    mask: [u8; 4],
    bytes: usize,
}

impl Decoder {
    /// `longest`: bytes of one message, over all its frames.
    pub(crate) fn new(longest: u64) -> Self {
        Self {
            longest,
            message: None,
            utf8: Utf8::default(),
            payload: None,
        }
    }

    /// Takes the next event out of `buffer`; `None`: more bytes are needed.
    pub(crate) fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Event>, Broken> {
        if self.payload.is_none() {
            let Some(header) = Header::read(buffer)? else {
                return Ok(None);
            };
            if header.opcode >= CLOSE {
                return Self::control(&header, buffer);
            }
            self.begin(&header)?;
            buffer.advance(header.bytes);
            self.payload = Some(Payload {
                left: header.length,
                mask: header.mask,
                is_final: header.is_final,
            });
        }
        self.data(buffer)
    }

    /// A data frame begins.
    fn begin(&mut self, header: &Header) -> Result<(), Broken> {
        let message = match (&mut self.message, header.opcode) {
            (Some(message), CONTINUATION) => message,
            (None, CONTINUATION) => return Err(broken("a continuation of no message")),
            (Some(_), _) => return Err(broken("a message within a message")),
            (message, opcode) => message.insert(Message {
                is_text: opcode == TEXT,
                length: 0,
            }),
        };
        message.length = message.length.saturating_add(header.length);
        if message.length > self.longest {
            return Err(Broken {
                code: code::TOO_LONG,
                reason: "the message is longer than websocket_message_bytes",
            });
        }
        Ok(())
    }

    /// What is there of the payload of a data frame.
    fn data(&mut self, buffer: &mut BytesMut) -> Result<Option<Event>, Broken> {
        let (Some(payload), Some(message)) = (&mut self.payload, &self.message) else {
            return Ok(None);
        };
        let taken =
            usize::try_from(payload.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        if taken == 0 && payload.left > 0 {
            return Ok(None);
        }
        let mut bytes = buffer.split_to(taken);
        unmask(&mut bytes, payload.mask);
        payload.mask.rotate_left(taken % 4);
        payload.left -= taken as u64;
        let is_text = message.is_text;
        if is_text {
            self.utf8.take(&bytes)?;
        }
        let is_complete = payload.left == 0 && payload.is_final;
        if payload.left == 0 {
            self.payload = None;
        }
        if is_complete {
            self.message = None;
            self.utf8.end()?;
        }
        Ok(Some(Event::Data {
            bytes,
            is_text,
            is_complete,
        }))
    }

    fn control(header: &Header, buffer: &mut BytesMut) -> Result<Option<Event>, Broken> {
        // Checked with the header to be short.
        let length = header.length as usize;
        if buffer.len() < header.bytes + length {
            return Ok(None);
        }
        buffer.advance(header.bytes);
        let mut payload = buffer.split_to(length);
        unmask(&mut payload, header.mask);
        Ok(Some(match header.opcode {
            PING => Event::Ping(payload),
            PONG => Event::Pong,
            _ => Event::Close(close_of(&payload.freeze())?),
        }))
    }
}

impl Header {
    /// `None`: it is not there in full. What is wrong is said as soon as it is.
    fn read(buffer: &[u8]) -> Result<Option<Self>, Broken> {
        let Some(&[first, second]) = buffer.first_chunk::<2>() else {
            return Ok(None);
        };
        let (opcode, is_final) = (first & 0x0f, first & FINAL != 0);
        if first & RESERVED != 0 {
            return Err(broken("a reserved bit is set"));
        }
        if !matches!(opcode, CONTINUATION | TEXT | BINARY | CLOSE | PING | PONG) {
            return Err(broken("a reserved opcode"));
        }
        if second & MASKED == 0 {
            return Err(broken("a frame of a client must be masked"));
        }
        let short = second & !MASKED;
        if opcode >= CLOSE && (!is_final || usize::from(short) > MAX_CONTROL) {
            return Err(broken("a control frame is in pieces or too long"));
        }
        let (length, at, least) = match short {
            126 => match buffer[2..].first_chunk::<2>() {
                Some(bytes) => (u64::from(u16::from_be_bytes(*bytes)), 4, 126),
                None => return Ok(None),
            },
            127 => match buffer[2..].first_chunk::<8>() {
                Some(bytes) => (u64::from_be_bytes(*bytes), 10, 1 << 16),
                None => return Ok(None),
            },
            short => (u64::from(short), 2, 0),
        };
        if length < least || length > i64::MAX.cast_unsigned() {
            return Err(broken("a length is not written as it must be"));
        }
        let Some(mask) = buffer[at..].first_chunk::<4>() else {
            return Ok(None);
        };
        Ok(Some(Self {
            opcode,
            is_final,
            length,
            mask: *mask,
            bytes: at + 4,
        }))
    }
}

fn close_of(payload: &Bytes) -> Result<Option<(u16, Bytes)>, Broken> {
    let Some(code) = payload.first_chunk::<2>() else {
        return if payload.is_empty() {
            Ok(None)
        } else {
            Err(broken("half a code in a closing frame"))
        };
    };
    let code = u16::from_be_bytes(*code);
    if !may_be_sent(code) {
        return Err(broken("a code that may not be in a closing frame"));
    }
    let reason = payload.slice(2..);
    std::str::from_utf8(&reason).map_err(|_| NotUtf8)?;
    Ok(Some((code, reason)))
}

/// Whether a closing frame may hold this code.
pub(crate) const fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// The payload of the first byte is masked with the first byte of the mask.
fn unmask(bytes: &mut [u8], mask: [u8; 4]) {
    let (words, rest) = bytes.as_chunks_mut::<4>();
    for word in words {
        *word = (u32::from_ne_bytes(*word) ^ u32::from_ne_bytes(mask)).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask) {
        *byte ^= mask;
    }
}

/// Appends the next frame of a message to a client. `begins`: it is the first one.
pub(crate) fn put_data(
    out: &mut BytesMut,
    data: &[u8],
    is_text: bool,
    begins: bool,
    is_complete: bool,
) {
    let opcode = match (begins, is_text) {
        (false, _) => CONTINUATION,
        (true, true) => TEXT,
        (true, false) => BINARY,
    };
    put(out, if is_complete { opcode | FINAL } else { opcode }, data);
}

/// Appends a ping without payload.
pub(crate) fn put_ping(out: &mut BytesMut) {
    put(out, PING | FINAL, &[]);
}

/// Appends the answer to a ping.
pub(crate) fn put_pong(out: &mut BytesMut, payload: &[u8]) {
    put(out, PONG | FINAL, payload);
}

/// Appends a closing frame: a code that may be sent and as much of the reason as fits, or nothing.
pub(crate) fn put_close(out: &mut BytesMut, close: Option<(u16, &[u8])>) {
    let Some((code, reason)) = close.filter(|(code, _)| may_be_sent(*code)) else {
        return put(out, CLOSE | FINAL, &[]);
    };
    let mut payload = code.to_be_bytes().to_vec();
    payload.extend_from_slice(fitting(reason));
    put(out, CLOSE | FINAL, &payload);
}

/// The longest beginning of whole characters that fits.
fn fitting(reason: &[u8]) -> &[u8] {
    let shown = &reason[..reason.len().min(MAX_REASON)];
    match std::str::from_utf8(shown) {
        Ok(_) => shown,
        Err(error) => &shown[..error.valid_up_to()],
    }
}

fn put(out: &mut BytesMut, first: u8, payload: &[u8]) {
    out.reserve(10 + payload.len());
    out.put_u8(first);
    match payload.len() {
        length @ ..=125 => out.put_u8(length as u8),
        length @ ..=0xffff => {
            out.put_u8(126);
            out.put_u16(length as u16);
        }
        length => {
            out.put_u8(127);
            out.put_u64(length as u64);
        }
    }
    out.put_slice(payload);
}

#[cfg(test)]
mod tests;
