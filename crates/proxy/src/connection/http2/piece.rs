//! What h2 is given of an answer, piece by piece, and how to learn that all of it is out.
//!
//! h2 says nothing when it has written what it was given, and forgets what it still holds when the stream is reset. But
//! it keeps the order of a stream's pieces and drops each when it is done with it: so behind the last piece goes one that
//! is empty, and tells when it is dropped.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use tokio::sync::oneshot;

#[derive(Debug)]
pub(super) enum Piece {
    Data(Bytes),
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
            Self::Data(bytes) => bytes.len(),
            Self::Mark { .. } => 0,
        }
    }

    fn chunk(&self) -> &[u8] {
        match self {
            Self::Data(bytes) => bytes,
            Self::Mark { .. } => &[],
        }
    }

    fn advance(&mut self, count: usize) {
        if let Self::Data(bytes) = self {
            bytes.advance(count);
        }
    }
}
