//! The socket of a connection: where it is judged whether the client takes what is written to it.
//!
//! *A transport that has taken bytes has not sent them.* TLS takes 64 KiB and hyper and h2 as much again before they
//! say that they are full, and then only a flush may be left to wait for. The socket stands below all of them: it notes
//! what it took and that it takes nothing more, whoever asks.

use std::{
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

use super::state::Connection;

/// What a connection reads from and writes to: its socket, alone or under TLS.
pub(crate) trait Transport: AsyncRead + AsyncWrite + Unpin {
    /// It takes what its socket does not, up to a bound of its own.
    const GATHERS: bool;

    fn socket(&mut self) -> &mut Socket;
}

/// Whether a read into a buffer with room, of so many bytes, was the client's end. TLS makes an error of one that it was
/// not told of; many clients end so.
pub(super) fn is_end(read: &io::Result<()>, bytes: usize) -> bool {
    match read {
        Ok(()) => bytes == 0,
        Err(error) => error.kind() == io::ErrorKind::UnexpectedEof,
    }
}

pub(crate) struct Socket {
    stream: TcpStream,
    state: Rc<Connection>,
    /// The client owes it to us to take what is written. A handshake has a time limit of its own.
    is_metered: bool,
    /// It takes nothing for now: see [`Socket::hold`].
    is_held: bool,
}

impl Socket {
    pub(super) fn new(stream: TcpStream, state: Rc<Connection>, is_metered: bool) -> Self {
        Self {
            stream,
            state,
            is_metered,
            is_held: false,
        }
    }

    /// While it is held, what is written stays with a transport above that gathers, so that one system call carries it.
    /// Whoever holds it lets it go in the same turn: nobody is woken for what waits here.
    pub(super) fn hold(&mut self, is_held: bool) {
        self.is_held = is_held;
    }

    pub(super) fn meter(&mut self) {
        self.is_metered = true;
    }

    fn wrote(&self, context: &Context<'_>, wrote: &Poll<io::Result<usize>>) {
        if !self.is_metered {
            return;
        }
        match wrote {
            Poll::Ready(Ok(bytes)) => {
                self.state.answer.moved(*bytes);
                if self.state.goes_on() {
                    // hyper asks for more of an answer, and for the client's end, before it flushes, and not after.
                    context.waker().wake_by_ref();
                }
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.state.answer.waits(),
        }
    }
}

impl Transport for Socket {
    const GATHERS: bool = false;

    fn socket(&mut self) -> &mut Socket {
        self
    }
}

impl Transport for TlsStream<Socket> {
    const GATHERS: bool = true;

    fn socket(&mut self) -> &mut Socket {
        self.get_mut().0
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.is_held {
            return Poll::Pending;
        }
        let wrote = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.wrote(context, &wrote);
        wrote
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.is_held {
            return Poll::Pending;
        }
        let wrote = Pin::new(&mut this.stream).poll_write_vectored(context, slices);
        this.wrote(context, &wrote);
        wrote
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
