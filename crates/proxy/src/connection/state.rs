//! What a thread knows of one connection, and the words for it.
//!
//! Notes, and no deeds: its task and its requests write down what they do, the sweep of the thread reads that and decides
//! what is too late ([`super::patience`]), and wakes the task, which finds the decision here.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    task::Waker,
};

use slab::Slab;

use super::{peers::Peers, progress::Progress};
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

/// Whether the client has ended its sending half. Most that do have left, but that cannot be told from one that only has
/// nothing more to say, as long as nothing is sent to it: who is gone answers that with a reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HalfClosed {
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
pub(super) enum End {
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
    pub(super) slow_head: Cell<Option<u32>>,
    /// How the client takes what is written to it.
    pub(crate) answer: Progress,
    /// This connection carries no other request: the body of one was not read to its end, or cannot be trusted.
    pub(crate) is_last: Cell<bool>,
    /// HTTP/1.1: the body of the last request was not read to its end, so its client may be sending it still.
    pub(crate) is_unread: Cell<bool>,
    /// Bodies that are waited for.
    pub(super) bodies: RefCell<Slab<Rc<Progress>>>,
    /// HTTP/1.1: one answer at a time, which goes on as the socket does. HTTP/2 has windows for that.
    pub(super) holds_bodies: Cell<bool>,
    /// An answer waits for the socket.
    is_holding: Cell<bool>,
    broken_off: Cell<BrokenOff>,
    pub(super) half_closed: Cell<HalfClosed>,
    /// A first request has come.
    pub(crate) has_asked: Cell<bool>,
    pub(super) end: Cell<Option<End>>,
    /// The client of a WebSocket has been silent for so long that it is to be asked for a sign of life.
    pub(super) wants_ping: Cell<bool>,
    /// hyper has been asked for an upgrade, and when it is done leaves the connection as it is.
    pub(crate) may_upgrade: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Connection {
    /// `hears_half_closes`: a client that ends its sending half may still be there; else it has left. `tick` is now.
    pub(super) fn new(peers: Peers, is_tls: bool, hears_half_closes: bool, tick: u32) -> Self {
        Self {
            peers,
            is_tls,
            phase: Cell::new(Phase::Idle(tick)),
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
            half_closed: Cell::new(if hears_half_closes {
                HalfClosed::No
            } else {
                HalfClosed::Over
            }),
            has_asked: Cell::new(false),
            end: Cell::new(None),
            wants_ping: Cell::new(false),
            may_upgrade: Cell::new(false),
            waker: RefCell::new(None),
        }
    }

    /// A request has begun. Each call is followed by one of [`Self::end_request`].
    pub(crate) fn begin_request(&self) {
        self.requests.set(self.requests.get() + 1);
        self.phase.set(Phase::Busy);
        self.has_asked.set(true);
    }

    /// A request is over; `tick` is now.
    pub(crate) fn end_request(&self, tick: u32) {
        debug_assert!(self.requests.get() > 0, "each request ends once");
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
    pub(super) fn may_send(&self) -> bool {
        self.is_last.get() || self.is_unread.get()
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
    pub(super) fn goes_on(&self) -> bool {
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
    pub(super) fn has_delivered(&self) -> bool {
        let waited = self.broken_off.get() == BrokenOff::Delivering;
        if waited {
            self.broken_off.set(BrokenOff::Delivered);
        }
        waited
    }

    pub(super) fn has_broken_off(&self) -> bool {
        self.broken_off.get() != BrokenOff::No
    }

    /// The client has ended its sending half. True: that is not to be heard yet, as an answer is on its way; the task is
    /// woken when it is. A body that is still waited for ended too early. `at_once`: the end came right behind what was sent
    /// last. Who sends nothing more ends its half then; who ends it later has waited, and has left.
    pub(super) fn holds_end(&self, tick: u32, at_once: bool) -> bool {
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

    pub(super) fn end_with(&self, end: End) {
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
        let body = self.bodies.borrow_mut().try_remove(key);
        debug_assert!(body.is_some(), "each body is forgotten once");
    }
}
