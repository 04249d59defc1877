//! Replicas that do not turn.
//!
//! A replica does not turn when its whole process stands still (SIGSTOP: seen on the page) or its event loop does (it
//! says so itself). It is *avoided*: while another takes requests nothing new goes there, and what it has not started
//! leaves. With no other it keeps what it has and gets more: a loop that is blocked for long still answers in the end.

use std::time::Instant;

use eagleray_wire::Claims;

use super::{
    Core, TimerKind,
    replica::Replica,
    table::{ReplicaIndex, RequestIndex},
};

impl<C: Claims> Core<C> {
    /// Arms the watch of a replica that has just been sent a request.
    pub(super) fn watch(&mut self, now: Instant, index: ReplicaIndex) {
        let Some(replica) = self.replicas.known_mut(index) else {
            return;
        };
        let Some(link) = replica.link.as_ref() else {
            return;
        };
        if link.busy() == 1 {
            replica.watch.since = now;
        }
        if !replica.watch.armed {
            replica.watch.armed = true;
            replica.watch.turns = link.turns();
            self.timer(now + Replica::<C>::WATCH_PERIOD, index, TimerKind::Watch);
        }
    }

    /// The replica turns again.
    pub(super) fn resume(&mut self, now: Instant, index: ReplicaIndex) {
        let Some(replica) = self.replicas.known_mut(index) else {
            return;
        };
        replica.stopped = false;
        replica.watch.since = now;
        let deployment = replica.deployment;
        self.refresh(index);
        self.settle(now, deployment);
    }

    pub(super) fn look(&mut self, now: Instant, index: ReplicaIndex) {
        let Some(replica) = self.replicas.known_mut(index) else {
            return;
        };
        replica.watch.armed = false;
        let Some(link) = replica.link.as_ref() else {
            return;
        };
        let (turns, busy) = (link.turns(), link.busy());
        if turns != replica.watch.turns || link.exempt() {
            replica.watch.turns = turns;
            replica.watch.since = now;
            if replica.stopped {
                self.resume(now, index);
            }
        } else if busy > 0
            && !replica.stopped
            && now.saturating_duration_since(replica.watch.since) >= Replica::<C>::STOPPED_AFTER
        {
            self.stop(now, index);
        }
        let Some(replica) = self.replicas.known_mut(index) else {
            return;
        };
        let period = if replica.stopped {
            Replica::<C>::WAKE_PERIOD
        } else {
            Replica::<C>::WATCH_PERIOD
        };
        let busy = replica.link.as_ref().is_some_and(|link| link.busy() > 0);
        if (busy || replica.stopped) && !replica.watch.armed {
            replica.watch.armed = true;
            self.timer(now + period, index, TimerKind::Watch);
        }
    }

    fn stop(&mut self, now: Instant, index: ReplicaIndex) {
        let Some(replica) = self.replicas.known_mut(index) else {
            return;
        };
        replica.stopped = true;
        self.avoid(now, index);
    }

    /// The replica's own word on its event loop.
    pub(super) fn hung(&mut self, now: Instant, index: ReplicaIndex, hung: bool) {
        let Some(replica) = self.replicas.known_mut(index) else {
            return;
        };
        if hung == std::mem::replace(&mut replica.hung, hung) {
            return;
        }
        self.avoid(now, index);
    }

    fn avoid(&mut self, now: Instant, index: ReplicaIndex) {
        self.refresh(index);
        self.evacuate(index);
        let deployment = self.replicas.get(index).map(|one| one.deployment);
        if let Some(deployment) = deployment {
            self.settle(now, deployment);
        }
    }

    /// What a replica that is avoided has not started goes elsewhere, if it can; what it has is left to it. The caller
    /// settles the deployment.
    pub(super) fn evacuate(&mut self, index: ReplicaIndex) {
        let Some(replica) = self.replicas.known(index) else {
            return;
        };
        let deployment = self.deployments.get(replica.deployment);
        if !replica.avoided() || deployment.is_none_or(|one| one.sound == 0) {
            return;
        }
        let mut sent: Vec<_> = replica
            .link
            .as_ref()
            .map(|link| link.wanted().collect())
            .unwrap_or_default();
        let order = |request: RequestIndex| self.requests.get(request).map(|state| state.order);
        sent.sort_unstable_by_key(|(_, request)| std::cmp::Reverse(order(*request)));
        for (slot, request) in sent {
            if self.take_back(index, slot) {
                self.requeue(request, true);
            }
        }
    }
}
