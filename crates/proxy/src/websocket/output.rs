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
