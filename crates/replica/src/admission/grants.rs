//! How grants are made and ended: the rules that the module above argues for.

use std::time::Instant;

use super::expiries::Expiry;
use super::{Admission, ConnectionKey, GRANT_TIME, waiters::Router};

impl<T> Admission<T> {
    pub(super) fn at(&self, ConnectionKey(index): ConnectionKey) -> Option<&Router> {
        self.routers.get(index)?.as_ref()
    }

    pub(super) fn place(&mut self, key: ConnectionKey) -> Option<&mut Option<Router>> {
        let ConnectionKey(index) = key;
        self.routers.get_mut(index)
    }

    pub(super) fn router(&mut self, key: ConnectionKey) -> Option<&mut Router> {
        self.place(key)?.as_mut()
    }

    /// The router that a frame is from. Frames come between `connected` and `disconnected`, so there is one.
    pub(super) fn sender(&mut self, key: ConnectionKey) -> Option<&mut Router> {
        let router = self.router(key);
        debug_assert!(router.is_some(), "{key:?} sends and is not connected");
        router
    }

    /// The router has told, or is told, that its soft grants are of the past.
    pub(super) fn end_soft(&mut self, now: Instant, key: ConnectionKey) {
        let ended = self.router(key).map_or(0, Router::end_soft);
        self.soft -= ended;
        self.trim();
        for _ in 0..ended {
            self.freed(now, true);
        }
    }

    /// Takes a grant that ended off the books; false if there was none.
    pub(super) fn count_end(&mut self, ended: Option<bool>) -> bool {
        match ended {
            Some(true) => self.soft -= 1,
            Some(false) => self.granted -= 1,
            None => {}
        }
        ended.is_some()
    }

    /// Rule 1: soft grants up to the announced count.
    pub(super) fn cover(&mut self, now: Instant, key: ConnectionKey) {
        while self.free() > 0 {
            match self.router(key) {
                Some(router) if router.waiting && !router.silent && router.uncovered() => {
                    self.grant(now, key, true);
                    self.notify(key, true);
                }
                _ => break,
            }
        }
    }

    pub(super) fn cover_all(&mut self, now: Instant) {
        for position in 0..self.registered.len() {
            if let Some(key) = self.registered.get(position).copied() {
                self.cover(now, key);
            }
        }
    }

    /// Rule 4: a soft grant ends for a request that is here: of its own router, else of the one that has waited least.
    pub(super) fn lend(&mut self, key: ConnectionKey) -> bool {
        if self.soft == 0 || self.occupied() > self.places() {
            return false;
        }
        let own = self.router(key).is_some_and(Router::lend);
        let lent = own || {
            let routers = self.routers.iter_mut().flatten();
            routers
                .filter(|router| router.has_soft() && !router.lost)
                .max_by_key(|router| router.since)
                .is_some_and(Router::lend)
        };
        self.soft -= u32::from(lent);
        lent
    }

    /// Rule 2: a slot fell free. `soft`: it was granted before, and came back.
    pub(super) fn freed(&mut self, now: Instant, soft: bool) {
        if let Some((chosen, soft)) = self.next_grant(now, soft) {
            self.notify(chosen, soft);
        }
    }

    /// Keeps a free slot for the waiter whose turn it is.
    pub(super) fn next_grant(&mut self, now: Instant, soft: bool) -> Option<(ConnectionKey, bool)> {
        if self.registered.is_empty() || self.free() == 0 {
            return None;
        }
        let chosen = self
            .registered
            .iter()
            .filter_map(|key| Some((*key, self.at(*key)?)))
            .filter(|(_, router)| !router.silent && (router.uncovered() || !router.exhausted))
            .min_by_key(|(_, router)| (router.surplus(), router.since))
            .map(|(key, router)| (key, soft || !router.uncovered()));
        let (chosen, soft) = chosen?;
        self.grant(now, chosen, soft);
        Some((chosen, soft))
    }

    pub(super) fn grant(&mut self, now: Instant, key: ConnectionKey, soft: bool) {
        let Some(router) = self.router(key) else {
            debug_assert!(false, "{key:?} is chosen and not connected");
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
            connection: key,
            generation,
            number,
        });
    }
}
