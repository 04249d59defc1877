//! What the controller says: deployments, versions, replicas; and the connections that follow from it.

use std::{sync::Arc, time::Instant};

use eagleray_types::{
    DeploymentKey, ErrorCode,
    control::{DeploymentTarget, ReplicaTarget},
};
use eagleray_wire::Claims;
use rustc_hash::FxHashMap;

use super::{
    ConnectionKey, Core, Pending,
    deployment::{Deployment, Version},
    replica::{Replica, Watch},
    sessions,
    table::{DeploymentIndex, Index, ReplicaIndex, VersionIndex},
};

impl<C: Claims> Core<C> {
    /// Takes the full new state of one deployment. A replica that it no longer names gets nothing new, and its
    /// connection is closed when what runs there has ended.
    pub fn apply(&mut self, now: Instant, target: &DeploymentTarget) {
        let index = self.deployment(now, &target.key);
        let Some(deployment) = self.deployments.known_mut(index) else {
            return;
        };
        deployment.max_queued = usize::try_from(target.max_queued_requests).unwrap_or(usize::MAX);
        if *deployment.unavailable != target.unavailable {
            deployment.unavailable = target.unavailable.as_str().into();
        }
        let old_versions = std::mem::take(&mut deployment.versions);
        let mut known: FxHashMap<String, ReplicaIndex> = FxHashMap::default();
        for replica in &deployment.replicas {
            if let Some(state) = self.replicas.known_mut(*replica) {
                state.candidate_place = None;
                state.room_place = None;
                known.insert(state.id.clone(), *replica);
            }
        }
        for (position, version) in target.versions.iter().enumerate() {
            let position = VersionIndex::new(position);
            let old = old_versions.iter().find(|old| old.name == version.version);
            let changed = old.is_none_or(|old| old.limit != version.max_ongoing_requests);
            if let Some(deployment) = self.deployments.get_mut(index) {
                deployment.versions.push(Version {
                    name: version.version.clone(),
                    weight: version.weight,
                    limit: version.max_ongoing_requests,
                    candidates: Vec::new(),
                    roomy: Vec::new(),
                    clock: old.map_or(0, |old| old.clock),
                });
            }
            for replica in &version.replicas {
                let at = known
                    .remove(&replica.replica_id)
                    .or_else(|| self.add(now, (index, position), replica));
                if let Some(state) = at.and_then(|at| self.replicas.get_mut(at)) {
                    state.version = position;
                    if changed {
                        // Its own word, in the next frame, counts for more.
                        state.limit = version.max_ongoing_requests;
                    }
                }
            }
        }
        let mut dropped: Vec<ReplicaIndex> = known.into_values().collect();
        dropped.sort_unstable();
        for replica in dropped {
            self.retire(replica);
        }
        let listed = self
            .deployments
            .get(index)
            .map(|deployment| deployment.replicas.clone());
        for replica in listed.unwrap_or_default() {
            self.refresh(replica);
        }
        self.forget_waits(index);
        if !target.unavailable.is_empty() {
            self.fail_queue(index, ErrorCode::Unavailable);
        }
        self.set_scales(index, target.scales);
        self.settle(now, index);
    }

    /// The deployment is gone: what waits fails with `Unavailable`, what runs may end.
    pub fn remove(&mut self, now: Instant, key: &DeploymentKey) {
        let Some(index) = self.by_key.remove(key) else {
            return;
        };
        let Some(deployment) = self.deployments.known_mut(index) else {
            return;
        };
        deployment.removed = true;
        let replicas = deployment.replicas.clone();
        self.fail_queue(index, ErrorCode::Unavailable);
        for replica in replicas {
            self.retire(replica);
        }
        self.settle(now, index);
        self.forget_if_empty(index);
    }

    /// Keys of all deployments known, sorted: the receiver of a snapshot removes those that it does not name.
    pub fn deployments(&self) -> Vec<DeploymentKey> {
        let mut keys: Vec<_> = self
            .deployments
            .iter()
            .map(|(_, one)| one)
            .filter(|one| !one.removed)
            .map(|one| one.key.clone())
            .collect();
        keys.sort_unstable();
        keys
    }

    /// The text of a deployment that failed, for the answer to its requests.
    pub fn unavailable(&self, key: &DeploymentKey) -> Option<&Arc<str>> {
        let deployment = self.deployments.get(*self.by_key.get(key)?)?;
        (!deployment.unavailable.is_empty()).then_some(&deployment.unavailable)
    }

    /// Requests of this deployment that wait in this router.
    pub fn queued(&self, key: &DeploymentKey) -> usize {
        let deployment = self
            .by_key
            .get(key)
            .and_then(|index| self.deployments.get(*index));
        deployment.map_or(0, |deployment| deployment.queued_here() as usize)
    }

    /// Those of them that may go to the replica behind this connection, and that it knows of.
    pub fn queued_for(&self, connection: ConnectionKey) -> usize {
        let queues = self.queues_for(connection.index);
        queues.map(|queue| queue.length as usize).sum()
    }

    fn deployment(&mut self, now: Instant, key: &DeploymentKey) -> DeploymentIndex {
        if let Some(index) = self.by_key.get(key) {
            return *index;
        }
        let counter = self.limits.counter(key);
        let index = self
            .deployments
            .insert(Deployment::new(key.clone(), counter, now));
        self.by_key.insert(key.clone(), index);
        index
    }

    fn add(
        &mut self,
        now: Instant,
        (deployment, version): (DeploymentIndex, VersionIndex),
        target: &ReplicaTarget,
    ) -> Option<ReplicaIndex> {
        let index = self.replicas.insert(Replica {
            place: sessions::place(&target.replica_id),
            id: target.replica_id.clone(),
            socket_path: target.socket_path.clone(),
            generation: 0,
            deployment,
            version,
            limit: 0,
            others: 0,
            connecting: false,
            gone: false,
            retired: false,
            stopped: false,
            hung: false,
            sound: false,
            wanted: false,
            announced: false,
            answered: false,
            told_empty: false,
            wait_number: 0,
            candidate_place: None,
            room_place: None,
            attempts: 0,
            watch: Watch {
                turns: 0,
                since: now,
                armed: false,
            },
            probation: None,
            models: None,
            link: None,
        });
        self.deployments.get_mut(deployment)?.replicas.push(index);
        self.connect(index);
        Some(index)
    }

    fn retire(&mut self, index: ReplicaIndex) {
        if let Some(replica) = self.replicas.known_mut(index) {
            replica.retired = true;
        }
        self.refresh(index);
        self.close_if_over(index);
    }

    /// Takes the WAIT back from replicas that are no candidates any more.
    fn forget_waits(&mut self, index: DeploymentIndex) {
        let Some(deployment) = self.deployments.known_mut(index) else {
            return;
        };
        deployment.waiting.retain(|waiting| {
            // A retired one that nothing ran on is forgotten already.
            let Some(replica) = self.replicas.get_mut(*waiting) else {
                return false;
            };
            let keep = replica.candidate_place.is_some() && replica.wanted;
            if !keep {
                replica.wanted = false;
                self.pending.push_back(Pending::Unwait {
                    replica: *waiting,
                    generation: replica.generation,
                });
            }
            keep
        });
    }

    pub(super) fn fail_queue(&mut self, index: DeploymentIndex, code: ErrorCode) {
        while let Some(oldest) = self.deployments.get(index).and_then(|one| {
            let first = one.held.first.or(one.bound.first);
            first.or(one.queue.first)
        }) {
            self.leave(oldest);
            self.fail(oldest, code);
        }
    }

    pub(super) fn forget_if_empty(&mut self, index: DeploymentIndex) {
        let over = |one: &Deployment| one.removed && one.replicas.is_empty();
        if self.deployments.get(index).is_some_and(over) {
            self.mark(index);
            self.deployments.remove(index);
        }
    }
}
