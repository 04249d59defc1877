//! Frames of RFC 6455, without a socket.
//!
//! The data of a message is handed on as it comes and never gathered here, so a connection costs its read buffer however
//! long its messages are. Every length is checked on the header, before a byte of payload is waited for; that of a
//! compressed message as it is inflated, a step at a time. What breaks a rule is an error with the code that says so to
//! the client; after it nothing more can be read.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{
    deflate::{Garbage, Inflated, Inflater},
    utf8::{NotUtf8, Utf8},
};

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
/// The first reserved bit: the message is compressed.
const COMPRESSED: u8 = 0x40;
const MASKED: u8 = 0x80;

/// What a client sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The next bytes of a message, inflated; it ends with them if `is_complete`.
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

const TOO_LONG: Broken = Broken {
    code: code::TOO_LONG,
    reason: "the message is longer than websocket_message_bytes",
};

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

impl From<Garbage> for Broken {
    fn from(Garbage: Garbage) -> Self {
        Self {
            code: code::NOT_UTF8,
            reason: "the message is not compressed as it must be",
        }
    }
}

/// Takes apart what a client sends.
#[derive(Debug)]
pub(crate) struct Decoder {
    longest: u64,
    /// `None`: compression was not agreed to.
    inflater: Option<Inflater>,
    /// What came of a compressed message and is not inflated yet, without its mask.
    packed: BytesMut,
    /// All that was inflated of it has been handed on.
    is_drained: bool,
    /// Messages are thrown away, so they need not be inflated.
    ignores_messages: bool,
    /// Of the message that is being received.
    message: Option<Message>,
    utf8: Utf8,
    /// Of the data frame whose header was read, what is left of its payload.
    payload: Option<Payload>,
}

#[derive(Debug)]
struct Message {
    is_text: bool,
    is_compressed: bool,
    /// As it comes.
    length: u64,
    inflated: u64,
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
    is_compressed: bool,
    length: u64,
    mask: [u8; 4],
    bytes: usize,
}

impl Decoder {
    /// `longest`: bytes of one message, inflated, over all its frames.
    pub(crate) fn new(longest: u64, inflater: Option<Inflater>) -> Self {
        Self {
            longest,
            inflater,
            packed: BytesMut::new(),
            is_drained: true,
            ignores_messages: false,
            message: None,
            utf8: Utf8::default(),
            payload: None,
        }
    }

    /// Whether the next bytes have to be inflated: work, and possibly much more than came.
    pub(crate) fn is_inflating(&self) -> bool {
        self.message
            .as_ref()
            .is_some_and(|message| message.is_compressed)
            && !self.ignores_messages
    }

    /// Nobody wants messages any more: what is handed on of them is of no use.
    pub(crate) fn ignore_messages(&mut self) {
        self.ignores_messages = true;
    }

    /// Takes the next event out of `buffer`; `None`: more bytes are needed.
    pub(crate) fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Event>, Broken> {
        if self.payload.is_none() {
            let Some(header) = Header::read(buffer, self.inflater.is_some())? else {
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
        if self.is_inflating() {
            self.inflate(buffer)
        } else {
            self.data(buffer)
        }
    }

    /// A data frame begins.
    fn begin(&mut self, header: &Header) -> Result<(), Broken> {
        let message = match (&mut self.message, header.opcode) {
            (Some(message), CONTINUATION) => message,
            (None, CONTINUATION) => return Err(broken("a continuation of no message")),
            (Some(_), _) => return Err(broken("a message within a message")),
            (message, opcode) => message.insert(Message {
                is_text: opcode == TEXT,
                is_compressed: header.is_compressed,
                length: 0,
                inflated: 0,
            }),
        };
        message.length = message.length.saturating_add(header.length);
        let most = if message.is_compressed {
            // Whatever compresses makes little of what it cannot compress longer. Bytes that give nothing are bounded too.
            self.longest.saturating_mul(2).saturating_add(1024)
        } else {
            self.longest
        };
        if message.length > most {
            return Err(TOO_LONG);
        }
        Ok(())
    }

    /// What is there of the payload of a data frame.
    fn data(&mut self, buffer: &mut BytesMut) -> Result<Option<Event>, Broken> {
        let (Some(payload), Some(message)) = (&mut self.payload, &self.message) else {
            return Ok(None);
        };
        if buffer.is_empty() && payload.left > 0 {
            return Ok(None);
        }
        let bytes = payload.take(buffer);
        let (is_text, is_complete) = (message.is_text, payload.is_all());
        // What is compressed comes here to be thrown away.
        if is_text && !message.is_compressed {
            self.utf8.take(&bytes)?;
        }
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

    /// The same for a compressed message: a step of what it is inflated.
    fn inflate(&mut self, buffer: &mut BytesMut) -> Result<Option<Event>, Broken> {
        let (Some(payload), Some(message), Some(inflater)) =
            (&mut self.payload, &mut self.message, &mut self.inflater)
        else {
            return Ok(None);
        };
        if self.packed.is_empty() {
            self.packed = payload.take(buffer);
        }
        if self.packed.is_empty() && payload.left > 0 && self.is_drained {
            return Ok(None);
        }
        // One more than there may be shows that there is too much.
        let most = usize::try_from(self.longest - message.inflated).unwrap_or(usize::MAX);
        let step = inflater.step(&mut self.packed, payload.is_all(), most.saturating_add(1))?;
        if self.packed.is_empty() {
            // It may be the last that refers to the buffer that was read into.
            self.packed = BytesMut::new();
        }
        self.is_drained = matches!(step, Inflated::Nothing);
        let is_complete = matches!(step, Inflated::Last(_));
        if (self.is_drained || is_complete) && payload.left == 0 {
            self.payload = None;
        }
        let bytes = match step {
            // The frame may be over all the same, and another be there.
            Inflated::Nothing if self.payload.is_some() => return Ok(None),
            Inflated::Nothing => BytesMut::new(),
            Inflated::Some(bytes) | Inflated::Last(bytes) => bytes,
        };
        message.inflated += bytes.len() as u64;
        if message.inflated > self.longest {
            return Err(TOO_LONG);
        }
        let is_text = message.is_text;
        if is_text {
            self.utf8.take(&bytes)?;
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

impl Payload {
    /// What is there of it, without its mask.
    fn take(&mut self, buffer: &mut BytesMut) -> BytesMut {
        let taken = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let mut bytes = buffer.split_to(taken);
        unmask(&mut bytes, self.mask);
        self.mask.rotate_left(taken % 4);
        self.left -= taken as u64;
        bytes
    }

    /// Whether nothing more comes of the message.
    const fn is_all(&self) -> bool {
        self.left == 0 && self.is_final
    }
}

impl Header {
    /// `None`: it is not there in full. What is wrong is said as soon as it is.
    fn read(buffer: &[u8], may_be_compressed: bool) -> Result<Option<Self>, Broken> {
        let Some(&[first, second]) = buffer.first_chunk::<2>() else {
            return Ok(None);
        };
        let (opcode, is_final) = (first & 0x0f, first & FINAL != 0);
        let is_compressed =
            first & RESERVED == COMPRESSED && may_be_compressed && matches!(opcode, TEXT | BINARY);
        if first & RESERVED != 0 && !is_compressed {
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
            is_compressed,
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

/// The first frame of a message to a client, or one that follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    First { is_text: bool, is_compressed: bool },
    Following,
}

impl Place {
    /// The same of a message that is not compressed after all.
    pub(crate) const fn uncompressed(self) -> Self {
        match self {
            Self::First { is_text, .. } => Self::First {
                is_text,
                is_compressed: false,
            },
            Self::Following => Self::Following,
        }
    }
}

/// Appends a frame of a message to a client: the last if the message `is_complete`.
pub(crate) fn put_data(out: &mut BytesMut, data: &[u8], place: Place, is_complete: bool) {
    let mut first = match place {
        Place::First { is_text: true, .. } => TEXT,
        Place::First { .. } => BINARY,
        Place::Following => CONTINUATION,
    };
    if matches!(
        place,
        Place::First {
            is_compressed: true,
            ..
        }
    ) {
        first |= COMPRESSED;
    }
    if is_complete {
        first |= FINAL;
    }
    put(out, first, data);
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
