//! Multiplexed models: a request that names one goes where it is.
//!
//! Replicas say which models they hold or load (MODELS), as soon as that changes. A replica counts as a holder as well
//! while a request of ours for the model is there, so that of many that come at once for a new model, all follow the
//! first. For a request with a model the candidates are narrowed:
//!
//! 1. holders with room: the least loaded;
//! 2. are all holders full, and does one of them work for us, the request is **bound**: it waits for a holder, since
//!    the end of our request there will tell of room, and a slot that falls free is mostly nearer than a load;
//! 3. after [`PATIENCE`], or without a holder, any replica with room: the one with the fewest models.
//!
//! Bound requests are in no queue that replicas know of, so that nobody grants a slot that they would not take. They
//! count for the limits of the queue. When their patience ends they join the queue at their age. A deployment whose
//! replicas have said nothing of models is none of this: the id is only passed on.

use std::time::{Duration, Instant};

use eagleray_wire::{Claims, ModelKey};

use super::{
    ConnectionKey, Core,
    deployment::Deployment,
    replica::Replica,
    table::{DeploymentIndex, ReplicaIndex, RequestIndex, Table},
};

/// How long a request waits for a replica that holds its model, while others have room. A model in such demand is
/// then loaded by a second one.
pub(super) const PATIENCE: Duration = Duration::from_millis(100);
/// Bound requests that are looked at for one change, so that a frame costs no more than that.
const MOST_LOOKED_AT: usize = 64;

/// Where a request may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    To(ReplicaIndex),
    /// Replicas that hold its model are full.
    Wait,
    NoRoom,
}

impl<C: Claims> Replica<C> {
    fn holds(&self, model: ModelKey) -> bool {
        let said = |models: &Vec<ModelKey>| models.binary_search(&model).is_ok();
        self.models.as_ref().is_some_and(said)
            || self
                .link
                .as_ref()
                .is_some_and(|link| link.models().any(|one| one == model))
    }

    /// How many models it holds, those among them that our requests will make it load.
    pub(super) fn model_count(&self) -> usize {
        let models = self.models.as_deref().unwrap_or_default();
        let coming = self.link.as_ref().map_or(0, |link| {
            link.models()
                .filter(|model| models.binary_search(model).is_err())
                .count()
        });
        models.len() + coming
    }
}

impl Deployment {
    /// Where a request for a model goes.
    pub(super) fn choose_for<C: Claims>(
        &self,
        model: ModelKey,
        replicas: &Table<ReplicaIndex, Replica<C>>,
        random: &mut fastrand::Rng,
    ) -> Way {
        let candidates = || {
            self.versions
                .iter()
                .flat_map(|version| &version.candidates)
                .filter_map(|index| Some((*index, replicas.get(*index)?)))
        };
        if !candidates().any(|(_, replica)| replica.models.is_some()) {
            return self.choose(replicas, random).map_or(Way::NoRoom, Way::To);
        }
        let mut holder = None;
        let mut other = None;
        let mut hope = false;
        for (index, replica) in candidates() {
            let room = replica.room_place.is_some();
            // A tie goes to either, so that equal replicas share.
            let tie = random.u32(..);
            if replica.holds(model) {
                if room {
                    holder = holder
                        .into_iter()
                        .chain([(replica.load(), tie, index)])
                        .min();
                }
                hope |= replica.link.as_ref().is_some_and(|link| link.busy() > 0);
            } else if room {
                let rank = (replica.model_count(), replica.load(), tie, index);
                other = other.into_iter().chain([rank]).min();
            }
        }
        match (holder, other) {
            (Some((.., index)), _) => Way::To(index),
            (None, _) if hope => Way::Wait,
            (None, Some((.., index))) => Way::To(index),
            (None, None) => Way::NoRoom,
        }
    }

    /// Where a request goes that has waited long enough: to a holder with room, else to any replica with room.
    pub(super) fn choose_any_for<C: Claims>(
        &self,
        model: ModelKey,
        replicas: &Table<ReplicaIndex, Replica<C>>,
        random: &mut fastrand::Rng,
    ) -> Option<ReplicaIndex> {
        match self.choose_for(model, replicas, random) {
            Way::To(replica) => Some(replica),
            Way::NoRoom => None,
            Way::Wait => self
                .versions
                .iter()
                .flat_map(|version| &version.roomy)
                .filter_map(|index| Some((*index, replicas.get(*index)?)))
                .min_by_key(|(_, replica)| (replica.model_count(), replica.load()))
                .map(|(index, _)| index),
        }
    }
}

impl<C: Claims> Core<C> {
    /// MODELS has come: what the replica holds or loads now.
    pub fn on_models(
        &mut self,
        now: Instant,
        connection: ConnectionKey,
        mut models: Vec<ModelKey>,
    ) {
        models.sort_unstable();
        models.dedup();
        let Some(replica) = self.replica(connection).filter(|one| one.link.is_some()) else {
            return;
        };
        replica.models = Some(models);
        let deployment = replica.deployment;
        self.mark(deployment);
        let waits = |deployment: &Deployment| !deployment.bound.is_empty();
        if self.deployments.get(deployment).is_some_and(waits) {
            self.settle(now, deployment);
        }
    }

    /// Lets a new request wait for a replica that holds its model.
    pub(super) fn bind(&mut self, now: Instant, index: RequestIndex) {
        let Some(request) = self.requests.known_mut(index) else {
            return;
        };
        request.bound = true;
        let Some(deployment) = self.deployments.known_mut(request.deployment) else {
            return;
        };
        self.requests.enqueue(&mut deployment.bound, index);
        self.requests.patience.insert(now + PATIENCE, index);
    }

    /// Sends bound requests to holders that have room now. Those whose holders are gone join the queue.
    pub(super) fn release_bound(&mut self, now: Instant, index: DeploymentIndex) {
        let Some(deployment) = self.deployments.get(index) else {
            return;
        };
        let mut following = deployment.bound.first;
        for _ in 0..MOST_LOOKED_AT {
            let Some(deployment) = self.deployments.known(index) else {
                return;
            };
            let Some(at) = following else {
                return;
            };
            let Some(request) = self.requests.known(at) else {
                return;
            };
            let (next, model) = (request.next(), request.model);
            let way = model.map_or(Way::NoRoom, |model| {
                deployment.choose_for(model, &self.replicas, &mut self.random)
            });
            match way {
                Way::To(replica) => {
                    self.leave(at);
                    self.send(now, at, replica, false);
                }
                Way::Wait => {}
                Way::NoRoom => self.unbind(at),
            }
            following = next;
        }
    }

    /// Requests that have waited long enough for a holder go wherever there is room.
    pub(super) fn end_patience(&mut self, now: Instant) {
        while let Some((_, request)) = self.requests.patience.first().filter(|(at, _)| *at <= now) {
            let deployment = self.requests.get(request).map(|state| state.deployment);
            self.unbind(request);
            if let Some(deployment) = deployment {
                self.settle(now, deployment);
            }
        }
    }

    /// From the bound ones to the queue. The caller settles the deployment.
    fn unbind(&mut self, index: RequestIndex) {
        self.requests.patience.remove(index);
        let Some(request) = self.requests.known_mut(index) else {
            return;
        };
        if !std::mem::take(&mut request.bound) {
            return;
        }
        let Some(deployment) = self.deployments.known_mut(request.deployment) else {
            return;
        };
        self.requests.dequeue(&mut deployment.bound, index);
        self.requests.enqueue(&mut deployment.queue, index);
    }
}
