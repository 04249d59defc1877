//! The life of a node, and the order in which it ends: the one list of it.
//!
//! | phase | what happens | it is over when |
//! |---|---|---|
//! | `Starting` | sockets listen, processes start | proxy and controller have spoken |
//! | `Up` | | a signal, the owner's end, or a request to shut down |
//! | `Draining` | no new connection; the controller is not listened to any more; the proxy finishes | the proxy has ended |
//! | `StoppingReplicas` | replicas drain, run destructors and leave | none is left |
//! | `EndingServices` | controller and proxy are ended | both are gone |
//! | `DismissingReaper` | the reaper is told that all is well | it is gone |
//! | `Over` | the directories are cleared | |
//!
//! Each phase that waits has a time of its own, after which what is left of it is killed. If replicas are left even then
//! the reaper is not dismissed: it sees that the node is gone, and ends them.

use std::time::Duration;

/// Times are counted from the node's beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Starting { until: Duration },
    Up,
    Draining { until: Duration },
    StoppingReplicas { until: Duration },
    EndingServices { until: Duration },
    DismissingReaper { until: Duration },
    Over,
}

impl Phase {
    pub(super) fn is_ending(self) -> bool {
        !matches!(self, Self::Starting { .. } | Self::Up)
    }

    /// When it is over at the latest.
    pub(super) fn deadline(self) -> Option<Duration> {
        match self {
            Self::Starting { until }
            | Self::Draining { until }
            | Self::StoppingReplicas { until }
            | Self::EndingServices { until }
            | Self::DismissingReaper { until } => Some(until),
            Self::Up | Self::Over => None,
        }
    }
}

/// How long the phases of the end may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Patience {
    pub(super) draining: Duration,
    pub(super) replicas: Duration,
}

impl Patience {
    /// Somebody asked for the end and can wait for requests to finish.
    pub(super) const ORDERLY: Self = Self {
        draining: Duration::from_secs(10),
        replicas: Duration::from_secs(10),
    };
    /// The script that owned the node is gone, so nobody waits for the end; what runs gets a moment.
    pub(super) const ABANDONED: Self = Self {
        draining: Duration::from_secs(1),
        replicas: Duration::from_secs(1),
    };
    pub(super) const SERVICES: Duration = Duration::from_secs(2);
}
