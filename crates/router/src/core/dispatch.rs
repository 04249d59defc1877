//! How a request leaves: at once to a replica with room, or through the queue on a grant.

use std::time::Instant;

use eagleray_types::{DeploymentKey, ErrorCode};
use eagleray_wire::Claims;

use super::{
    Core, Event, MAX_WAITS, NONE, Pending, Refused, RequestKey, Submit,
    models::Way,
    replica::{Link, Replica},
    request::{DEFERRED, Place, Request},
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
            .get_mut(index as usize)
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
        if self.draining {
            self.fail_stranded(index);
        }
        Ok(key)
    }

    /// Puts a request that was with a replica back in the queue, at its age. `moves`: that replica died or was
    /// stopped, so no limit applies. The caller settles the deployment afterwards.
    pub(super) fn requeue(&mut self, index: u32, moves: bool) {
        let Some(request) = self.requests.get_mut(index) else {
            return;
        };
        request.place = Place::Nowhere;
        let Some(deployment) = self.deployments.get_mut(request.deployment as usize) else {
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
        if moves && request.deaths > 0 {
            request.held = true;
            self.requests.enqueue(&mut deployment.held, index);
        } else {
            self.requests.enqueue(&mut deployment.queue, index);
        }
    }

    /// Nobody waits for the answer of a request any more, and it is wanted all the same. If it waits, it waits behind all
    /// that somebody waits for, and takes no place of theirs in the queue: whoever defers bounds how many there are.
    pub fn defer(&mut self, request: RequestKey) {
        let Some(index) = self.requests.find(request).map(|_| request.index) else {
            return;
        };
        let Some(request) = self.requests.get_mut(index) else {
            return;
        };
        let Some(deployment) = self.deployments.get_mut(request.deployment as usize) else {
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
        if let Some(request) = self.requests.get_mut(index) {
            request.order |= DEFERRED;
        }
        self.requests.enqueue(queue, index);
    }

    /// Takes a request out of the queue. The caller settles the deployment afterwards.
    pub(super) fn leave(&mut self, index: u32) {
        let Some(request) = self.requests.get_mut(index) else {
            return;
        };
        let Some(deployment) = self.deployments.get_mut(request.deployment as usize) else {
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
        self.requests.dequeue(queue, index);
        self.requests.patience.remove(index);
    }

    /// Sends a request that is in no queue to a replica with a free word.
    pub(super) fn send(&mut self, now: Instant, index: u32, to: u32, granted: bool) {
        let Some(replica) = self.replicas.get_mut(to as usize) else {
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
        if let Some(request) = self.requests.get_mut(index) {
            request.place = Place::Sent { replica: to, slot };
            suspect = request.deaths > 0;
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
        if let Some(deployment) = self.deployments.get_mut(deployment as usize) {
            deployment.charge(version);
        }
    }

    /// Spends a grant of `from` on the oldest request that waits, or gives it back. `number`: of the WAIT that a soft
    /// grant answers. A soft grant that came too late has ended, and so will one whose WAIT is about to be taken back:
    /// neither is answered.
    pub(super) fn spend(&mut self, now: Instant, from: u32, number: u64) {
        let Some(replica) = self.replicas.get_mut(from as usize) else {
            return;
        };
        let soft = number > 0;
        if soft && !(replica.announced && number == replica.wait_number) {
            return;
        }
        let (index, generation) = (replica.deployment, replica.generation);
        let usable = replica.candidate_place != NONE;
        let has_word = replica.link.as_ref().is_some_and(Link::has_free_word);
        let oldest = self.oldest_for(index, from);
        let Some(replica) = self.replicas.get_mut(from as usize) else {
            return;
        };
        if usable && has_word && oldest != NONE {
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

    /// Brings a deployment to rest: what can leave its queue leaves, and the replicas know whether it is empty.
    ///
    /// Afterwards every candidate that what waits may go to has a WAIT of ours (of more than `MAX_WAITS`, so many), and
    /// no other: with a queue all of them, with held suspects alone those without one. And if the oldest of the queue
    /// may go without a grant, no replica is believed to have room.
    pub(super) fn settle(&mut self, now: Instant, index: u32) {
        if self.draining {
            self.fail_stranded(index);
        }
        self.release_bound(now, index);
        loop {
            self.release_held(now, index);
            let Some(deployment) = self.deployments.get_mut(index as usize) else {
                break;
            };
            let oldest = deployment.queue.first;
            let wish = match self.requests.get(oldest) {
                None => break,
                Some(request) if request.grant_only() => break,
                Some(request) => (request.model, request.session),
            };
            let (replicas, random) = (&self.replicas, &mut self.random);
            let chosen = match wish {
                (None, None) => deployment.choose(replicas, random),
                (Some(model), _) => deployment.choose_any_for(model, replicas, random),
                (None, Some(session)) => deployment.choose_in_session(session, replicas),
            };
            let Some(replica) = chosen else {
                break;
            };
            let Some(replica) = self.apart(index, oldest, replica) else {
                continue;
            };
            self.leave(oldest);
            self.send(now, oldest, replica, false);
        }
        let Some(deployment) = self.deployments.get_mut(index as usize) else {
            return;
        };
        let (queue, held) = (!deployment.queue.is_empty(), !deployment.held.is_empty());
        if !queue {
            self.withdraw(index);
        }
        if queue || held {
            self.enroll(index);
        }
    }

    /// The queue is empty: takes the WAIT back from those that no held suspect may go to.
    fn withdraw(&mut self, index: u32) {
        let Some(deployment) = self.deployments.get_mut(index as usize) else {
            return;
        };
        let held = !deployment.held.is_empty();
        for waiting in &deployment.waiting {
            if let Some(replica) = self.replicas.get_mut(*waiting as usize)
                && !(held && replica.probation.is_none())
            {
                replica.wanted = false;
                self.pending.push_back(Pending::Unwait {
                    replica: *waiting,
                    generation: replica.generation,
                });
            }
        }
        self.refresh_waiting(index, 0);
        if let Some(deployment) = self.deployments.get_mut(index as usize) {
            let replicas = &self.replicas;
            let wanted = |one: &u32| replicas.get(*one as usize).is_some_and(|one| one.wanted);
            deployment.waiting.retain(wanted);
        }
    }

    /// Announces what waits to candidates that it may go to and that do not know of it. Costs one comparison when all
    /// candidates do.
    pub(super) fn enroll(&mut self, index: u32) {
        let Some(deployment) = self.deployments.get_mut(index as usize) else {
            return;
        };
        let queue = !deployment.queue.is_empty();
        let known = deployment.waiting.len();
        let total = deployment.candidates();
        let wanted = total.min(MAX_WAITS);
        if known >= wanted {
            return;
        }
        // From a random start, so that of many each gets its share, and each at most once.
        let start = self.random.usize(0..total);
        let step = if total > MAX_WAITS {
            coprime_step(total, &mut self.random)
        } else {
            1
        };
        for turn in 0..total {
            if deployment.waiting.len() >= wanted {
                break;
            }
            let Some(candidate) = deployment.candidate((start + turn * step) % total) else {
                continue;
            };
            let Some(replica) = self.replicas.get_mut(candidate as usize) else {
                continue;
            };
            if !replica.wanted && (queue || replica.probation.is_none()) {
                replica.wanted = true;
                replica.answered = false;
                deployment.waiting.push(candidate);
                self.pending.push_back(Pending::Wait {
                    replica: candidate,
                    generation: replica.generation,
                });
            }
        }
        self.refresh_waiting(index, known);
    }

    /// Whether a replica knows of the queue bears on what room it is believed to have.
    fn refresh_waiting(&mut self, index: u32, from: usize) {
        let mut position = from;
        while let Some(deployment) = self.deployments.get(index as usize)
            && let Some(replica) = deployment.waiting.get(position).copied()
        {
            self.refresh_room(replica);
            position += 1;
        }
    }

    /// Brings the lists of candidates in line with what is known of a replica. The caller settles the deployment.
    pub(super) fn refresh(&mut self, index: u32) {
        let crossed = self.count_sound(index);
        self.place(index);
        let Some(others) = crossed else {
            return;
        };
        // The first that turns, or the last: those that do not are now to be avoided, or better than nothing.
        for other in others {
            let avoided = |replica: &Replica<C>| replica.avoided();
            if self.replicas.get(other as usize).is_some_and(avoided) {
                self.place(other);
                self.evacuate(other);
            }
        }
    }

    /// Counts a replica among those that take requests and turn, or no longer. The deployment's replicas, if there is
    /// now a first of that kind, or none any more.
    fn count_sound(&mut self, index: u32) -> Option<Vec<u32>> {
        let replica = self.replicas.get_mut(index as usize)?;
        let deployment = self.deployments.get_mut(replica.deployment as usize)?;
        let version = deployment.versions.get(replica.version as usize);
        let weighs = version.is_some_and(|version| version.weight > 0);
        let sound = weighs && replica.usable() && !replica.avoided();
        if sound == std::mem::replace(&mut replica.sound, sound) {
            return None;
        }
        let before = deployment.sound;
        deployment.sound = if sound { before + 1 } else { before - 1 };
        (before == 0 || deployment.sound == 0).then(|| deployment.replicas.clone())
    }

    fn place(&mut self, index: u32) {
        let Some(replica) = self.replicas.get_mut(index as usize) else {
            return;
        };
        let Some(deployment) = self.deployments.get_mut(replica.deployment as usize) else {
            return;
        };
        let taken = !replica.avoided() || deployment.sound == 0;
        let Some(version) = deployment.versions.get_mut(replica.version as usize) else {
            return;
        };
        let candidate = taken && replica.usable() && version.weight > 0;
        if candidate && replica.candidate_place == NONE {
            replica.candidate_place = version.candidates.len() as u32;
            version.candidates.push(index);
        } else if !candidate && replica.candidate_place != NONE {
            let place = std::mem::replace(&mut replica.candidate_place, NONE) as usize;
            if replica.wanted {
                replica.wanted = false;
                deployment.waiting.retain(|other| *other != index);
                self.pending.push_back(Pending::Unwait {
                    replica: index,
                    generation: replica.generation,
                });
            }
            version.candidates.swap_remove(place);
            if let Some(moved) = version.candidates.get(place)
                && let Some(moved) = self.replicas.get_mut(*moved as usize)
            {
                moved.candidate_place = place as u32;
            }
        }
        self.refresh_room(index);
    }

    /// The part of `refresh` that follows each request.
    pub(super) fn refresh_room(&mut self, index: u32) {
        let Some(replica) = self.replicas.get_mut(index as usize) else {
            return;
        };
        let roomy = replica.candidate_place != NONE && replica.has_room();
        if roomy == (replica.room_place != NONE) {
            return;
        }
        let Some(deployment) = self.deployments.get_mut(replica.deployment as usize) else {
            return;
        };
        let Some(version) = deployment.versions.get_mut(replica.version as usize) else {
            return;
        };
        if roomy {
            replica.room_place = version.roomy.len() as u32;
            version.roomy.push(index);
            return;
        }
        let place = std::mem::replace(&mut replica.room_place, NONE) as usize;
        version.roomy.swap_remove(place);
        if let Some(moved) = version.roomy.get(place)
            && let Some(moved) = self.replicas.get_mut(*moved as usize)
        {
            moved.room_place = place as u32;
        }
    }

    /// The outcome of a request that is nowhere any more.
    pub(super) fn conclude(
        &mut self,
        index: u32,
        event: impl FnOnce(RequestKey, &Request) -> Event,
    ) {
        let Some(key) = self.requests.key(index) else {
            return;
        };
        self.requests.deadlines.remove(index);
        if let Some(request) = self.requests.get_mut(index) {
            request.place = Place::Over;
            self.events.push_back(event(key, request));
        }
    }

    pub(super) fn fail(&mut self, index: u32, code: ErrorCode) {
        self.conclude(index, |request, state| Event::Failed {
            request,
            code,
            begun: state.begun,
        });
    }
}

/// A stride that visits all of `total` positions in an order that differs from draw to draw.
fn coprime_step(total: usize, random: &mut fastrand::Rng) -> usize {
    const fn common(mut a: usize, mut b: usize) -> usize {
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a
    }
    let mut step = random.usize(1..total);
    while common(step, total) != 1 {
        step = step % (total - 1) + 1;
    }
    step
}
