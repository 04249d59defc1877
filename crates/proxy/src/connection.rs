//! One client connection: its place in the thread's list, its time limits, its end.
//!
//! hyper's own head timer would arm a timer for every request and would count an idle connection as a slow head.
//! Here each connection notes in a cell what it is doing and since which tick, and one sweep a tick looks at all
//! of them: no cost on the path of a request, and every limit is exact to one tick. What moves too slowly is noted in
//! the same way ([`progress`]).
//!
//! The connection's future runs user-controlled input, so a panic in it is caught here, counted, and costs this
//! connection only.

mod io;
mod progress;

use std::{
    cell::{Cell, RefCell},
    future::Future,
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use slab::Slab;
use socket2::SockRef;
use tokio::net::TcpStream;

use crate::{
    counters::Counters,
    exchange::Service,
    gate::Place,
    limits::Limits,
    shard::Shard,
    trust::{Network, is_trusted},
};

use io::Io;
pub(crate) use progress::{Pace, Progress};

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
    /// A request is being answered.
    Busy,
    /// The last answer is out, and what the client still sends is thrown away.
    Lingering(u32),
}

/// Time limits of connections, in ticks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    idle: u32,
    head: u32,
    linger: u32,
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
            linger: ticks(LINGER),
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
    pub(crate) phase: Cell<Phase>,
    /// How the client takes what is written to it.
    pub(crate) answer: Progress,
    /// This connection carries no other request: the body of one was not read to its end, or cannot be trusted.
    pub(crate) is_last: Cell<bool>,
    /// Bodies that are waited for.
    bodies: RefCell<Slab<Rc<Progress>>>,
    /// A first request has come.
    pub(crate) has_asked: Cell<bool>,
    end: Cell<Option<End>>,
    waker: RefCell<Option<Waker>>,
}

impl Connection {
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
        if self.answer.tick(patience.answer) {
            counters.slow_readers.add();
            return self.end_with(End::Silent);
        }
        let late = |since: u32, limit: u32| tick.wrapping_sub(since) > limit;
        match self.phase.get() {
            _ if self.end.get().is_some() => {}
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
            Phase::Lingering(since) if late(since, patience.linger) => self.end_with(End::Silent),
            _ => {}
        }
    }

    fn end_with(&self, end: End) {
        self.end.set(Some(end));
        self.wake();
    }

    /// Makes the connection's task look at its thread again (drain).
    pub(crate) fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
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
        phase: Cell::new(Phase::Idle(shard.tick())),
        answer: Progress::default(),
        is_last: Cell::new(false),
        bodies: RefCell::new(Slab::new()),
        has_asked: Cell::new(false),
        end: Cell::new(None),
        waker: RefCell::new(None),
    });
    let _listed = Listed {
        key: shard.list(&state),
        shard: Rc::clone(&shard),
        _place: place,
    };
    let service = Service::new(Rc::clone(&shard), Rc::clone(&state));
    let io = Io::new(stream, Rc::clone(&shard), Rc::clone(&state));
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        // What is buffered of a body and of an answer. It is not exact, so heads (and trailers, which are dropped)
        // have their own.
        .max_buf_size(shard.limits.header_bytes as usize)
        .max_header_size(shard.limits.header_bytes as usize)
        // A client that closes its sending half is a client that left: most that leave can be told by nothing else.
        .half_close(false)
        .header_read_timeout(None);
    // Given to hyper only if it differs: its own default is as much, and kept on the stack.
    if shard.limits.header_count != 100 {
        builder.max_headers(shard.limits.header_count as usize);
    }
    let task = Task {
        connection: Some(builder.serve_connection(io, service)),
        state,
        shard,
        told_to_end: false,
    };
    task.await;
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

struct Task {
    connection: Option<hyper::server::conn::http1::Connection<Io, Service>>,
    state: Rc<Connection>,
    shard: Rc<Shard>,
    told_to_end: bool,
}

impl Future for Task {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let task = &mut *self;
        if let Some(end) = task.state.end.get() {
            if let (End::Late, Some(connection)) = (end, task.connection.take()) {
                connection.into_parts().io.say_late();
            }
            return Poll::Ready(());
        }
        {
            let mut waker = task.state.waker.borrow_mut();
            if !waker
                .as_ref()
                .is_some_and(|waker| waker.will_wake(context.waker()))
            {
                *waker = Some(context.waker().clone());
            }
        }
        let Some(connection) = &mut task.connection else {
            return Poll::Ready(());
        };
        let mut connection = Pin::new(connection);
        if !task.told_to_end && task.shard.ends(task.state.has_asked.get()) {
            task.told_to_end = true;
            connection.as_mut().graceful_shutdown();
        }
        match catch_unwind(AssertUnwindSafe(|| connection.poll(context))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(Ok(()))) => Poll::Ready(()),
            Ok(Poll::Ready(Err(error))) => {
                count(&error, &task.shard.counters);
                tracing::debug!(%error, "connection ended early");
                Poll::Ready(())
            }
            Err(_panic) => {
                self.shard.count_panic();
                Poll::Ready(())
            }
        }
    }
}

/// What hyper refused by itself.
fn count(error: &hyper::Error, counters: &Counters) {
    if error.is_parse_too_large() {
        counters.heads_too_large.add();
    } else if error.is_parse() {
        counters.heads_malformed.add();
    }
}
