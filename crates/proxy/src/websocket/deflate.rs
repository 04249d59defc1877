//! Messages compressed with DEFLATE: RFC 7692, section 7.2.
//!
//! Both directions go in steps of at most [`STEP_BYTES`], so that whoever calls decides how many there are in a turn, and
//! nothing is inflated that nobody has room for.
//!
//! Between two messages a connection keeps the bytes that its client may refer to (at most 32 KiB, none if it has
//! promised not to), and nothing else: the state of the decompressor, 45 KiB, lives as long as a message. For what is
//! sent nothing is kept. A compressor takes 340 KiB, so each message begins anew, with one that its thread lends, and
//! when all are lent the message goes out as it is: the protocol allows that for each.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use bytes::{Buf, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::extension::Agreed;

/// What one step takes when it compresses, or hands out when it decompresses.
pub(super) const STEP_BYTES: usize = 8 * 1024;

/// With nine tenths of what level 6 saves in a third of its time.
const LEVEL: u32 = 2;
const LARGEST_WINDOW: u8 = 15;

/// The end of a flush, which every message has and which is not sent: section 7.2.1.
const FLUSHED: [u8; 4] = [0, 0, 0xff, 0xff];
/// The same and an empty block that ends the stream: what decompresses comes to its end here if the message was whole.
const LAST: [u8; 9] = [0, 0, 0xff, 0xff, 1, 0, 0, 0xff, 0xff];

/// It is no DEFLATE, or ends before its last block does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Garbage;

/// What the client sends.
#[derive(Debug)]
pub(crate) struct Inflater {
    /// Of the message that is being received.
    stream: Option<Decompress>,
    /// What came last, as far as what comes next may refer to it.
    window: Vec<u8>,
    window_bytes: usize,
    keeps_window: bool,
    /// The client has ended its stream, and nothing has come since: then another begins.
    has_ended: bool,
}

/// What a step came to.
#[derive(Debug)]
pub(super) enum Inflated {
    /// More of the message is needed.
    Nothing,
    /// The next bytes of the message, which may be none; there may be more.
    Some(BytesMut),
    /// The last of them.
    Last(BytesMut),
}

impl Inflater {
    pub(super) fn new(agreed: Agreed) -> Self {
        Self {
            stream: None,
            window: Vec::new(),
            window_bytes: agreed.client_window(),
            keeps_window: !agreed.client_no_context_takeover,
            has_ended: false,
        }
    }

    /// Takes from `input` what gives at most `most` bytes. `is_all`: there is no more of the message.
    pub(super) fn step(
        &mut self,
        input: &mut BytesMut,
        is_all: bool,
        most: usize,
    ) -> Result<Inflated, Garbage> {
        if self.stream.is_none() && input.is_empty() {
            // A message of no bytes at all is not what the standard asks for, and cannot mean anything else.
            return Ok(if is_all {
                Inflated::Last(BytesMut::new())
            } else {
                Inflated::Nothing
            });
        }
        let mut room = [0; STEP_BYTES];
        let room = &mut room[..most.min(STEP_BYTES)];
        let (taken, given, status) = self.advance(input, room)?;
        input.advance(taken);
        let given = &room[..given];
        self.remember(given);
        if status == Status::StreamEnd {
            self.has_ended = true;
            self.stream = Some(self.begin()?);
        } else if taken > 0 {
            self.has_ended = false;
        }
        if given.len() < room.len() && input.is_empty() {
            if is_all {
                self.end()?;
                return Ok(Inflated::Last(given.into()));
            }
            if given.is_empty() {
                return Ok(Inflated::Nothing);
            }
        }
        Ok(Inflated::Some(given.into()))
    }

    /// Runs the stream once: bytes taken, bytes given, and what it says.
    fn advance(
        &mut self,
        input: &[u8],
        room: &mut [u8],
    ) -> Result<(usize, usize, Status), Garbage> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.begin()?,
        };
        let before = (stream.total_in(), stream.total_out());
        let status = stream
            .decompress(input, room, FlushDecompress::None)
            .map_err(|_| Garbage)?;
        let taken = (stream.total_in() - before.0) as usize;
        let given = (stream.total_out() - before.1) as usize;
        self.stream = Some(stream);
        if taken == 0 && given == 0 && !input.is_empty() && !room.is_empty() {
            // It can neither go on nor says why.
            return Err(Garbage);
        }
        Ok((taken, given, status))
    }

    /// A stream that may refer to what is remembered.
    fn begin(&self) -> Result<Decompress, Garbage> {
        let mut stream = Decompress::new(false);
        if !self.window.is_empty() {
            stream.set_dictionary(&self.window).map_err(|_| Garbage)?;
        }
        Ok(stream)
    }

    fn remember(&mut self, given: &[u8]) {
        let given = &given[given.len().saturating_sub(self.window_bytes)..];
        let kept = self.window.len().min(self.window_bytes - given.len());
        self.window.drain(..self.window.len() - kept);
        // No more than there is: it stays while the connection is idle.
        self.window.reserve_exact(given.len());
        self.window.extend_from_slice(given);
    }

    /// The message has come whole. What ends in the middle of a block does not come to its end here.
    fn end(&mut self) -> Result<(), Garbage> {
        if !self.has_ended {
            let mut room = [0; 1];
            let (taken, given, status) = self.advance(&LAST, &mut room)?;
            if (taken, given, status) != (LAST.len(), 0, Status::StreamEnd) {
                return Err(Garbage);
            }
        }
        self.has_ended = false;
        self.stream = None;
        if !self.keeps_window {
            self.window = Vec::new();
        }
        Ok(())
    }
}

/// The compressors of a thread.
#[derive(Debug, Default)]
pub(crate) struct Deflaters {
    /// With the largest window. The others are rare.
    idle: RefCell<Vec<Compress>>,
    lent: Cell<usize>,
}

impl Deflaters {
    /// Most that are lent. A client that takes its message slowly has one as long as that takes.
    const MOST: usize = 16;
    const MOST_IDLE: usize = 2;

    /// One for a message that refers to at most `1 << bits` bytes; `None`: all are lent.
    pub(super) fn lend(self: &Rc<Self>, bits: u8) -> Option<Deflater> {
        if self.lent.get() == Self::MOST {
            return None;
        }
        self.lent.set(self.lent.get() + 1);
        let idle = if bits == LARGEST_WINDOW {
            self.idle.borrow_mut().pop()
        } else {
            None
        };
        Some(Deflater {
            owner: Rc::clone(self),
            bits,
            compress: Some(idle.unwrap_or_else(|| {
                Compress::new_with_window_bits(Compression::new(LEVEL), false, bits)
            })),
            out: Vec::new(),
        })
    }
}

/// Compresses one message, and goes back.
#[derive(Debug)]
pub(super) struct Deflater {
    owner: Rc<Deflaters>,
    bits: u8,
    /// Taken when it goes back.
    compress: Option<Compress>,
    out: Vec<u8>,
}

impl Deflater {
    /// Whether it has taken nothing yet.
    pub(super) fn is_unused(&self) -> bool {
        self.compress
            .as_ref()
            .is_some_and(|compress| compress.total_in() == 0)
    }

    /// Takes the next bytes of the message, the last if it `is_complete`. What comes out may be nothing as long as it is
    /// not.
    pub(super) fn step(&mut self, data: &[u8], is_complete: bool) -> Option<&[u8]> {
        let compress = self.compress.as_mut()?;
        self.out.clear();
        let flush = if is_complete {
            FlushCompress::Sync
        } else {
            FlushCompress::None
        };
        let before = compress.total_in();
        loop {
            self.out.reserve(data.len() / 2 + 64);
            let taken = (compress.total_in() - before) as usize;
            compress
                .compress_vec(&data[taken..], &mut self.out, flush)
                .ok()?;
            // With room left it has nothing more to give.
            if self.out.len() < self.out.capacity() {
                break;
            }
        }
        if is_complete {
            debug_assert!(self.out.ends_with(&FLUSHED), "a flush ends so");
            self.out
                .truncate(self.out.len().saturating_sub(FLUSHED.len()));
        }
        Some(&self.out)
    }
}

impl Drop for Deflater {
    fn drop(&mut self) {
        self.owner.lent.set(self.owner.lent.get() - 1);
        let mut idle = self.owner.idle.borrow_mut();
        if self.bits == LARGEST_WINDOW
            && idle.len() < Deflaters::MOST_IDLE
            && let Some(mut compress) = self.compress.take()
        {
            compress.reset();
            idle.push(compress);
        }
    }
}

#[cfg(test)]
mod tests;
