//! Memory that connections had: given back to the system when they are gone.
//!
//! glibc keeps what was freed in the middle of an arena, and one long-lived allocation near its top makes all of it the
//! middle: after 10,000 connections the process stayed at what they had needed, for ever, and a watermark that was once
//! reached was never left. (jemalloc and mimalloc keep it as well while their threads rest.) So it is asked for: when
//! half of the connections have left and for [`REST`] not come again, and while memory is short. It takes the locks of the
//! allocator for about a millisecond for each 4 MiB that are free, so not at every departure, and never while the
//! number of connections only goes up and down a little.

use std::time::{Duration, Instant};

/// How long the connections must have been gone, and the least time between two times while memory is short.
const REST: Duration = Duration::from_secs(3);
const REST_WHILE_SHORT: Duration = Duration::from_secs(10);
/// Less than this above the least that the process ever had is not worth it.
const LEAST_BYTES: u64 = 8 * 1024 * 1024;

/// What a thread keeps of what it has freed, and twice the length of an allocation that is given back at once.
#[cfg(target_env = "gnu")]
const KEPT_BYTES: libc::c_int = 2 * 1024 * 1024;

/// Decides when memory is given back.
#[derive(Debug)]
pub(super) struct Surplus {
    /// The most connections since it was given back.
    most_open: u64,
    least_resident: u64,
    /// Since when half of them are gone.
    gone_since: Option<Instant>,
    last: Option<Instant>,
}

impl Surplus {
    pub(super) fn new() -> Self {
        Self {
            most_open: 0,
            least_resident: u64::MAX,
            gone_since: None,
            last: None,
        }
    }

    /// Whether it is to be given back now.
    pub(super) fn is_due(
        &mut self,
        now: Instant,
        open: u64,
        resident: u64,
        is_short: bool,
    ) -> bool {
        self.most_open = self.most_open.max(open);
        self.least_resident = self.least_resident.min(resident);
        let gone = self.most_open - open;
        let held = resident - self.least_resident;
        if gone == 0 || gone < self.most_open / 2 || held < LEAST_BYTES {
            self.gone_since = None;
        } else if self.gone_since.is_none() {
            self.gone_since = Some(now);
        }
        let since = |then: Option<Instant>| then.map(|then| now.duration_since(then));
        let is_due = since(self.gone_since).is_some_and(|gone| gone >= REST)
            || is_short && since(self.last).is_none_or(|last| last >= REST_WHILE_SHORT);
        if is_due {
            self.most_open = open;
            self.gone_since = None;
            self.last = Some(now);
        }
        is_due
    }
}

/// Lets each thread keep a little of what it has freed. To be called once, before there are threads: it is for the whole
/// process.
///
/// By itself glibc gives back what is free at the end of a heap as soon as it is 128 KiB, and has every allocation of
/// that length be a mapping of its own. A big body is a few pieces of such lengths that come and go all the time, so the
/// kernel cleared and mapped their pages again and again: an eighth of what an answer over TLS costs.
#[cfg(target_env = "gnu")]
#[expect(
    unsafe_code,
    reason = "a call of glibc for which there is no safe name"
)]
pub fn keep_freed_memory() {
    // SAFETY: takes numbers, and changes when memory that is free is given back, nothing else.
    unsafe {
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT_BYTES);
        libc::mallopt(libc::M_MMAP_THRESHOLD, KEPT_BYTES / 2);
    }
}

/// Other C libraries have no such call.
#[cfg(not(target_env = "gnu"))]
pub fn keep_freed_memory() {}

/// Gives back every page of the heap that is free as a whole.
#[cfg(target_env = "gnu")]
#[expect(
    unsafe_code,
    reason = "a call of glibc for which there is no safe name"
)]
pub(super) fn give_back() {
    // SAFETY: takes a number, may be called from any thread at any time, and touches free memory only.
    unsafe { libc::malloc_trim(0) };
}

/// Other C libraries have no such call.
#[cfg(not(target_env = "gnu"))]
pub(super) fn give_back() {}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    /// At which seconds it is due, of looks of one a second: connections and resident MiB.
    fn due(is_short: bool, looks: &[(u64, u64)]) -> Vec<usize> {
        let start = Instant::now();
        let mut surplus = Surplus::new();
        (0..looks.len())
            .filter(|second| {
                let (open, resident) = looks[*second];
                let now = start + Duration::from_secs(*second as u64);
                surplus.is_due(now, open, resident * MIB, is_short)
            })
            .collect()
    }

    #[test]
    fn it_is_due_once_when_half_of_the_connections_stay_away() {
        let gone = [
            (0, 7),
            (9000, 120),
            (4000, 120),
            (100, 120),
            (0, 120),
            (0, 120),
        ];
        assert_eq!(due(false, &gone), [5]);
        for resident in [8, 120] {
            let after = [&gone[..], &[(0, resident); 9]].concat();
            assert_eq!(due(false, &after), [5]);
        }
    }

    #[test]
    fn each_further_half_is_another_time() {
        let half = [
            &[(0, 7), (9000, 120)][..],
            &[(4000, 120); 9],
            &[(1000, 60); 9],
        ]
        .concat();
        assert_eq!(due(false, &half), [5, 14]);
    }

    #[test]
    fn it_is_not_due_while_they_come_and_go_or_all_stay_or_little_is_held() {
        assert!(due(false, &[(9000, 120), (0, 120)].repeat(20)).is_empty());
        assert!(due(false, &[&[(0, 7)][..], &[(9000, 120); 40]].concat()).is_empty());
        assert!(
            due(
                false,
                &[&[(0, 7)][..], &[(6000, 120), (9000, 120)].repeat(20)].concat()
            )
            .is_empty()
        );
        assert!(due(false, &[&[(0, 7), (100, 12)][..], &[(0, 12); 40]].concat()).is_empty());
    }

    #[test]
    fn while_memory_is_short_it_is_due_now_and_then() {
        assert_eq!(due(true, &[(9000, 120); 25]), [0, 10, 20]);
    }
}
