//! Which place a replica has among its siblings of one version: `0` to `world_size - 1`, each once.
//!
//! The rule: a replica keeps its rank as long as it can. One that dies leaves a gap, and its successor gets the lowest
//! that is free. A rank moves only where it must: past the wanted number after a scale-down (the replicas that go need
//! not be those with the highest ranks), or where two have the same after a restart of the controller.

use std::collections::{BTreeMap, BTreeSet};

use super::{ReplicaState, model::Deployment, replica::Replica};

/// One that is being replaced leaves its rank to its successor before it goes.
const fn stays(state: ReplicaState) -> bool {
    matches!(state, ReplicaState::Starting) || state.serving()
}

/// The rank of a replica that is about to start.
pub(super) fn free(deployment: &Deployment, version: &str) -> u32 {
    let taken: BTreeSet<u32> = deployment
        .replicas
        .values()
        .filter(|replica| stays(replica.state) && replica.spec.version() == version)
        .map(|replica| replica.rank)
        .collect();
    lowest(&taken)
}

/// Gives every replica a rank that is its own and below the number of replicas. Returns whether one changed.
pub(super) fn settle(deployment: &mut Deployment) -> bool {
    let mut versions: BTreeMap<&str, Vec<(u64, &str, u32, u32)>> = BTreeMap::new();
    let staying = |replica: &&Replica| stays(replica.state);
    for replica in deployment.replicas.values().filter(staying) {
        let wanted = replica.spec.options().num_replicas;
        let entry = (replica.order, replica.id.as_str(), replica.rank, wanted);
        versions
            .entry(replica.spec.version())
            .or_default()
            .push(entry);
    }
    let mut moves: Vec<(String, u32)> = Vec::new();
    for mut members in versions.into_values() {
        members.sort_unstable();
        let wanted = members.iter().map(|&(.., wanted)| wanted).max();
        // More than are wanted run only until the next one is told to stop.
        let below = wanted.unwrap_or(0).max(members.len() as u32);
        let mut taken = BTreeSet::new();
        let homeless: Vec<&str> = members
            .iter()
            .filter(|&&(_, _, rank, _)| rank >= below || !taken.insert(rank))
            .map(|&(_, id, ..)| id)
            .collect();
        for id in homeless {
            let rank = lowest(&taken);
            taken.insert(rank);
            moves.push((id.to_owned(), rank));
        }
    }
    for (id, rank) in &moves {
        if let Some(replica) = deployment.replicas.get_mut(id) {
            replica.rank = *rank;
        }
    }
    !moves.is_empty()
}

fn lowest(taken: &BTreeSet<u32>) -> u32 {
    // One of the first `taken + 1` ranks is free.
    (0..=taken.len() as u32)
        .find(|rank| !taken.contains(rank))
        .unwrap_or(0)
}
