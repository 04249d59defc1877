//! The socket of an HTTP/2 connection: what was read before it was known to be one comes first, and every byte is
//! metered on its way. At the end it lingers: a client that broke a rule may be sending still, and is to read why.
//!
//! h2 writes and flushes a long answer frame by frame, and a frame has 16 KiB for most clients. Over TLS the frames of a
//! turn are gathered: encrypted, they wait below h2 until TLS has as much as it holds or the turn ends, and leave in one
//! system call. So a flush is put off here, and whoever polls h2 asks for it when h2 has no more to say.

use std::{
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::meter::Meter;
use crate::connection::{
    linger::Linger,
    socket::{Transport, is_end},
};

/// A shorter write is no part of a long answer, and is not held back unless one before it is.
const LONG_WRITE: usize = 8 * 1024;

pub(super) struct Io<S> {
    stream: S,
    first: Bytes,
    meter: Rc<Meter>,
    is_shut: bool,
    linger: Linger,
    end: End,
}

/// The client's end of its sending half. When h2 hears of it, it forgets what it holds of answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Unknown,
    /// It waits for answers, or for h2 to write the last of them.
    Held,
    /// h2 holds nothing any more.
    Flushed,
}

impl<S> Io<S> {
    pub(super) fn new(stream: S, first: Bytes, meter: Rc<Meter>) -> Self {
        Self {
            stream,
            first,
            meter,
            is_shut: false,
            linger: Linger::default(),
            end: End::Unknown,
        }
    }
}

impl<S> Io<S> {
    fn holds_end(&mut self, context: &Context<'_>) -> bool {
        let waits = self.meter.holds_end();
        // At first sight a request may have come with it that nobody has seen.
        if waits || (self.end == End::Unknown && self.meter.has_asked()) {
            self.end = End::Held;
        }
        let holds = self.end == End::Held;
        if holds && !waits {
            // h2 writes after it has read.
            context.waker().wake_by_ref();
        }
        holds
    }
}

impl<S: Transport> Io<S> {
    /// Writes, after what waits; a long write may wait itself.
    fn write(
        &mut self,
        length: usize,
        mut write: impl FnMut(Pin<&mut S>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if S::GATHERS && (length >= LONG_WRITE || self.meter.holds_back()) {
            self.stream.socket().hold(true);
            let taken = write(Pin::new(&mut self.stream));
            self.stream.socket().hold(false);
            if taken.is_ready() {
                self.meter.hold_back();
                return taken;
            }
            // As much waits as may.
        }
        write(Pin::new(&mut self.stream))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Io<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.meter.excess().is_some() {
            // Its task sees this right after, and says goodbye; nothing more is worth reading.
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        if this.first.is_empty() {
            let read = ready!(Pin::new(&mut this.stream).poll_read(context, buffer));
            let bytes = buffer.filled().len() - before;
            if is_end(&read, bytes) && buffer.remaining() > 0 && this.holds_end(context) {
                return Poll::Pending;
            }
            read?;
        } else {
            let length = this.first.len().min(buffer.remaining());
            buffer.put_slice(&this.first.split_to(length));
        }
        this.meter
            .read(buffer.filled().get(before..).unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}

impl<S: Transport> AsyncWrite for Io<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = this.write(bytes.len(), |stream| stream.poll_write(context, bytes));
        if let Poll::Ready(Ok(length)) = result {
            this.meter.written(bytes.get(..length).unwrap_or_default());
        }
        result
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let all = slices.iter().map(|slice| slice.len()).sum();
        let result = this.write(all, |stream| stream.poll_write_vectored(context, slices));
        let mut length = match result {
            Poll::Ready(Ok(length)) => length,
            Poll::Ready(Err(_)) | Poll::Pending => 0,
        };
        for slice in slices {
            let part = length.min(slice.len());
            this.meter.written(slice.get(..part).unwrap_or_default());
            length -= part;
        }
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.meter.holds_back() {
            return Poll::Ready(Ok(()));
        }
        let flushed = Pin::new(&mut this.stream).poll_flush(context);
        if this.end == End::Held
            && matches!(flushed, Poll::Ready(Ok(())))
            && !this.meter.holds_end()
        {
            this.end = End::Flushed;
            context.waker().wake_by_ref();
        }
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.is_shut {
            ready!(Pin::new(&mut this.stream).poll_shutdown(context))?;
            this.is_shut = true;
            this.meter.lingers();
        }
        let has_failed = this.meter.has_failed();
        this.linger
            .poll(&mut this.stream, context, has_failed)
            .map(Ok)
    }
}
