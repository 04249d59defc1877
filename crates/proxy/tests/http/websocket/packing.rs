//! The client's side of `permessage-deflate`, with what it remembers from one message to the next.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

use crate::support::websocket::masked;

const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
const FIN: u8 = 0x80;
/// The bit by which a message says that it is compressed.
pub(super) const PACKED: u8 = 0x40;

pub(super) struct Packer {
    out: Compress,
    back: Decompress,
    /// It refers to nothing before the message.
    resets: bool,
}

impl Packer {
    pub(super) fn new(resets: bool) -> Self {
        Self {
            out: Compress::new(Compression::new(6), false),
            back: Decompress::new(false),
            resets,
        }
    }

    pub(super) fn pack(&mut self, data: &[u8]) -> Vec<u8> {
        if self.resets {
            self.out.reset();
        }
        let mut packed = Vec::with_capacity(data.len() * 2 + 100);
        self.out
            .compress_vec(data, &mut packed, FlushCompress::Sync)
            .unwrap();
        assert!(packed.ends_with(&TAIL), "the buffer was long enough");
        packed.truncate(packed.len() - TAIL.len());
        packed
    }

    pub(super) fn unpack(&mut self, packed: &[u8]) -> Vec<u8> {
        let packed = [packed, &TAIL].concat();
        let before = self.back.total_in();
        let mut data = Vec::with_capacity(packed.len());
        loop {
            let taken = (self.back.total_in() - before) as usize;
            self.back
                .decompress_vec(&packed[taken..], &mut data, FlushDecompress::Sync)
                .unwrap();
            if data.len() < data.capacity() {
                return data;
            }
            data.reserve(data.len());
        }
    }
}

/// The frames of a compressed message, each with at most so many bytes; 0: one frame.
pub(super) fn frames(opcode: u8, packed: &[u8], length: usize) -> Vec<u8> {
    let length = if length == 0 { packed.len() } else { length };
    let pieces = packed.len().div_ceil(length);
    packed
        .chunks(length)
        .enumerate()
        .flat_map(|(at, piece)| {
            let first = if at == 0 { opcode | PACKED } else { 0 };
            let last = if at + 1 == pieces { FIN } else { 0 };
            masked(first | last, piece)
        })
        .collect()
}
