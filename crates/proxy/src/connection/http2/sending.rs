//! The data of an answer, on its way to h2.
//!
//! h2 is given no more than the client's window has room for, so what a stream holds there is bounded by the window
//! and by `h2_send_buffer_bytes`, and the stream stays here, where it can be ended, until its answer is on its way.
//! Handing h2 a whole chunk as soon as one byte fits (as hyper's own server does) would leave the last chunk of an
//! answer to a stream that nobody watches.
//!
//! A stream that the client lets wait for its window is reset: after `h2_stall_s` if the answer is complete, after
//! `h2_streaming_stall_s` if it is still being made. Window updates that let less than [`PROGRESS`] pass in that time
//! change nothing.
//!
//! An answer that breaks off is reset when what was made of it is out: h2 forgets what it holds of a stream that is
//! reset, its head too.
//!
//! Over TLS a frame is a record. What is left of a long chunk when it has been cut into full ones would be a record of a
//! few bytes; so it waits one turn for what comes next, and fills a frame with it. No longer: it may be all for now.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::Body as _;
use tokio::time::{Instant, Sleep};

use super::piece::{Delivered, Piece};
use crate::{
    exchange::{Body, BrokenOff},
    shard::Shard,
};

/// Data of a frame over TLS, at most: with its header it fills a record. h2 makes frames of 16 KiB for most clients, and each
/// would take a second record for its last nine bytes, which costs both sides as much as a long one beside its data.
const RECORD_DATA: usize = 16 * 1024 - 9;
/// Bytes of an answer that a client must take within the time of a stall.
const PROGRESS: usize = 1024;

/// An answer whose head is sent.
pub(super) struct Sending {
    body: Body,
    out: SendStream<Piece>,
    /// What came of the body and does not fit yet.
    chunk: Bytes,
    /// What the body said after that, if it was asked already.
    next: Option<Said>,
    /// A full frame went before the chunk.
    is_rest: bool,
    /// It has waited for its turn.
    has_given_way: bool,
    stall: Stall,
    /// The answer has broken off, and what was made of it is on its way.
    broken_off: Option<Delivered>,
}

/// What a body says: data, that it broke off, or that this was all.
type Said = Option<Result<Bytes, BrokenOff>>;

impl Sending {
    pub(super) fn new(body: Body, out: SendStream<Piece>) -> Self {
        Self {
            body,
            out,
            chunk: Bytes::new(),
            next: None,
            is_rest: false,
            has_given_way: false,
            stall: Stall::default(),
            broken_off: None,
        }
    }

    /// What the body says next.
    fn hear(&mut self, context: &mut Context<'_>) -> Poll<Said> {
        if let Some(said) = self.next.take() {
            return Poll::Ready(said);
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        Poll::Ready(frame.map(|frame| Ok(frame?.into_data().unwrap_or_default())))
    }

    /// Looks for what can fill a frame with the rest of a chunk. Pending: it is looked for again in the next turn.
    fn fill(&mut self, context: &mut Context<'_>) -> Poll<()> {
        // Nothing is taken from the body for a client that does not take what there is.
        let goes = self.chunk.len() < RECORD_DATA && self.chunk.len() <= self.out.capacity();
        if !self.is_rest || !goes || self.next.is_some() {
            return Poll::Ready(());
        }
        match self.hear(context) {
            Poll::Ready(said) => self.next = Some(said),
            Poll::Pending if !self.has_given_way && !self.body.is_end_stream() => {
                self.has_given_way = true;
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Pending => {}
        }
        Poll::Ready(())
    }

    /// So much of what is there, taken out of it.
    fn cut(&mut self, room: usize) -> Piece {
        let first = self.chunk.split_to(room.min(self.chunk.len()));
        let second = match &mut self.next {
            Some(Some(Ok(next))) => next.split_to((room - first.len()).min(next.len())),
            _ => Bytes::new(),
        };
        self.is_rest = room >= RECORD_DATA;
        self.has_given_way = false;
        Piece::Data(first, second)
    }

    /// Bytes that are there to be sent.
    fn here(&self) -> usize {
        let next = match &self.next {
            Some(Some(Ok(next))) => next.len(),
            _ => 0,
        };
        self.chunk.len() + next
    }

    /// Whether nothing comes after what has been cut.
    fn is_over(&self) -> bool {
        self.chunk.is_empty()
            && match &self.next {
                None => self.body.is_end_stream(),
                Some(Some(Ok(next))) => next.is_empty() && self.body.is_end_stream(),
                Some(Some(Err(_))) => false,
                Some(None) => true,
            }
    }

    pub(super) fn poll(&mut self, shard: &Shard, context: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.out.poll_reset(context).is_ready() {
                return Poll::Ready(());
            }
            if let Some(delivered) = &mut self.broken_off {
                if delivered.poll(context).is_pending() {
                    let limit = shard.settings().limits.h2_streaming_stall_s;
                    ready!(self.stall.poll(limit, context));
                    shard.counters.h2_streams_stalled.add();
                }
                self.out.send_reset(Reason::INTERNAL_ERROR);
                return Poll::Ready(());
            }
            if self.chunk.is_empty() {
                match ready!(self.hear(context)) {
                    Some(Ok(data)) => self.chunk = data,
                    Some(Err(error)) => {
                        tracing::debug!(%error, "an answer broke off");
                        let (mark, delivered) = Piece::mark();
                        if !self.send(mark, false) {
                            return Poll::Ready(());
                        }
                        self.stall = Stall::default();
                        self.broken_off = Some(delivered);
                    }
                    None => {
                        self.send(Piece::Data(Bytes::new(), Bytes::new()), true);
                        return Poll::Ready(());
                    }
                }
                continue;
            }
            let is_tls = shard.settings().tls.is_some();
            if is_tls {
                ready!(self.fill(context));
            }
            let most = shard.settings().limits.h2_send_buffer_bytes as usize;
            self.out.reserve_capacity(self.here().min(most));
            while self.out.capacity() == 0 {
                match self.out.poll_capacity(context) {
                    Poll::Ready(Some(Ok(_))) => {}
                    Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(()),
                    Poll::Pending => {
                        let limit = if self.body.is_end_stream() {
                            shard.settings().limits.h2_stall_s
                        } else {
                            shard.settings().limits.h2_streaming_stall_s
                        };
                        ready!(self.stall.poll(limit, context));
                        shard.counters.h2_streams_stalled.add();
                        self.out.send_reset(Reason::CANCEL);
                        return Poll::Ready(());
                    }
                }
            }
            let mut room = self.out.capacity().min(self.here());
            if is_tls {
                room = room.min(RECORD_DATA);
            }
            let piece = self.cut(room);
            self.stall.took(room);
            let is_last = self.is_over();
            if !self.send(piece, is_last) || is_last {
                return Poll::Ready(());
            }
        }
    }

    /// False if the stream is gone.
    fn send(&mut self, piece: Piece, is_last: bool) -> bool {
        match self.out.send_data(piece, is_last) {
            Ok(()) => true,
            Err(error) => {
                tracing::debug!(%error, "a stream ended before its answer");
                false
            }
        }
    }
}

/// How long a client has let its answer wait.
#[derive(Default)]
struct Stall {
    since: Option<Instant>,
    taken: usize,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Stall {
    fn took(&mut self, bytes: usize) {
        self.taken += bytes;
        if self.taken >= PROGRESS {
            self.since = None;
            self.taken = 0;
        }
    }

    /// Waits until nothing much has passed for `limit`.
    fn poll(&mut self, limit: Duration, context: &mut Context<'_>) -> Poll<()> {
        let since = *self.since.get_or_insert_with(|| {
            self.taken = 0;
            Instant::now()
        });
        let end = since + limit;
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(end)));
        // Armed for an earlier stall that ended well: cheaper than to arm it anew at each.
        while timer.as_mut().poll(context).is_ready() {
            if timer.deadline() >= end {
                return Poll::Ready(());
            }
            timer.as_mut().reset(end);
        }
        Poll::Pending
    }
}
