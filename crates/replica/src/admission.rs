//! Admission: who gets the next free slot of this replica. Sans-I/O.
//!
//! The rule it keeps: **accepted requests plus slots kept by grants never exceed `max_ongoing_requests`**, for any
//! number of routers, and a slot that falls free goes to the router whose oldest request has waited longest.
//!
//! # No slot idles while a request waits for it
//!
//! What a router says (WAIT, UNWAIT, RETURN, the `a` of REQUEST) is as old as the frame that says it, so the
//! announced *count* of a waiter may be too low, and its registration may be about to end. The rules:
//!
//! 1. A WAIT, a REQUEST or a RETURN with a count above the grants that its router holds gets grants up to that
//!    count, as far as slots are free.
//! 2. A slot that falls free while any router is registered is granted *at once, even past the announced count*:
//!    first to a router whose count is not covered, the longest wait first; if all are covered, to the one with
//!    the least surplus. What it cannot use comes back (RETURN) with a fresh count.
//! 3. GRANT and REJECT, as RESPONSE, say how many slots are taken (`b`) of how many (`c`): what is left is an
//!    *offer*, on which the router may send at once. An offer keeps nothing free: the slot is whose request comes
//!    first.
//!
//! From 1 and 2 follows the invariant that the tests check: *while a slot is free, every registered router holds
//! at least as many grants as it has announced, and a grant to it is on its way, or its reply is*. Let `d` be the
//! travel of one frame, and say that a request sleeps while it is in a router's queue and a slot here is neither
//! used nor granted nor in an offer under way. A request that fills the queue is announced by a WAIT, and rule 1 answers it: it
//! sleeps `d`. A request that joins a queue whose WAIT is still travelling sleeps until that WAIT arrives, so less
//! than `d`; the grant that answers it carries the offer, and the router sends on it as soon as it comes. Only a
//! request that was rejected before (it travels on grants alone, so that its frames are bounded) is left in the
//! queue then; the REQUEST that spends the grant announces it: `d` again. So no request sleeps longer than one
//! frame's travel. From the request's side: it is on its way at most two travels after it could have been, plus one
//! if it had been rejected.
//!
//! Frames of a request that waits: REQUEST, REJECT, GRANT, REQUEST, and for the slot that it frees at most
//! one GRANT past the count with its RETURN: below six control frames. With a slot free nothing but GRANT rides.
//! (Refused: a WAIT for each request, which costs up to 32 frames; a grant of all free slots to the first that
//! asks, which starves the others; granting by count alone, which lets a slot idle for a round trip.)
//!
//! # A router that does not answer
//!
//! Every GRANT is answered, by use or RETURN. One that is not answered within 5 ms ends, and its router gets no
//! other until a frame comes from it: a stopped router cannot hold slots by having waited longest.

mod waiters;

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use eagleray_wire::{Header, Kind};
use waiters::Router;

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
    /// Send REJECT (see [`Admission::reject`]).
    Reject,
}

/// What a router says of its queue: `a` and `b` of REQUEST, WAIT and RETURN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    pub waiting: u32,
    pub oldest_wait: Duration,
}

impl Queue {
    pub const fn of(header: &Header) -> Self {
        Self {
            waiting: header.a,
            oldest_wait: Duration::from_micros(header.b as u64),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Admission {
    limit: u32,
    /// Accepted and not finished.
    ongoing: u32,
    /// Slots kept by grants that are not soft.
    granted: u32,
    /// Slots kept by soft grants.
    soft: u32,
    draining: bool,
    /// By connection.
    routers: Vec<Option<Router>>,
    /// Connections between WAIT and UNWAIT.
    registered: Vec<usize>,
    /// Every grant by the time of its end; those that ended otherwise are skipped.
    expiries: VecDeque<Expiry>,
    out: VecDeque<Notice>,
    generation: u32,
}

#[derive(Clone, Copy, Debug)]
struct Notice {
    to: ConnectionKey,
    kind: Kind,
    soft: bool,
}

#[derive(Clone, Copy, Debug)]
struct Expiry {
    at: Instant,
    connection: usize,
    generation: u32,
    /// Counts the grants of its connection.
    number: u64,
}

impl Admission {
    /// `limit` is `max_ongoing_requests`.
    pub fn new(limit: u32) -> Self {
        Self {
            limit,
            ongoing: 0,
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

    /// Slots that a request of a router without a grant cannot get: the `b` of every RESPONSE, GRANT and REJECT.
    pub const fn occupied(&self) -> u32 {
        self.ongoing + self.granted
    }

    /// Slots neither used nor granted.
    pub const fn free(&self) -> u32 {
        self.limit.saturating_sub(self.occupied() + self.soft)
    }

    /// Grants that a router holds.
    pub fn grants(&self, ConnectionKey(index): ConnectionKey) -> u32 {
        self.routers
            .get(index)
            .and_then(Option::as_ref)
            .map_or(0, Router::grants)
    }

    pub const fn draining(&self) -> bool {
        self.draining
    }

    pub fn connected(&mut self, _now: Instant, connection: ConnectionKey) {
        let ConnectionKey(index) = connection;
        if self.routers.len() <= index {
            self.routers.resize_with(index + 1, || None);
        }
        self.generation = self.generation.wrapping_add(1);
        if let Some(place) = self.routers.get_mut(index) {
            *place = Some(Router::new(self.generation));
        }
        if self.draining {
            self.out.push_back(Notice {
                to: connection,
                kind: Kind::Gone,
                soft: false,
            });
        }
    }

    /// Ends its grants and its wait. What it has running keeps its slots: each still ends by `dropped`.
    pub fn disconnected(&mut self, now: Instant, ConnectionKey(index): ConnectionKey) {
        let Some(mut router) = self.routers.get_mut(index).and_then(Option::take) else {
            return;
        };
        self.registered.retain(|other| *other != index);
        self.out.retain(|notice| notice.to != ConnectionKey(index));
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
        connection: ConnectionKey,
        granted: bool,
        queue: Queue,
    ) -> Verdict {
        let ConnectionKey(index) = connection;
        let Some(router) = self.router(index) else {
            return Verdict::Reject;
        };
        router.heard(now, queue);
        let spent = if granted { router.resolve() } else { None };
        self.count_end(spent);
        let room = spent.is_some() || self.free() > 0 || self.lend(index);
        let verdict = if room && !self.draining {
            self.ongoing += 1;
            Verdict::Accept
        } else {
            Verdict::Reject
        };
        self.trim();
        self.cover(now, index);
        verdict
    }

    /// WAIT: the router's queue is not empty.
    pub fn on_wait(&mut self, now: Instant, ConnectionKey(index): ConnectionKey, queue: Queue) {
        let draining = self.draining;
        let Some(router) = self.router(index) else {
            return;
        };
        router.heard(now, queue);
        if !router.waiting && !draining {
            router.waiting = true;
            self.registered.push(index);
        }
        self.cover(now, index);
    }

    /// UNWAIT: the router's queue is empty. The grants that it holds come back by themselves.
    pub fn on_unwait(&mut self, now: Instant, ConnectionKey(index): ConnectionKey) {
        let Some(router) = self.router(index) else {
            return;
        };
        router.heard(
            now,
            Queue {
                waiting: 0,
                oldest_wait: Duration::ZERO,
            },
        );
        router.waiting = false;
        self.registered.retain(|other| *other != index);
    }

    /// RETURN: the router cannot use a grant.
    pub fn on_return(&mut self, now: Instant, ConnectionKey(index): ConnectionKey, queue: Queue) {
        let Some(router) = self.router(index) else {
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
        self.cover(now, index);
    }

    /// A request of `connection` is over. True: set the flag GRANT on the RESPONSE with DONE, which must be the
    /// next frame written to it; take `b` of that frame from [`occupied`](Self::occupied) after this call.
    pub fn finished(&mut self, now: Instant, ConnectionKey(index): ConnectionKey) -> bool {
        self.ongoing = self.ongoing.saturating_sub(1);
        match self.next_grant(now, false) {
            Some(chosen) if chosen == index => true,
            Some(chosen) => {
                self.notify(chosen, Kind::Grant, false);
                false
            }
            None => false,
        }
    }

    /// A request is over without a frame that a grant could ride on: its router is gone.
    pub fn dropped(&mut self, now: Instant) {
        self.ongoing = self.ongoing.saturating_sub(1);
        self.freed(now, false);
    }

    /// Takes nothing new from now on; every router hears GONE. Grants not yet spent end.
    pub fn drain(&mut self, _now: Instant) {
        if self.draining {
            return;
        }
        self.draining = true;
        self.granted = 0;
        self.soft = 0;
        self.registered.clear();
        self.expiries.clear();
        self.out.clear();
        for (index, router) in self.routers.iter_mut().enumerate() {
            if let Some(router) = router {
                router.waiting = false;
                router.end_grants();
                let to = ConnectionKey(index);
                self.out.push_back(Notice {
                    to,
                    kind: Kind::Gone,
                    soft: false,
                });
            }
        }
    }

    /// A new `max_ongoing_requests`. A lower one ends nothing: it holds as soon as enough has finished.
    pub fn set_limit(&mut self, now: Instant, limit: u32) {
        self.limit = limit;
        for position in 0..self.registered.len() {
            if let Some(index) = self.registered.get(position).copied() {
                self.cover(now, index);
            }
        }
        // Counts may be too low: one grant past them, for each, says how much there is now.
        for _ in 0..self.registered.len() {
            self.freed(now, false);
        }
    }

    /// The next frame to send: GRANT or GONE. A connection's frames keep the order of the calls that caused them.
    pub fn poll_transmit(&mut self) -> Option<(ConnectionKey, Header)> {
        let Notice { to, kind, soft } = self.out.pop_front()?;
        let mut header = self.header(kind, 0, 0);
        // Its own slot counts for who gets the grant.
        header.b += u32::from(soft);
        Some((to, header))
    }

    /// The REJECT for a request that was not accepted.
    pub const fn reject(&self, slot: u32, sequence: u64) -> Header {
        self.header(Kind::Reject, slot, sequence)
    }

    /// When `on_timeout` must be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.expiries.front().map(|expiry| expiry.at)
    }

    /// Ends the grants whose time has passed.
    pub fn on_timeout(&mut self, now: Instant) {
        while let Some(expiry) = self
            .expiries
            .front()
            .copied()
            .filter(|expiry| expiry.at <= now)
        {
            self.expiries.pop_front();
            let Some(router) = self.router(expiry.connection) else {
                continue;
            };
            let expired = router.expire(expiry.generation, expiry.number);
            router.silent |= expired.is_some();
            if self.count_end(expired) {
                self.freed(now, true);
            }
        }
        self.trim();
    }

    const fn header(&self, kind: Kind, slot: u32, sequence: u64) -> Header {
        let mut header = Header::new(kind, slot, sequence);
        header.b = self.occupied();
        header.c = self.limit;
        header
    }

    fn router(&mut self, index: usize) -> Option<&mut Router> {
        self.routers.get_mut(index)?.as_mut()
    }

    fn notify(&mut self, index: usize, kind: Kind, soft: bool) {
        self.out.push_back(Notice {
            to: ConnectionKey(index),
            kind,
            soft,
        });
    }

    /// Takes a grant that ended off the books; false if there was none.
    fn count_end(&mut self, ended: Option<bool>) -> bool {
        match ended {
            Some(true) => self.soft -= 1,
            Some(false) => self.granted -= 1,
            None => {}
        }
        ended.is_some()
    }

    /// Rule 1: soft grants up to the announced count.
    fn cover(&mut self, now: Instant, index: usize) {
        while self.free() > 0 {
            match self.router(index) {
                Some(router) if router.waiting && !router.silent && router.uncovered() => {
                    self.grant(now, index, true);
                    self.notify(index, Kind::Grant, true);
                }
                _ => break,
            }
        }
    }

    /// Rule 4: a soft grant ends for a request that is here: of its own router, else of the one that has waited least.
    fn lend(&mut self, index: usize) -> bool {
        if self.soft == 0 || self.occupied() + self.soft > self.limit {
            return false;
        }
        let own = self.router(index).is_some_and(Router::lend);
        let lent = own || {
            let routers = self.routers.iter_mut().flatten();
            routers
                .filter(|router| router.has_soft())
                .max_by_key(|router| router.since)
                .is_some_and(Router::lend)
        };
        self.soft -= u32::from(lent);
        lent
    }

    /// Rule 2: a slot fell free. `soft`: it was granted before, and came back.
    fn freed(&mut self, now: Instant, soft: bool) {
        if let Some(chosen) = self.next_grant(now, soft) {
            self.notify(chosen, Kind::Grant, soft);
        }
    }

    /// Keeps a free slot for the waiter whose turn it is.
    fn next_grant(&mut self, now: Instant, soft: bool) -> Option<usize> {
        if self.registered.is_empty() || self.free() == 0 {
            return None;
        }
        let routers = &self.routers;
        let chosen = self
            .registered
            .iter()
            .filter_map(|index| Some((*index, routers.get(*index)?.as_ref()?)))
            .filter(|(_, router)| !router.silent && (router.uncovered() || !router.exhausted))
            .min_by_key(|(_, router)| (router.surplus(), router.since))
            .map(|(index, _)| index)?;
        self.grant(now, chosen, soft);
        Some(chosen)
    }

    fn grant(&mut self, now: Instant, index: usize, soft: bool) {
        let Some(router) = self.router(index) else {
            return;
        };
        let (generation, number) = router.grant(soft);
        if soft {
            self.soft += 1;
        } else {
            self.granted += 1;
        }
        self.expiries.push_back(Expiry {
            at: now + GRANT_TIME,
            connection: index,
            generation,
            number,
        });
    }

    fn outstanding(&self, expiry: &Expiry) -> bool {
        self.routers
            .get(expiry.connection)
            .and_then(Option::as_ref)
            .is_some_and(|router| router.outstanding(expiry.generation, expiry.number))
    }

    /// Forgets expiries of grants that have ended, so that `poll_timeout` wakes nobody for them.
    fn trim(&mut self) {
        while let Some(expiry) = self.expiries.front().copied()
            && !self.outstanding(&expiry)
        {
            self.expiries.pop_front();
        }
    }
}

#[cfg(test)]
mod tests;
