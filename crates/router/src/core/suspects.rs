//! Suspects: requests that were STARTED in a replica that died. One of them may have killed it, and nobody can say
//! which.
//!
//! **The rule**: as far as there is room, suspects travel alone. If those that one replica had when it died went to
//! the next one together and the deadly one killed that too, each of its neighbours would have been STARTED in two
//! replicas that died, and would fail for no fault of its own. So a replica that was sent a suspect is on probation
//! until that is over, or has run for [`PROBATION`]: what kills mostly kills at once, and what runs long must not
//! make the others wait as long. Meanwhile other suspects are **held**: they are not in the queue, so that replicas on
//! probation do not grant slots that could not be used. Replicas that are not know of them as of the queue, and a slot
//! that falls free there is theirs at their age. Nothing else waits for probation.
//!
//! With no room anywhere a suspect waits in the queue like any other request, and is held again when it would leave
//! on the grant of a replica on probation; of more than [`MOST_PASSED`] in a row the rest goes.

use std::time::Instant;

use eagleray_wire::Claims;

use super::{
    Core, TimerKind,
    deployment::Deployment,
    probation::{PROBATION, Probation},
    replica::Replica,
    request::{Queue, Request},
    table::{DeploymentIndex, ReplicaIndex, RequestIndex, Table},
};

/// Suspects that are held for one grant at most, so that a grant costs no more than that.
const MOST_PASSED: usize = 64;

/// Where a suspect may go.
enum Way {
    To(ReplicaIndex),
    /// There is room, and each replica that has it is on probation.
    Later,
    NoRoom,
}

impl<C: Claims> Core<C> {
    /// Sends held requests that are older than the queue, as far as replicas without a suspect have room. With no room
    /// at all they go to the queue.
    pub(super) fn release_held(&mut self, now: Instant, index: DeploymentIndex) {
        while let Some(deployment) = self.deployments.get_mut(index)
            && let Some(first) = deployment.held.first
        {
            let order = |index: Option<RequestIndex>| {
                self.requests.get(index).map_or(u64::MAX, |one| one.order)
            };
            match way(deployment, &self.replicas) {
                Way::To(_) if order(deployment.queue.first) < order(Some(first)) => return,
                Way::To(replica) => {
                    self.leave(first);
                    self.send(now, first, replica, false);
                }
                Way::Later => return,
                Way::NoRoom => {
                    self.requests.dequeue(&mut deployment.held, first);
                    if let Some(request) = self.requests.get_mut(first) {
                        request.held = false;
                    }
                    self.requests.enqueue(&mut deployment.queue, first);
                }
            }
        }
    }

    /// The replica that the oldest request of the queue goes to instead of `chosen`, which has room. `None`: it is a
    /// suspect, and was put with the held ones.
    pub(super) fn apart(
        &mut self,
        index: DeploymentIndex,
        oldest: RequestIndex,
        chosen: ReplicaIndex,
    ) -> Option<ReplicaIndex> {
        let suspect = self.requests.get(oldest)?.deaths > 0;
        let watched = self.replicas.get(chosen)?.probation.is_some();
        if !suspect || !watched {
            return Some(chosen);
        }
        let deployment = self.deployments.get_mut(index)?;
        if let Way::To(other) = way(deployment, &self.replicas) {
            return Some(other);
        }
        self.hold(oldest);
        None
    }

    /// From the queue to the held ones.
    fn hold(&mut self, index: RequestIndex) {
        let Some(request) = self.requests.known_mut(index) else {
            return;
        };
        let Some(deployment) = self.deployments.known_mut(request.deployment) else {
            return;
        };
        request.held = true;
        if std::mem::take(&mut request.counted) {
            deployment.queued.remove(1);
        }
        self.requests.dequeue(&mut deployment.queue, index);
        self.requests.enqueue(&mut deployment.held, index);
    }

    /// What waits and may go to a replica: the queue, and where no suspect is the held ones.
    pub(super) fn queues_for(&self, replica: ReplicaIndex) -> impl Iterator<Item = &Queue> {
        let replica = self.replicas.get(replica);
        let deployment = replica.and_then(|one| self.deployments.get(one.deployment));
        let calm = replica.is_some_and(|one| one.probation.is_none());
        let held = deployment.filter(|_| calm).map(|one| &one.held);
        deployment.map(|one| &one.queue).into_iter().chain(held)
    }

    /// The oldest request that a grant of this replica is spent on. On probation it gets none that is suspect: those
    /// before the oldest other one are held.
    pub(super) fn oldest_for(
        &mut self,
        index: DeploymentIndex,
        replica: ReplicaIndex,
    ) -> Option<RequestIndex> {
        let watched = self
            .replicas
            .get(replica)
            .is_some_and(|replica| replica.probation.is_some());
        if !watched {
            return self
                .queues_for(replica)
                .filter_map(|queue| Some((self.requests.get(queue.first)?.order, queue.first?)))
                .min()
                .map(|(_, first)| first);
        }
        let mut passed = 0;
        while let Some(deployment) = self.deployments.get(index) {
            let first = deployment.queue.first?;
            let suspect = |request: &Request| request.deaths > 0;
            if passed == MOST_PASSED || !self.requests.get(first).is_some_and(suspect) {
                return Some(first);
            }
            self.hold(first);
            passed += 1;
        }
        None
    }

    /// A suspect was sent to this replica.
    pub(super) fn begin_probation(&mut self, now: Instant, index: ReplicaIndex, slot: u32) {
        let until = now + PROBATION;
        if let Some(replica) = self.replicas.known_mut(index) {
            replica.probation = Some(Probation { slot, until });
            self.timer(until, index, TimerKind::Probation);
        }
    }

    /// The suspect has run long enough.
    pub(super) fn end_probation(&mut self, now: Instant, index: ReplicaIndex) {
        let Some(replica) = self.replicas.known_mut(index) else {
            return;
        };
        if replica.probation.is_some_and(|one| one.until <= now) {
            replica.probation = None;
            let deployment = replica.deployment;
            self.settle(now, deployment);
        }
    }
}

impl<C> Replica<C> {
    /// The request in this slot is over, or somewhere else.
    pub(super) fn acquit(&mut self, slot: u32) {
        if self.probation.is_some_and(|one| one.slot == slot) {
            self.probation = None;
        }
    }
}

/// The least loaded replica that has room and no suspect.
fn way<C: Claims>(deployment: &Deployment, replicas: &Table<ReplicaIndex, Replica<C>>) -> Way {
    let roomy = || deployment.versions.iter().flat_map(|one| &one.roomy);
    let calm = roomy()
        .filter_map(|index| Some((*index, replicas.get(*index)?)))
        .filter(|(_, replica)| replica.probation.is_none())
        .min_by_key(|(_, replica)| replica.load());
    match calm {
        Some((index, _)) => Way::To(index),
        None if roomy().next().is_some() => Way::Later,
        None => Way::NoRoom,
    }
}
