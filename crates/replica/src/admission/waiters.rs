//! What admission knows of one router.

use std::time::Instant;

use super::Queue;

#[derive(Debug)]
pub(super) struct Router {
    generation: u32,
    /// Between WAIT and UNWAIT.
    pub(super) waiting: bool,
    /// A grant of it expired, and no frame has come since.
    pub(super) silent: bool,
    /// It returned a grant while it said that nothing waits.
    pub(super) exhausted: bool,
    /// Since when its oldest request waits, as last announced.
    pub(super) since: Option<Instant>,
    announced: u32,
    granted_total: u64,
    resolved_total: u64,
}

impl Router {
    pub(super) const fn new(generation: u32) -> Self {
        Self {
            generation,
            waiting: false,
            silent: false,
            exhausted: false,
            since: None,
            announced: 0,
            granted_total: 0,
            resolved_total: 0,
        }
    }

    pub(super) fn heard(&mut self, now: Instant, queue: Queue) {
        self.silent = false;
        self.exhausted = false;
        self.announced = queue.waiting;
        // An `Instant` cannot go below its zero; who says so much has waited longest in any case.
        self.since = now.checked_sub(queue.oldest_wait);
    }

    /// Grants neither used, returned nor expired.
    pub(super) const fn grants(&self) -> u32 {
        (self.granted_total - self.resolved_total) as u32
    }

    pub(super) const fn uncovered(&self) -> bool {
        self.announced > self.grants()
    }

    /// Grants past the announced count; 0 while it is not covered.
    pub(super) const fn surplus(&self) -> u32 {
        (self.grants() + 1).saturating_sub(self.announced)
    }

    /// Counts one grant; returns what its expiry needs.
    pub(super) const fn grant(&mut self) -> (u32, u64) {
        self.granted_total += 1;
        (self.generation, self.granted_total)
    }

    /// Ends the oldest grant; false if there is none.
    pub(super) const fn resolve(&mut self) -> bool {
        let some = self.grants() > 0;
        if some {
            self.resolved_total += 1;
        }
        some
    }

    pub(super) const fn end_grants(&mut self) {
        self.resolved_total = self.granted_total;
    }

    pub(super) const fn outstanding(&self, generation: u32, number: u64) -> bool {
        self.generation == generation && number > self.resolved_total
    }
}
