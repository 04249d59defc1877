//! One replica in the status: one that lives, and one that is gone.

use std::{collections::BTreeMap, time::Duration};

use eagleray_types::control::ReplicaStatus;

use crate::books::{dead::Dead, replica::Replica, replica_state::ReplicaState};

/// `numbers`: of the newest revision that has a version.
pub(super) fn live(
    replica: &Replica,
    numbers: &BTreeMap<&str, u64>,
    now: Duration,
) -> ReplicaStatus {
    ReplicaStatus {
        replica_id: replica.id.clone(),
        state: replica.state.word().to_owned(),
        pid: replica.pid,
        memory_bytes: replica.memory_bytes,
        version: replica.spec.version().to_owned(),
        hung_milliseconds: replica.condition.hung_milliseconds(now),
        abandoned_requests: replica.condition.abandoned,
        started_at_s: replica.started_at_s,
        node_id: replica.node.to_string(),
        message: doing(replica),
        revision_number: number(numbers, replica.spec.version()),
    }
}

pub(super) fn dead(dead: &Dead, numbers: &BTreeMap<&str, u64>) -> ReplicaStatus {
    ReplicaStatus {
        replica_id: dead.id.clone(),
        state: ReplicaState::Stopped.word().to_owned(),
        pid: dead.pid,
        version: dead.version.clone(),
        started_at_s: dead.started_at_s,
        node_id: dead.node.to_string(),
        message: dead.end.clone(),
        revision_number: number(numbers, &dead.version),
        ..ReplicaStatus::default()
    }
}

fn number(numbers: &BTreeMap<&str, u64>, version: &str) -> u64 {
    numbers.get(version).copied().unwrap_or_default()
}

/// What a replica that starts is doing, or that was told to stop.
fn doing(replica: &Replica) -> String {
    let text = match replica.state {
        ReplicaState::Starting if replica.reach.said_ready => {
            "it is ready, and is being connected to"
        }
        ReplicaState::Starting => "its code is imported and its constructor runs",
        ReplicaState::Stopping if replica.failed => "it failed to start, and ends",
        ReplicaState::Stopping if replica.drained => "it has finished its requests, and ends",
        ReplicaState::Stopping => "it finishes its requests, and then ends",
        _ => "",
    };
    text.to_owned()
}
