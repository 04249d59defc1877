//! The life of a node, and the order in which it ends: the one list of it.
//!
//! | phase | what happens | it is over when |
//! |---|---|---|
//! | `Starting` | sockets listen, processes start | proxy and controller have spoken |
//! | `Up` | | a signal, the owner's end, or a request to shut down |
//! | `Draining` | no new connection; the controller is not listened to any more; the proxy finishes | the proxy has ended |
//! | `StoppingReplicas` | replicas drain, run destructors and leave | none is left |
//! | `EndingServices` | controller and proxy are ended | both are gone |
//! | `Over` | run directory cleared, reaper told that all is well | |
//!
//! Each phase that waits has a time of its own, after which what is left of it is killed.

use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Starting { until: Instant },
    Up,
    Draining { until: Instant },
    StoppingReplicas { until: Instant },
    EndingServices { until: Instant },
    Over,
}

impl Phase {
    pub(crate) fn is_ending(self) -> bool {
        !matches!(self, Self::Starting { .. } | Self::Up)
    }

    /// When it is over at the latest.
    pub(crate) fn deadline(self) -> Option<Instant> {
        match self {
            Self::Starting { until }
            | Self::Draining { until }
            | Self::StoppingReplicas { until }
            | Self::EndingServices { until } => Some(until),
            Self::Up | Self::Over => None,
        }
    }
}

/// How long the phases of the end may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Patience {
    pub(crate) draining: Duration,
    pub(crate) replicas: Duration,
}

impl Patience {
    /// Somebody asked for the end and can wait for requests to finish.
    pub(crate) const ORDERLY: Self = Self {
        draining: Duration::from_secs(10),
        replicas: Duration::from_secs(10),
    };
    /// The script that owned the node is gone, so nobody waits for the end; what runs gets a moment.
    pub(crate) const ABANDONED: Self = Self {
        draining: Duration::from_secs(1),
        replicas: Duration::from_secs(1),
    };
    pub(crate) const SERVICES: Duration = Duration::from_secs(2);
}
