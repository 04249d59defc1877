//! When grants end that are not answered, and what else the time ends here.

use std::time::Instant;

use super::{Admission, ConnectionKey};

#[derive(Clone, Copy, Debug)]
pub(super) struct Expiry {
    pub(super) at: Instant,
    pub(super) connection: ConnectionKey,
    pub(super) generation: u32,
    /// Counts the grants of its connection.
    pub(super) number: u64,
}

impl<T> Admission<T> {
    /// When `on_timeout` and `take_overdue` must be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let expiry = self.expiries.front().map(|expiry| expiry.at);
        let overdue = self.ahead.front().map(|(until, _)| *until);
        expiry.into_iter().chain(overdue).min()
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

    fn outstanding(&self, expiry: &Expiry) -> bool {
        self.at(expiry.connection)
            .is_some_and(|router| router.outstanding(expiry.generation, expiry.number))
    }

    /// Forgets expiries of grants that have ended, so that `poll_timeout` wakes nobody for them.
    pub(super) fn trim(&mut self) {
        while let Some(expiry) = self.expiries.front().copied()
            && !self.outstanding(&expiry)
        {
            self.expiries.pop_front();
        }
    }
}
