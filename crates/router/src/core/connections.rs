//! Connections to replicas: when one is wanted, is there, and is needed no more.

use std::time::Instant;

use eagleray_wire::Claims;

use super::{
    ConnectionKey, Core, Event, TimerKind,
    replica::{Link, Replica},
    table::ReplicaIndex,
};

impl<C: Claims> Core<C> {
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
        let replica = self.replicas.get(connection.index);
        replica.is_some_and(|one| {
            one.generation == connection.generation && one.candidate_place.is_some()
        })
    }

    pub(super) fn replica(&mut self, connection: ConnectionKey) -> Option<&mut Replica<C>> {
        self.replicas
            .get_mut(connection.index)
            .filter(|replica| replica.generation == connection.generation)
    }

    /// Asks the owner to connect, under a new key.
    pub(super) fn connect(&mut self, index: ReplicaIndex) {
        let Some(replica) = self.replicas.known_mut(index) else {
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
    pub(super) fn close_if_over(&mut self, index: ReplicaIndex) {
        let Some(replica) = self.replicas.known_mut(index) else {
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
    pub(super) fn forget(&mut self, index: ReplicaIndex) {
        let Some(replica) = self.replicas.remove(index) else {
            return;
        };
        if let Some(deployment) = self.deployments.get_mut(replica.deployment) {
            deployment.replicas.retain(|other| *other != index);
        }
        self.forget_if_empty(replica.deployment);
    }

    pub(super) fn timer(&mut self, at: Instant, index: ReplicaIndex, kind: TimerKind) {
        let Some(generation) = self.replicas.get(index).map(|replica| replica.generation) else {
            return;
        };
        self.timers.push(std::cmp::Reverse((
            at,
            ConnectionKey { index, generation },
            kind,
        )));
    }
}
