//! What waits and who knows of it: a deployment is settled after whatever may let something go, and then its replicas know
//! whether it has something for them.

use std::time::Instant;

use eagleray_wire::Claims;

use super::{
    Core, MAX_WAITS, Pending,
    table::{DeploymentIndex, ReplicaIndex},
};

impl<C: Claims> Core<C> {
    /// Brings a deployment to rest: what can leave its queue leaves, and the replicas know whether it is empty.
    ///
    /// Afterwards every candidate that what waits may go to has a WAIT of ours (of more than `MAX_WAITS`, so many), and
    /// no other: with a queue all of them, with held suspects alone those without one. And if the oldest of the queue
    /// may go without a grant, no replica is believed to have room.
    pub(super) fn settle(&mut self, now: Instant, index: DeploymentIndex) {
        if self.draining {
            self.fail_stranded(index);
        }
        self.release_bound(now, index);
        loop {
            self.release_held(now, index);
            let Some(deployment) = self.deployments.get_mut(index) else {
                break;
            };
            let Some(oldest) = deployment.queue.first else {
                break;
            };
            let wish = match self.requests.known(oldest) {
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
        let Some(deployment) = self.deployments.get_mut(index) else {
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
    fn withdraw(&mut self, index: DeploymentIndex) {
        let Some(deployment) = self.deployments.known_mut(index) else {
            return;
        };
        let held = !deployment.held.is_empty();
        for waiting in &deployment.waiting {
            if let Some(replica) = self.replicas.known_mut(*waiting)
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
        if let Some(deployment) = self.deployments.get_mut(index) {
            let replicas = &self.replicas;
            let wanted = |one: &ReplicaIndex| replicas.get(*one).is_some_and(|one| one.wanted);
            deployment.waiting.retain(wanted);
        }
    }

    /// Announces what waits to candidates that it may go to and that do not know of it. Costs one comparison when all
    /// candidates do.
    pub(super) fn enroll(&mut self, index: DeploymentIndex) {
        let Some(deployment) = self.deployments.known_mut(index) else {
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
            let Some(replica) = self.replicas.known_mut(candidate) else {
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
    fn refresh_waiting(&mut self, index: DeploymentIndex, from: usize) {
        let mut position = from;
        while let Some(deployment) = self.deployments.get(index)
            && let Some(replica) = deployment.waiting.get(position).copied()
        {
            self.refresh_room(replica);
            position += 1;
        }
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
