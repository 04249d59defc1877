//! The highest number of replicas that was wished for over the last seconds.
//!
//! Of all wishes only those are kept that no later one has reached: falling numbers, so at most one note for each number
//! of replicas.

use std::{collections::VecDeque, time::Duration};

#[derive(Clone, Debug, PartialEq, Eq)]
struct Wish {
    replicas: u32,
    /// When another took its place; `None`: it is the present one.
    until: Option<Duration>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wishes {
    since: Option<Duration>,
    /// Falling, the present one last.
    kept: VecDeque<Wish>,
}

impl Wishes {
    /// From `now` on so many are wished for. What ended before `span` ago is forgotten.
    pub(crate) fn set(&mut self, replicas: u32, now: Duration, span: Duration) {
        self.since.get_or_insert(now);
        if self
            .kept
            .back()
            .is_none_or(|last| last.replicas != replicas)
        {
            if let Some(last) = self.kept.back_mut() {
                last.until = Some(now);
            }
            while self
                .kept
                .back()
                .is_some_and(|last| last.replicas <= replicas)
            {
                self.kept.pop_back();
            }
            self.kept.push_back(Wish {
                replicas,
                until: None,
            });
        }
        let over = |wish: &Wish| wish.until.is_some_and(|until| until + span <= now);
        while self.kept.front().is_some_and(over) {
            self.kept.pop_front();
        }
    }

    /// As if none had been known before.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The highest of the last `delay`; `None`: they have not been known for so long.
    pub(crate) fn highest(&self, delay: Duration, now: Duration) -> Option<u32> {
        let known = self.since.is_some_and(|since| since + delay <= now);
        let counts = |wish: &&Wish| wish.until.is_none_or(|until| until + delay > now);
        let highest = self.kept.iter().find(counts).map(|wish| wish.replicas);
        highest.filter(|_| known)
    }

    /// When fewer than `replicas` will have been wished for all of `delay`, unless there is another wish until then.
    pub(crate) fn below_at(&self, replicas: u32, delay: Duration) -> Option<Duration> {
        let since = self.since?;
        let last = self.kept.iter().rfind(|wish| wish.replicas >= replicas);
        match last.map(|wish| wish.until) {
            None => Some(since + delay),
            Some(None) => None,
            Some(Some(until)) => Some(until.max(since) + delay),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_highest_of_the_last_seconds_counts() {
        let mut wishes = Wishes::default();
        let (delay, span) = (at(60), at(60));
        wishes.set(4, at(0), span);
        assert_eq!(wishes.highest(delay, at(59)), None, "not known for so long");
        wishes.set(2, at(10), span);
        wishes.set(3, at(20), span);
        wishes.set(1, at(30), span);
        assert_eq!(wishes.highest(delay, at(69)), Some(4));
        assert_eq!(wishes.highest(delay, at(70)), Some(3), "4 ended at 10");
        assert_eq!(wishes.below_at(4, delay), Some(at(70)));
        assert_eq!(wishes.below_at(3, delay), Some(at(90)));
        assert_eq!(
            wishes.below_at(2, delay),
            Some(at(90)),
            "2 was reached by 3"
        );
        assert_eq!(wishes.below_at(1, delay), None, "it is the present wish");
        wishes.set(1, at(90), span);
        assert_eq!(wishes.highest(delay, at(90)), Some(1));
        assert_eq!(wishes.kept.len(), 1);
    }

    /// Against the simplest thing that keeps the same promise: a list that is searched.
    #[test]
    fn it_is_the_maximum_of_a_list() {
        let mut random: u64 = 9;
        let mut wishes = Wishes::default();
        let mut all: Vec<(u64, u32)> = Vec::new();
        let (delay, span) = (at(20), at(50));
        for now in 0..5_000_u64 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let replicas = (random >> 60) as u32;
            if !random.is_multiple_of(3) {
                wishes.set(replicas, at(now), span);
                all.push((now, replicas));
            }
            let ends = |index: usize| all.get(index + 1).map_or(u64::MAX, |next| next.0);
            let counted = all.iter().enumerate();
            let counted = counted.filter(|(index, _)| ends(*index).saturating_add(20) > now);
            let expected = counted.map(|(_, one)| one.1).max();
            let expected = expected.filter(|_| all.first().is_some_and(|one| one.0 + 20 <= now));
            assert_eq!(wishes.highest(delay, at(now)), expected, "at {now}");
        }
    }
}
