//! One stream: a request and its answer, until the last byte is with h2.
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

use std::{
    cell::Cell,
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use h2::{Reason, SendStream, server::SendResponse};
use http::{HeaderValue, Response, StatusCode, header};
use http_body::Body as _;
use tokio::time::{Instant, Sleep};

use super::{
    date::Date,
    meter::Meter,
    piece::{Delivered, Piece},
};
use crate::{
    answer,
    connection::Connection,
    exchange::{Body, Respond},
    shard::Shard,
};

/// Data of a frame over TLS, at most: with its header it fills a record. h2 makes frames of 16 KiB for most clients, and each
/// would take a second record for its last nine bytes, which costs both sides as much as a long one beside its data.
const RECORD_DATA: usize = 16 * 1024 - 9;
/// Bytes of an answer that a client must take within the time of a stall.
const PROGRESS: usize = 1024;

pub(super) struct Stream {
    stage: Stage,
    reply: SendResponse<Piece>,
    is_head: bool,
    /// The client waits for a word before it sends its body; set when somebody wants that.
    expects: Option<Rc<Cell<bool>>>,
    date: Rc<Date>,
    open: Open,
}

enum Stage {
    Responding(Respond),
    Answering(Option<Response<Body>>),
    Sending(Sending),
}

impl Stream {
    /// A request that goes its way. `expects`: `100-continue`, once this is set.
    pub(super) fn responding(
        respond: Respond,
        reply: SendResponse<Piece>,
        is_head: bool,
        expects: Option<Rc<Cell<bool>>>,
        date: Rc<Date>,
        open: Open,
    ) -> Self {
        Self {
            stage: Stage::Responding(respond),
            reply,
            is_head,
            expects,
            date,
            open,
        }
    }

    /// A request that is answered by its head.
    pub(super) fn answered(
        response: Response<Body>,
        reply: SendResponse<Piece>,
        is_head: bool,
        date: Rc<Date>,
        open: Open,
    ) -> Self {
        Self {
            stage: Stage::Answering(Some(response)),
            reply,
            is_head,
            expects: None,
            date,
            open,
        }
    }

    /// Says that the body is wanted.
    fn go_on(&mut self) {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::CONTINUE;
        if let Err(error) = self.reply.send_informational(response) {
            tracing::debug!(%error, "a stream ended before its body");
        }
    }

    /// Sends the head of the answer. `None`: that was all, or the client is gone.
    fn begin(&mut self, response: Response<Body>) -> Option<Sending> {
        let (mut parts, body) = response.into_parts();
        let headers = &mut parts.headers;
        // Our own answers say this to HTTP/1.1; what user code says of the connection is dropped before.
        headers.remove(header::CONNECTION);
        if !headers.contains_key(header::DATE) {
            headers.insert(header::DATE, self.date.now());
        }
        let has_no_body = self.is_head || answer::has_no_content(parts.status);
        if !has_no_body
            && let Some(length) = body.size_hint().exact()
            && !headers.contains_key(header::CONTENT_LENGTH)
        {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        let is_all = has_no_body || body.is_end_stream();
        if is_all {
            self.open.meter.give_head();
        }
        match self
            .reply
            .send_response(Response::from_parts(parts, ()), is_all)
        {
            Ok(out) if !is_all => Some(Sending {
                body,
                out,
                chunk: Bytes::new(),
                stall: Stall::default(),
                broken_off: None,
            }),
            Ok(_) => None,
            Err(error) => {
                tracing::debug!(%error, "a stream ended before its answer");
                None
            }
        }
    }
}

impl Future for Stream {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let stream = &mut *self;
        loop {
            let response = match &mut stream.stage {
                Stage::Responding(respond) => {
                    // Before the request: an answer to a client that left is nobody's.
                    if stream.reply.poll_reset(context).is_ready() {
                        return Poll::Ready(());
                    }
                    let Poll::Ready(Ok(response)) = Pin::new(respond).poll(context) else {
                        if stream.expects.take_if(|wanted| wanted.get()).is_some() {
                            stream.go_on();
                        }
                        return Poll::Pending;
                    };
                    Some(response)
                }
                Stage::Answering(response) => response.take(),
                Stage::Sending(sending) => return sending.poll(&stream.open.shard, context),
            };
            match response.and_then(|response| stream.begin(response)) {
                Some(sending) => stream.stage = Stage::Sending(sending),
                None => return Poll::Ready(()),
            }
        }
    }
}

/// An answer whose head is sent.
struct Sending {
    body: Body,
    out: SendStream<Piece>,
    /// What came of the body and does not fit yet.
    chunk: Bytes,
    stall: Stall,
    /// The answer has broken off, and what was made of it is on its way.
    broken_off: Option<Delivered>,
}

impl Sending {
    fn poll(&mut self, shard: &Shard, context: &mut Context<'_>) -> Poll<()> {
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
                match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                    Some(Ok(frame)) => self.chunk = frame.into_data().unwrap_or_default(),
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
                        self.send(Piece::Data(Bytes::new()), true);
                        return Poll::Ready(());
                    }
                }
                continue;
            }
            let most = shard.settings().limits.h2_send_buffer_bytes as usize;
            self.out.reserve_capacity(self.chunk.len().min(most));
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
            let mut room = self.out.capacity().min(self.chunk.len());
            if shard.settings().tls.is_some() {
                room = room.min(RECORD_DATA);
            }
            let part = self.chunk.split_to(room);
            self.stall.took(room);
            let is_last = self.chunk.is_empty() && self.body.is_end_stream();
            if !self.send(Piece::Data(part), is_last) || is_last {
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

/// A stream that is open: it keeps its connection busy.
pub(super) struct Open {
    shard: Rc<Shard>,
    state: Rc<Connection>,
    meter: Rc<Meter>,
}

impl Open {
    pub(super) fn new(shard: Rc<Shard>, state: Rc<Connection>, meter: Rc<Meter>) -> Self {
        state.begin_request();
        Self {
            shard,
            state,
            meter,
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.state.end_request(self.shard.tick());
    }
}
