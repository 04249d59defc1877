//! The bytes of a message, in the pieces in which they came.
//!
//! A long message is not put together before user code takes it: it would be copied once more, into memory that the
//! system has to give first. Short pieces are, so that many of them cost no more than their bytes.

use bytes::{Bytes, BytesMut};

/// A piece that is shorter may have come in a buffer with others, which it would keep.
const COPY_BELOW: usize = 16 * 1024;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Pieces {
    long: Vec<Bytes>,
    /// Short ones after them.
    tail: BytesMut,
    length: usize,
}

impl Pieces {
    pub(super) fn push(&mut self, piece: &Bytes) {
        self.length += piece.len();
        if piece.len() < COPY_BELOW {
            self.tail.extend_from_slice(piece);
            return;
        }
        if !self.tail.is_empty() {
            self.long.push(std::mem::take(&mut self.tail).freeze());
        }
        self.long.push(piece.clone());
    }

    pub const fn len(&self) -> usize {
        self.length
    }

    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Each of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let long = self.long.iter().map(|piece| &piece[..]);
        long.chain(std::iter::once(&self.tail[..]))
    }

    /// Copies all of them to where there is room for just so much.
    pub fn copy_to(&self, mut out: &mut [u8]) {
        debug_assert_eq!(out.len(), self.length, "room for what there is");
        for piece in self.iter() {
            let Some((place, rest)) = out.split_at_mut_checked(piece.len()) else {
                return;
            };
            place.copy_from_slice(piece);
            out = rest;
        }
    }

    /// All of them as one.
    pub(super) fn join(mut self) -> Bytes {
        match (self.long.pop(), self.tail.is_empty()) {
            (None, _) => self.tail.freeze(),
            (Some(only), true) if self.long.is_empty() => only,
            (Some(last), _) => {
                self.long.push(last);
                self.iter().collect::<Vec<_>>().concat().into()
            }
        }
    }
}

impl PartialEq for Pieces {
    fn eq(&self, other: &Self) -> bool {
        self.iter().flatten().eq(other.iter().flatten())
    }
}

impl Eq for Pieces {}

impl From<&[u8]> for Pieces {
    fn from(bytes: &[u8]) -> Self {
        let mut pieces = Self::default();
        pieces.push(&Bytes::copy_from_slice(bytes));
        pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_any_length_are_whole_and_in_order_and_short_ones_are_one() {
        let lengths = [1, 0, 5000, COPY_BELOW, 3, 64 * 1024, COPY_BELOW - 1, 7];
        let data: Vec<u8> = (0..200_000_u32).map(|at| (at * 31 / 7) as u8).collect();
        let (mut pieces, mut at) = (Pieces::default(), 0);
        assert!(pieces.is_empty() && pieces.clone().join().is_empty());
        for (number, length) in lengths.into_iter().enumerate() {
            pieces.push(&Bytes::copy_from_slice(&data[at..at + length]));
            at += length;
            let mut out = vec![0; pieces.len()];
            pieces.copy_to(&mut out);
            assert!(out == data[..at], "after {} pieces", number + 1);
            assert!(pieces.clone().join() == data[..at]);
        }
        assert_eq!(pieces.iter().filter(|piece| !piece.is_empty()).count(), 5);
        assert!(pieces == Pieces::from(&data[..at]));
        assert!(pieces != Pieces::from(&data[1..=at]));
    }

    #[test]
    fn a_long_piece_alone_is_not_copied() {
        let piece = Bytes::from(vec![1; COPY_BELOW]);
        let mut pieces = Pieces::default();
        pieces.push(&piece);
        assert_eq!(pieces.join().as_ptr(), piece.as_ptr());
    }
}
