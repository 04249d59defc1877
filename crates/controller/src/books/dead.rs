//! Replicas that are gone, as far as people still ask for them: how each ended.
//!
//! They decide nothing. A few of each deployment are kept, so that a crash loop shows its last deaths and no more.

use eagleray_types::{NodeId, control::Exited};

use super::{replica::Replica, replica_state::ReplicaState};

/// Of each deployment.
pub(crate) const DEAD_KEPT: usize = 10;
/// Characters of what it printed last.
const SHOWN_OUTPUT: usize = 1024;

#[derive(Clone, Debug)]
pub(crate) struct Dead {
    pub(crate) id: String,
    pub(crate) node: NodeId,
    pub(crate) pid: u32,
    pub(crate) version: String,
    pub(crate) started_at_s: f64,
    /// How it ended, for people.
    pub(crate) end: String,
}

impl Dead {
    /// A replica whose process has ended.
    pub(crate) fn of(replica: &Replica, exited: &Exited) -> Self {
        let reason = replica.condition.reason();
        let reason = reason.as_deref().unwrap_or(&exited.reason);
        let mut end = match replica.state {
            ReplicaState::Stopping if replica.failed => {
                format!("ended because it failed to start: {reason}")
            }
            ReplicaState::Stopping => format!("ended as it was told to: {reason}"),
            ReplicaState::Starting => format!("ended while it was starting: {reason}"),
            _ => format!("died: {reason}"),
        };
        let tail = exited.stderr_tail.trim();
        if !tail.is_empty() {
            let long = tail.chars().count().saturating_sub(SHOWN_OUTPUT);
            end.push_str("\nIt wrote last:\n");
            end.extend(tail.chars().skip(long));
        }
        Self::ended(replica, end)
    }

    /// A replica whose process could not be made.
    pub(crate) fn never_was(replica: &Replica, error: &str) -> Self {
        Self::ended(replica, error.to_owned())
    }

    fn ended(replica: &Replica, end: String) -> Self {
        Self {
            id: replica.id.clone(),
            node: replica.node.clone(),
            pid: replica.pid,
            version: replica.spec.version().to_owned(),
            started_at_s: replica.started_at_s,
            end,
        }
    }
}
