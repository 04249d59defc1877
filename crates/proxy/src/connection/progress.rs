//! Whether one direction of a connection moves as fast as it must.
//!
//! A client that owes us bytes (of its body) or room (for its answer) runs up a debt with every tick in which we wait
//! for it, and pays it with every byte that moves. More than `Pace::limit` is too slow. So silence for that time is
//! too long, an average below the rate is too slow, a burst earns nothing for later, and the time in which *we* did
//! not want more costs the client nothing. No timer, no clock: one addition a tick.

use std::{
    cell::{Cell, RefCell},
    task::{Context, Waker},
    time::Duration,
};

/// What a client must move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    /// Bytes owed for a tick of waiting.
    per_tick: u64,
    /// The debt that is too much.
    limit: u64,
    /// Any byte pays for everything.
    any: bool,
}

impl Pace {
    /// At least `bytes_per_second` on average over any `idle`; 0: a byte within `idle`.
    pub(crate) fn new(idle: Duration, bytes_per_second: u64, tick: Duration) -> Self {
        let per_tick = (bytes_per_second as f64 * tick.as_secs_f64())
            .ceil()
            .max(1.0) as u64;
        let ticks = u64::try_from(idle.as_nanos().div_ceil(tick.as_nanos().max(1)));
        Self {
            per_tick,
            limit: ticks.unwrap_or(u64::MAX).saturating_mul(per_tick),
            any: bytes_per_second == 0,
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    waiting: Cell<bool>,
    moved: Cell<u64>,
    owed: Cell<u64>,
    too_slow: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Progress {
    /// Bytes have moved.
    pub(crate) fn moved(&self, bytes: usize) {
        self.waiting.set(false);
        self.moved.set(self.moved.get() + bytes as u64);
    }

    /// We wait for the client.
    pub(crate) fn waits(&self) {
        self.waiting.set(true);
    }

    /// Whether bytes have moved in this tick.
    pub(crate) fn has_moved(&self) -> bool {
        self.moved.get() > 0
    }

    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting.get()
    }

    /// The same, for a task that is to be woken when it has waited too long.
    pub(crate) fn waits_in(&self, context: &Context<'_>) {
        self.waits();
        let mut waker = self.waker.borrow_mut();
        match &mut *waker {
            Some(waker) => waker.clone_from(context.waker()),
            None => *waker = Some(context.waker().clone()),
        }
    }

    pub(crate) fn is_too_slow(&self) -> bool {
        self.too_slow.get()
    }

    /// What is owed counts no more: another pace holds from now on.
    pub(super) fn begin_anew(&self) {
        self.owed.set(0);
    }

    /// Called once a tick; true when the client has just become too slow.
    pub(crate) fn tick(&self, pace: Pace) -> bool {
        let moved = self.moved.take();
        let mut owed = self.owed.get();
        if self.waiting.get() {
            owed = owed.saturating_add(pace.per_tick);
        }
        owed = if pace.any && moved > 0 {
            0
        } else {
            owed.saturating_sub(moved)
        };
        self.owed.set(owed);
        if owed <= pace.limit || self.too_slow.replace(true) {
            return false;
        }
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: (Duration, u64) = (Duration::from_secs(30), 1024);

    /// Ticks of a second until a client that sends so many bytes in each is too slow; 1000 is never.
    fn ticks(pace: Pace, bytes: impl Fn(u64) -> usize) -> u64 {
        let progress = Progress::default();
        progress.waits();
        for tick in 0..1000 {
            if bytes(tick) > 0 {
                progress.moved(bytes(tick));
                progress.waits();
            }
            if progress.tick(pace) {
                return tick;
            }
        }
        1000
    }

    fn pace((idle, rate): (Duration, u64)) -> Pace {
        Pace::new(idle, rate, Duration::from_secs(1))
    }

    #[test]
    fn silence_a_byte_a_second_and_half_the_rate_are_too_slow() {
        assert_eq!(ticks(pace(PACE), |_| 0), 30);
        assert_eq!(ticks(pace(PACE), |_| 1), 30);
        assert_eq!(ticks(pace(PACE), |_| 512), 60);
        assert_eq!(ticks(pace(PACE), |_| 1024), 1000);
    }

    #[test]
    fn a_burst_earns_no_rest() {
        let burst = |tick| if tick == 0 { 1 << 20 } else { 0 };
        assert_eq!(ticks(pace(PACE), burst), 31);
    }

    #[test]
    fn without_a_rate_any_byte_will_do() {
        let pace = pace((Duration::from_secs(30), 0));
        assert_eq!(ticks(pace, |tick| usize::from(tick % 29 == 0)), 1000);
        assert_eq!(ticks(pace, |_| 0), 30);
    }

    #[test]
    fn while_nobody_waits_nothing_is_owed() {
        let progress = Progress::default();
        progress.waits();
        progress.moved(1);
        assert!((0..1000).all(|_| !progress.tick(pace(PACE))));
    }
}
