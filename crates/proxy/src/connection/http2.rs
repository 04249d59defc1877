//! HTTP/2 on one connection: h2 reads frames, each request becomes a task of the connection, [`meter`] watches.
//!
//! hyper's server is not used here: it hands h2 the end of an answer as soon as the client's window has room for one
//! byte, and ends its task; a client that then opens its window no further has a stream that nobody can reset. With
//! h2 itself a stream's task ends with its last byte ([`stream`]). The tasks are the connection's: when it ends, they
//! are dropped, and with them what they asked of replicas.
//!
//! [`windows`] says how far a client may send ahead, [`inbound`] is the body of one request.
//!
//! Ends: the client's EOF; idle, slow or blocked for too long, or more of something than [`meter`] allows (GOAWAY,
//! and [`GOODBYE`] to take it); drain (GOAWAY, then the streams that are open).

mod date;
mod frames;
mod inbound;
mod io;
mod meter;
mod piece;
mod sending;
mod stream;
mod windows;

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use h2::{
    Reason, RecvStream,
    server::{Builder, SendResponse},
};
use http::{Method, Request, StatusCode, header};
use tokio::{task::JoinSet, time::Sleep};

use self::{
    date::Date,
    io::Io,
    meter::Meter,
    piece::Piece,
    stream::{Open, Stream},
    windows::Windows,
};
use super::{
    io::PREFACE,
    socket::Transport,
    state::{Connection, Phase},
};
use crate::{
    exchange::{Incoming, Service},
    limits::Limits,
    rules,
    shard::Shard,
};

pub(crate) use inbound::Inbound;

/// What a client has to take our last words.
const GOODBYE: Duration = Duration::from_secs(1);
/// Streams that h2 may reset for a fault of the client in the life of a connection, which may be long. What is too
/// many in a short time is for [`meter`].
const LOCAL_RESETS: usize = 1024;

/// Serves a connection until it ends. `first`: what was read of it already.
pub(super) async fn serve<S>(shard: Rc<Shard>, state: Rc<Connection>, stream: S, first: Bytes)
where
    S: Transport,
{
    state.phase.set(Phase::Idle(shard.tick()));
    state.holds_bodies.set(false);
    let meter = Rc::new(Meter::new(
        Rc::clone(&shard),
        Rc::clone(&state),
        PREFACE.len(),
    ));
    let io = Io::new(stream, first, Rc::clone(&meter));
    // What h2 is told holds as long as the connection does.
    let settings = shard.settings();
    let mut handshake = builder(&settings.limits).handshake(io);
    let connection = poll_fn(|context| {
        state.wake_by(context.waker());
        if state.end.get().is_some() {
            return Poll::Ready(None);
        }
        Pin::new(&mut handshake).poll(context).map(Some)
    })
    .await;
    let connection = match connection {
        Some(Ok(connection)) => connection,
        Some(Err(error)) => {
            tracing::debug!(%error, "connection ended in its handshake");
            return;
        }
        None => return,
    };
    let mut serving = Serving {
        connection,
        streams: JoinSet::new(),
        service: Service::new(Rc::clone(&shard), Rc::clone(&state)),
        date: Rc::new(Date::new()),
        windows: Rc::new(Windows::new(Rc::clone(&shard), Rc::clone(&state), settings)),
        meter,
        shard,
        state,
        told_to_end: false,
        goodbye: None,
    };
    poll_fn(|context| serving.poll(context)).await;
}

fn builder(limits: &Limits) -> Builder {
    let number = |limit: u64| u32::try_from(limit).unwrap_or(u32::MAX);
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(number(limits.h2_streams))
        .initial_window_size(number(limits.h2_stream_window_bytes))
        .initial_connection_window_size(number(windows::first(limits)))
        // For frames of a few bytes: what they cost beside their data, while nobody reads them.
        .data_frame_budget(limits.h2_connection_window_bytes as usize / 2)
        .max_frame_size(number(limits.h2_frame_bytes))
        .max_header_list_size(number(limits.h2_header_list_bytes))
        .max_send_buffer_size(limits.h2_send_buffer_bytes as usize)
        .max_pending_accept_reset_streams(limits.h2_pending_resets as usize)
        .max_local_error_reset_streams(Some(LOCAL_RESETS));
    builder
}

struct Serving<S> {
    connection: h2::server::Connection<Io<S>, Piece>,
    streams: JoinSet<()>,
    service: Service,
    date: Rc<Date>,
    windows: Rc<Windows>,
    meter: Rc<Meter>,
    shard: Rc<Shard>,
    state: Rc<Connection>,
    told_to_end: bool,
    /// Runs when the last words are being said.
    goodbye: Option<Pin<Box<Sleep>>>,
}

impl<S> Serving<S>
where
    S: Transport,
{
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.state.wake_by(context.waker());
        if self.state.is_to_end() && matches!(self.state.phase.get(), Phase::Lingering(_)) {
            return Poll::Ready(());
        }
        if !self.told_to_end && self.shard.ends(self.state.has_asked.get()) {
            self.told_to_end = true;
            self.connection.graceful_shutdown();
        }
        loop {
            self.say_goodbye();
            if let Some(goodbye) = &mut self.goodbye
                && goodbye.as_mut().poll(context).is_ready()
            {
                return Poll::Ready(());
            }
            self.reap(context);
            for stream in self.windows.take_let_go() {
                self.streams.spawn_local(inbound::drain(stream));
            }
            self.settle();
            let accepted = catch_unwind(AssertUnwindSafe(|| self.connection.poll_accept(context)));
            match accepted {
                Ok(Poll::Ready(Some(Ok((request, reply))))) => {
                    let opened = catch_unwind(AssertUnwindSafe(|| self.open(request, reply)));
                    if opened.is_err() {
                        self.shard.count_panic();
                        return Poll::Ready(());
                    }
                }
                Ok(Poll::Ready(Some(Err(error)))) => {
                    tracing::debug!(%error, "connection ended early");
                    return Poll::Ready(());
                }
                Ok(Poll::Ready(None)) => return Poll::Ready(()),
                Ok(Poll::Pending) if self.goodbye.is_none() && self.must_end().is_some() => {}
                // What was read just now may be all that comes, until we say more.
                Ok(Poll::Pending) if self.settle() => {}
                Ok(Poll::Pending) if self.meter.ends_turn() => {}
                Ok(Poll::Pending) => return Poll::Pending,
                Err(_panic) => {
                    self.shard.count_panic();
                    return Poll::Ready(());
                }
            }
        }
    }

    /// Brings the windows in line with what was read; whether there is something to say because of it.
    fn settle(&mut self) -> bool {
        let received = self.meter.take_received();
        self.windows.settle(&mut self.connection, received)
    }

    /// Takes away tasks that are over.
    fn reap(&mut self, context: &mut Context<'_>) {
        while let Poll::Ready(Some(ended)) = self.streams.poll_join_next(context) {
            if ended.is_err_and(|error| error.is_panic()) {
                self.shard.count_panic();
            }
        }
    }

    /// Why the connection is to be ended now.
    fn must_end(&self) -> Option<Reason> {
        if self.meter.excess().is_some() {
            Some(Reason::ENHANCE_YOUR_CALM)
        } else if self.state.end.get().is_some() {
            Some(Reason::NO_ERROR)
        } else {
            None
        }
    }

    fn say_goodbye(&mut self) {
        if self.goodbye.is_none()
            && let Some(reason) = self.must_end()
        {
            self.connection.abrupt_shutdown(reason);
            // What they asked for is nobody's any more.
            self.streams.abort_all();
            self.goodbye = Some(Box::pin(tokio::time::sleep(GOODBYE)));
        }
    }

    fn open(&mut self, request: Request<RecvStream>, reply: SendResponse<Piece>) {
        let (mut parts, body) = request.into_parts();
        let is_head = parts.method == Method::HEAD;
        let expects = !body.is_end_stream() && parts.headers.contains_key(header::EXPECT);
        let date = Rc::clone(&self.date);
        let open = Open::new(
            Rc::clone(&self.shard),
            Rc::clone(&self.state),
            Rc::clone(&self.meter),
        );
        let checked = rules::http2::check(&mut parts, &self.shard.settings().limits);
        let stream = match checked {
            Ok(()) => {
                let expects = expects.then(Rc::<Cell<bool>>::default);
                let body = Inbound::new(body, &parts.headers, &self.windows, expects.clone());
                let respond = self.service.respond(&parts, Incoming::Http2(body));
                Stream::responding(respond, reply, is_head, expects, date, open)
            }
            Err(broken) => {
                if broken.0 == StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE {
                    self.shard.counters.heads_too_large.add();
                } else {
                    self.shard.counters.heads_refused.add();
                }
                let response = self.service.refuse(broken);
                Stream::answered(response, reply, is_head, date, open)
            }
        };
        self.streams.spawn_local(stream);
    }
}
