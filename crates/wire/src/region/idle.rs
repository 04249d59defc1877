//! Mappings of regions that came, kept after they were released: their maker fills the same regions again, and
//! mapping 64 MiB anew costs a third of a call that brings them. What is kept and for how long; no memory, no clock.
//!
//! Nobody sees an idle mapping, so its maker may write to it, and what it says is looked at only once its file has come
//! with a message again. It keeps the file's memory, though, if its maker gives that up, so it is kept no longer than
//! makers keep regions ([`WARM_FOR`]); and no more than [`IDLE_REGIONS`] of [`IDLE_BYTES`] in all, or one that is longer,
//! alone. When that is spent, the longest idle goes first.

use std::{collections::VecDeque, time::Instant};

use super::{CREDIT_BYTES, MOST_REGIONS, memory::File, pool::WARM_FOR};

const IDLE_BYTES: u64 = CREDIT_BYTES / 4;
const IDLE_REGIONS: usize = MOST_REGIONS / 4;

#[derive(Debug)]
struct Entry<M> {
    file: File,
    length: u64,
    mapping: M,
    since: Instant,
}

/// Idle mappings `M`. What a method puts into `cold` must be dropped, outside of any lock.
#[derive(Debug)]
pub(super) struct Idle<M> {
    bytes: u64,
    /// The longest idle first; each file once.
    entries: VecDeque<Entry<M>>,
    /// When somebody will look. In steady use mappings come and go a thousand times in this time, so it stays as it is
    /// while they do.
    watched: Option<Instant>,
}

impl<M> Idle<M> {
    pub(super) const fn new() -> Self {
        Self {
            bytes: 0,
            entries: VecDeque::new(),
            watched: None,
        }
    }

    /// The mapping of a file, at least `length` bytes of it.
    pub(super) fn take(&mut self, file: File, length: u64, cold: &mut Vec<M>) -> Option<M> {
        let (mapping, mapped) = self.remove(file)?;
        if mapped >= length {
            return Some(mapping);
        }
        cold.push(mapping);
        None
    }

    /// Keeps a mapping of `length` bytes. True: from now on somebody must watch the time.
    pub(super) fn keep(
        &mut self,
        now: Instant,
        (file, length): (File, u64),
        mapping: M,
        cold: &mut Vec<M>,
    ) -> bool {
        // Two messages brought the same region, and it was mapped for each.
        cold.extend(self.remove(file).map(|(mapping, _)| mapping));
        self.bytes = self.bytes.saturating_add(length);
        self.entries.push_back(Entry {
            file,
            length,
            mapping,
            since: now,
        });
        while self.entries.len() > IDLE_REGIONS
            || (self.bytes > IDLE_BYTES && self.entries.len() > 1)
        {
            cold.extend(self.pop());
        }
        let first = self.watched.is_none();
        self.watched.get_or_insert(now + WARM_FOR);
        first
    }

    fn remove(&mut self, file: File) -> Option<(M, u64)> {
        let at = self.entries.iter().position(|entry| entry.file == file)?;
        let entry = self.entries.remove(at)?;
        self.bytes -= entry.length;
        Some((entry.mapping, entry.length))
    }

    fn pop(&mut self) -> Option<M> {
        let entry = self.entries.pop_front()?;
        self.bytes -= entry.length;
        Some(entry.mapping)
    }

    /// When `on_timeout` has something to do.
    pub(super) const fn poll_timeout(&self) -> Option<Instant> {
        self.watched
    }

    /// Takes out what was idle for long.
    pub(super) fn on_timeout(&mut self, now: Instant, cold: &mut Vec<M>) {
        if self.watched.is_none_or(|at| at > now) {
            return;
        }
        let due = |entry: &Entry<M>| entry.since + WARM_FOR;
        while self.entries.front().is_some_and(|entry| due(entry) <= now) {
            cold.extend(self.pop());
        }
        self.watched = self.entries.front().map(due);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MIB: u64 = 1 << 20;
    const TICK: Duration = Duration::from_millis(1);

    fn file(inode: u64) -> File {
        File { device: 1, inode }
    }

    /// Keeps a mapping that is named like its file; what had to go for it.
    fn keep(idle: &mut Idle<u64>, now: Instant, inode: u64, length: u64) -> Vec<u64> {
        let mut cold = Vec::new();
        idle.keep(now, (file(inode), length), inode, &mut cold);
        cold
    }

    fn take(idle: &mut Idle<u64>, inode: u64, length: u64) -> Option<u64> {
        idle.take(file(inode), length, &mut Vec::new())
    }

    #[test]
    fn a_mapping_serves_the_next_values_of_its_region_that_are_no_longer() {
        let (mut idle, now) = (Idle::new(), Instant::now());
        keep(&mut idle, now, 1, 100);
        assert_eq!(take(&mut idle, 2, 100), None);
        assert_eq!(take(&mut idle, 1, 99), Some(1));
        assert_eq!(take(&mut idle, 1, 99), None);
        keep(&mut idle, now, 1, 100);
        let mut cold = Vec::new();
        assert_eq!(idle.take(file(1), 101, &mut cold), None);
        assert_eq!(cold, [1]);
    }

    #[test]
    fn files_of_the_same_number_on_other_devices_are_others() {
        let mut idle = Idle::new();
        keep(&mut idle, Instant::now(), 1, 100);
        let other = File {
            device: 2,
            inode: 1,
        };
        assert_eq!(idle.take(other, 100, &mut Vec::new()), None);
    }

    #[test]
    fn of_two_mappings_of_a_file_one_stays() {
        let (mut idle, now) = (Idle::new(), Instant::now());
        keep(&mut idle, now, 1, 100);
        assert_eq!(keep(&mut idle, now, 1, 200), [1]);
        assert_eq!(take(&mut idle, 1, 200), Some(1));
        assert_eq!(take(&mut idle, 1, 1), None);
    }

    #[test]
    fn beyond_the_bytes_the_longest_idle_goes_and_one_alone_may_be_longer() {
        let (mut idle, now) = (Idle::new(), Instant::now());
        for inode in 0..4 {
            assert_eq!(keep(&mut idle, now, inode, 64 * MIB), []);
        }
        assert_eq!(keep(&mut idle, now, 4, 65 * MIB), [0, 1]);
        assert_eq!(keep(&mut idle, now, 5, 1000 * MIB), [2, 3, 4]);
        assert_eq!(keep(&mut idle, now, 6, 1), [5]);
        assert_eq!(take(&mut idle, 6, 1), Some(6));
    }

    #[test]
    fn beyond_the_number_the_longest_idle_goes() {
        let (mut idle, now) = (Idle::new(), Instant::now());
        for inode in 0..IDLE_REGIONS as u64 {
            assert_eq!(keep(&mut idle, now, inode, 1), []);
        }
        assert_eq!(keep(&mut idle, now, 1000, 1), [0]);
    }

    #[test]
    fn what_was_idle_for_long_goes_and_a_watch_is_asked_for_once() {
        let (mut idle, start) = (Idle::new(), Instant::now());
        let mut cold = Vec::new();
        assert!(idle.keep(start, (file(1), 1), 1, &mut cold));
        for _ in 0..3 {
            assert_eq!(take(&mut idle, 1, 1), Some(1));
            assert!(!idle.keep(start + TICK, (file(1), 1), 1, &mut cold));
        }
        assert!(!idle.keep(start + 2 * TICK, (file(2), 1), 2, &mut cold));
        idle.on_timeout(start + WARM_FOR, &mut cold);
        assert_eq!(
            (&cold[..], idle.poll_timeout()),
            (&[][..], Some(start + TICK + WARM_FOR))
        );
        idle.on_timeout(start + TICK + WARM_FOR, &mut cold);
        assert_eq!(cold, [1]);
        idle.on_timeout(start + 2 * WARM_FOR, &mut cold);
        assert_eq!((&cold[..], idle.poll_timeout()), (&[1, 2][..], None));
        assert!(idle.keep(start + 3 * WARM_FOR, (file(3), 1), 3, &mut cold));
    }

    #[test]
    fn a_watch_ends_when_all_are_in_use() {
        let (mut idle, start) = (Idle::new(), Instant::now());
        keep(&mut idle, start, 1, 1);
        assert_eq!(take(&mut idle, 1, 1), Some(1));
        idle.on_timeout(start + WARM_FOR, &mut Vec::new());
        assert_eq!(idle.poll_timeout(), None);
    }
}
