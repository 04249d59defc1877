//! Which place a replica has among its siblings of one version: `0` to `world_size - 1`, each once.
//!
//! The rule: no two processes of a version have one rank at a time. So a rank is taken until the process that has it is
//! gone, and what must move waits for that, with the rank it has:
//!
//! - A replica that dies leaves a gap, and its successor gets the lowest that is free.
//! - After a scale-down, those whose ranks are too high take the ranks of those that stop (which need not be the ones
//!   with the highest), once these are gone.
//! - One that starts while others still stop may get a rank beyond the wanted number, and moves down likewise.
//! - One that is being replaced serves until its successor does. It gives its rank up first and takes one beyond, so
//!   that the constructor of the successor finds a rank that is in range ([`give_up`]).
//!
//! One that is stopped while it starts keeps its rank until it is gone, since its constructor may give back what it took.
//! A start that failed has no rank any more: nothing of user code runs there. After a restart of the controller ranks
//! are those that replicas were started with, and are dealt out anew where two have the same.

use std::collections::{BTreeMap, BTreeSet};

use crate::books::{deployment::Deployment, replica::Replica, replica_state::ReplicaState};

/// It keeps its rank, or moves to a lower one. One that starts keeps that of its start until it can be told of another.
const fn stays(state: ReplicaState) -> bool {
    state.serving()
}

const fn has_rank(replica: &Replica) -> bool {
    !matches!(replica.state, ReplicaState::Stopping) || !replica.failed
}

/// The ranks of so many replicas that are about to start.
pub(super) fn free(deployment: &Deployment, version: &str, count: usize) -> Vec<u32> {
    let taken = taken(deployment, version, |_| true);
    let free = (0..=u32::MAX).filter(|rank| !taken.contains(rank));
    free.take(count).collect()
}

/// Takes the ranks of replicas that are being replaced. Returns the ids of those that must hear of it.
pub(super) fn give_up(deployment: &mut Deployment) -> Vec<String> {
    let replaced: Vec<String> = deployment
        .replicas
        .values()
        .filter(|one| {
            one.state == ReplicaState::PendingMigration
                && one.rank < deployment.wanted_of(&one.spec)
        })
        .map(|one| one.id.clone())
        .collect();
    for id in &replaced {
        let Some(replica) = deployment.replicas.get(id) else {
            continue;
        };
        let taken = taken(deployment, replica.spec.version(), |_| true);
        let rank = lowest(&taken, deployment.wanted_of(&replica.spec));
        if let Some(replica) = deployment.replica_mut(id) {
            replica.rank = rank;
        }
    }
    replaced
}

/// Gives every replica a rank that is its own and, where one is free, below the number of replicas. Returns whether
/// one changed.
pub(super) fn settle(deployment: &mut Deployment) -> bool {
    let mut versions: BTreeMap<&str, Vec<&Replica>> = BTreeMap::new();
    for replica in deployment.replicas.values().filter(|one| stays(one.state)) {
        let members = versions.entry(replica.spec.version()).or_default();
        members.push(replica);
    }
    let mut moves: Vec<(String, u32)> = Vec::new();
    for (version, mut members) in versions {
        members.sort_unstable_by_key(|one| (one.order, one.id.as_str()));
        let others = taken(deployment, version, |one| !stays(one.state));
        let wanted = members.iter().map(|one| deployment.wanted_of(&one.spec));
        moves.extend(moves_of(&members, wanted.max().unwrap_or(0), others));
    }
    for (id, rank) in &moves {
        if let Some(replica) = deployment.replica_mut(id) {
            replica.rank = *rank;
        }
    }
    !moves.is_empty()
}

/// `taken`: ranks of those that go.
fn moves_of(members: &[&Replica], wanted: u32, mut taken: BTreeSet<u32>) -> Vec<(String, u32)> {
    // More than are wanted run only until the next one is told to stop.
    let below = wanted.max(members.len() as u32);
    let (at_home, high): (Vec<&Replica>, Vec<&Replica>) =
        members.iter().partition(|one| one.rank < below);
    let homeless: Vec<&Replica> = at_home
        .into_iter()
        .filter(|one| !taken.insert(one.rank))
        .chain(high)
        .collect();
    let mut moves = Vec::new();
    for replica in homeless {
        let rank = lowest(&taken, 0);
        if rank >= below && taken.insert(replica.rank) {
            continue;
        }
        taken.insert(rank);
        moves.push((replica.id.clone(), rank));
    }
    moves
}

fn taken(
    deployment: &Deployment,
    version: &str,
    counts: impl Fn(&Replica) -> bool,
) -> BTreeSet<u32> {
    deployment
        .replicas
        .values()
        .filter(|one| one.spec.version() == version && has_rank(one) && counts(one))
        .map(|one| one.rank)
        .collect()
}

/// The lowest from `start` on that is free.
fn lowest(taken: &BTreeSet<u32>, start: u32) -> u32 {
    let end = start.saturating_add(taken.len() as u32);
    // One of so many is free.
    (start..=end)
        .find(|rank| !taken.contains(rank))
        .unwrap_or(end)
}
