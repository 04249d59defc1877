//! Whether the event loop turns.
//!
//! The I/O thread asks: while there is work, and the loop has not been seen to turn since the last look, it wakes the
//! loop as for a request and looks again. A loop that has not come after [`HUNG_AFTER`] is *hung*, until it turns.
//! Neither side waits for the other, and with no work nobody asks.
//!
//! Sync methods run beside the loop, so they do not count, unless one keeps the interpreter lock: then nothing in the
//! process turns, and it is hung by any standard. Constructors run before there is work; `reconfigure` is exempt.
//!
//! Pure: the clock is an argument.

use std::time::{Duration, Instant};

/// How long a loop that was woken may take to turn.
pub(crate) const HUNG_AFTER: Duration = Duration::from_secs(1);
/// Between two looks.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What a look found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing new.
    Nothing,
    /// The loop has to be woken, so that the next look has something to go by.
    Ask,
    /// It has not turned for [`HUNG_AFTER`].
    Hung,
    /// It was hung and turns again.
    Turns,
}

/// What can be seen at one look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    /// How often the loop has turned so far.
    pub(crate) turns: u64,
    /// Something waits for the loop, or runs.
    pub(crate) work: bool,
    /// The loop may take its time now.
    pub(crate) exempt: bool,
}

#[derive(Debug)]
pub(crate) struct Liveness {
    turns: u64,
    /// When the loop was asked, or last had no reason to turn.
    since: Instant,
    asked: bool,
    hung: bool,
    next_look: Instant,
}

impl Liveness {
    pub(crate) const fn new(now: Instant) -> Self {
        Self {
            turns: 0,
            since: now,
            asked: false,
            hung: false,
            next_look: now,
        }
    }

    /// Whether it is time for [`Liveness::look`].
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        now >= self.next_look
    }

    pub(crate) fn look(&mut self, now: Instant, seen: Seen) -> Found {
        // Nobody has looked for long: the whole process stood still (SIGSTOP), which says nothing of the loop.
        let blind = now.saturating_duration_since(self.next_look) >= HUNG_AFTER / 2;
        self.next_look = now + LOOK_EVERY;
        if seen.turns != self.turns {
            self.turns = seen.turns;
            self.rest(now);
            return if std::mem::take(&mut self.hung) {
                Found::Turns
            } else {
                Found::Nothing
            };
        }
        if self.hung {
            return Found::Nothing;
        }
        if seen.exempt || !seen.work {
            self.rest(now);
            return Found::Nothing;
        }
        if blind || !self.asked {
            self.asked = true;
            self.since = now;
            return Found::Ask;
        }
        if now.saturating_duration_since(self.since) < HUNG_AFTER {
            return Found::Nothing;
        }
        self.hung = true;
        Found::Hung
    }

    /// For how long the loop has been hung.
    pub(crate) fn hung_for(&self, now: Instant) -> Option<Duration> {
        self.hung.then(|| now.saturating_duration_since(self.since))
    }

    fn rest(&mut self, now: Instant) {
        self.since = now;
        self.asked = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Watch {
        liveness: Liveness,
        now: Instant,
    }

    impl Watch {
        fn new() -> Self {
            let now = Instant::now();
            Self {
                liveness: Liveness::new(now),
                now,
            }
        }

        /// What the looks of `milliseconds` find, without what is nothing.
        fn pass(&mut self, milliseconds: u64, seen: Seen) -> Vec<Found> {
            let end = self.now + Duration::from_millis(milliseconds);
            let mut found = Vec::new();
            while self.now < end {
                if self.liveness.is_due(self.now) {
                    found.push(self.liveness.look(self.now, seen));
                }
                self.now += Duration::from_millis(50);
            }
            found.retain(|one| *one != Found::Nothing);
            found
        }
    }

    const BUSY: Seen = Seen {
        turns: 0,
        work: true,
        exempt: false,
    };

    #[test]
    fn a_loop_without_work_is_not_asked() {
        let mut watch = Watch::new();
        let idle = Seen {
            work: false,
            ..BUSY
        };
        assert_eq!(watch.pass(60_000, idle), []);
    }

    #[test]
    fn a_loop_that_turns_when_asked_is_asked_again_and_never_hung() {
        let mut watch = Watch::new();
        for turns in 0..20 {
            let seen = Seen { turns, ..BUSY };
            assert!(!watch.pass(500, seen).contains(&Found::Hung));
        }
    }

    #[test]
    fn a_loop_that_does_not_come_is_hung_after_a_second_and_until_it_turns() {
        let mut watch = Watch::new();
        assert_eq!(watch.pass(1_000, BUSY), [Found::Ask]);
        assert_eq!(watch.pass(5_000, BUSY), [Found::Hung]);
        let hung_for = watch.liveness.hung_for(watch.now).unwrap();
        assert!(
            (5_500..6_500).contains(&hung_for.as_millis()),
            "{hung_for:?}"
        );
        let turned = Seen { turns: 1, ..BUSY };
        assert_eq!(watch.pass(250, turned), [Found::Turns]);
        assert_eq!(watch.liveness.hung_for(watch.now), None);
        assert_eq!(watch.pass(2_000, turned), [Found::Ask, Found::Hung]);
    }

    #[test]
    fn it_stays_hung_when_its_work_is_taken_away() {
        let mut watch = Watch::new();
        watch.pass(2_000, BUSY);
        let idle = Seen {
            work: false,
            ..BUSY
        };
        assert_eq!(watch.pass(1_000, idle), []);
        assert!(watch.liveness.hung_for(watch.now).is_some());
    }

    #[test]
    fn a_process_that_stood_still_gives_its_loop_another_second() {
        let mut watch = Watch::new();
        assert_eq!(watch.pass(500, BUSY), [Found::Ask]);
        watch.now += Duration::from_secs(30);
        assert_eq!(watch.pass(1_000, BUSY), [Found::Ask]);
        assert_eq!(watch.pass(500, BUSY), [Found::Hung]);
    }

    #[test]
    fn what_is_exempt_takes_its_time_and_the_second_begins_after_it() {
        let mut watch = Watch::new();
        let exempt = Seen {
            exempt: true,
            ..BUSY
        };
        assert_eq!(watch.pass(60_000, exempt), []);
        assert_eq!(watch.pass(1_000, BUSY), [Found::Ask]);
        assert_eq!(watch.pass(500, BUSY), [Found::Hung]);
    }
}
