//! One client connection: its socket as hyper wants it, its place in the thread's list, its time limits.
//!
//! hyper's own head timer would arm a timer for every request and would count an idle connection as a slow head.
//! Here each connection notes in a cell what it is doing and since which tick, and one sweep a tick looks at all
//! of them: no cost on the path of a request, and idle and slow have their own limits, exact to one tick.
//!
//! The connection's future runs user-controlled input, so a panic in it is caught here, counted, and costs this
//! connection only.

use std::{
    cell::{Cell, RefCell},
    future::Future,
    io,
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
};

use hyper::rt::ReadBufCursor;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::{exchange::Service, shard::Shard};

/// The most that hyper buffers of a head or a body.
const MAX_BUFFER: usize = 64 * 1024;

/// What a connection is doing, and since which tick of its thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Between two requests.
    Idle(u32),
    /// Some bytes of a head have come.
    Head(u32),
    /// A request is being answered.
    Busy,
}

/// Both ends of a connection, as text and port.
#[derive(Debug)]
pub(crate) struct Peers {
    pub(crate) client: (Box<str>, u16),
    pub(crate) server: (Box<str>, u16),
}

impl Peers {
    fn of(stream: &TcpStream, client: SocketAddr) -> Self {
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
        }
    }
}

/// What the thread knows of a connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) peers: Peers,
    pub(crate) phase: Cell<Phase>,
    expired: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Connection {
    /// Called once a tick: ends the connection if it has been idle or slow for longer than it may.
    pub(crate) fn sweep(&self, tick: u32, idle_ticks: u32, head_ticks: u32) {
        let (since, limit) = match self.phase.get() {
            Phase::Idle(since) => (since, idle_ticks),
            Phase::Head(since) => (since, head_ticks),
            Phase::Busy => return,
        };
        if tick.wrapping_sub(since) > limit {
            self.expired.set(true);
            self.wake();
        }
    }

    /// Makes the connection's task look at its thread again (drain).
    pub(crate) fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }
}

/// Serves one connection until it ends.
pub(crate) async fn serve(shard: Rc<Shard>, stream: TcpStream, client: SocketAddr) {
    let state = Rc::new(Connection {
        peers: Peers::of(&stream, client),
        phase: Cell::new(Phase::Idle(shard.tick())),
        expired: Cell::new(false),
        waker: RefCell::new(None),
    });
    let _listed = Listed {
        key: shard.list(&state),
        shard: Rc::clone(&shard),
    };
    let service = Service::new(Rc::clone(&shard), Rc::clone(&state));
    let io = Io {
        stream,
        shard: Rc::clone(&shard),
        state: Rc::clone(&state),
    };
    let connection = hyper::server::conn::http1::Builder::new()
        .max_buf_size(MAX_BUFFER)
        .max_header_size(MAX_BUFFER)
        // A client that closes its sending half is a client that left: most that leave can be told by nothing else.
        .half_close(false)
        .header_read_timeout(None)
        .serve_connection(io, service);
    let task = Task {
        connection,
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
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.shard.unlist(self.key);
    }
}

struct Task {
    connection: hyper::server::conn::http1::Connection<Io, Service>,
    state: Rc<Connection>,
    shard: Rc<Shard>,
    told_to_end: bool,
}

impl Future for Task {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let task = &mut *self;
        if task.state.expired.get() {
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
        let mut connection = Pin::new(&mut task.connection);
        if task.shard.is_draining() && !task.told_to_end {
            task.told_to_end = true;
            connection.as_mut().graceful_shutdown();
        }
        match catch_unwind(AssertUnwindSafe(|| connection.poll(context))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(Ok(()))) => Poll::Ready(()),
            Ok(Poll::Ready(Err(error))) => {
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

/// The socket, as hyper wants it. Notes the first bytes of a head.
struct Io {
    stream: TcpStream,
    shard: Rc<Shard>,
    state: Rc<Connection>,
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
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, slices)
    }
}
