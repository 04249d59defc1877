//! What h2 is given of an answer, piece by piece, and how to learn that all of it is out.
//!
//! h2 says nothing when it has written what it was given, and forgets what it still holds when the stream is reset. But
//! it keeps the order of a stream's pieces and drops each when it is done with it: so behind the last piece goes one that
//! is empty, and tells when it is dropped.

use std::{
    convert::Infallible,
    future::Future,
    io::IoSlice,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use tokio::sync::oneshot;

#[derive(Debug)]
pub(super) enum Piece {
    /// The second is often empty: it is the beginning of what came next, which fills the frame.
    Data(Bytes, Bytes),
    /// No byte. Dropped when all that was given before it is with the socket, or nobody's any more.
    Mark {
        _dropped: oneshot::Sender<Infallible>,
    },
}

impl Piece {
    pub(super) fn mark() -> (Self, Delivered) {
        let (dropped, told) = oneshot::channel();
        (Self::Mark { _dropped: dropped }, Delivered(told))
    }
}

/// Ready when the mark has been dropped.
pub(super) struct Delivered(oneshot::Receiver<Infallible>);

impl Delivered {
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(context).map(drop)
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        match self {
            Self::Data(first, second) => first.len() + second.len(),
            Self::Mark { .. } => 0,
        }
    }

    fn chunk(&self) -> &[u8] {
        match self {
            Self::Data(first, second) if first.is_empty() => second,
            Self::Data(first, _) => first,
            Self::Mark { .. } => &[],
        }
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let Self::Data(first, second) = self else {
            return 0;
        };
        let mut filled = 0;
        for (slice, part) in slices
            .iter_mut()
            .zip([first, second].into_iter().filter(|part| !part.is_empty()))
        {
            *slice = IoSlice::new(part);
            filled += 1;
        }
        filled
    }

    fn advance(&mut self, count: usize) {
        if let Self::Data(first, second) = self {
            let of_first = count.min(first.len());
            first.advance(of_first);
            second.advance(count - of_first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_parts_are_one_run_of_bytes_wherever_it_is_cut() {
        for count in 0..=5 {
            let mut piece = Piece::Data(Bytes::from_static(b"abc"), Bytes::from_static(b"de"));
            piece.advance(count);
            assert_eq!(piece.remaining(), 5 - count);
            for room in 0..=3 {
                let mut slices = [IoSlice::new(&[]); 3];
                let filled = piece.chunks_vectored(&mut slices[..room]);
                let seen: Vec<u8> = slices[..filled]
                    .iter()
                    .flat_map(|slice| slice.to_vec())
                    .collect();
                assert!(b"abcde"[count..].starts_with(&seen));
                assert_eq!(filled, room.min([2, 2, 2, 1, 1, 0][count]));
                if room >= 2 {
                    assert_eq!(seen, b"abcde"[count..]);
                }
            }
            let mut all = vec![0; piece.remaining()];
            piece.copy_to_slice(&mut all);
            assert_eq!(all, b"abcde"[count..]);
        }
    }
}
