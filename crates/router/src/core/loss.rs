//! What ends early: cancelled requests, deadlines, replicas that die.
//!
//! The claim page decides. A request whose word was still QUEUED has not run, and moves at its age, whatever the
//! limits say. One that was STARTED is sent again only if that does no harm (`repeatable`), no byte of an answer
//! has come, the retry budget has one left, and not two replicas have died with it; otherwise it fails, once.

use std::{sync::Arc, time::Instant};

use eagleray_types::ErrorCode;
use eagleray_wire::Claims;

use super::{
    ConnectionKey, Core, Event, Pending, RequestKey, TimerKind,
    request::Place,
    table::{DeploymentIndex, ReplicaIndex, RequestIndex},
};

impl<C: Claims> Core<C> {
    /// The request may take as long as it likes from now on.
    pub fn lift_deadline(&mut self, request: RequestKey) {
        if self.requests.find(request).is_some() {
            self.requests.deadlines.remove(request.index);
        }
    }

    /// Nobody wants the answer. `Event::Cancelled` follows, unless the outcome is already decided, or the whole
    /// answer has come (END) and only DONE is missing: then background tasks run on, and `Finished` follows DONE.
    pub fn cancel(&mut self, now: Instant, request: RequestKey) {
        if self.requests.find(request).is_some() {
            self.abandon(now, request.index, |request, _| Event::Cancelled {
                request,
            });
        }
    }

    /// The owner has dropped bytes that it would need to send the request again.
    pub fn forbid_repeat(&mut self, request: RequestKey) {
        if self.requests.find(request).is_some()
            && let Some(state) = self.requests.get_mut(request.index)
        {
            state.repeatable = false;
        }
    }

    /// The connection ended, or could not be made. Every frame read from it must have been given to `on_frame`.
    pub fn disconnected(&mut self, now: Instant, connection: ConnectionKey) {
        let Some(replica) = self.replica(connection) else {
            return;
        };
        let link = replica.link.take();
        replica.connecting = false;
        replica.stopped = false;
        replica.hung = false;
        replica.probation = None;
        replica.models = None;
        let deployment = replica.deployment;
        let (gone, retired) = (replica.gone, replica.retired);
        let again = now + replica.back_off();
        replica.attempts += 1;
        let index = connection.index;
        self.refresh(index);
        if let Some(link) = link {
            let mut lost: Vec<_> = link
                .wanted()
                .map(|(slot, request)| (request, link.started(slot)))
                .collect();
            // Youngest first, so that each finds its place at the front of the queue.
            let order = |request: RequestIndex| self.requests.get(request).map(|state| state.order);
            lost.sort_unstable_by_key(|(request, _)| std::cmp::Reverse(order(*request)));
            for (request, started) in lost {
                self.lose(now, request, started);
            }
        }
        if retired {
            self.forget(index);
        } else if !gone {
            self.timer(again, index, TimerKind::Connect);
        }
        self.mark(deployment);
        self.settle(now, deployment);
    }

    /// The node ends, so no replica will come any more. From now on a request without any replica to go to fails at
    /// once instead of waiting for one; the others are served.
    pub fn drain(&mut self, now: Instant) {
        self.draining = true;
        let known: Vec<_> = self.deployments.iter().map(|(index, _)| index).collect();
        for index in known {
            self.settle(now, index);
        }
    }

    /// While draining: ends what waits for a deployment that has no replica.
    pub(super) fn fail_stranded(&mut self, index: DeploymentIndex) {
        let deployment = self.deployments.get(index);
        if deployment.is_some_and(|deployment| deployment.candidates() == 0) {
            self.fail_queue(index, ErrorCode::Draining);
        }
    }

    /// When `on_timeout` must be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let deadline = self.requests.deadlines.first().map(|(at, _)| at);
        let patience = self.requests.patience.first().map(|(at, _)| at);
        let timer = self.timers.peek().map(|std::cmp::Reverse((at, ..))| *at);
        deadline.into_iter().chain(patience).chain(timer).min()
    }

    /// Time has passed. Early or repeated calls do nothing.
    pub fn on_timeout(&mut self, now: Instant) {
        while let Some((_, request)) = self.requests.deadlines.first().filter(|(at, _)| *at <= now)
        {
            self.requests.deadlines.remove(request);
            let code = self.code_at_deadline(request);
            self.abandon(now, request, |request, state| Event::Failed {
                request,
                code,
                reason: Arc::default(),
                begun: state.begun,
            });
        }
        self.end_patience(now);
        while let Some(std::cmp::Reverse((at, connection, kind))) = self.timers.peek().copied()
            && at <= now
        {
            self.timers.pop();
            if self.replica(connection).is_some() {
                match kind {
                    TimerKind::Connect => self.connect(connection.index),
                    TimerKind::Watch => self.look(now, connection.index),
                    TimerKind::Probation => self.end_probation(now, connection.index),
                }
            }
        }
    }

    /// A request that waits while its deployment has no replica at all did not take too long: it had nowhere to go.
    fn code_at_deadline(&self, index: RequestIndex) -> ErrorCode {
        let nowhere = self.requests.get(index).is_some_and(|request| {
            request.place == Place::Queued
                && self
                    .deployments
                    .get(request.deployment)
                    .is_some_and(|deployment| deployment.candidates() == 0)
        });
        if nowhere {
            ErrorCode::NoReplica
        } else {
            ErrorCode::DeadlineExceeded
        }
    }

    /// Takes a sent request back, if it has not started, and tells the replica.
    pub(super) fn take_back(&mut self, index: ReplicaIndex, slot: u32) -> bool {
        let Some(replica) = self.replicas.known_mut(index) else {
            return false;
        };
        let generation = replica.generation;
        let Some(entry) = replica.link.as_mut().and_then(|link| link.take(slot)) else {
            return false;
        };
        replica.acquit(slot);
        let deployment = replica.deployment;
        if entry.written {
            self.pending.push_back(Pending::Cancel {
                replica: index,
                generation,
                slot,
                sequence: entry.sequence,
            });
        }
        self.refresh_room(index);
        self.mark(deployment);
        true
    }

    /// Ends a request before its answer, wherever it is.
    fn abandon(
        &mut self,
        now: Instant,
        index: RequestIndex,
        event: impl FnOnce(RequestKey, &super::request::Request) -> Event,
    ) {
        let Some(request) = self.requests.known(index) else {
            return;
        };
        let deployment = request.deployment;
        match request.place {
            Place::Over | Place::Nowhere => return,
            Place::Sent { .. } if request.ended => return,
            Place::Queued => {
                self.leave(index);
                self.conclude(index, event);
            }
            Place::Sent { replica, slot } => {
                if !self.take_back(replica, slot) {
                    self.disown(replica, slot);
                }
                self.conclude(index, event);
                self.close_if_over(replica);
            }
        }
        self.settle(now, deployment);
    }

    /// A request that has started: it keeps its slot until DONE, but belongs to nobody.
    fn disown(&mut self, index: ReplicaIndex, slot: u32) {
        let Some(replica) = self.replicas.known_mut(index) else {
            return;
        };
        let generation = replica.generation;
        let Some(link) = replica.link.as_mut() else {
            return;
        };
        let Some(sequence) = link.sequence_of(slot) else {
            return;
        };
        if let Some(entry) = link.find(slot, sequence) {
            entry.request = None;
        }
        self.pending.push_back(Pending::Cancel {
            replica: index,
            generation,
            slot,
            sequence,
        });
    }

    /// The replica that had this request is dead.
    fn lose(&mut self, now: Instant, index: RequestIndex, started: bool) {
        let Some(request) = self.requests.known_mut(index) else {
            return;
        };
        if request.ended {
            self.conclude(index, |request, _| Event::Finished { request });
            return;
        }
        if started {
            request.deaths += 1;
            let deployment = self.deployments.get_mut(request.deployment);
            let again = request.repeatable
                && !request.begun
                && request.deaths < 2
                && deployment.is_some_and(|deployment| deployment.budget.retry(now));
            if !again {
                self.fail(index, ErrorCode::ReplicaDied);
                return;
            }
        }
        self.requeue(index, true);
    }
}
