//! Admission: who gets the next free slot of this replica. Sans-I/O.
//!
//! The rule it keeps: **accepted requests never exceed `max_ongoing_requests`**, for any number of routers, nor do they
//! with what grants keep and what waits here exceed it by more than the pace allows; and a slot that falls free goes to
//! the router whose oldest request has waited longest.
//!
//! # No slot idles while a request waits for it
//!
//! What a router says (WAIT, UNWAIT, RETURN, the `a` of REQUEST) is as old as the frame that says it, so the
//! announced *count* of a waiter may be too low, and its registration may be about to end. The rules:
//!
//! 1. A WAIT, a REQUEST or a RETURN with a count above the grants that its router holds gets grants up to that
//!    count, as far as slots are free. They are *soft* (rule 4).
//! 2. A slot that falls free while any router is registered is granted *at once, even past the announced count*:
//!    first to a router whose count is not covered, the longest wait first; if all are covered, to the one with
//!    the least surplus. It is firm, but soft past the count, or when the slot was granted before and came back.
//! 3. GRANT, REJECT and DONE say how many slots are taken (`b`) of how many (`c`): what is left is an *offer*, on
//!    which the router may send at once. An offer keeps nothing free: the slot is whose request comes first.
//! 4. A soft grant keeps a slot from other waiters, but not from a request that is already here: it is *lent*,
//!    that of the shortest wait first, and not twice in a row from the same router. It carries the number of the
//!    WAIT that it answers, and ends with the next WAIT or UNWAIT without an answer.
//!
//! So: *while a slot is free, every registered router holds at least as many grants as it has announced*, and each
//! grant is on its way, or its answer is. Let `d` be the travel of one frame, and say that a request sleeps while it is in
//! a router's queue and may come here, no slot here is kept for it, and one is free and not in an offer under way. A
//! request that fills the queue is announced by a WAIT, which rule 1 answers: it sleeps `d`. One that joins while that
//! WAIT travels sleeps until it arrives, less than `d`; the grant that answers carries the offer, and the router sends on it
//! when it comes. Only a request that may leave on a grant alone (it was rejected too often) is left in the queue
//! then, and the REQUEST that spends the grant announces it: `d` again. **No request sleeps longer than one frame's
//! travel.** Not counting offers as given, the bound is three travels: until the WAIT arrives, for the grant to
//! come back, and for the REQUEST that refreshes the count. The simulator (`eagleray-testkit`) asserts the first at
//! every step and reports the second.
//!
//! # Frames
//!
//! A request that waits costs a GRANT and up to three REJECTs. What can cost more is asking: the WAIT of one request
//! may be answered by every replica with a free slot. Hence soft grants. Kept firmly they made slots look taken that
//! nobody used, so other routers were rejected, asked everybody in turn, and 8 routers at half load on 32 replicas
//! of one slot settled at 13 control frames a request; and one frame ends all of them, where RETURN is one each. With
//! them, and with three tries before a request asks everybody, the worst load found costs 5.8 on average, ordinary
//! ones below 1. It is a bound on the average: of a single request, whose soft grants are lent again and again, it
//! is not (more than six: fewer than one in fifty in the worst runs). (Refused: a WAIT for each request, which costs up to
//! 32 frames; a grant of all free slots to the first that asks, which starves the others; granting by count alone,
//! which lets a slot idle for a round trip; random probes, which cost a round trip each.)
//!
//! # Requests that wait here
//!
//! A slot that falls free would stay empty for the round trip of its grant, and with a few slots the threads on the way
//! would wake for each few requests. So where requests are short (`pace.rs`) a few more are granted and taken than there
//! are slots: they wait here *ahead*, unclaimed, oldest first, and whichever falls free starts the next at once. Such a
//! request holds no slot: what is accepted is never more than the limit. Its router can take it back like any that has
//! not started. When the oldest has waited for [`AHEAD_TIME`], all go back to their routers, by REJECT, and for a while
//! none is taken: so a request waits here in vain no longer than a stopped router may hold a slot.
//!
//! # A router that does not answer
//!
//! Every GRANT is answered, by use or RETURN. One that is not answered within 5 ms ends, and its router gets no
//! other until a frame comes from it: a stopped router cannot hold slots by having waited longest.

mod ahead;
mod expiries;
mod grants;
mod notices;
mod pace;
mod waiters;

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use eagleray_wire::Header;
use expiries::Expiry;
use notices::Notice;
use pace::Pace;
use waiters::Router;

pub use ahead::AHEAD_TIME;

/// How long a grant keeps a slot.
pub const GRANT_TIME: Duration = Duration::from_millis(5);

/// A connection of a router, named by the owner with small, dense numbers (a slab's keys). A number may be used
/// again after `disconnected`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionKey(pub usize);

/// What becomes of a REQUEST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It holds a slot from now on. Exactly one of `finished` and `dropped` must follow.
    Accept,
    /// It waits here until a slot is free. Exactly one of `take_ahead` and `undo` must follow.
    Ahead,
    /// Send REJECT (see [`Admission::reject`]).
    Reject,
}

/// What a router says of its queue: `a` and `b` of REQUEST, WAIT and RETURN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    pub waiting: u32,
    pub oldest_wait: Duration,
    /// Of a WAIT: its number, which soft grants repeat.
    pub number: u64,
}

impl Queue {
    pub const EMPTY: Self = Self {
        waiting: 0,
        oldest_wait: Duration::ZERO,
        number: 0,
    };

    pub const fn of(header: &Header) -> Self {
        let oldest_wait = Duration::from_micros(header.b as u64);
        Self {
            waiting: header.a,
            oldest_wait,
            number: header.sequence,
        }
    }
}

/// See the module. `T` is a request that waits here, as the owner names it.
#[derive(Debug)]
pub struct Admission<T = ()> {
    limit: u32,
    /// Accepted and not finished.
    ongoing: u32,
    /// Accepted ever.
    accepted: u64,
    /// Requests that wait here for a slot, oldest first, until when; and how many, with one that is being taken.
    ahead: VecDeque<(Instant, T)>,
    ahead_count: u32,
    pace: Pace,
    /// Slots kept by grants that are not soft.
    granted: u32,
    /// Slots kept by soft grants.
    soft: u32,
    draining: bool,
    /// By connection.
    routers: Vec<Option<Router>>,
    /// Connections between WAIT and UNWAIT.
    registered: Vec<ConnectionKey>,
    /// Every grant by the time of its end; those that ended otherwise are skipped.
    expiries: VecDeque<Expiry>,
    out: VecDeque<Notice>,
    generation: u32,
}

impl<T> Admission<T> {
    /// `limit` is `max_ongoing_requests`.
    pub fn new(limit: u32) -> Self {
        Self {
            limit,
            ongoing: 0,
            accepted: 0,
            ahead: VecDeque::new(),
            ahead_count: 0,
            pace: Pace::default(),
            granted: 0,
            soft: 0,
            draining: false,
            routers: Vec::new(),
            registered: Vec::new(),
            expiries: VecDeque::new(),
            out: VecDeque::new(),
            generation: 0,
        }
    }

    pub const fn limit(&self) -> u32 {
        self.limit
    }

    /// Requests that hold a slot.
    pub const fn ongoing(&self) -> u32 {
        self.ongoing
    }

    /// Requests that have held a slot, ever.
    pub const fn accepted(&self) -> u64 {
        self.accepted
    }

    /// No request has a slot, or waits here for one.
    pub const fn is_idle(&self) -> bool {
        self.ongoing == 0 && self.ahead_count == 0
    }

    /// Slots, and places for what waits here: the `c` of every RESPONSE, GRANT and REJECT.
    pub const fn places(&self) -> u32 {
        self.limit.saturating_add(self.pace.ahead())
    }

    /// How many of them are used or granted: the `b` of every RESPONSE, GRANT and REJECT.
    pub const fn occupied(&self) -> u32 {
        self.ongoing + self.ahead_count + self.granted + self.soft
    }

    /// Places neither used nor granted.
    pub const fn free(&self) -> u32 {
        self.places().saturating_sub(self.occupied())
    }

    /// Grants that a router holds.
    pub fn grants(&self, key: ConnectionKey) -> u32 {
        self.at(key).map_or(0, Router::grants)
    }

    pub const fn draining(&self) -> bool {
        self.draining
    }

    pub fn connected(&mut self, _now: Instant, key: ConnectionKey) {
        let ConnectionKey(index) = key;
        if self.routers.len() <= index {
            self.routers.resize_with(index + 1, || None);
        }
        self.generation = self.generation.wrapping_add(1);
        if let Some(place) = self.routers.get_mut(index) {
            *place = Some(Router::new(self.generation));
        }
        if self.draining {
            self.out.push_back(Notice::gone(key));
        }
    }

    /// Ends its grants and its wait. What it has running keeps its slots: each still ends by `dropped`.
    pub fn disconnected(&mut self, now: Instant, key: ConnectionKey) {
        let Some(mut router) = self.place(key).and_then(Option::take) else {
            debug_assert!(false, "{key:?} ends and was not connected");
            return;
        };
        self.registered.retain(|other| *other != key);
        self.out.retain(|notice| notice.to() != key);
        let (soft, firm) = router.end_grants();
        self.soft -= soft;
        self.granted -= firm;
        for _ in 0..soft + firm {
            self.freed(now, false);
        }
    }

    /// A REQUEST has come. `granted`: it has the flag GRANT.
    pub fn on_request(
        &mut self,
        now: Instant,
        key: ConnectionKey,
        granted: bool,
        queue: Queue,
    ) -> Verdict {
        self.pace.look(now);
        let Some(router) = self.sender(key) else {
            return Verdict::Reject;
        };
        router.heard(now, queue);
        let spent = if granted { router.resolve() } else { None };
        self.count_end(spent);
        let room = match spent {
            Some(false) => true,
            // What is kept softly is not kept beyond a lower limit.
            Some(true) => self.free() > 0,
            None => self.free() > 0 || self.lend(key),
        };
        let verdict = if !room || self.draining {
            Verdict::Reject
        } else if self.ongoing < self.limit {
            self.ongoing += 1;
            self.accepted += 1;
            Verdict::Accept
        } else if self.ahead_count < pace::MOST {
            self.ahead_count += 1;
            Verdict::Ahead
        } else {
            Verdict::Reject
        };
        if let Some(router) = self.router(key) {
            router.lost = granted && verdict == Verdict::Reject;
        }
        self.trim();
        self.cover(now, key);
        verdict
    }

    /// WAIT: the router's queue is not empty.
    pub fn on_wait(&mut self, now: Instant, key: ConnectionKey, queue: Queue) {
        let draining = self.draining;
        let Some(router) = self.sender(key) else {
            return;
        };
        router.heard(now, queue);
        router.number = queue.number;
        if !router.waiting && !draining {
            router.waiting = true;
            self.registered.push(key);
        }
        self.end_soft(now, key);
        self.cover(now, key);
    }

    /// UNWAIT: the router's queue is empty. Its soft grants end here; the others come back by themselves.
    pub fn on_unwait(&mut self, now: Instant, key: ConnectionKey) {
        let Some(router) = self.sender(key) else {
            return;
        };
        router.heard(now, Queue::EMPTY);
        router.waiting = false;
        self.registered.retain(|other| *other != key);
        self.end_soft(now, key);
    }

    /// RETURN: the router cannot use a grant.
    pub fn on_return(&mut self, now: Instant, key: ConnectionKey, queue: Queue) {
        let Some(router) = self.sender(key) else {
            return;
        };
        router.heard(now, queue);
        // A waiter with nothing that may come here gets no grant past its count, or the two would never end.
        router.exhausted = queue.waiting == 0;
        let returned = router.resolve();
        if self.count_end(returned) {
            self.trim();
            self.freed(now, true);
        }
        self.cover(now, key);
    }

    /// A request of `connection` is over. True: set the flag GRANT on the RESPONSE with DONE, which must be the
    /// next frame written to it; take `b` of that frame from [`occupied`](Self::occupied) after this call.
    pub fn finished(&mut self, now: Instant, key: ConnectionKey) -> bool {
        self.give_back();
        self.pace.look(now);
        let more = self.pace.finished(now);
        let rides = match self.next_grant(now, false) {
            // What more places bring is sent before the DONE, and a router's grants keep their order.
            Some((chosen, false)) if chosen == key && !more => true,
            Some((chosen, soft)) => {
                self.notify(chosen, soft);
                false
            }
            None => false,
        };
        if more {
            self.cover_all(now);
        }
        rides
    }

    /// A request is over without a frame that a grant could ride on: its router is gone.
    pub fn dropped(&mut self, now: Instant) {
        self.give_back();
        self.freed(now, false);
    }

    /// One accepted request less: each is over once.
    fn give_back(&mut self) {
        debug_assert!(self.ongoing > 0, "a request is over that was not accepted");
        self.ongoing = self.ongoing.saturating_sub(1);
    }

    /// Takes nothing new from now on; every router hears GONE. Grants not yet spent end.
    pub fn drain(&mut self, now: Instant) {
        if self.draining {
            return;
        }
        self.draining = true;
        // What waits goes back at once.
        for (until, _) in &mut self.ahead {
            *until = now;
        }
        self.granted = 0;
        self.soft = 0;
        self.registered.clear();
        self.expiries.clear();
        self.out.clear();
        for (index, router) in self.routers.iter_mut().enumerate() {
            if let Some(router) = router {
                router.waiting = false;
                router.end_grants();
                self.out.push_back(Notice::gone(ConnectionKey(index)));
            }
        }
    }

    /// A new `max_ongoing_requests`. A lower one ends nothing: it holds as soon as enough has finished.
    pub fn set_limit(&mut self, now: Instant, limit: u32) {
        self.limit = limit;
        self.cover_all(now);
        // Counts may be too low: one grant past them, for each, says how much there is now.
        for _ in 0..self.registered.len() {
            self.freed(now, false);
        }
    }
}

#[cfg(test)]
mod tests;
