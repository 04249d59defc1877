//! From bytes of a client to events.

use bytes::{Buf, Bytes, BytesMut};

use super::{
    broken::{Broken, TOO_LONG, broken},
    code::may_be_sent,
    header::{CLOSE, CONTINUATION, Header, PING, PONG, TEXT},
};
use crate::websocket::{
    deflate::{Inflated, Inflater},
    utf8::{NotUtf8, Utf8},
};

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
