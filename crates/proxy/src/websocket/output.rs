//! What is put together for the client of a WebSocket, until it is with the socket.
//!
//! A transport that has taken it has not sent it: TLS keeps the end of what it took until it is flushed, and nothing else
//! may follow for a long time. So it is out when the flush is done, and not before.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, BytesMut};
use tokio::io::AsyncWrite;

/// With more than this put together, no more of the answer is taken.
const BYTES: usize = 16 * 1024;

#[derive(Debug, Default)]
pub(super) struct Output {
    pub(super) bytes: BytesMut,
    /// The transport may hold some of what it took.
    is_held: bool,
}

impl Output {
    /// Whether all that was put together is with the socket.
    pub(super) fn is_out(&self) -> bool {
        self.bytes.is_empty() && !self.is_held
    }

    /// Whether more of the answer may be put together.
    pub(super) fn has_room(&self) -> bool {
        !self.is_held && self.bytes.len() <= BYTES
    }

    /// Whether a pong may be put together: a few can wait.
    pub(super) fn takes_pong(&self) -> bool {
        self.bytes.len() <= BYTES
    }

    /// Sends what the transport takes now. True: something moved. An error: nothing more can be sent.
    pub(super) fn send<S>(&mut self, stream: &mut S, context: &mut Context<'_>) -> io::Result<bool>
    where
        S: AsyncWrite + Unpin,
    {
        let mut moved = false;
        while !self.bytes.is_empty() {
            match Pin::new(&mut *stream).poll_write(context, &self.bytes) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(written)) => {
                    self.bytes.advance(written);
                    self.is_held = true;
                    moved = true;
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => return Ok(moved),
            }
        }
        if self.is_held {
            // An idle connection keeps no buffer.
            self.bytes = BytesMut::new();
            if let Poll::Ready(flushed) = Pin::new(stream).poll_flush(context) {
                flushed?;
                self.is_held = false;
                moved = true;
            }
        }
        Ok(moved)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use proptest::prelude::*;

    use super::*;

    /// Takes as much as it is told to, keeps as much of it as it likes until it is flushed, and notes whether it has
    /// promised to wake who asked.
    #[derive(Default)]
    struct Transport {
        /// What each write takes, and how many times a flush is pending after it; 0 bytes: the write is pending.
        script: Vec<(usize, usize)>,
        held: Vec<u8>,
        sent: Vec<u8>,
        pending_flushes: usize,
        will_wake: bool,
    }

    impl AsyncWrite for Transport {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let (takes, pending_flushes) = self.script.pop().unwrap_or((usize::MAX, 0));
            self.pending_flushes = pending_flushes;
            let taken = takes.min(bytes.len());
            if taken == 0 {
                // As TLS does: what it holds goes on, if only a little.
                let most = self.held.len().min(10);
                let moved: Vec<u8> = self.held.drain(..most).collect();
                self.sent.extend(moved);
                self.will_wake = true;
                return Poll::Pending;
            }
            self.held.extend(&bytes[..taken]);
            Poll::Ready(Ok(taken))
        }

        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            if let Some(left) = self.pending_flushes.checked_sub(1) {
                self.pending_flushes = left;
                self.will_wake = true;
                return Poll::Pending;
            }
            let held = std::mem::take(&mut self.held);
            self.sent.extend(held);
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    proptest! {
        #[test]
        fn all_is_sent_in_order_with_nothing_behind_it_whatever_the_transport_takes_at_a_time(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40_000), 0..6),
            script in prop::collection::vec((0..30_000_usize, 0..4_usize), 0..40),
        ) {
            let context = &mut Context::from_waker(Waker::noop());
            let mut transport = Transport { script, ..Transport::default() };
            let mut output = Output::default();
            let mut waiting = pieces.iter();
            let mut wanted = Vec::new();
            loop {
                transport.will_wake = false;
                let mut moved = output.send(&mut transport, context).unwrap();
                if output.has_room() && let Some(piece) = waiting.next() {
                    prop_assert!(transport.held.is_empty(), "more was taken before the last was out");
                    output.bytes.extend_from_slice(piece);
                    wanted.extend_from_slice(piece);
                    moved = true;
                }
                if !moved {
                    // The session sleeps now: either all is out, or somebody will wake it.
                    prop_assert_eq!(output.is_out(), !transport.will_wake);
                    if output.is_out() {
                        break;
                    }
                }
            }
            prop_assert!(waiting.next().is_none());
            prop_assert_eq!(transport.sent, wanted);
        }
    }
}
