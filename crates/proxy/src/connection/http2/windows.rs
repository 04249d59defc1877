//! How far a client may send ahead of user code: the windows of one connection.
//!
//! Two things would each be easy alone. A client that is far away needs a window of all that fits into the way to it,
//! or its upload waits for us once in every round trip. And what user code does not read lies here, so windows are
//! memory that is given away. Hence:
//!
//! - The window of a stream is wide ([`Limits::h2_stream_window_bytes`]), that of the connection is [`FIRST`]. Only the
//!   second binds, so it is what bounds memory.
//! - It grows when user code waits for a client that has sent a burst and stopped ([`Share::ask`]): by what is left of
//!   the body, and it shrinks again as that comes.
//! - When several bodies are open and much of them is unread, the windows of streams are made narrow ([`NARROW`]), and
//!   that of the connection grows by what is unread: so a body that nobody reads stops no other.
//! - What a connection grows by for clients far away is taken from one total of the process,
//!   [`Limits::h2_windows_bytes`], and so is what is unread beyond [`Limits::h2_connection_window_bytes`]. From what is
//!   left of it nobody grows by more than [`PART`] at once. When nothing is left windows stay as they are, and clients
//!   wait.
//!
//! A window that was given cannot be taken back: it counts until the client has used it up.

use std::{cell::RefCell, rc::Rc};

use h2::{FlowControl, RecvStream, server};
use slab::Slab;
use tokio::io::{AsyncRead, AsyncWrite};

use super::piece::Piece;
use crate::{connection::Connection, limits::Limits, settings::Settings, shard::Shard};

/// The window of a connection that has not grown.
const FIRST: u64 = 256 * 1024;
/// The window of a stream where bodies are open that nobody reads.
const NARROW: u32 = 64 * 1024;
/// What a body grows by whose length is not known.
const UNKNOWN: u64 = 4 * 1024 * 1024;
/// The part of what is left of the total that one growth may take.
const PART: u64 = 8;

/// See the module.
#[derive(Debug)]
pub(crate) struct Windows {
    shard: Rc<Shard>,
    state: Rc<Connection>,
    settings: Rc<Settings>,
    inner: RefCell<Inner>,
}

#[derive(Debug)]
struct Inner {
    bodies: Slab<Body>,
    /// Something happened that windows depend on.
    changed: bool,
    /// Bytes that came since the windows were looked at.
    received: u64,
    /// Bytes that were read since then.
    read: u64,
    /// Given to bodies beyond [`FIRST`].
    room: u64,
    /// What h2 was told: it keeps what is unread and what the client may send at this.
    target: u64,
    /// What the client may have beyond it, since the target was higher.
    excess: u64,
    /// What of that was `room` before.
    leftover: u64,
    /// Taken from the total of the process.
    taken: u64,
    /// What the windows of streams are, as the client was told, and what they are to be.
    is_narrow: bool,
    wants_narrow: bool,
    /// Streams whose bodies nobody wants, to be read to their end.
    let_go: Vec<RecvStream>,
}

/// A request body that is open.
#[derive(Debug)]
struct Body {
    flow: FlowControl,
    /// What of `room` is for it.
    given: u64,
    /// How much it is to grow by.
    asks: u64,
}

impl Windows {
    /// `settings`: those that the connection has begun with, which h2 goes by.
    pub(super) fn new(shard: Rc<Shard>, state: Rc<Connection>, settings: Rc<Settings>) -> Self {
        let target = first(&settings.limits);
        Self {
            shard,
            state,
            settings,
            inner: RefCell::new(Inner {
                bodies: Slab::new(),
                changed: false,
                received: 0,
                read: 0,
                room: 0,
                target,
                excess: 0,
                leftover: 0,
                taken: 0,
                is_narrow: false,
                wants_narrow: false,
                let_go: Vec::new(),
            }),
        }
    }

    /// A body begins.
    pub(super) fn open(self: &Rc<Self>, stream: &mut RecvStream) -> Share {
        let mut inner = self.inner.borrow_mut();
        inner.changed = true;
        let key = inner.bodies.insert(Body {
            flow: stream.flow_control().clone(),
            given: 0,
            asks: 0,
        });
        Share {
            windows: Rc::clone(self),
            key,
        }
    }

    /// The rest of a body is not wanted.
    pub(super) fn let_go(&self, stream: RecvStream) {
        self.inner.borrow_mut().let_go.push(stream);
        self.state.wake();
    }

    pub(super) fn take_let_go(&self) -> Vec<RecvStream> {
        std::mem::take(&mut self.inner.borrow_mut().let_go)
    }

    /// Brings the windows in line with what happened; whether h2 has something to say because of it. Before h2 says
    /// anything to the client, and after it has read. `received`: bytes of bodies that came since the last time.
    pub(super) fn settle<S>(
        &self,
        connection: &mut server::Connection<S, Piece>,
        received: u64,
    ) -> bool
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let inner = &mut *self.inner.borrow_mut();
        inner.received += received;
        let first = first(&self.settings.limits);
        if !inner.changed && inner.received < first / 4 {
            return false;
        }
        inner.received = 0;
        let has_grown = self.grow(inner);
        let unread = inner.unread();
        let is_crowded = inner.bodies.len() > 1 && unread * 2 > first + inner.room;
        let was_narrow = inner.is_narrow;
        inner.wants_narrow = is_crowded || inner.wants_narrow && !has_grown;
        if inner.wants_narrow != inner.is_narrow {
            let wide = self.settings.limits.h2_stream_window_bytes as u32;
            let size = if inner.wants_narrow {
                NARROW.min(wide)
            } else {
                wide
            };
            // Not before the client has acknowledged the last one.
            if connection.set_initial_window_size(size).is_ok() {
                inner.is_narrow = inner.wants_narrow;
            }
        }
        inner.changed = inner.wants_narrow != inner.is_narrow;
        // Not while streams are wide, or the same body would fill that too.
        let follows = if is_crowded && inner.is_narrow {
            unread
        } else {
            0
        };
        let target = self.retarget(inner, first + inner.room.max(follows));
        if target != inner.target {
            connection.set_target_window_size(target as u32);
        }
        let is_wider = target > std::mem::replace(&mut inner.target, target);
        is_wider || was_narrow != inner.is_narrow
    }

    /// Gives bodies what they ask for, as far as there is some. Whether one got any.
    fn grow(&self, inner: &mut Inner) -> bool {
        let total = &self.shard.counters.h2_window_bytes_open;
        let widest = self.settings.limits.h2_stream_window_bytes;
        let mut has_grown = false;
        for (_key, body) in &mut inner.bodies {
            let asks = std::mem::take(&mut body.asks).min(widest.saturating_sub(body.given));
            let given = asks.min(self.left() / PART);
            if given > 0 && total.add_many_below(given, self.shard.settings().window_bytes) {
                inner.taken += given;
                inner.room += given;
                body.given += given;
                has_grown = true;
            }
        }
        has_grown
    }

    /// What is left of the total of the process.
    fn left(&self) -> u64 {
        let taken = self.shard.counters.h2_window_bytes_open.get();
        self.shard.settings().window_bytes.saturating_sub(taken)
    }

    /// As much of the wanted target as the total has room for. Takes that from it, or gives back what is not needed.
    fn retarget(&self, inner: &mut Inner, wanted: u64) -> u64 {
        let total = &self.shard.counters.h2_window_bytes_open;
        let wanted = wanted.min(h2_most());
        inner.excess += inner.target.saturating_sub(wanted);
        let read = std::mem::take(&mut inner.read);
        inner.excess = inner.excess.saturating_sub(read);
        inner.leftover = inner.leftover.saturating_sub(read).min(inner.excess);
        let own = self.settings.limits.h2_connection_window_bytes;
        let needed = (wanted + inner.excess)
            .saturating_sub(own)
            .max(inner.room + inner.leftover);
        if needed <= inner.taken {
            total.remove_many(inner.taken - needed);
            inner.taken = needed;
            return wanted;
        }
        let more = needed - inner.taken;
        if total.add_many_below(more, self.shard.settings().window_bytes) {
            inner.taken = needed;
            return wanted;
        }
        // As far as it goes without more.
        let most = (own + inner.taken).saturating_sub(inner.excess);
        wanted.min(most.max(inner.target))
    }
}

impl Drop for Windows {
    fn drop(&mut self) {
        let taken = self.inner.get_mut().taken;
        self.shard.counters.h2_window_bytes_open.remove_many(taken);
    }
}

impl Inner {
    fn unread(&self) -> u64 {
        let unread = |body: &Body| body.flow.used_capacity() as u64;
        self.bodies.iter().map(|(_key, body)| unread(body)).sum()
    }
}

/// A window of HTTP/2 is at most this.
const fn h2_most() -> u64 {
    (1 << 31) - 1
}

/// The window of a connection at first.
pub(super) fn first(limits: &Limits) -> u64 {
    FIRST.min(limits.h2_connection_window_bytes)
}

/// What one body has of its connection's windows, given back when dropped.
#[derive(Debug)]
pub(super) struct Share {
    windows: Rc<Windows>,
    key: usize,
}

impl Share {
    /// The body's end is `left` bytes away; `None`: nobody knows. Its client waits for a wider window.
    pub(super) fn ask(&self, left: Option<u64>) {
        let inner = &mut *self.windows.inner.borrow_mut();
        if let Some(body) = inner.bodies.get_mut(self.key) {
            body.asks = match left {
                Some(left) => left.saturating_sub(body.given),
                None => UNKNOWN,
            };
            inner.changed = true;
            self.windows.state.wake();
        }
    }

    /// Bytes were read, and the end is `left` away.
    pub(super) fn read(&self, bytes: usize, left: Option<u64>) {
        let inner = &mut *self.windows.inner.borrow_mut();
        inner.read += bytes as u64;
        if let Some(left) = left
            && let Some(body) = inner.bodies.get_mut(self.key)
            && body.given > left
        {
            let returned = body.given - left;
            body.given = left;
            inner.room -= returned;
            inner.leftover += returned;
            inner.changed = true;
        }
    }

    /// What its client may send ahead, if it is the only one.
    pub(super) fn room(&self) -> u64 {
        let inner = self.windows.inner.borrow();
        FIRST + inner.bodies.get(self.key).map_or(0, |body| body.given)
    }

    pub(super) fn windows(&self) -> &Windows {
        &self.windows
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let inner = &mut *self.windows.inner.borrow_mut();
        let Some(body) = inner.bodies.try_remove(self.key) else {
            debug_assert!(false, "each body ends once");
            return;
        };
        inner.room -= body.given;
        inner.leftover += body.given;
        inner.changed = true;
    }
}
