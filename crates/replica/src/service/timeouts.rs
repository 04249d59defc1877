//! When the I/O thread wakes although nothing has come, and what it does then.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use super::Service;
use crate::{out::WATCH, shared::Shared};

/// A replica with work turns at least this often.
const BEAT: Duration = Duration::from_millis(250);

impl Service {
    pub(super) fn timeout(&self, now: Instant) -> Option<Duration> {
        let shared = &self.shared;
        let mut timeout = None;
        let mut no_later = |duration: Duration| {
            timeout = Some(timeout.map_or(duration, |timeout: Duration| timeout.min(duration)));
        };
        if shared.watching.load(Ordering::SeqCst) || self.queues.pool.len() > 0 {
            no_later(WATCH);
        }
        // Said before admission is asked: whoever changes it after that sees the time and interrupts.
        shared.sleeps_until.store(u64::MAX, Ordering::SeqCst);
        let admission = shared.admission.lock();
        if admission.ongoing() > 0 || self.condition.watches(shared) {
            no_later(BEAT);
        }
        if let Some(at) = admission.poll_timeout() {
            no_later(at.saturating_duration_since(now));
        }
        if let Some(at) = self.accept_at {
            no_later(at.saturating_duration_since(now));
        }
        drop(admission);
        let memory = [shared.regions.poll_timeout(), shared.held.poll_timeout()];
        for at in memory.into_iter().flatten() {
            no_later(at.saturating_duration_since(now));
        }
        if let Some(timeout) = timeout {
            shared
                .sleeps_until
                .fetch_min(shared.micros(now + timeout), Ordering::SeqCst);
        }
        timeout
    }

    /// Regions, of results and of arguments, that were not needed for a while.
    pub(super) fn give_memory_back(&self, now: Instant) {
        let Shared { regions, held, .. } = &*self.shared;
        if regions.poll_timeout().is_some_and(|at| at <= now) {
            regions.on_timeout(now);
        }
        if held.poll_timeout().is_some_and(|at| at <= now) {
            held.on_timeout(now);
        }
    }

    /// The time of a grant, or of requests that wait for a slot, is up.
    pub(super) fn end_grants(&mut self, now: Instant) {
        let mut admission = self.shared.admission.lock();
        if admission.poll_timeout().is_none_or(|at| at > now) {
            return;
        }
        let overdue = admission.take_overdue(now);
        admission.on_timeout(now);
        self.shared.after(now, admission);
        for request in overdue {
            request.send_back(now);
        }
    }
}
