//! Requests that wait here for a slot: taken in, started in their order, or sent back.

use std::time::{Duration, Instant};

use super::{Admission, GRANT_TIME, Verdict};

/// How long a request waits here for a slot before it goes back to its router.
pub const AHEAD_TIME: Duration = GRANT_TIME;

impl<T> Admission<T> {
    /// The request whose verdict was `Ahead`. A slot may have fallen free since: ask `next_ahead`.
    pub fn take_ahead(&mut self, now: Instant, request: T) {
        self.ahead.push_back((now + AHEAD_TIME, request));
    }

    /// A verdict cannot be carried out: a REJECT answers the request, or its connection ends. After one that cannot wait here
    /// none is let for a while.
    pub fn undo(&mut self, now: Instant, verdict: Verdict) {
        match verdict {
            Verdict::Accept => self.dropped(now),
            Verdict::Ahead => {
                self.ahead_count = self.ahead_count.saturating_sub(1);
                self.pace.pause(now);
            }
            Verdict::Reject => {}
        }
    }

    /// The oldest that waits, if there is a slot for it: it holds that from now on, as one that was accepted. To be
    /// asked until `None` after everything that may free a slot.
    pub fn next_ahead(&mut self) -> Option<T> {
        if self.ongoing >= self.limit {
            return None;
        }
        let (_, request) = self.ahead.pop_front()?;
        self.ahead_count -= 1;
        self.ongoing += 1;
        self.accepted += 1;
        Some(request)
    }

    /// One that waits here is wanted no more. False: it does not wait here.
    pub fn withdraw(&mut self, now: Instant, is: impl Fn(&T) -> bool) -> bool {
        let Some(at) = self.ahead.iter().position(|(_, request)| is(request)) else {
            return false;
        };
        self.ahead.remove(at);
        self.ahead_count -= 1;
        self.freed(now, false);
        true
    }

    /// Those to be sent back with REJECT: all, as soon as the oldest has waited too long.
    pub fn take_overdue(&mut self, now: Instant) -> Vec<T> {
        if self.ahead.front().is_none_or(|(until, _)| *until > now) {
            return Vec::new();
        }
        self.pace.pause(now);
        self.ahead_count = self.ahead_count.saturating_sub(self.ahead.len() as u32);
        self.ahead.drain(..).map(|(_, request)| request).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{ConnectionKey, Queue},
        *,
    };

    const A: ConnectionKey = ConnectionKey(0);
    const EMPTY: Queue = Queue::EMPTY;
    const PLACES: u32 = 20;

    /// All `limit` slots in use, where a request has finished each 50 us until now.
    fn busy(limit: u32) -> (Admission<u32>, Instant) {
        let mut now = Instant::now();
        let mut admission = Admission::new(limit);
        admission.connected(now, A);
        for _ in 0..=5 * PLACES {
            assert_eq!(admission.on_request(now, A, false, EMPTY), Verdict::Accept);
            now += Duration::from_micros(50);
            admission.finished(now, A);
        }
        for _ in 0..limit {
            assert_eq!(admission.on_request(now, A, false, EMPTY), Verdict::Accept);
        }
        assert_eq!(admission.places(), limit + PLACES);
        (admission, now)
    }

    /// Fills the places for what waits; returns how many there were.
    fn fill(admission: &mut Admission<u32>, now: Instant) -> u32 {
        let mut taken = 0;
        while admission.on_request(now, A, false, EMPTY) == Verdict::Ahead {
            admission.take_ahead(now, taken);
            taken += 1;
        }
        taken
    }

    #[test]
    fn what_waits_starts_in_its_order_and_never_above_the_limit() {
        let (mut admission, now) = busy(2);
        assert_eq!(fill(&mut admission, now), PLACES);
        assert_eq!((admission.ongoing(), admission.next_ahead()), (2, None));
        for next in 0..PLACES {
            admission.finished(now, A);
            assert_eq!(admission.next_ahead(), Some(next));
            assert_eq!((admission.ongoing(), admission.next_ahead()), (2, None));
        }
        admission.finished(now, A);
        admission.finished(now, A);
        assert_eq!((admission.next_ahead(), admission.occupied()), (None, 0));
    }

    #[test]
    fn what_has_waited_in_vain_goes_back_with_all_behind_it_and_none_follows() {
        let (mut admission, now) = busy(2);
        fill(&mut admission, now);
        assert_eq!(admission.poll_timeout(), Some(now + AHEAD_TIME));
        let before = now + AHEAD_TIME.mul_f32(0.9);
        assert_eq!(admission.take_overdue(before), []);
        let now = now + AHEAD_TIME;
        let back = admission.take_overdue(now);
        assert_eq!(back, (0..PLACES).collect::<Vec<_>>());
        assert_eq!((admission.places(), admission.occupied()), (2, 2));
        assert_eq!(admission.poll_timeout(), None);
        assert_eq!(admission.on_request(now, A, false, EMPTY), Verdict::Reject);
    }

    #[test]
    fn one_that_cannot_wait_or_is_wanted_no_more_leaves_its_place() {
        let (mut admission, now) = busy(1);
        for request in [7, 8] {
            assert_eq!(admission.on_request(now, A, false, EMPTY), Verdict::Ahead);
            admission.take_ahead(now, request);
        }
        assert!(admission.withdraw(now, |request| *request == 7));
        assert!(!admission.withdraw(now, |request| *request == 7));
        assert_eq!(admission.on_request(now, A, false, EMPTY), Verdict::Ahead);
        admission.undo(now, Verdict::Ahead);
        assert_eq!(admission.occupied(), 2);
        admission.finished(now, A);
        assert_eq!(admission.next_ahead(), Some(8));
        assert_eq!(admission.occupied(), 1);
    }

    #[test]
    fn a_lower_limit_starts_nothing_and_a_drain_sends_back_at_once() {
        let (mut admission, now) = busy(3);
        fill(&mut admission, now);
        admission.set_limit(now, 1);
        admission.finished(now, A);
        assert_eq!((admission.ongoing(), admission.next_ahead()), (2, None));
        admission.drain(now);
        assert_eq!(admission.poll_timeout(), Some(now));
        assert_eq!(admission.take_overdue(now).len(), PLACES as usize);
        admission.dropped(now);
        admission.dropped(now);
        assert_eq!((admission.next_ahead(), admission.occupied()), (None, 0));
    }

    #[test]
    fn a_router_that_waits_is_granted_the_places_too() {
        let (mut admission, now) = busy(1);
        let queue = Queue {
            waiting: 3,
            oldest_wait: Duration::from_micros(10),
            number: 1,
        };
        admission.on_wait(now, A, queue);
        assert_eq!(admission.grants(A), 3);
        for _ in 0..3 {
            assert_eq!(admission.on_request(now, A, true, EMPTY), Verdict::Ahead);
            admission.take_ahead(now, 0);
        }
        assert_eq!((admission.ongoing(), admission.occupied()), (1, 4));
    }
}
