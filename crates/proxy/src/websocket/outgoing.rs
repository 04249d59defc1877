//! What user code sends, as frames.
//!
//! With a client that takes compression a message is compressed if it is long enough that this saves more than it costs,
//! in steps: who calls has others to serve.

use std::rc::Rc;

use bytes::{Buf, BytesMut};
use eagleray_router::service::Data;
use eagleray_wire::Flags;

use super::{
    deflate::{Deflater, Deflaters, STEP_BYTES},
    frame::{self, Place},
};

/// Of one connection.
#[derive(Debug)]
pub(super) struct Outgoing {
    /// `None`: the client takes no compression.
    compression: Option<Compression>,
    /// The middle of a message has been put together.
    is_in_message: bool,
    /// A frame of it has been put together.
    has_frame: bool,
    /// Of a message that is compressed.
    deflater: Option<Deflater>,
    /// What is left of the piece that is being compressed.
    rest: Option<Data>,
}

/// How a client is served that takes compression.
#[derive(Debug)]
pub(super) struct Compression {
    pub(super) deflaters: Rc<Deflaters>,
    /// How far back we may refer, in bits.
    pub(super) window_bits: u8,
    /// Shorter messages are sent as they are.
    pub(super) from_bytes: u64,
}

/// A message could not be compressed to its end, so nothing may follow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stuck;

impl Outgoing {
    pub(super) fn new(compression: Option<Compression>) -> Self {
        Self {
            compression,
            is_in_message: false,
            has_frame: false,
            deflater: None,
            rest: None,
        }
    }

    /// What is left of a piece, to be [`Outgoing::put`] before the next.
    pub(super) fn take_rest(&mut self) -> Option<Data> {
        self.rest.take()
    }

    /// Puts the next piece of a message together, or what a step takes of it. True: it was compressed, which is work.
    pub(super) fn put(&mut self, data: Data, out: &mut BytesMut) -> Result<bool, Stuck> {
        if !self.is_in_message {
            self.is_in_message = true;
            self.has_frame = false;
            self.deflater = self.compression.as_ref().and_then(|how| how.begin(&data));
        }
        if self.deflater.is_some() {
            self.compress(data, out)?;
            return Ok(true);
        }
        let is_complete = data.flags.contains(Flags::END_OF_MESSAGE);
        let place = place(&data, self.has_frame, false);
        frame::put_data(out, &data.bytes, place, is_complete);
        self.has_frame = true;
        self.is_in_message = !is_complete;
        Ok(false)
    }

    fn compress(&mut self, mut data: Data, out: &mut BytesMut) -> Result<(), Stuck> {
        let deflater = self.deflater.as_mut().ok_or(Stuck)?;
        let is_first = deflater.is_unused();
        let taken = data.bytes.len().min(STEP_BYTES);
        let is_last = taken == data.bytes.len();
        let is_complete = is_last && data.flags.contains(Flags::END_OF_MESSAGE);
        let packed = deflater
            .step(&data.bytes[..taken], is_complete)
            .ok_or(Stuck)?;
        let place = place(&data, self.has_frame, true);
        if is_first && is_complete && packed.len() >= taken {
            // It cannot be made shorter. Of a longer message this is known too late.
            frame::put_data(out, &data.bytes, place.uncompressed(), true);
        } else if is_complete || !packed.is_empty() {
            frame::put_data(out, packed, place, is_complete);
            self.has_frame = true;
        }
        data.bytes.advance(taken);
        if is_complete {
            self.is_in_message = false;
            self.deflater = None;
        } else if !is_last {
            self.rest = Some(data);
        }
        Ok(())
    }
}

fn place(data: &Data, has_frame: bool, is_compressed: bool) -> Place {
    if has_frame {
        return Place::Following;
    }
    Place::First {
        is_text: data.flags.contains(Flags::TEXT),
        is_compressed,
    }
}

impl Compression {
    /// What compresses the message that this piece begins; `None`: it is sent as it is.
    fn begin(&self, data: &Data) -> Option<Deflater> {
        let is_short = data.flags.contains(Flags::END_OF_MESSAGE)
            && (data.bytes.len() as u64) < self.from_bytes;
        if is_short {
            return None;
        }
        self.deflaters.lend(self.window_bits)
    }
}
