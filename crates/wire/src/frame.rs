//! One frame: a fixed header of 32 bytes, then a payload.
//!
//! Everything that a sender only knows at the moment of sending (slot, remaining time, who waits) is in the
//! header, so that the payload of a request is encoded once, however often it moves between replicas.
//!
//! ```text
//!  0        4      5       6           7          8          16     20  24  28  32
//!  | length | kind | flags | ignorable | critical | sequence | slot | a | b | c | payload ...
//! ```
//!
//! All numbers are little-endian. `a`, `b` and `c` mean what [`Kind`] says. The two bytes after the flags are for
//! later versions: what a reader does not know in the first it ignores, any bit in the second ends the connection.

use bytes::{Buf, BufMut, Bytes, BytesMut};

#[cfg(test)]
mod tests;

/// The version that HELLO carries. A peer that speaks another one is refused with both numbers in the message.
pub const PROTOCOL_VERSION: u32 = 1;
pub const HEADER_BYTES: usize = 32;
/// Longest payload on a data connection.
pub const MAX_DATA_PAYLOAD: u32 = 1024 * 1024;
/// Longest payload on a control connection, where one message may list every replica.
pub const MAX_CONTROL_PAYLOAD: u32 = 64 * 1024 * 1024;
/// `c` of a REQUEST without a time limit.
pub const NO_DEADLINE: u32 = u32::MAX;

/// What a message takes of credit besides its data, so that empty ones are bounded too.
pub const MESSAGE_COST: usize = 64;

/// Kinds from here on are skipped by a reader that does not know them.
pub const FIRST_SKIPPABLE_KIND: u8 = 128;

/// What a frame says. A kind from 128 on that is not known is skipped; one below 128 ends the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// First on a connection, both ways. `a`: protocol version. From a router `b`: 1, it wants a channel for regions; `c`: 1,
    /// it reads ROUTES, and their numbers in answers.
    /// From a replica `b`: slots of the claim page (its descriptor comes with this frame, and the channel's after it),
    /// `c`: `max_ongoing_requests`; payload: the replica id.
    Hello = 1,
    /// Router to replica. `a`: requests still waiting at this router, `b`: microseconds that the oldest of them
    /// has waited, `c`: milliseconds left to answer, or [`NO_DEADLINE`]. Payload: a request head, then body bytes.
    Request = 2,
    /// Router to replica: more of a request's body.
    Body = 3,
    /// Replica to router: any of head, data, trailers, end, done, grant in one frame. With DONE, `b`: slots
    /// occupied after it, `c`: slots in all. To a call, `a`: attachments that a table at the beginning names. With HEAD,
    /// `a`: the number of the route in ROUTES that took the request, from 1; 0: none that is known.
    Response = 4,
    /// Either way: `a` more bytes of this request's body (or response) may be sent.
    Credit = 5,
    /// Router to replica: nobody wants the answer. The replica still sends DONE.
    Cancel = 6,
    /// Router to replica: its queue is no longer empty. `a`, `b`: as in REQUEST; `sequence` counts the WAITs of the
    /// connection from 1.
    Wait = 7,
    /// Router to replica: its queue is empty again.
    Unwait = 8,
    /// Replica to router: one slot is kept for it, for at most 5 ms. It may also ride on a RESPONSE. `b`, `c`: as
    /// with DONE; `sequence`: of the WAIT that a soft grant answers, else 0.
    Grant = 9,
    /// Router to replica: a grant that it cannot use. `a`, `b`: as in REQUEST.
    Return = 10,
    /// Replica to router: no slot was free; the request did not start and its word is free again. `b`, `c`: as
    /// with DONE.
    Reject = 11,
    /// Replica to router: it drains and takes nothing new. What it has accepted it finishes.
    Gone = 12,
    /// Control connections only: a protobuf message. `sequence` pairs an answer with its call.
    Control = 13,
    /// Either way, on connections with a channel: the region with the number in `sequence` is not needed any more.
    /// `a`: 1, nobody sees it; 0, somebody may, so it must never be written to again.
    Release = 14,
    /// Replica to router. `a`: milliseconds for which its event loop has not turned, or 1 while `reconfigure` runs, so a
    /// request might wait there; 0: neither is so any more.
    Hung = 128,
    /// Replica to router: the multiplexed models that it holds or loads, all of them. Payload: see
    /// [`ModelKey`](crate::ModelKey).
    Models = 129,
    /// Replica to router: the routes of user code, once. Payload: see [`encode_routes`](crate::encode_routes).
    Routes = 130,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Hello,
            2 => Self::Request,
            3 => Self::Body,
            4 => Self::Response,
            5 => Self::Credit,
            6 => Self::Cancel,
            7 => Self::Wait,
            8 => Self::Unwait,
            9 => Self::Grant,
            10 => Self::Return,
            11 => Self::Reject,
            12 => Self::Gone,
            13 => Self::Control,
            14 => Self::Release,
            128 => Self::Hung,
            129 => Self::Models,
            130 => Self::Routes,
            _ => return None,
        })
    }
}

/// Bits of a frame. Their meaning depends on the kind; a bit without meaning for a kind is ignored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags(pub u8);

impl Flags {
    pub const NONE: Self = Self(0);
    /// REQUEST, BODY, RESPONSE: the last bytes of the body are in this frame.
    pub const END: Self = Self(1);
    /// RESPONSE: the payload begins with a response head.
    pub const HEAD: Self = Self(1 << 1);
    /// RESPONSE: the slot is free and the word may be reused. Apart from END, since background tasks run after it.
    pub const DONE: Self = Self(1 << 2);
    /// RESPONSE: the slot that DONE frees is kept for this router. REQUEST: it spends a grant.
    pub const GRANT: Self = Self(1 << 3);
    /// RESPONSE: a block of trailers follows the head (or begins the payload).
    pub const TRAILERS: Self = Self(1 << 4);
    /// RESPONSE to a call: the data is a pickled exception. RESPONSE to http: the answer broke off after its head.
    pub const ERROR: Self = Self(1 << 5);
    /// BODY, RESPONSE: the data ends a message (WebSocket, gRPC).
    pub const END_OF_MESSAGE: Self = Self(1 << 6);
    /// BODY, RESPONSE: the message is text (WebSocket).
    pub const TEXT: Self = Self(1 << 7);

    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those of `other` that are set.
    #[must_use]
    pub const fn only(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// What a BODY or RESPONSE with these flags and so much data takes of its credit.
    pub const fn cost(self, data: usize) -> usize {
        if self.contains(Self::END_OF_MESSAGE) {
            data + MESSAGE_COST
        } else {
            data
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes of payload.
    pub length: u32,
    pub kind: Kind,
    pub flags: Flags,
    pub sequence: u64,
    pub slot: u32,
    pub a: u32,
    pub b: u32,
    pub c: u32,
}

impl Header {
    /// A header with the numbers of no use to `kind` set to zero.
    pub const fn new(kind: Kind, slot: u32, sequence: u64) -> Self {
        Self {
            length: 0,
            kind,
            flags: Flags::NONE,
            sequence,
            slot,
            a: 0,
            b: 0,
            c: 0,
        }
    }

    pub fn encode(&self, out: &mut BytesMut) {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..4].copy_from_slice(&self.length.to_le_bytes());
        bytes[4] = self.kind as u8;
        bytes[5] = self.flags.0;
        bytes[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.slot.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.a.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.b.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.c.to_le_bytes());
        out.put_slice(&bytes);
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub header: Header,
    pub payload: Bytes,
}

impl Frame {
    /// A payload over the limit of the connection is refused by whoever reads it, so the sender cuts data into
    /// [`MAX_DATA_PAYLOAD`] at most.
    pub fn new(mut header: Header, payload: Bytes) -> Self {
        // Above u32 the reader must see a length that it refuses, not one that puts it out of step.
        header.length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        Self { header, payload }
    }

    /// A CONTROL frame around an encoded message.
    pub fn control(sequence: u64, payload: impl Into<Bytes>) -> Self {
        Self::new(Header::new(Kind::Control, 0, sequence), payload.into())
    }

    pub fn encode(&self, out: &mut BytesMut) {
        out.reserve(HEADER_BYTES + self.payload.len());
        self.header.encode(out);
        out.put_slice(&self.payload);
    }
}

/// Why a connection must end. The text names what was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("frame of {length} bytes is longer than the {limit} that this connection takes")]
    TooLong { length: u32, limit: u32 },
    #[error("unknown frame kind {kind}")]
    UnknownKind { kind: u8 },
    #[error("frame with critical flags {bits:#04x} that this version does not know")]
    UnknownFlags { bits: u8 },
}

/// Cuts frames from a byte stream. Holds no buffer of its own: the caller reads into one `BytesMut`, and payloads
/// share its memory.
#[derive(Clone, Copy, Debug)]
pub struct Decoder {
    max_payload: u32,
}

impl Decoder {
    /// For a data connection, limit [`MAX_DATA_PAYLOAD`].
    pub const fn data() -> Self {
        Self {
            max_payload: MAX_DATA_PAYLOAD,
        }
    }

    /// For a control connection, limit [`MAX_CONTROL_PAYLOAD`].
    pub const fn control() -> Self {
        Self {
            max_payload: MAX_CONTROL_PAYLOAD,
        }
    }

    /// Bytes, with its header, of the frame at the front of `buffer` of which some is missing, once they are known.
    /// To be asked after [`Self::decode`] found no more, so that a long one can be read into memory of its own.
    pub fn incomplete(self, buffer: &[u8]) -> Option<usize> {
        let [a, b, c, d, ..] = *buffer.first_chunk::<HEADER_BYTES>()?;
        let length = u32::from_le_bytes([a, b, c, d]).min(self.max_payload);
        Some(HEADER_BYTES + length as usize)
    }

    /// Takes the next whole frame out of `buffer`; `None` when more bytes are needed. After an error the
    /// connection cannot be read further.
    pub fn decode(self, buffer: &mut BytesMut) -> Result<Option<Frame>, DecodeError> {
        loop {
            let Some(bytes) = buffer.first_chunk::<HEADER_BYTES>() else {
                return Ok(None);
            };
            let u32_at = |at: usize| {
                u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
            };
            let length = u32_at(0);
            if length > self.max_payload {
                return Err(DecodeError::TooLong {
                    length,
                    limit: self.max_payload,
                });
            }
            let kind = bytes[4];
            let header = Kind::from_byte(kind).map(|kind| Header {
                length,
                kind,
                flags: Flags(bytes[5]),
                sequence: u64::from(u32_at(8)) | u64::from(u32_at(12)) << 32,
                slot: u32_at(16),
                a: u32_at(20),
                b: u32_at(24),
                c: u32_at(28),
            });
            if header.is_none() && kind < FIRST_SKIPPABLE_KIND {
                return Err(DecodeError::UnknownKind { kind });
            }
            if header.is_some() && bytes[7] != 0 {
                return Err(DecodeError::UnknownFlags { bits: bytes[7] });
            }
            if buffer.len() < HEADER_BYTES + length as usize {
                return Ok(None);
            }
            buffer.advance(HEADER_BYTES);
            let payload = buffer.split_to(length as usize);
            if let Some(header) = header {
                return Ok(Some(Frame {
                    header,
                    payload: payload.freeze(),
                }));
            }
        }
    }
}
