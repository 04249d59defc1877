//! The header of a frame: what its bits say, and what a client may not write there.

use super::broken::{Broken, broken};

/// Longest payload of a frame that controls.
pub(super) const MAX_CONTROL: usize = 125;

pub(super) const CONTINUATION: u8 = 0;
pub(super) const TEXT: u8 = 1;
pub(super) const BINARY: u8 = 2;
pub(super) const CLOSE: u8 = 8;
pub(super) const PING: u8 = 9;
pub(super) const PONG: u8 = 10;
pub(super) const FINAL: u8 = 0x80;
const RESERVED: u8 = 0x70;
/// The first reserved bit: the message is compressed.
pub(super) const COMPRESSED: u8 = 0x40;
pub(super) const MASKED: u8 = 0x80;

/// Of a frame that a client sent.
pub(super) struct Header {
    pub(super) opcode: u8,
    pub(super) is_final: bool,
    pub(super) is_compressed: bool,
    pub(super) length: u64,
    pub(super) mask: [u8; 4],
    pub(super) bytes: usize,
}

impl Header {
    /// `None`: it is not there in full. What is wrong is said as soon as it is.
    pub(super) fn read(buffer: &[u8], may_be_compressed: bool) -> Result<Option<Self>, Broken> {
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
