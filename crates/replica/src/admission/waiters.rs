//! What admission knows of one router.

use std::{collections::VecDeque, time::Instant};

use super::Queue;

#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, not a state"
)]
pub(super) struct Router {
    generation: u32,
    /// Between WAIT and UNWAIT.
    pub(super) waiting: bool,
    /// A grant of it expired, and no frame has come since.
    pub(super) silent: bool,
    /// A soft grant of it was lent, and its request came too late: the next is not lent.
    pub(super) lost: bool,
    /// It returned a grant while it said that nothing waits.
    pub(super) exhausted: bool,
    /// Since when its oldest request waits, as last announced.
    pub(super) since: Option<Instant>,
    announced: u32,
    /// Of its last WAIT.
    pub(super) number: u64,
    /// Grants neither used, returned, lent on nor expired, oldest first.
    grants: VecDeque<Grant>,
    last_number: u64,
}

#[derive(Clone, Copy, Debug)]
struct Grant {
    number: u64,
    soft: bool,
}

impl Router {
    pub(super) fn new(generation: u32) -> Self {
        Self {
            generation,
            waiting: false,
            silent: false,
            lost: false,
            exhausted: false,
            since: None,
            announced: 0,
            number: 0,
            grants: VecDeque::new(),
            last_number: 0,
        }
    }

    pub(super) fn heard(&mut self, now: Instant, queue: Queue) {
        self.silent = false;
        self.exhausted = false;
        self.announced = queue.waiting;
        // An `Instant` cannot go below its zero; who says so much has waited longest in any case.
        self.since = now.checked_sub(queue.oldest_wait);
    }

    pub(super) fn grants(&self) -> u32 {
        self.grants.len() as u32
    }

    pub(super) fn uncovered(&self) -> bool {
        self.announced > self.grants()
    }

    /// Grants past the announced count; 0 while it is not covered.
    pub(super) fn surplus(&self) -> u32 {
        (self.grants() + 1).saturating_sub(self.announced)
    }

    /// Counts one grant; returns what its expiry needs.
    pub(super) fn grant(&mut self, soft: bool) -> (u32, u64) {
        self.last_number += 1;
        self.grants.push_back(Grant {
            number: self.last_number,
            soft,
        });
        (self.generation, self.last_number)
    }

    /// Ends the oldest grant: whether it was soft, or `None` if there is none.
    pub(super) fn resolve(&mut self) -> Option<bool> {
        self.grants.pop_front().map(|grant| grant.soft)
    }

    pub(super) fn has_soft(&self) -> bool {
        self.grants.iter().any(|grant| grant.soft)
    }

    /// Ends the newest soft grant.
    pub(super) fn lend(&mut self) -> bool {
        let soft = self.grants.iter().rposition(|grant| grant.soft);
        soft.is_some_and(|at| self.grants.remove(at).is_some())
    }

    /// Ends the soft grants; returns how many they were.
    pub(super) fn end_soft(&mut self) -> u32 {
        let all = self.grants();
        self.grants.retain(|grant| !grant.soft);
        all - self.grants()
    }

    /// Ends all grants; returns how many were soft and how many not.
    pub(super) fn end_grants(&mut self) -> (u32, u32) {
        let soft = self.grants.iter().filter(|grant| grant.soft).count() as u32;
        let all = self.grants();
        self.grants.clear();
        (soft, all - soft)
    }

    /// Ends one grant by its number; whether it was soft.
    pub(super) fn expire(&mut self, generation: u32, number: u64) -> Option<bool> {
        let at = self.place(generation, number)?;
        self.grants.remove(at).map(|grant| grant.soft)
    }

    pub(super) fn outstanding(&self, generation: u32, number: u64) -> bool {
        self.place(generation, number).is_some()
    }

    fn place(&self, generation: u32, number: u64) -> Option<usize> {
        let found = self
            .grants
            .binary_search_by_key(&number, |grant| grant.number)
            .ok();
        found.filter(|_| self.generation == generation)
    }
}
