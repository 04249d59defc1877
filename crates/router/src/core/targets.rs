//! What the controller says: deployments, versions, replicas; and the connections that follow from it.

use std::time::Instant;

use eagleray_types::{
    DeploymentKey, ErrorCode,
    control::{DeploymentTarget, ReplicaTarget},
};
use eagleray_wire::Claims;
use rustc_hash::FxHashMap;

use super::{
    ConnectionKey, Core, Event, NONE, Pending, TimerKind,
    deployment::{Deployment, Version},
    replica::{Link, Replica, Watch},
    sessions,
};

impl<C: Claims> Core<C> {
    /// Takes the full new state of one deployment. A replica that it no longer names gets nothing new, and its
    /// connection is closed when what runs there has ended.
    pub fn apply(&mut self, now: Instant, target: &DeploymentTarget) {
        let index = self.deployment(now, &target.key);
        let Some(deployment) = self.deployments.get_mut(index as usize) else {
            return;
        };
        deployment.max_queued = usize::try_from(target.max_queued_requests).unwrap_or(usize::MAX);
        deployment.unavailable.clone_from(&target.unavailable);
        let old_versions = std::mem::take(&mut deployment.versions);
        let mut known: FxHashMap<String, u32> = FxHashMap::default();
        for replica in &deployment.replicas {
            if let Some(state) = self.replicas.get_mut(*replica as usize) {
                state.candidate_place = NONE;
                state.room_place = NONE;
                known.insert(state.id.clone(), *replica);
            }
        }
        for (position, version) in target.versions.iter().enumerate() {
            let old = old_versions.iter().find(|old| old.name == version.version);
            let changed = old.is_none_or(|old| old.limit != version.max_ongoing_requests);
            if let Some(deployment) = self.deployments.get_mut(index as usize) {
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
                    .or_else(|| self.add(now, index, replica));
                if let Some(state) = at.and_then(|at| self.replicas.get_mut(at as usize)) {
                    state.version = position as u32;
                    if changed {
                        // Its own word, in the next frame, counts for more.
                        state.limit = version.max_ongoing_requests;
                    }
                }
            }
        }
        let mut dropped: Vec<u32> = known.into_values().collect();
        dropped.sort_unstable();
        for replica in dropped {
            self.retire(replica);
        }
        let listed = self
            .deployments
            .get(index as usize)
            .map(|deployment| deployment.replicas.clone());
        for replica in listed.unwrap_or_default() {
            self.refresh(replica);
        }
        self.forget_waits(index);
        if !target.unavailable.is_empty() {
            self.fail_queue(index, ErrorCode::Unavailable);
        }
        self.settle(now, index);
    }

    /// The deployment is gone: what waits fails with `Unavailable`, what runs may end.
    pub fn remove(&mut self, now: Instant, key: &DeploymentKey) {
        let Some(index) = self.by_key.remove(key) else {
            return;
        };
        let Some(deployment) = self.deployments.get_mut(index as usize) else {
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
    pub fn unavailable(&self, key: &DeploymentKey) -> Option<&str> {
        let deployment = self.deployments.get(*self.by_key.get(key)? as usize)?;
        (!deployment.unavailable.is_empty()).then_some(deployment.unavailable.as_str())
    }

    /// Requests of this deployment that wait in this router.
    pub fn queued(&self, key: &DeploymentKey) -> usize {
        let deployment = self
            .by_key
            .get(key)
            .and_then(|index| self.deployments.get(*index as usize));
        deployment.map_or(0, |deployment| {
            (deployment.queue.length + deployment.held.length + deployment.bound.length) as usize
        })
    }

    /// Those of them that may go to the replica behind this connection, and that it knows of.
    pub fn queued_for(&self, connection: ConnectionKey) -> usize {
        let queues = self.queues_for(connection.index);
        queues.map(|queue| queue.length as usize).sum()
    }

    /// HELLO has come: `slots` and `max_ongoing` are its `b` and `c`, `claims` the page that came with it.
    pub fn connected(
        &mut self,
        now: Instant,
        connection: ConnectionKey,
        claims: C,
        slots: u32,
        max_ongoing: u32,
    ) {
        let Some(replica) = self.replica(connection) else {
            return;
        };
        replica.connecting = false;
        replica.attempts = 0;
        replica.limit = max_ongoing;
        replica.others = 0;
        replica.wanted = false;
        replica.announced = false;
        replica.models = None;
        replica.watch.turns = claims.turns();
        replica.watch.since = now;
        replica.watch.armed = false;
        replica.link = Some(Link::new(claims, slots));
        let deployment = replica.deployment;
        self.refresh(connection.index);
        self.settle(now, deployment);
    }

    /// Whether requests go to the replica behind this connection: it is up, does not drain, and turns.
    pub fn takes(&self, connection: ConnectionKey) -> bool {
        let replica = self.replicas.get(connection.index());
        replica.is_some_and(|one| {
            one.generation == connection.generation && one.candidate_place != NONE
        })
    }

    pub(super) fn replica(&mut self, connection: ConnectionKey) -> Option<&mut Replica<C>> {
        self.replicas
            .get_mut(connection.index())
            .filter(|replica| replica.generation == connection.generation)
    }

    /// Asks the owner to connect, under a new key.
    pub(super) fn connect(&mut self, index: u32) {
        let Some(replica) = self.replicas.get_mut(index as usize) else {
            return;
        };
        if replica.connecting || replica.link.is_some() || replica.gone || replica.retired {
            return;
        }
        self.generation = self.generation.wrapping_add(1);
        replica.generation = self.generation;
        replica.connecting = true;
        self.events.push_back(Event::Connect {
            connection: ConnectionKey {
                index,
                generation: replica.generation,
            },
            replica_id: replica.id.clone(),
            socket_path: replica.socket_path.clone(),
        });
    }

    /// Closes a connection that nothing needs any more.
    pub(super) fn close_if_over(&mut self, index: u32) {
        let Some(replica) = self.replicas.get_mut(index as usize) else {
            return;
        };
        if !replica.retired || replica.link.as_ref().is_some_and(|link| link.busy() > 0) {
            return;
        }
        if replica.connecting || replica.link.is_some() {
            let connection = ConnectionKey {
                index,
                generation: replica.generation,
            };
            self.events.push_back(Event::Disconnect { connection });
        }
        self.forget(index);
    }

    /// Drops a retired replica.
    pub(super) fn forget(&mut self, index: u32) {
        let Some(replica) = self.replicas.try_remove(index as usize) else {
            return;
        };
        if let Some(deployment) = self.deployments.get_mut(replica.deployment as usize) {
            deployment.replicas.retain(|other| *other != index);
        }
        self.forget_if_empty(replica.deployment);
    }

    pub(super) fn timer(&mut self, at: Instant, index: u32, kind: TimerKind) {
        let Some(generation) = self
            .replicas
            .get(index as usize)
            .map(|replica| replica.generation)
        else {
            return;
        };
        self.timers.push(std::cmp::Reverse((
            at,
            ConnectionKey { index, generation },
            kind,
        )));
    }

    fn deployment(&mut self, now: Instant, key: &DeploymentKey) -> u32 {
        if let Some(index) = self.by_key.get(key) {
            return *index;
        }
        let counter = self.limits.counter(key);
        let index = self
            .deployments
            .insert(Deployment::new(key.clone(), counter, now)) as u32;
        self.by_key.insert(key.clone(), index);
        index
    }

    fn add(&mut self, now: Instant, deployment: u32, target: &ReplicaTarget) -> Option<u32> {
        let index = self.replicas.insert(Replica {
            place: sessions::place(&target.replica_id),
            id: target.replica_id.clone(),
            socket_path: target.socket_path.clone(),
            generation: 0,
            deployment,
            version: NONE,
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
            candidate_place: NONE,
            room_place: NONE,
            attempts: 0,
            watch: Watch {
                turns: 0,
                since: now,
                armed: false,
            },
            probation: None,
            models: None,
            link: None,
        }) as u32;
        self.deployments
            .get_mut(deployment as usize)?
            .replicas
            .push(index);
        self.connect(index);
        Some(index)
    }

    fn retire(&mut self, index: u32) {
        if let Some(replica) = self.replicas.get_mut(index as usize) {
            replica.retired = true;
        }
        self.refresh(index);
        self.close_if_over(index);
    }

    /// Takes the WAIT back from replicas that are no candidates any more.
    fn forget_waits(&mut self, index: u32) {
        let Some(deployment) = self.deployments.get_mut(index as usize) else {
            return;
        };
        deployment.waiting.retain(|waiting| {
            let Some(replica) = self.replicas.get_mut(*waiting as usize) else {
                return false;
            };
            let keep = replica.candidate_place != NONE && replica.wanted;
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

    pub(super) fn fail_queue(&mut self, index: u32, code: ErrorCode) {
        while let Some(oldest) = self.deployments.get(index as usize).and_then(|one| {
            [one.held.first, one.bound.first, one.queue.first]
                .into_iter()
                .find(|first| *first != NONE)
        }) {
            self.leave(oldest);
            self.fail(oldest, code);
        }
    }

    fn forget_if_empty(&mut self, index: u32) {
        let over = |one: &Deployment| one.removed && one.replicas.is_empty();
        if self.deployments.get(index as usize).is_some_and(over) {
            self.deployments.remove(index as usize);
        }
    }
}
