//! What a pool decides: which region to fill, and when the credit is spent. No memory, no clock.
//!
//! A region that comes back stays **warm** for [`WARM_FOR`]: the next value of about its length fills it again. It does
//! so only for values of its size class (a sixteenth of a power of two), so that no region holds more than about 6%
//! beyond its value. The credit counts what is lent and what is warm; when it is short, the longest warm goes first.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::{CREDIT_BYTES, MOST_REGIONS};

/// How long a region that nobody has keeps its memory.
pub(super) const WARM_FOR: Duration = Duration::from_secs(1);
const PAGE_BYTES: usize = 4096;

/// What to do for a value.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Take<R> {
    /// Fill this one.
    Warm(R),
    /// Make one of the size class; if that fails, call [`Accounts::forfeit`].
    Make,
    /// The credit is spent.
    Spent,
}

#[derive(Debug)]
struct Warm<R> {
    region: R,
    class: usize,
    since: Instant,
}

/// The accounts of a pool of regions `R`.
#[derive(Debug)]
pub(super) struct Accounts<R> {
    lent_bytes: u64,
    lent: usize,
    warm_bytes: u64,
    /// The longest warm first.
    warm: VecDeque<Warm<R>>,
}

impl<R> Accounts<R> {
    pub(super) const fn new() -> Self {
        Self {
            lent_bytes: 0,
            lent: 0,
            warm_bytes: 0,
            warm: VecDeque::new(),
        }
    }

    /// The size class of a value: the capacity of its region.
    pub(super) fn class(bytes: usize) -> Option<usize> {
        let step = (bytes.checked_next_power_of_two()? / 32).max(PAGE_BYTES);
        bytes.max(1).checked_next_multiple_of(step)
    }

    /// A region of `class` for a value. What is put into `cold` must be dropped, outside of any lock.
    pub(super) fn take(&mut self, class: usize, cold: &mut Vec<R>) -> Take<R> {
        // The one that was given back last: its lines may still be in a cache.
        let found = self.warm.iter().rposition(|warm| warm.class == class);
        if let Some(warm) = found.and_then(|at| self.warm.remove(at)) {
            self.warm_bytes -= class as u64;
            self.lend(class);
            return Take::Warm(warm.region);
        }
        // One value may be longer than all credit, alone.
        let fits = self.lent_bytes.saturating_add(class as u64) <= CREDIT_BYTES || self.lent == 0;
        if !fits || self.lent >= MOST_REGIONS {
            return Take::Spent;
        }
        self.lend(class);
        while self.lent_bytes + self.warm_bytes > CREDIT_BYTES
            || self.lent + self.warm.len() > MOST_REGIONS
        {
            let Some(warm) = self.pop_warm() else { break };
            cold.push(warm);
        }
        Take::Make
    }

    fn lend(&mut self, class: usize) {
        self.lent += 1;
        self.lent_bytes += class as u64;
    }

    fn pop_warm(&mut self) -> Option<R> {
        let warm = self.warm.pop_front()?;
        self.warm_bytes -= warm.class as u64;
        Some(warm.region)
    }

    /// A region that was taken does not come back.
    pub(super) fn forfeit(&mut self, class: usize) {
        self.lent -= 1;
        self.lent_bytes -= class as u64;
    }

    /// A region that was taken comes back, and nobody else has it. True: from now on somebody must watch the time.
    pub(super) fn give_back(&mut self, now: Instant, class: usize, region: R) -> bool {
        self.forfeit(class);
        self.warm_bytes += class as u64;
        let first = self.warm.is_empty();
        self.warm.push_back(Warm {
            region,
            class,
            since: now,
        });
        first
    }

    /// When `on_timeout` has something to do.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.warm.front().map(|warm| warm.since + WARM_FOR)
    }

    /// Takes out what was warm for long.
    pub(super) fn on_timeout(&mut self, now: Instant, cold: &mut Vec<R>) {
        while self.poll_timeout().is_some_and(|at| at <= now)
            && let Some(region) = self.pop_warm()
        {
            cold.push(region);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    /// The region of a take that must succeed; a made one is `new`.
    fn taken(accounts: &mut Accounts<u32>, class: usize, new: u32) -> u32 {
        match accounts.take(class, &mut Vec::new()) {
            Take::Warm(region) => region,
            Take::Make => new,
            Take::Spent => panic!("the credit is spent"),
        }
    }

    #[test]
    fn a_class_holds_its_value_and_little_more() {
        for bytes in [1, 4096, 65_537, 100_000, 64 * MIB, 64 * MIB + 300, 1 << 40] {
            let class = Accounts::<u32>::class(bytes).unwrap();
            assert!(class >= bytes);
            assert!(class - bytes < PAGE_BYTES + bytes / 16);
            assert_eq!(Accounts::<u32>::class(class), Some(class));
        }
        assert_eq!(Accounts::<u32>::class(usize::MAX), None);
    }

    #[test]
    fn a_region_that_came_back_is_filled_again_by_its_class_only() {
        let now = Instant::now();
        let mut accounts = Accounts::new();
        assert_eq!(taken(&mut accounts, MIB, 1), 1);
        assert!(accounts.give_back(now, MIB, 1));
        assert_eq!(taken(&mut accounts, 2 * MIB, 2), 2);
        assert_eq!(taken(&mut accounts, MIB, 3), 1);
        assert_eq!(taken(&mut accounts, MIB, 3), 3);
    }

    #[test]
    fn spent_credit_comes_back_with_the_regions_and_with_those_that_never_do() {
        let now = Instant::now();
        let mut accounts = Accounts::new();
        let quarter = CREDIT_BYTES as usize / 4;
        for region in 0..4 {
            assert_eq!(taken(&mut accounts, quarter, region), region);
        }
        assert_eq!(accounts.take(quarter, &mut Vec::new()), Take::Spent);
        accounts.forfeit(quarter);
        assert_eq!(taken(&mut accounts, quarter, 4), 4);
        accounts.give_back(now, quarter, 0);
        assert_eq!(taken(&mut accounts, quarter, 5), 0);
    }

    #[test]
    fn warm_regions_make_room_for_one_that_is_lent() {
        let now = Instant::now();
        let mut accounts = Accounts::new();
        let half = CREDIT_BYTES as usize / 2;
        for region in 0..2 {
            taken(&mut accounts, half, region);
        }
        for region in 0..2 {
            accounts.give_back(now, half, region);
        }
        let mut cold = Vec::new();
        assert_eq!(accounts.take(MIB, &mut cold), Take::Make);
        assert_eq!(cold, [0]);
    }

    #[test]
    fn their_number_is_bounded_too() {
        let mut accounts = Accounts::new();
        for region in 0..MOST_REGIONS as u32 {
            taken(&mut accounts, MIB, region);
        }
        assert_eq!(accounts.take(MIB, &mut Vec::new()), Take::Spent);
    }

    #[test]
    fn a_value_beyond_all_credit_goes_alone() {
        let mut accounts = Accounts::new();
        let class = 2 * CREDIT_BYTES as usize;
        assert_eq!(taken(&mut accounts, class, 1), 1);
        assert_eq!(accounts.take(MIB, &mut Vec::new()), Take::Spent);
        accounts.forfeit(class);
        assert_eq!(taken(&mut accounts, MIB, 2), 2);
    }

    #[test]
    fn what_nobody_asks_for_goes_cold() {
        let now = Instant::now();
        let mut accounts = Accounts::new();
        taken(&mut accounts, MIB, 1);
        taken(&mut accounts, MIB, 2);
        assert_eq!(accounts.poll_timeout(), None);
        accounts.give_back(now, MIB, 1);
        let later = now + Duration::from_millis(1);
        assert!(!accounts.give_back(later, MIB, 2));
        assert_eq!(accounts.poll_timeout(), Some(now + WARM_FOR));
        let mut cold = Vec::new();
        accounts.on_timeout(now + WARM_FOR, &mut cold);
        assert_eq!(cold, [1]);
        accounts.on_timeout(later + WARM_FOR, &mut cold);
        assert_eq!((cold, accounts.poll_timeout()), (vec![1, 2], None));
    }
}
