//! One client connection: its place in the thread's list, its time limits, its end.
//!
//! hyper's own head timer would arm a timer for every request and would count an idle connection as a slow head.
//! Here each connection notes in a cell what it is doing and since which tick, and one sweep a tick looks at all
//! of them: no cost on the path of a request, and every limit is exact to one tick. What moves too slowly is noted in
//! the same way ([`progress`]).
//!
//! The connection's future runs user-controlled input, so a panic in it is caught here, counted, and costs this
//! connection only. [`http1`] and [`http2`] are what it speaks.

mod http1;
mod http2;
mod io;
mod linger;
mod progress;
mod socket;

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    task::Waker,
    time::Duration,
};

use bytes::Bytes;
use slab::Slab;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::{
    counters::Counters,
    gate::Place,
    limits::Limits,
    shard::Shard,
    tls,
    trust::{Network, is_trusted},
    websocket::Accepted,
};

pub(crate) use http2::Inbound;
pub(crate) use progress::{Pace, Progress};
use socket::{Socket, Transport};

/// Bytes of an answer that may wait in the kernel. With more, a slow reader costs more, and seems to move only once
/// in a long while.
const UNSENT_BYTES: u32 = 128 * 1024;
/// How long a refused client is listened to after the answer.
const LINGER: Duration = Duration::from_secs(2);

/// What a connection is doing, and since which tick of its thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Between two requests.
    Idle(u32),
    /// Some bytes of a head have come.
    Head(u32),
    /// At least one request is being answered.
    Busy,
    /// An open WebSocket whose client was last heard then.
    WebSocket(u32),
    /// The last answer is out, and what the client still sends is thrown away.
    Lingering(u32),
}

/// Time limits of connections, in ticks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    idle: u32,
    head: u32,
    half_close: u32,
    linger: u32,
    /// `u32::MAX`: no pings.
    ping: u32,
    pong: u32,
    body: Pace,
    answer: Pace,
}

impl Patience {
    pub(crate) fn new(keep_alive: Duration, limits: &Limits, tick: Duration) -> Self {
        let ticks = |limit: Duration| {
            u32::try_from(limit.as_nanos().div_ceil(tick.as_nanos().max(1))).unwrap_or(u32::MAX)
        };
        Self {
            idle: ticks(keep_alive),
            head: ticks(limits.header_read_s),
            half_close: ticks(limits.half_close_s),
            linger: ticks(LINGER),
            ping: match ticks(limits.websocket_ping_s) {
                0 => u32::MAX,
                ticks => ticks,
            },
            pong: ticks(limits.websocket_pong_s),
            body: Pace::new(limits.body_idle_s, limits.body_bytes_per_s, tick),
            answer: Pace::new(limits.answer_idle_s, limits.answer_bytes_per_s, tick),
        }
    }
}

/// Both ends of a connection, as text and port.
#[derive(Debug)]
pub(crate) struct Peers {
    pub(crate) client: (Box<str>, u16),
    pub(crate) server: (Box<str>, u16),
    /// What the client says about others is passed on.
    pub(crate) trusted: bool,
}

impl Peers {
    fn of(stream: &TcpStream, client: SocketAddr, trusted: &[Network]) -> Self {
        let text = |address: SocketAddr| {
            (
                address.ip().to_canonical().to_string().into_boxed_str(),
                address.port(),
            )
        };
        let server = stream.local_addr().map_or_else(|_| ("".into(), 0), text);
        Self {
            client: text(client),
            server,
            trusted: is_trusted(client.ip(), trusted),
        }
    }
}

/// Whether the client has ended its sending half. Most that do have left, but that cannot be told from one that only has
/// nothing more to say, as long as nothing is sent to it: who is gone answers that with a reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HalfClosed {
    No,
    /// Its answer may still come. Nothing has gone to it since this tick.
    Since(u32),
    /// It has left, as far as is known.
    Over,
}

/// HTTP/1.1: how far an answer is that has broken off. hyper forgets what it holds when it hears of that, so it does not
/// hear of it before all that was made of the answer is out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BrokenOff {
    No,
    /// What was made of it is on its way.
    Delivering,
    Delivered,
}

/// How a connection that broke a limit ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Silent,
    /// With a 408.
    Late,
}

/// What the thread knows of a connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) peers: Peers,
    pub(crate) is_tls: bool,
    pub(crate) phase: Cell<Phase>,
    /// Requests that are being answered; more than one in HTTP/2 only.
    requests: Cell<u32>,
    /// Its requests that go on though their client left; more than one in HTTP/2 only.
    pub(crate) abandoned: Cell<u64>,
    /// HTTP/2: since when a head is awaited in full, whatever else the connection does.
    slow_head: Cell<Option<u32>>,
    /// How the client takes what is written to it.
    pub(crate) answer: Progress,
    /// This connection carries no other request: the body of one was not read to its end, or cannot be trusted.
    pub(crate) is_last: Cell<bool>,
    /// HTTP/1.1: the body of the last request was not read to its end, so its client may be sending it still.
    pub(crate) is_unread: Cell<bool>,
    /// Bodies that are waited for.
    bodies: RefCell<Slab<Rc<Progress>>>,
    /// HTTP/1.1: one answer at a time, which goes on as the socket does. HTTP/2 has windows for that.
    holds_bodies: Cell<bool>,
    /// An answer waits for the socket.
    is_holding: Cell<bool>,
    broken_off: Cell<BrokenOff>,
    half_closed: Cell<HalfClosed>,
    /// A first request has come.
    pub(crate) has_asked: Cell<bool>,
    end: Cell<Option<End>>,
    /// The client of a WebSocket has been silent for so long that it is to be asked for a sign of life.
    wants_ping: Cell<bool>,
    /// hyper has been asked for an upgrade, and when it is done leaves the connection as it is.
    pub(crate) may_upgrade: Cell<bool>,
    /// The WebSocket that follows the answer which hyper writes.
    pub(crate) upgraded: RefCell<Option<Box<Accepted>>>,
    waker: RefCell<Option<Waker>>,
}

impl Connection {
    /// A request has begun. Each call is followed by one of [`Self::end_request`].
    pub(crate) fn begin_request(&self) {
        self.requests.set(self.requests.get() + 1);
        self.phase.set(Phase::Busy);
        self.has_asked.set(true);
    }

    /// A request is over; `tick` is now.
    pub(crate) fn end_request(&self, tick: u32) {
        let requests = self.requests.get().saturating_sub(1);
        self.requests.set(requests);
        if requests == 0 && self.phase.get() == Phase::Busy {
            self.phase.set(Phase::Idle(tick));
            if matches!(self.half_closed.get(), HalfClosed::Since(_)) {
                // What was read of it at last, its end, is to be heard now.
                self.wake();
            }
        }
    }

    /// Whether hyper, once the body of the request is let go of, has yet to settle what becomes of the connection.
    pub(crate) fn settles(&self) -> bool {
        self.is_unread.get() && !self.is_last.get()
    }

    /// Whether the client may still be sending what nobody reads.
    fn may_send(&self) -> bool {
        self.is_last.get() || self.is_unread.get()
    }

    /// Called once a tick: ends the connection, or the request whose body does not come, if it takes longer than it
    /// may.
    pub(crate) fn sweep(
        &self,
        tick: u32,
        patience: &Patience,
        memory_is_short: bool,
        counters: &Counters,
    ) {
        for (_key, body) in self.bodies.borrow().iter() {
            // Its own task counts and answers.
            body.tick(patience.body);
        }
        if let HalfClosed::Since(since) = self.half_closed.get() {
            if self.answer.is_waiting() || self.answer.has_moved() {
                self.half_closed.set(HalfClosed::Since(tick));
            } else if tick.wrapping_sub(since) > patience.half_close {
                self.half_closed.set(HalfClosed::Over);
                self.wake();
            }
        }
        if self.answer.tick(patience.answer) {
            counters.slow_readers.add();
            return self.end_with(End::Silent);
        }
        let late = |since: u32, limit: u32| tick.wrapping_sub(since) > limit;
        match self.phase.get() {
            _ if self.end.get().is_some() => {}
            _ if self
                .slow_head
                .get()
                .is_some_and(|since| late(since, patience.head)) =>
            {
                counters.heads_timed_out.add();
                self.end_with(End::Silent);
            }
            // The last answer is not out yet: how fast it goes is judged above.
            Phase::Idle(_) if self.answer.is_waiting() => self.phase.set(Phase::Idle(tick)),
            Phase::Idle(since) if late(since, patience.idle) => {
                counters.connections_idle.add();
                self.end_with(End::Silent);
            }
            Phase::Idle(since) if memory_is_short && late(since, 0) => {
                counters.connections_drained_memory.add();
                self.end_with(End::Silent);
            }
            Phase::Head(since) if late(since, patience.head) => {
                counters.heads_timed_out.add();
                self.end_with(End::Late);
            }
            Phase::WebSocket(since) if late(since, patience.ping.saturating_add(patience.pong)) => {
                counters.websockets_silent.add();
                self.end_with(End::Silent);
            }
            Phase::WebSocket(since) => {
                let wants_ping = late(since, patience.ping);
                let wanted_it = self.wants_ping.replace(wants_ping);
                if wants_ping && !wanted_it {
                    self.wake();
                }
            }
            Phase::Lingering(since) if late(since, patience.linger) => self.end_with(End::Silent),
            _ => {}
        }
    }

    /// Whether the socket takes nothing now, so that no more of the answer is wanted: hyper would buffer it. The task
    /// is woken when something went out.
    pub(crate) fn holds_body(&self) -> bool {
        let holds = self.holds_bodies.get() && self.answer.is_waiting();
        self.is_holding.set(holds);
        holds
    }

    /// Something went out. True if an answer has waited for it, or if it may have been the last that was to go to a client
    /// whose end is held back.
    fn goes_on(&self) -> bool {
        let ends = matches!(self.half_closed.get(), HalfClosed::Since(_))
            && self.phase.get() != Phase::Busy;
        self.is_holding.take() || ends
    }

    /// The answer has broken off. True: what was made of it must go out before anybody hears of that; the task is
    /// woken when it has.
    pub(crate) fn delivers(&self) -> bool {
        if self.holds_bodies.get() && self.broken_off.get() == BrokenOff::No {
            self.broken_off.set(BrokenOff::Delivering);
        }
        self.broken_off.get() == BrokenOff::Delivering
    }

    /// All that was written is with the socket. True if that was waited for.
    fn has_delivered(&self) -> bool {
        let waited = self.broken_off.get() == BrokenOff::Delivering;
        if waited {
            self.broken_off.set(BrokenOff::Delivered);
        }
        waited
    }

    fn has_broken_off(&self) -> bool {
        self.broken_off.get() != BrokenOff::No
    }

    /// The client has ended its sending half. True: that is not to be heard yet, as an answer is on its way; the task is
    /// woken when it is. A body that is still waited for ended too early. `at_once`: the end came right behind what was sent
    /// last. Who sends nothing more ends its half then; who ends it later has waited, and has left.
    fn holds_end(&self, tick: u32, at_once: bool) -> bool {
        if self.phase.get() != Phase::Busy && !self.answer.is_waiting() {
            return false;
        }
        match self.half_closed.get() {
            HalfClosed::No if !at_once => {
                self.half_closed.set(HalfClosed::Over);
                false
            }
            HalfClosed::No => {
                self.half_closed.set(HalfClosed::Since(tick));
                // The last of a body may have come just before, and nobody has had a turn to take it.
                self.wake();
                true
            }
            HalfClosed::Since(_) => {
                let bodies = self.bodies.borrow();
                !bodies.iter().any(|(_key, body)| body.is_waiting())
            }
            HalfClosed::Over => false,
        }
    }

    fn end_with(&self, end: End) {
        self.end.set(Some(end));
        self.wake();
    }

    /// Whether the thread has decided that the connection ends.
    pub(crate) fn is_to_end(&self) -> bool {
        self.end.get().is_some()
    }

    pub(crate) fn wants_ping(&self) -> bool {
        self.wants_ping.get()
    }

    /// Makes the connection's task look at its thread again (drain).
    pub(crate) fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    /// Notes how the connection's task is woken.
    pub(crate) fn wake_by(&self, waker: &Waker) {
        let mut known = self.waker.borrow_mut();
        if !known.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *known = Some(waker.clone());
        }
    }

    /// A body is waited for from now on. The key is for [`Self::forget_body`].
    pub(crate) fn watch_body(&self) -> (usize, Rc<Progress>) {
        let body = Rc::new(Progress::default());
        let key = self.bodies.borrow_mut().insert(Rc::clone(&body));
        (key, body)
    }

    pub(crate) fn forget_body(&self, key: usize) {
        self.bodies.borrow_mut().try_remove(key);
    }
}

/// Serves one connection until it ends.
pub(crate) async fn serve(shard: Rc<Shard>, stream: TcpStream, client: SocketAddr, place: Place) {
    if let Err(error) = SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT_BYTES) {
        tracing::debug!(%error, "the kernel buffers answers as it likes");
    }
    let state = Rc::new(Connection {
        peers: Peers::of(&stream, client, &shard.trusted_proxies),
        is_tls: shard.tls.is_some(),
        phase: Cell::new(Phase::Idle(shard.tick())),
        requests: Cell::new(0),
        abandoned: Cell::new(0),
        slow_head: Cell::new(None),
        answer: Progress::default(),
        is_last: Cell::new(false),
        is_unread: Cell::new(false),
        bodies: RefCell::new(Slab::new()),
        holds_bodies: Cell::new(true),
        is_holding: Cell::new(false),
        broken_off: Cell::new(BrokenOff::No),
        half_closed: Cell::new(if shard.limits.half_close_s.is_zero() {
            HalfClosed::Over
        } else {
            HalfClosed::No
        }),
        has_asked: Cell::new(false),
        end: Cell::new(None),
        wants_ping: Cell::new(false),
        may_upgrade: Cell::new(false),
        upgraded: RefCell::new(None),
        waker: RefCell::new(None),
    });
    let _listed = Listed {
        key: shard.list(&state),
        shard: Rc::clone(&shard),
        _place: place,
    };
    match shard.tls.clone() {
        None => {
            let socket = Socket::new(stream, Rc::clone(&state), true);
            speak(shard, state, socket, Protocol::Unknown).await;
        }
        // Boxed, like all that is rarer: a task of plain HTTP/1.1 does not hold room for it.
        Some(tls) => Box::pin(secure(shard, state, stream, tls)).await,
    }
}

/// Takes the TLS handshake, which chooses the protocol.
async fn secure(
    shard: Rc<Shard>,
    state: Rc<Connection>,
    stream: TcpStream,
    tls: Arc<rustls::ServerConfig>,
) {
    let socket = Socket::new(stream, Rc::clone(&state), false);
    let handshake = TlsAcceptor::from(tls).accept(socket);
    let mut stream = match tokio::time::timeout(shard.limits.tls_handshake_s, handshake).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            shard.counters.tls_handshakes_failed.add();
            tracing::debug!(%error, "a TLS handshake failed");
            return;
        }
        Err(_elapsed) => {
            shard.counters.tls_handshakes_timed_out.add();
            return;
        }
    };
    let protocol = if stream.get_ref().1.alpn_protocol() == Some(tls::HTTP2) {
        Protocol::Http2
    } else {
        Protocol::Http1
    };
    stream.socket().meter();
    state.phase.set(Phase::Idle(shard.tick()));
    speak(shard, state, stream, protocol).await;
}

/// What is known before the first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    /// The first bytes say it.
    Unknown,
    Http1,
    Http2,
}

async fn speak<S>(shard: Rc<Shard>, state: Rc<Connection>, stream: S, protocol: Protocol)
where
    S: Transport,
{
    let http2 = if protocol == Protocol::Http2 {
        Some((stream, Bytes::new()))
    } else {
        let is_known = protocol == Protocol::Http1;
        http1::serve(Rc::clone(&shard), Rc::clone(&state), stream, is_known).await
    };
    if let Some((stream, first)) = http2 {
        Box::pin(http2::serve(shard, state, stream, first)).await;
    }
}

/// The place in the thread's list, given back however the task ends.
struct Listed {
    shard: Rc<Shard>,
    key: usize,
    _place: Place,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.shard.unlist(self.key);
    }
}
