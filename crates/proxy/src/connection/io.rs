//! The socket of a connection, as hyper wants it.
//!
//! Notes the first bytes of a head and whether the client takes its answer. At the end it goes on reading for a while
//! what a client still sends that has been refused: a socket closed over unread bytes is reset, and a reset can
//! overtake the answer that says why.

use std::{
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use hyper::rt::ReadBufCursor;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::{Connection, Phase};
use crate::shard::Shard;

/// Most that is read and thrown away after the answer. A client that sends more than this without reading is cut.
const MOST_DISCARDED: usize = 4 * 1024 * 1024;
const DISCARD_BYTES: usize = 16 * 1024;
const LATE: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

pub(super) struct Io {
    stream: TcpStream,
    shard: Rc<Shard>,
    state: Rc<Connection>,
    is_shut: bool,
    discarded: usize,
}

impl Io {
    pub(super) fn new(stream: TcpStream, shard: Rc<Shard>, state: Rc<Connection>) -> Self {
        Self {
            stream,
            shard,
            state,
            is_shut: false,
            discarded: 0,
        }
    }

    /// Says that the head came too late, if that can be said at once: nothing else is being written then.
    pub(super) fn say_late(&self) {
        // Nobody waits for a client that is slow: what does not fit is not said.
        drop(self.stream.try_write(LATE));
    }

    fn wrote(&self, wrote: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match wrote {
            Poll::Ready(Ok(bytes)) => self.state.answer.moved(bytes),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.state.answer.waits(),
        }
        wrote
    }
}

impl hyper::rt::Read for Io {
    #[expect(
        unsafe_code,
        reason = "hyper lends memory that is not initialised, and tokio fills it"
    )]
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let filled = {
            // SAFETY: `ReadBuf` only writes to the memory; nothing that was initialised is made uninitialised.
            let mut buffer = ReadBuf::uninit(unsafe { cursor.as_mut() });
            ready!(Pin::new(&mut this.stream).poll_read(context, &mut buffer))?;
            buffer.filled().len()
        };
        if filled > 0 && matches!(this.state.phase.get(), Phase::Idle(_)) {
            this.state.phase.set(Phase::Head(this.shard.tick()));
        }
        // SAFETY: `filled` bytes at the front of the cursor were written just above.
        unsafe { cursor.advance(filled) };
        Poll::Ready(Ok(()))
    }
}

impl hyper::rt::Write for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let wrote = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.wrote(wrote)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.is_shut {
            ready!(Pin::new(&mut this.stream).poll_shutdown(context))?;
            this.is_shut = true;
            this.state.phase.set(Phase::Lingering(this.shard.tick()));
        }
        let mut trash = [0; DISCARD_BYTES];
        while this.discarded < MOST_DISCARDED {
            let mut buffer = ReadBuf::new(&mut trash);
            match Pin::new(&mut this.stream).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    this.discarded += buffer.filled().len();
                }
                Poll::Ready(_) => break,
                // Nothing more is on its way, as far as is known.
                Poll::Pending if this.discarded == 0 && !this.state.is_last.get() => break,
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let wrote = Pin::new(&mut this.stream).poll_write_vectored(context, slices);
        this.wrote(wrote)
    }
}
