//! The socket of an HTTP/2 connection: what was read before it was known to be one comes first, and every byte is
//! metered on its way. At the end it lingers: a client that broke a rule may be sending still, and is to read why.

use std::{
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::meter::Meter;
use crate::connection::{linger::Linger, socket::is_end};

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

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Io<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write(context, bytes);
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
        let result = Pin::new(&mut this.stream).poll_write_vectored(context, slices);
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
