//! The life of one native process of the node: it is started again when it ends, until it is told to end.
//!
//! How soon is the business of [`Restarts`].

use std::time::Duration;

use super::{Role, restarts::Restarts};

/// One that has lived so long is well, whatever was before.
const WELL_AFTER: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the first start, and while one is under way.
    Starting,
    Running {
        pid: u32,
        /// It has lived for [`WELL_AFTER`].
        well: bool,
        /// It has been sent SIGKILL because it does not read.
        given_up: bool,
    },
    /// For its next start.
    Waiting {
        until: Duration,
    },
    Over,
}

#[derive(Debug)]
pub(super) struct Service {
    role: Role,
    state: State,
    /// When it was started last.
    started_at: Duration,
    restarts: Restarts,
    /// It is not started again.
    ending: bool,
}

/// What a timeout means for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Nothing,
    Start,
    /// It has run for a while.
    Well,
}

/// It is to be started again.
#[derive(Debug)]
pub(super) struct Again {
    pub(super) delay: Duration,
    /// `crash loop: 7 deaths in a row...`, if it is in one.
    pub(super) crash_loop: Option<String>,
}

impl Service {
    pub(super) fn new(role: Role) -> Self {
        Self {
            role,
            state: State::Starting,
            started_at: Duration::ZERO,
            restarts: Restarts::default(),
            ending: false,
        }
    }

    pub(super) fn start(&mut self, now: Duration) {
        debug_assert!(self.pid().is_none(), "two of {:?}", self.role);
        self.state = State::Starting;
        self.started_at = now;
    }

    pub(super) fn started(&mut self, pid: u32) {
        debug_assert_eq!(self.state, State::Starting, "{:?}", self.role);
        self.state = State::Running {
            pid,
            well: false,
            given_up: false,
        };
    }

    /// The process is gone. `None`: it does not come back.
    pub(super) fn ended(&mut self, now: Duration) -> Option<Again> {
        if self.ending {
            self.state = State::Over;
            return None;
        }
        let lived = now.saturating_sub(self.started_at);
        let delay = self.restarts.died(now, lived);
        self.state = State::Waiting { until: now + delay };
        Some(Again {
            delay,
            crash_loop: self.restarts.crash_loop(),
        })
    }

    /// From now on it is not started again.
    pub(super) fn end(&mut self) {
        self.ending = true;
        if matches!(self.state, State::Waiting { .. }) {
            self.state = State::Over;
        }
    }

    /// It does not read. Returns whether that is new.
    pub(super) fn give_up(&mut self) -> bool {
        match &mut self.state {
            State::Running { given_up, .. } => !std::mem::replace(given_up, true),
            _ => false,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.state == State::Over
    }

    pub(super) fn is_running(&self) -> bool {
        self.pid().is_some()
    }

    /// Of the process that runs.
    pub(super) fn pid(&self) -> Option<u32> {
        match self.state {
            State::Running { pid, .. } => Some(pid),
            _ => None,
        }
    }

    pub(super) fn next_timeout(&self) -> Option<Duration> {
        match self.state {
            State::Waiting { until } => Some(until),
            State::Running { well: false, .. } => Some(self.started_at + WELL_AFTER),
            _ => None,
        }
    }

    pub(super) fn on_timeout(&mut self, now: Duration) -> Turn {
        if self.next_timeout().is_none_or(|at| at > now) {
            return Turn::Nothing;
        }
        match &mut self.state {
            State::Running { well, .. } => {
                *well = true;
                Turn::Well
            }
            _ => Turn::Start,
        }
    }
}
