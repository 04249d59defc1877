//! A deployment that follows its load, was at zero replicas, and is to have some again because requests wait.
//!
//! They wait in their routers, bounded there. They shall not wait for what will not come: when the start has failed as often
//! as a deploy's may, or has taken [`LIMIT`], routers are told why and answer. Starting goes on all the same while replicas
//! are wanted, and the first one that is there ends it. When none is wanted any more, what failed is forgotten, so that
//! the next request is a new try.
//!
//! A deployment that merely lost its replicas is none of this: requests wait there for as long as they like.

use std::time::Duration;

/// From the first request that waits to the first replica.
pub(crate) const LIMIT: Duration = Duration::from_secs(600);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ColdStart {
    /// It has replicas, or lost them.
    #[default]
    Not,
    /// No replica is wanted, and there is none.
    AtZero,
    /// Replicas are wanted since then, and there is none yet.
    Since(Duration),
    /// The same, for longer than [`LIMIT`].
    Overdue,
}

impl ColdStart {
    /// How many are `wanted` now, and whether there is one that answers. Returns whether a start has ended in vain: none
    /// is wanted any more.
    pub(crate) fn look(&mut self, wanted: u32, answers: bool, now: Duration) -> bool {
        let before = *self;
        *self = match (before, wanted, answers) {
            (_, _, true) => Self::Not,
            (_, 0, false) => Self::AtZero,
            (Self::AtZero, _, false) => Self::Since(now),
            (before, _, false) => before,
        };
        matches!(
            (before, *self),
            (Self::Since(_) | Self::Overdue, Self::AtZero)
        )
    }

    /// When the start has taken too long.
    pub(crate) fn overdue_at(self) -> Option<Duration> {
        match self {
            Self::Since(at) => Some(at + LIMIT),
            Self::Not | Self::AtZero | Self::Overdue => None,
        }
    }

    /// Returns whether it has taken too long from now on.
    pub(crate) fn time_passes(&mut self, now: Duration) -> bool {
        let overdue = self.overdue_at().is_some_and(|at| at <= now);
        if overdue {
            *self = Self::Overdue;
        }
        overdue
    }

    /// Whether somebody waits for the first replica.
    pub(crate) const fn is_under_way(self) -> bool {
        matches!(self, Self::Since(_) | Self::Overdue)
    }
}

#[cfg(test)]
mod tests {
    use super::{ColdStart::*, *};

    const NOW: Duration = Duration::from_secs(5);

    #[test]
    fn only_what_comes_from_zero_is_a_cold_start() {
        let mut cold = ColdStart::default();
        assert!(!cold.look(1, false, NOW));
        assert_eq!(cold, Not, "it lost its replicas, or never had any");
        assert!(!cold.look(0, true, NOW));
        assert_eq!(cold, Not, "the last one still answers");
        assert!(!cold.look(0, false, NOW));
        assert!(!cold.look(2, false, NOW));
        assert!(!cold.look(1, false, NOW * 2));
        assert_eq!(cold, Since(NOW));
        assert_eq!(cold.overdue_at(), Some(NOW + LIMIT));
        assert!(!cold.time_passes(NOW + LIMIT / 2) && cold.time_passes(NOW + LIMIT));
        assert!(!cold.time_passes(NOW + LIMIT) && cold.is_under_way());
        assert!(cold.look(0, false, NOW * 3), "in vain");
        assert!(!cold.look(1, false, NOW * 4) && cold.is_under_way());
        assert!(!cold.look(1, true, NOW * 5));
        assert_eq!(cold, Not);
    }
}
