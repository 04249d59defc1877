//! How a request leaves: at once to a replica with room, or through the queue on a grant.

use std::{sync::Arc, time::Instant};

use eagleray_types::{DeploymentKey, ErrorCode};
use eagleray_wire::Claims;

use super::{
    Core, Event, Pending, Refused, RequestKey, Submit,
    models::Way,
    replica::Link,
    request::{DEFERRED, Place, Request},
    table::{ReplicaIndex, RequestIndex},
};

impl<C: Claims> Core<C> {
    /// Takes a request. It is sent at once if nobody waits before it and a replica has room, else it waits.
    ///
    /// # Errors
    /// The request was not taken, and no event follows.
    pub fn submit(
        &mut self,
        now: Instant,
        key: &DeploymentKey,
        submit: Submit,
    ) -> Result<RequestKey, Refused> {
        let index = *self.by_key.get(key).ok_or(Refused::UnknownDeployment)?;
        let deployment = self
            .deployments
            .get_mut(index)
            .ok_or(Refused::UnknownDeployment)?;
        if !deployment.unavailable.is_empty() {
            return Err(Refused::Unavailable);
        }
        if submit.deadline.is_some_and(|deadline| deadline <= now) {
            return Err(Refused::DeadlineExceeded);
        }
        deployment.budget.request(now);
        let mut request = Request::new(self.order, index, now, &submit);
        let way = match (submit.model, submit.session) {
            _ if !deployment.queue.is_empty() => Way::NoRoom,
            (None, None) => deployment
                .choose(&self.replicas, &mut self.random)
                .map_or(Way::NoRoom, Way::To),
            (Some(model), _) => deployment.choose_for(model, &self.replicas, &mut self.random),
            (None, Some(session)) => deployment
                .choose_in_session(session, &self.replicas)
                .map_or(Way::NoRoom, Way::To),
        };
        if let Way::To(replica) = way {
            self.order += 1;
            let key = self.requests.insert(request);
            self.send(now, key.index, replica, false);
            return Ok(key);
        }
        if !deployment.queued.try_add(1, deployment.max_queued) {
            self.count_refused(index);
            return Err(Refused::BackPressure);
        }
        if !self.limits.try_add_bytes(request.bytes) {
            deployment.queued.remove(1);
            return Err(Refused::Overloaded);
        }
        request.accepted = true;
        request.counted = true;
        self.order += 1;
        let key = self.requests.insert(request);
        let fills = deployment.queue.is_empty();
        if matches!(way, Way::Wait) {
            self.bind(now, key.index);
        } else {
            self.requests.enqueue(&mut deployment.queue, key.index);
            if fills {
                self.enroll(index);
            }
        }
        self.mark(index);
        if self.draining {
            self.fail_stranded(index);
        }
        Ok(key)
    }

    /// Puts a request that was with a replica back in the queue, at its age. `moves`: that replica died or was
    /// stopped, so no limit applies. The caller settles the deployment afterwards.
    pub(super) fn requeue(&mut self, index: RequestIndex, moves: bool) {
        let Some(request) = self.requests.known_mut(index) else {
            return;
        };
        request.place = Place::Nowhere;
        let Some(deployment) = self.deployments.known_mut(request.deployment) else {
            return;
        };
        if !deployment.takes_requests() {
            self.fail(index, ErrorCode::Unavailable);
            return;
        }
        request.rejections = if moves {
            0
        } else {
            request.rejections.saturating_add(1)
        };
        if moves || request.is_deferred() {
            request.counted = false;
            self.limits.add_bytes(request.bytes);
        } else if request.accepted {
            // It had its place in the queue and lost it to an offer that was gone: it counts again, and is not
            // refused, so for its return the count may be above the limit.
            request.counted = true;
            deployment.queued.add(1);
            self.limits.add_bytes(request.bytes);
        } else {
            // It skipped the queue when it came, so what bounds the queue is asked now.
            if !deployment.queued.try_add(1, deployment.max_queued) {
                let owner = request.deployment;
                self.count_refused(owner);
                self.fail(index, ErrorCode::BackPressure);
                return;
            }
            if !self.limits.try_add_bytes(request.bytes) {
                deployment.queued.remove(1);
                self.fail(index, ErrorCode::Overloaded);
                return;
            }
            request.counted = true;
        }
        request.accepted = true;
        let owner = request.deployment;
        if moves && request.deaths > 0 {
            request.held = true;
            self.requests.enqueue(&mut deployment.held, index);
        } else {
            self.requests.enqueue(&mut deployment.queue, index);
        }
        self.mark(owner);
    }

    /// Nobody waits for the answer of a request any more, and it is wanted all the same. If it waits, it waits behind all
    /// that somebody waits for, and takes no place of theirs in the queue: whoever defers bounds how many there are.
    pub fn defer(&mut self, request: RequestKey) {
        let Some(index) = self.requests.find(request).map(|_| request.index) else {
            return;
        };
        let Some(request) = self.requests.known_mut(index) else {
            return;
        };
        let Some(deployment) = self.deployments.known_mut(request.deployment) else {
            return;
        };
        if std::mem::take(&mut request.counted) {
            deployment.queued.remove(1);
        }
        if request.place != Place::Queued {
            request.order |= DEFERRED;
            return;
        }
        let queue = match (request.held, request.bound) {
            (true, _) => &mut deployment.held,
            (_, true) => &mut deployment.bound,
            _ => &mut deployment.queue,
        };
        self.requests.dequeue(queue, index);
        if let Some(request) = self.requests.known_mut(index) {
            request.order |= DEFERRED;
        }
        self.requests.enqueue(queue, index);
    }

    /// Takes a request out of the queue. The caller settles the deployment afterwards.
    pub(super) fn leave(&mut self, index: RequestIndex) {
        let Some(request) = self.requests.known_mut(index) else {
            return;
        };
        let Some(deployment) = self.deployments.known_mut(request.deployment) else {
            return;
        };
        if std::mem::take(&mut request.counted) {
            deployment.queued.remove(1);
        }
        self.limits.remove_bytes(request.bytes);
        let queue = if std::mem::take(&mut request.held) {
            &mut deployment.held
        } else if std::mem::take(&mut request.bound) {
            &mut deployment.bound
        } else {
            &mut deployment.queue
        };
        let owner = request.deployment;
        self.requests.dequeue(queue, index);
        self.requests.patience.remove(index);
        self.mark(owner);
    }

    /// Sends a request that is in no queue to a replica with a free word.
    pub(super) fn send(
        &mut self,
        now: Instant,
        index: RequestIndex,
        to: ReplicaIndex,
        granted: bool,
    ) {
        let Some(replica) = self.replicas.known_mut(to) else {
            return;
        };
        let model = self.requests.get(index).and_then(|request| request.model);
        let word = replica
            .link
            .as_mut()
            .and_then(|link| link.queue(index, model));
        let Some((slot, sequence)) = word else {
            debug_assert!(false, "chosen without a free word");
            return;
        };
        let mut suspect = false;
        let mut submitted = now;
        if let Some(request) = self.requests.known_mut(index) {
            request.place = Place::Sent { replica: to, slot };
            suspect = request.deaths > 0;
            submitted = request.submitted;
        }
        let (deployment, version, generation) =
            (replica.deployment, replica.version, replica.generation);
        self.pending.push_back(Pending::Request {
            replica: to,
            generation,
            slot,
            sequence,
            granted,
        });
        self.watch(now, to);
        if suspect {
            self.begin_probation(now, to, slot);
        }
        self.refresh_room(to);
        if let Some(deployment) = self.deployments.get_mut(deployment) {
            deployment.charge(version);
            deployment
                .waits
                .count(now.saturating_duration_since(submitted));
        }
        self.mark(deployment);
    }

    /// Spends a grant of `from` on the oldest request that waits, or gives it back. `number`: of the WAIT that a soft
    /// grant answers. A soft grant that came too late has ended, and so will one whose WAIT is about to be taken back:
    /// neither is answered.
    pub(super) fn spend(&mut self, now: Instant, from: ReplicaIndex, number: u64) {
        let Some(replica) = self.replicas.known_mut(from) else {
            return;
        };
        let soft = number > 0;
        if soft && !(replica.announced && number == replica.wait_number) {
            return;
        }
        let (index, generation) = (replica.deployment, replica.generation);
        let usable = replica.candidate_place.is_some();
        let has_word = replica.link.as_ref().is_some_and(Link::has_free_word);
        let oldest = self.oldest_for(index, from);
        let Some(replica) = self.replicas.known_mut(from) else {
            return;
        };
        if let Some(oldest) = oldest.filter(|_| usable && has_word) {
            self.leave(oldest);
            self.send(now, oldest, from, true);
        } else if soft && !replica.wanted {
            // If the queue fills before UNWAIT is written, a new WAIT does the same.
            replica.told_empty = true;
        } else {
            self.pending.push_back(Pending::Return {
                replica: from,
                generation,
            });
        }
    }

    /// The outcome of a request that is nowhere any more.
    pub(super) fn conclude(
        &mut self,
        index: RequestIndex,
        event: impl FnOnce(RequestKey, &Request) -> Event,
    ) {
        let Some(key) = self.requests.key(index) else {
            return;
        };
        self.requests.deadlines.remove(index);
        if let Some(request) = self.requests.known_mut(index) {
            request.place = Place::Over;
            self.events.push_back(event(key, request));
        }
    }

    pub(super) fn fail(&mut self, index: RequestIndex, code: ErrorCode) {
        let deployment = self.requests.get(index).map(|state| state.deployment);
        let reason = deployment
            .filter(|_| code == ErrorCode::Unavailable)
            .and_then(|deployment| self.deployments.get(deployment))
            .map(|deployment| Arc::clone(&deployment.unavailable))
            .unwrap_or_default();
        self.conclude(index, |request, state| Event::Failed {
            request,
            code,
            reason,
            begun: state.begun,
        });
    }
}
