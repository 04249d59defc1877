//! The I/O thread: accepts routers, reads frames, drives admission, hands requests over.
//!
//! It knows no user code and never waits for it: what user code needs to know goes on queues, and one wake stands
//! for all that a turn brought. So a process whose interpreter is busy still rejects, grants and counts its turns.
//!
//! A turn: wait; read what came; end grants that are late; wake whoever has work; count the turn in every claim
//! page; see whether the loop turns. While answers follow each other closely it watches: it sleeps no longer than [`WATCH`](crate::out::WATCH)
//! and sends what was put off.

use std::{
    io,
    os::fd::OwnedFd,
    sync::{Arc, atomic::Ordering},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use eagleray_wire::{
    LongFrame,
    fork::{self, Listed},
};
use rustix::event::epoll;

use crate::{
    event::Event,
    metrics::Routes,
    poller::{INTERRUPT, Poller},
    pool::Served,
    queues::Queues,
    request::Slots,
    shared::Shared,
};
use condition::Condition;

mod condition;
mod control;
mod frames;
mod routers;
mod timeouts;

const LISTENER: u64 = 0;
const CONTROL: u64 = 1;
/// Tokens of connections are their keys and this.
pub(crate) const FIRST_CONNECTION: u64 = 2;
const READ_BYTES: usize = 64 * 1024;
/// A queue for the pool that has not moved for so long needs one more thread.
const STUCK: Duration = Duration::from_micros(500);
/// How long the answers that are ready may take to leave when the service stops.
const LAST_BYTES: Duration = Duration::from_secs(1);

/// Why the service ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was told to.
    Stopped,
    /// The node is gone, so this process should be too.
    NodeGone,
}

/// The I/O thread's own state. [`Service::run`] is its life.
#[derive(Debug)]
pub struct Service {
    shared: Arc<Shared>,
    queues: Arc<Queues>,
    listener: OwnedFd,
    listening: bool,
    /// Accepting failed, which has been said.
    cannot_accept: bool,
    /// The listener is not looked at before.
    accept_at: Option<Instant>,
    /// Who started this process. User code may become another user; routers stay this one.
    own_uid: u32,
    control: Arc<OwnedFd>,
    control_input: BytesMut,
    routers: Vec<Option<Router>>,
    scratch: Vec<u8>,
    /// Sync requests taken from the pool's queue, as last seen.
    pool_popped: u64,
    /// Since when nothing was taken from it.
    pool_still: Instant,
    turn: Turn,
    condition: Condition,
    routes: Routes,
    _listed: Vec<Listed>,
}

/// What one turn brought.
#[derive(Debug, Default)]
struct Turn {
    for_loop: usize,
    for_pool: usize,
}

/// A router's connection, as the I/O thread sees it.
#[derive(Debug)]
enum Router {
    /// HELLO has not come yet.
    New {
        socket: Arc<OwnedFd>,
        input: BytesMut,
        listed: Listed,
    },
    Live {
        slots: Arc<Slots>,
        input: BytesMut,
        /// A long frame that is on its way; then `input` is empty.
        long: Option<LongFrame>,
    },
}

impl Service {
    pub(crate) fn new(
        shared: Arc<Shared>,
        queues: Arc<Queues>,
        listener: OwnedFd,
        control: Arc<OwnedFd>,
    ) -> io::Result<Self> {
        let full = || io::Error::other("too many descriptors");
        let listed = vec![
            fork::list(&listener).ok_or_else(full)?,
            fork::list(&control).ok_or_else(full)?,
        ];
        for socket in [&listener, &*control] {
            rustix::io::fcntl_setfd(socket, rustix::io::FdFlags::CLOEXEC)?;
            rustix::io::ioctl_fionbio(socket, true)?;
        }
        shared.poller.add(&*control, CONTROL)?;
        Ok(Self {
            shared,
            queues,
            listener,
            listening: false,
            cannot_accept: false,
            accept_at: None,
            own_uid: rustix::process::getuid().as_raw(),
            control,
            control_input: BytesMut::new(),
            routers: Vec::new(),
            scratch: vec![0; READ_BYTES],
            pool_popped: 0,
            pool_still: Instant::now(),
            turn: Turn::default(),
            condition: Condition::new(Instant::now()),
            routes: Routes::default(),
            _listed: listed,
        })
    }

    /// Runs on a thread of its own until it is stopped. Without its node, or when this thread cannot go on, it ends the
    /// process at once: nobody would hear what that does from then on.
    ///
    /// # Errors
    /// There cannot be one more thread.
    pub fn spawn(self) -> io::Result<JoinHandle<()>> {
        let run = move || {
            if !matches!(self.run(), Ok(Ended::Stopped)) {
                let own = rustix::process::getpid();
                rustix::process::kill_process(own, rustix::process::Signal::KILL).ok();
            }
        };
        thread::Builder::new().name("eagleray-io".into()).spawn(run)
    }

    /// Runs until the service is stopped or the node is gone. Blocks the thread.
    ///
    /// # Errors
    /// epoll failed, which does not happen short of memory.
    pub fn run(mut self) -> io::Result<Ended> {
        let mut events = Vec::with_capacity(64);
        let poller: Arc<Poller> = Arc::clone(&self.shared.poller);
        let ended = loop {
            let timeout = self.timeout(Instant::now());
            poller.wait(&mut events, timeout)?;
            let now = Instant::now();
            self.send_put_off(events.is_empty());
            let mut node_gone = false;
            for event in &events {
                node_gone |= !self.on_event(now, *event);
            }
            if node_gone {
                break Ended::NodeGone;
            }
            self.resume_accepting(now);
            self.end_grants(now);
            self.give_memory_back(now);
            self.hand_over(now);
            self.look_after(now);
            if self.shared.stopping.load(Ordering::Acquire) {
                break Ended::Stopped;
            }
        };
        self.queues.pool.close();
        if ended == Ended::Stopped {
            self.last_bytes(&mut events)?;
        }
        Ok(ended)
    }

    /// False: the node is gone.
    fn on_event(&mut self, now: Instant, event: epoll::Event) -> bool {
        let flags = event.flags;
        let readable = flags
            .intersects(epoll::EventFlags::IN | epoll::EventFlags::HUP | epoll::EventFlags::ERR);
        match event.data.u64() {
            INTERRUPT => {
                self.shared.poller.clear_interrupt();
                if fork::signals::heard() {
                    self.shared.event(Event::Terminate);
                }
                self.begin();
            }
            LISTENER => self.accept(now),
            CONTROL => {
                if flags.contains(epoll::EventFlags::OUT) {
                    self.shared.control.writable();
                }
                return !readable || self.read_control();
            }
            token => {
                let index = (token - FIRST_CONNECTION) as usize;
                if flags.contains(epoll::EventFlags::OUT)
                    && let Some(Some(Router::Live { slots, .. })) = self.routers.get(index)
                {
                    slots.connection.out.writable();
                }
                if readable {
                    self.read_router(now, index);
                }
            }
        }
        true
    }

    /// Listens once there is something to serve: until then routers wait in the listener's queue.
    fn begin(&mut self) {
        if !self.listening
            && self.shared.serving.lock().is_some()
            && self.shared.poller.add(&self.listener, LISTENER).is_ok()
        {
            self.listening = true;
        }
    }

    /// One wake for all that the turn brought, and one turn more in each page.
    fn hand_over(&mut self, now: Instant) {
        let turn = std::mem::take(&mut self.turn);
        if turn.for_loop > 0 {
            self.shared.notify();
        }
        let pool = &self.queues.pool;
        let popped = pool.popped();
        if popped != self.pool_popped || pool.len() == turn.for_pool {
            self.pool_popped = popped;
            self.pool_still = now;
        }
        if pool.len() > 0 {
            let stuck = now.saturating_duration_since(self.pool_still) >= STUCK;
            if stuck {
                self.pool_still = now;
            }
            if pool.wake(stuck) == Served::NeedsThread {
                self.shared.event(Event::ThreadWanted);
            }
        }
        if turn.for_loop + turn.for_pool > 1 {
            self.shared.watching.store(true, Ordering::SeqCst);
        }
        for connection in self.shared.connections.lock().iter() {
            connection.page.bump();
        }
    }

    /// Sends what has been put off since the last turn. Nothing came within `WATCH`: from now on answers go out
    /// one by one, and none is left behind.
    fn send_put_off(&mut self, idle: bool) {
        let watching = if idle {
            self.shared.watching.swap(false, Ordering::SeqCst)
        } else {
            self.shared.watching.load(Ordering::Relaxed)
        };
        if watching {
            self.shared.flush();
        }
    }

    /// Gives the answers that are ready a bounded time to leave.
    fn last_bytes(&mut self, events: &mut Vec<epoll::Event>) -> io::Result<()> {
        let until = Instant::now() + LAST_BYTES;
        self.send_put_off(true);
        loop {
            let connections = self.shared.connections.lock().clone();
            let empty = connections
                .iter()
                .all(|connection| connection.out.is_empty());
            let left = until.saturating_duration_since(Instant::now());
            if (empty && self.shared.control.is_empty()) || left.is_zero() {
                return Ok(());
            }
            self.shared
                .poller
                .wait(events, Some(left.min(Duration::from_millis(10))))?;
            for connection in connections {
                connection.out.writable();
            }
            self.shared.control.writable();
        }
    }
}
