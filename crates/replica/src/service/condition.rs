//! What the I/O thread says of the process: to routers whether the event loop turns, to the controller that and more.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use eagleray_types::control::{self, ReplicaEvent, replica_event};

use super::Service;
use crate::{
    liveness::{Found, LOOK_EVERY, Liveness, Seen},
    shared::Shared,
};

/// How often a loop that stays hung is reported again, with a fresh stack.
const REPEAT: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Condition {
    liveness: Liveness,
    /// What the controller heard last.
    told_abandoned: u32,
    told_at: Instant,
    tell_again: bool,
}

impl Condition {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            liveness: Liveness::new(now),
            told_abandoned: 0,
            told_at: now,
            tell_again: false,
        }
    }

    pub(super) fn hung_for(&self, now: Instant) -> Option<Duration> {
        self.liveness.hung_for(now)
    }

    pub(super) const fn tell_again(&mut self) {
        self.tell_again = true;
    }

    /// Whether the I/O thread must not sleep for long although no request runs.
    pub(super) fn watches(&self, shared: &Shared) -> bool {
        shared.hung.load(Ordering::Relaxed)
            || shared.abandoned.load(Ordering::Relaxed) != self.told_abandoned
            || !shared.events.is_empty()
    }
}

impl Service {
    /// Looks whether the loop turns, and tells whoever should know.
    pub(super) fn look_after(&mut self, now: Instant) {
        let urgent = self.shared.hung.load(Ordering::Relaxed);
        if !self.listening || !(urgent || self.condition.liveness.is_due(now)) {
            return;
        }
        let shared = &self.shared;
        let work = !self.queues.requests.is_empty()
            || !shared.events.is_empty()
            || shared.admission.lock().ongoing() > 0;
        let seen = Seen {
            turns: shared.loop_turns.load(Ordering::Relaxed),
            work,
            exempt: shared.exempt.load(Ordering::SeqCst),
        };
        match self.condition.liveness.look(now, seen) {
            Found::Nothing => {}
            Found::Ask => shared.notify(),
            Found::Hung => self.turns(now, false),
            Found::Turns => self.turns(now, true),
        }
        self.tell_condition(now);
    }

    fn turns(&mut self, now: Instant, turns: bool) {
        self.shared.hung.store(!turns, Ordering::Relaxed);
        let hung_for = self.condition.hung_for(now).map_or(0, |time| {
            u32::try_from(time.as_millis()).unwrap_or(u32::MAX).max(1)
        });
        // SeqCst: see `tell_avoid`.
        self.shared
            .hung_milliseconds
            .store(hung_for, Ordering::SeqCst);
        self.shared.tell_avoid(now);
        self.condition.tell_again = true;
    }

    fn tell_condition(&mut self, now: Instant) {
        let abandoned = self.shared.abandoned.load(Ordering::Relaxed);
        let hung_for = self.condition.hung_for(now);
        let since = now.saturating_duration_since(self.condition.told_at);
        let changed = abandoned != self.condition.told_abandoned && since >= LOOK_EVERY;
        let repeated = hung_for.is_some() && since >= REPEAT;
        if !(self.condition.tell_again || changed || repeated) {
            return;
        }
        self.condition.tell_again = false;
        self.condition.told_abandoned = abandoned;
        self.condition.told_at = now;
        let stacks = match hung_for {
            Some(_) => self.shared.handler.stacks(),
            None => String::new(),
        };
        let condition = control::Condition {
            hung_milliseconds: hung_for.map_or(0, |time| {
                u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)
            }),
            stacks,
            abandoned_requests: abandoned,
        };
        let body = Some(replica_event::Body::Condition(condition));
        self.shared.tell(now, &ReplicaEvent { body });
    }
}
