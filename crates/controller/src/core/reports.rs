//! What the node and the replicas report, and time that passes.

use std::time::Duration;

use eagleray_types::control::{
    CheckHealth, Exited, Outcome, Ready, ReplicaEvent, SocketLost, SpawnFailed, node_event,
    replica_command, replica_event,
};
use prost::Message as _;

use super::{
    Command, Core, Level, ReplicaInput, ReplicaState,
    failures::{Death, IN_MESSAGE, SIGKILL, clip},
    health::{FAILURES_UNTIL_REPLACED, HealthStep},
    model::Deployment,
    reconcile::{relay, stop_command},
    status::StatusInput,
};

impl Core {
    pub(super) fn on_node(&mut self, event: node_event::Body, now: Duration) {
        match event {
            node_event::Body::Listed(listed) if self.listed => self.learn_pids(&listed),
            node_event::Body::Listed(listed) => {
                self.listing = false;
                self.listed = true;
                self.adopt(listed.replicas, now);
            }
            node_event::Body::Exited(exited) => self.on_exited(&exited, now),
            node_event::Body::SpawnFailed(failed) => self.on_spawn_failed(&failed, now),
            node_event::Body::Relay(message) => {
                match ReplicaEvent::decode(message.payload.as_slice()) {
                    Ok(ReplicaEvent { body: Some(body) }) => {
                        self.on_replica(&message.replica_id, body, now);
                    }
                    Ok(ReplicaEvent { body: None }) => {}
                    Err(error) => {
                        self.log(
                            Level::Warning,
                            format!(
                                "replica {} sent what cannot be read: {error}",
                                message.replica_id
                            ),
                        );
                    }
                }
            }
            node_event::Body::SnapshotWanted(_) => self.targets.want_snapshot(),
            node_event::Body::Published(update) if update.epoch == self.options.epoch => {
                self.applied = self.applied.max(update.number);
            }
            node_event::Body::Published(_) => {}
            node_event::Body::SocketLost(lost) => self.on_socket_lost(&lost),
            node_event::Body::Unreachable(report) => self.on_unreachable(&report, now),
            node_event::Body::ControllerSocketLost(_) => self.commands.push(Command::Listen),
            // The store makes itself again with the next save.
            node_event::Body::StateLost(_) => self.saved = None,
        }
    }

    /// Takes the deployment of a replica out of the books; [`Core::put_back`] ends what is done with it.
    pub(super) fn take_owner(&mut self, replica_id: &str) -> Option<Deployment> {
        let key = self.owners.get(replica_id)?;
        self.applications
            .get_mut(&key.application)?
            .deployments
            .remove(&key.deployment)
    }

    pub(super) fn put_back(&mut self, deployment: Deployment) {
        let name = deployment.key.application.clone();
        if let Some(application) = self.applications.get_mut(&name) {
            application
                .deployments
                .insert(deployment.key.deployment.clone(), deployment);
        }
        self.touch(&name);
    }

    fn on_replica(&mut self, id: &str, event: replica_event::Body, now: Duration) {
        let Some(mut deployment) = self.take_owner(id) else {
            return;
        };
        match event {
            replica_event::Body::Ready(ready) => self.on_ready(&mut deployment, id, &ready, now),
            replica_event::Body::StartFailed(failed) => {
                if let Some(replica) = deployment.replicas.get_mut(id)
                    && replica.step(ReplicaInput::StartFailed)
                {
                    replica.failed = true;
                    self.stops.push(stop_command(id, replica.epoch, 0));
                    let spec = replica.spec.clone();
                    self.start_failed(&mut deployment, id, &spec, &failed.message, now);
                }
            }
            replica_event::Body::Health(outcome) => self.on_health(&mut deployment, id, &outcome),
            replica_event::Body::Reconfigured(outcome) => {
                self.on_reconfigured(&mut deployment, id, &outcome, now);
            }
            // `Exited` follows; but what it called need not wait for that.
            replica_event::Body::Drained(_) => {
                if let Some(replica) = deployment.replicas.get_mut(id) {
                    replica.drained = true;
                }
            }
            replica_event::Body::Condition(condition) => {
                self.on_condition(&mut deployment, id, &condition, now);
            }
        }
        self.put_back(deployment);
    }

    /// It serves when it has been reached.
    fn on_ready(&mut self, deployment: &mut Deployment, id: &str, ready: &Ready, now: Duration) {
        if let Some(replica) = deployment.replicas.get_mut(id)
            && replica.state == ReplicaState::Starting
            && !std::mem::replace(&mut replica.reach.said_ready, true)
        {
            replica.sync_bodies = ready.sync_bodies;
            self.reach(replica, now);
        }
    }

    fn on_health(&mut self, deployment: &mut Deployment, id: &str, outcome: &Outcome) {
        let Some(replica) = deployment.replicas.get_mut(id) else {
            return;
        };
        if replica.health.answered(outcome.id) {
            match outcome.failure.as_str() {
                "" => {
                    replica.health.passed();
                    self.recycle(deployment, id, outcome.accepted);
                }
                failure => self.health_failed(deployment, id, failure),
            }
        }
    }

    /// A replica that has done its share is replaced when nothing else is under way in its deployment: one at a time,
    /// and never in the middle of an update. Until then it works on.
    fn recycle(&mut self, deployment: &mut Deployment, id: &str, accepted: u64) {
        let Some(spec) = deployment.wanted() else {
            return;
        };
        let limit = spec.options().max_requests_per_replica;
        let count = spec.options().num_replicas as usize;
        let complete = deployment.replicas.len() == count && deployment.running(spec) == count;
        let due = limit > 0 && accepted >= limit && complete;
        let replica = deployment.replicas.get_mut(id).filter(|_| due);
        if replica.is_some_and(|one| one.step(ReplicaInput::Unhealthy)) {
            let reason = format!("{accepted} requests reach max_requests_per_replica, {limit}");
            let message = format!("{}: replica {id} is replaced: {reason}", deployment.key);
            self.log(Level::Info, message);
        }
    }

    fn health_failed(&mut self, deployment: &mut Deployment, id: &str, failure: &str) {
        let Some(replica) = deployment.replicas.get_mut(id) else {
            return;
        };
        if replica.health.failed() {
            let message = format!(
                "replica {id} failed {FAILURES_UNTIL_REPLACED} health checks in a row and is being replaced; the last \
                 failure: {}",
                clip(failure, IN_MESSAGE)
            );
            self.replace(deployment, id, &message);
        }
    }

    /// Nobody new can reach it: its replacement is made, unless it is on its way out already.
    pub(super) fn replace(&mut self, deployment: &mut Deployment, id: &str, message: &str) {
        let Some(replica) = deployment.replicas.get_mut(id) else {
            return;
        };
        if !replica.step(ReplicaInput::Unhealthy) {
            return;
        }
        let version = replica.spec.version().to_owned();
        if deployment.speaks_for(&version) {
            deployment.status.on(StatusInput::ReachLost, message);
        }
        self.log(Level::Warning, format!("{}: {message}", deployment.key));
    }

    /// Nobody new can reach the replica: it serves those who are connected until its replacement does.
    fn on_socket_lost(&mut self, lost: &SocketLost) {
        let id = lost.replica_id.as_str();
        let Some(mut deployment) = self.take_owner(id) else {
            return;
        };
        let replica = deployment.replicas.get(id);
        if replica.is_some_and(|replica| replica.epoch == lost.epoch) {
            let message = format!(
                "the socket file of replica {id} was removed, so nobody new can connect to it; it is being replaced"
            );
            self.replace(&mut deployment, id, &message);
        }
        self.put_back(deployment);
    }

    fn on_reconfigured(
        &mut self,
        deployment: &mut Deployment,
        id: &str,
        outcome: &Outcome,
        now: Duration,
    ) {
        let Some(replica) = deployment.replicas.get_mut(id) else {
            return;
        };
        let fine = outcome.failure.is_empty();
        let config = replica.config.answered(outcome.id, fine);
        let view = replica.view.answered(outcome.id, fine);
        if config.is_none() && view.is_none() {
            return;
        }
        if fine {
            replica.settle();
        } else if replica.step(ReplicaInput::ReconfigureFailed) {
            let spec = replica.spec.clone();
            let config = config.filter(|answered| answered.news);
            let refused = config.is_some_and(|answered| {
                self.config_refused(deployment, id, &answered.value, &outcome.failure)
            });
            if !refused {
                self.start_failed(deployment, id, &spec, &outcome.failure, now);
            }
        }
    }

    fn on_exited(&mut self, exited: &Exited, now: Duration) {
        let id = exited.replica_id.as_str();
        let Some(mut deployment) = self.take_owner(id) else {
            return;
        };
        let Some(mut replica) = deployment.replicas.remove(id) else {
            return self.put_back(deployment);
        };
        if replica.epoch != exited.epoch {
            deployment.replicas.insert(id.to_owned(), replica);
            return self.put_back(deployment);
        }
        self.owners.remove(id);
        let before = replica.state;
        replica.step(ReplicaInput::Exited);
        match before {
            ReplicaState::Stopping | ReplicaState::Stopped => {}
            ReplicaState::Starting => {
                let error = match exited.stderr_tail.trim_end() {
                    "" => format!("the replica ended while it was starting: {}", exited.reason),
                    tail => format!(
                        "the replica ended while it was starting: {}\n{tail}",
                        exited.reason
                    ),
                };
                self.start_failed(&mut deployment, id, &replica.spec, &error, now);
            }
            _ => {
                let reason = replica.condition.reason();
                let reason = reason.as_deref().unwrap_or(&exited.reason);
                let refused = replica.config.sent().is_some_and(|config| {
                    let error = format!(
                        "the replica ended meanwhile: {reason}\n{}",
                        exited.stderr_tail
                    );
                    self.config_refused(&mut deployment, id, config, &error)
                });
                if !refused {
                    let death = Death {
                        reason,
                        killed: replica.condition.reason().is_none() && exited.signal == SIGKILL,
                    };
                    self.died(&mut deployment, &replica, &death, now);
                }
            }
        }
        self.put_back(deployment);
    }

    fn on_spawn_failed(&mut self, failed: &SpawnFailed, now: Duration) {
        let id = failed.replica_id.as_str();
        let Some(mut deployment) = self.take_owner(id) else {
            return;
        };
        if deployment
            .replicas
            .get(id)
            .is_some_and(|replica| replica.epoch == failed.epoch)
            && let Some(replica) = deployment.replicas.remove(id)
        {
            self.owners.remove(id);
            if replica.state == ReplicaState::Starting {
                let error = format!(
                    "the replica's process could not be started: {}",
                    failed.message
                );
                self.start_failed(&mut deployment, id, &replica.spec, &error, now);
            }
        }
        self.put_back(deployment);
    }

    pub(super) fn on_timeout(&mut self, now: Duration) {
        if !self.listed {
            return;
        }
        let mut due: Vec<(String, HealthStep)> = Vec::new();
        let mut hung: Vec<String> = Vec::new();
        for deployment in self
            .applications
            .values_mut()
            .flat_map(|one| one.deployments.values_mut())
        {
            if deployment.time_passes(now) {
                self.touched.insert(deployment.key.application.clone());
            }
            for replica in deployment.replicas.values_mut() {
                if replica.hang_ends_at().is_some_and(|at| at <= now) {
                    hung.push(replica.id.clone());
                }
                if replica.condition.is_hung() {
                    continue;
                }
                let checked = replica.is_checked();
                match replica.health.due(now, replica.spec.options(), checked) {
                    HealthStep::Nothing => {}
                    step => due.push((replica.id.clone(), step)),
                }
            }
        }
        for id in hung {
            if let Some(mut deployment) = self.take_owner(&id) {
                self.end_hung(&mut deployment, &id, now);
                self.put_back(deployment);
            }
        }
        for (id, step) in due {
            let Some(mut deployment) = self.take_owner(&id) else {
                continue;
            };
            if step == HealthStep::TimedOut {
                let timeout = deployment
                    .replicas
                    .get(&id)
                    .map_or(0.0, |one| one.spec.options().health_check_timeout_s);
                self.health_failed(
                    &mut deployment,
                    &id,
                    &format!("no answer within {timeout} s"),
                );
            } else {
                self.ask_health(&mut deployment, &id, now);
            }
            self.put_back(deployment);
        }
    }

    fn ask_health(&mut self, deployment: &mut Deployment, id: &str, now: Duration) {
        let (question, spread) = (self.next_question(), self.random.f64());
        let Some(replica) = deployment.replicas.get_mut(id) else {
            return;
        };
        replica.health.plan(now, spread);
        replica.health.asked(question, now);
        self.commands.push(relay(
            id,
            replica_command::Body::CheckHealth(CheckHealth { id: question }),
        ));
    }
}
