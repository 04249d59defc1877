//! The socket of a connection, as hyper wants it.
//!
//! Every connection begins here, also one that will turn out to be HTTP/2: the first bytes are looked at where hyper
//! reads them, so an HTTP/1.1 request costs no system call and no copy for it, and bytes that come one by one fall
//! under the time limit of a head. If they are the preface of HTTP/2, hyper is told that the read failed, and the
//! connection goes on without it.
//!
//! Notes the first bytes of a head, and that an answer which broke off is out as far as it was made. At the end it
//! lingers over what a client still sends that has been refused.
//!
//! Of a long write TLS is given whole records. What is left over, often the few bytes that end a chunk, stays with hyper
//! for one turn, since a record of its own would cost both sides as much as a long one, and a system call: with the next
//! piece of the answer it fills one. No longer than a turn: it may be all for now.

use std::{
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
    time::Instant,
};

use bytes::{Bytes, BytesMut};
use hyper::rt::ReadBufCursor;
use tokio::io::{AsyncWrite as _, ReadBuf};

use super::{
    linger::Linger,
    socket::{Transport, is_end},
    state::{Connection, Phase},
};
use crate::shard::Shard;

const LATE: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// What a connection of HTTP/2 begins with: RFC 9113, section 3.4.
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes that fill a record of TLS.
const RECORD_BYTES: usize = 16 * 1024;
/// TLS takes no more at a time: what is left over of a longer write would go in a system call of its own anyway.
const LONG_WRITE: usize = 64 * 1024;
/// hyper writes no more slices at a time.
const SLICES: usize = 64;

/// What the first bytes of a connection are.
#[derive(Debug)]
enum First {
    /// These so far: they begin the preface and are not all of it.
    Unknown(BytesMut),
    Http1,
    /// The preface, and what came with it.
    Http2(BytesMut),
}

/// What is left over of a long write, which hyper has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    None,
    /// It has not waited yet.
    New,
    /// It waits for this turn to end, and so does the client's end, if `end` is: hyper would not write it any more.
    Waits {
        end: bool,
    },
}

pub(super) struct Io<S> {
    stream: S,
    first: First,
    shard: Rc<Shard>,
    state: Rc<Connection>,
    /// When bytes of the client came last, without those that are TLS's own.
    heard: Instant,
    rest: Rest,
    is_shut: bool,
    linger: Linger,
}

impl<S> Io<S> {
    /// `is_known`: it is HTTP/1.1, whatever it begins with.
    pub(super) fn new(stream: S, is_known: bool, shard: Rc<Shard>, state: Rc<Connection>) -> Self {
        Self {
            stream,
            first: if is_known {
                First::Http1
            } else {
                First::Unknown(BytesMut::new())
            },
            shard,
            state,
            heard: Instant::now(),
            rest: Rest::None,
            is_shut: false,
            linger: Linger::default(),
        }
    }

    /// The socket and what was read of it, if it speaks HTTP/2.
    pub(super) fn into_http2(self) -> Option<(S, Bytes)> {
        match self.first {
            First::Http2(bytes) => Some((self.stream, bytes.freeze())),
            First::Unknown(_) | First::Http1 => None,
        }
    }

    /// The socket alone.
    pub(super) fn into_stream(self) -> S {
        self.stream
    }
}

impl<S: Transport> Io<S> {
    /// Says that the head came too late, if that can be said at once: nothing else is being written then.
    pub(super) fn say_late(mut self) {
        // Nobody waits for a client that is slow: what does not fit is not said.
        let context = &mut Context::from_waker(Waker::noop());
        if Pin::new(&mut self.stream)
            .poll_write(context, LATE)
            .is_ready()
        {
            drop(Pin::new(&mut self.stream).poll_flush(context));
        }
    }
}

impl<S: Transport> Io<S> {
    /// How many of so many bytes are to be written now. Pending: none, in this turn.
    fn share(&mut self, context: &Context<'_>, length: usize) -> Poll<usize> {
        if !S::GATHERS {
            return Poll::Ready(length);
        }
        let is_long = length >= LONG_WRITE;
        match std::mem::replace(&mut self.rest, if is_long { Rest::New } else { Rest::None }) {
            Rest::New if !is_long => {
                self.rest = Rest::Waits { end: false };
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            // It is to be heard now.
            Rest::Waits { end: true } => context.waker().wake_by_ref(),
            Rest::None | Rest::New | Rest::Waits { .. } => {}
        }
        Poll::Ready(if is_long {
            length - length % RECORD_BYTES
        } else {
            length
        })
    }

    /// Reads into the cursor without advancing it: the first bytes may not be for hyper.
    #[expect(
        unsafe_code,
        reason = "hyper lends memory that is not initialised, and tokio fills it"
    )]
    fn poll_fill(
        &mut self,
        context: &mut Context<'_>,
        cursor: &mut ReadBufCursor<'_>,
    ) -> Poll<io::Result<usize>> {
        // SAFETY: `ReadBuf` only writes to the memory; nothing that was initialised is made uninitialised.
        let mut buffer = ReadBuf::uninit(unsafe { cursor.as_mut() });
        let read = ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer));
        let filled = buffer.filled();
        if is_end(&read, filled.len()) {
            if let Rest::Waits { end } = &mut self.rest {
                *end = true;
                return Poll::Pending;
            }
            let at_once = self.heard.elapsed() <= self.shard.settings().limits.half_close_within_s;
            if self.state.holds_end(self.shard.tick(), at_once) {
                return Poll::Pending;
            }
        }
        read?;
        self.heard = Instant::now();
        if let First::Unknown(held) = &mut self.first {
            let known = filled.len().min(PREFACE.len());
            if known > 0 && filled[..known] == PREFACE[..known] {
                held.extend_from_slice(filled);
            } else {
                self.first = First::Http1;
            }
        }
        let filled = filled.len();
        if filled > 0 && matches!(self.state.phase.get(), Phase::Idle(_)) {
            self.state.phase.set(Phase::Head(self.shard.tick()));
        }
        Poll::Ready(Ok(filled))
    }

    /// Goes on from bytes that may become the preface. An error: they are, and hyper must let go of the connection.
    fn poll_preface(
        &mut self,
        context: &mut Context<'_>,
        cursor: &mut ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let First::Unknown(held) = &mut self.first else {
                return Poll::Ready(Ok(()));
            };
            let known = held.len().min(PREFACE.len());
            let is_preface = held[..known] == PREFACE[..known];
            if is_preface && known == PREFACE.len() {
                self.first = First::Http2(std::mem::take(held));
                return Poll::Ready(Err(io::ErrorKind::Other.into()));
            }
            let mut chunk = [0; PREFACE.len()];
            let mut buffer = ReadBuf::new(&mut chunk);
            if is_preface {
                ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer))?;
            }
            if buffer.filled().is_empty() {
                // Fewer than two prefaces, so they fit where hyper reads a head.
                cursor.put_slice(held);
                self.first = First::Http1;
                return Poll::Ready(Ok(()));
            }
            held.extend_from_slice(buffer.filled());
        }
    }
}

impl<S: Transport> hyper::rt::Read for Io<S> {
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
        if matches!(&this.first, First::Unknown(held) if !held.is_empty()) {
            return this.poll_preface(context, &mut cursor);
        }
        let filled = ready!(this.poll_fill(context, &mut cursor))?;
        if matches!(this.first, First::Unknown(_)) {
            return this.poll_preface(context, &mut cursor);
        }
        // SAFETY: `filled` bytes at the front of the cursor were written just above.
        unsafe { cursor.advance(filled) };
        Poll::Ready(Ok(()))
    }
}

impl<S: Transport> hyper::rt::Write for Io<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let share = ready!(this.share(context, bytes.len()));
        Pin::new(&mut this.stream).poll_write(context, &bytes[..share])
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.stream).poll_flush(context))?;
        // hyper comes here when it holds nothing itself.
        if this.state.has_delivered() {
            context.waker().wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if matches!(this.first, First::Http2(_)) {
            // Only hyper is done with it.
            return Poll::Ready(Ok(()));
        }
        if !this.is_shut {
            if this.state.has_broken_off() {
                // TLS says no goodbye: to a client of HTTP/1.0 that would be the end of a whole answer.
                ready!(Pin::new(this.stream.socket()).poll_shutdown(context))?;
            } else {
                ready!(Pin::new(&mut this.stream).poll_shutdown(context))?;
            }
            this.is_shut = true;
            this.state.phase.set(Phase::Lingering(this.shard.tick()));
        }
        let may_send = this.state.may_send();
        this.linger
            .poll(&mut this.stream, context, may_send)
            .map(Ok)
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
        let length = slices.iter().map(|slice| slice.len()).sum();
        let mut share = ready!(this.share(context, length));
        if share == length {
            return Pin::new(&mut this.stream).poll_write_vectored(context, slices);
        }
        let mut shared = [io::IoSlice::new(&[]); SLICES];
        let mut filled = 0;
        for (into, slice) in shared.iter_mut().zip(slices) {
            let part = slice.len().min(share);
            *into = io::IoSlice::new(&slice[..part]);
            share -= part;
            filled += 1;
            if share == 0 {
                break;
            }
        }
        Pin::new(&mut this.stream).poll_write_vectored(context, &shared[..filled])
    }
}
