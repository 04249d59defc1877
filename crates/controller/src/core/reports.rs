//! What the node and the replicas report.

use std::time::Duration;

use eagleray_types::{
    NodeId,
    control::{Exited, Outcome, Ready, ReplicaEvent, SpawnFailed, node_event, replica_event},
};
use prost::Message as _;

use super::{
    Core, adopt,
    command::{Command, Level, Span},
    configure,
    failures::{self, Death, SIGKILL},
    health, http_options, hung, lifecycle,
    outbox::{About, EventLevel, Outbox},
    reaching,
};
use crate::books::{
    dead::Dead,
    deployment::Deployment,
    events::EventKind,
    loads::Speaker,
    replica::Replica,
    replica_state::{ReplicaInput, ReplicaState},
};

impl Core {
    pub(super) fn on_node(&mut self, node: &NodeId, event: node_event::Body, now: Duration) {
        match event {
            node_event::Body::Listed(listed) => {
                self.out.listed();
                self.books.loads.on_listed(now);
                self.books.resources.learn(listed.resources.clone());
                if self.listed {
                    adopt::learn_pids(&mut self.books, &listed);
                } else {
                    self.listed = true;
                    let books = &mut self.books;
                    let processes = (&mut self.builds, &mut self.policies);
                    adopt::adopt(books, processes, node, &listed, now, &mut self.out);
                    self.touch_all();
                }
            }
            node_event::Body::Exited(exited) => self.on_exited(&exited, now),
            node_event::Body::SpawnFailed(failed) => self.on_spawn_failed(&failed, now),
            node_event::Body::Relay(message) => {
                let id = message.replica_id.as_str();
                match ReplicaEvent::decode(message.payload.as_slice()) {
                    Ok(ReplicaEvent { body: Some(body) }) => {
                        self.hear(id, body, now);
                    }
                    Ok(ReplicaEvent { body: None }) => {}
                    Err(error) => {
                        let message = format!("replica {id} sent what cannot be read: {error}");
                        self.out.log(Level::Warning, message);
                    }
                }
            }
            node_event::Body::SnapshotWanted(_) => self.targets.want_snapshot(),
            node_event::Body::Published(update) if update.epoch == self.targets.epoch() => {
                self.applied = self.applied.max(update.number);
                self.books.loads.on_applied();
            }
            node_event::Body::Published(_) => {}
            node_event::Body::Tallied(said) => {
                self.on_tallied(&said);
            }
            node_event::Body::Loads(said) => {
                let changed = self.on_loads(&said, Speaker::Node, now);
                self.rescale(&changed, now);
            }
            node_event::Body::SocketLost(lost) => {
                if let Some((deployment, out)) = self.owner(&lost.replica_id) {
                    on_socket_lost(deployment, &lost.replica_id, lost.epoch, out);
                }
            }
            node_event::Body::Unreachable(report) => {
                if let Some((deployment, out)) = self.owner(&report.replica_id) {
                    reaching::on_unreachable(deployment, &report, now, out);
                }
            }
            node_event::Body::ProxyConfigured(said) => {
                http_options::on_configured(&said, &mut self.out);
            }
            node_event::Body::ControllerSocketLost(_) => self.out.push(Command::Listen),
            // The store makes itself again with the next save.
            node_event::Body::StateLost(_) => self.out.want_save(),
        }
    }

    /// A replica says something. Its application is looked at again only where that may matter: a health check that
    /// passes is the most frequent event of all.
    fn hear(&mut self, id: &str, event: replica_event::Body, now: Duration) {
        if let replica_event::Body::Stacks(said) = event {
            return self.questions.answered(id, said, &mut self.out);
        }
        let Some(deployment) = self.books.owner_mut(id) else {
            return;
        };
        if on_replica(deployment, id, event, now, &mut self.out) {
            self.touched.insert(deployment.key.application.clone());
        } else if let Some(replica) = deployment.replicas.get(id) {
            self.timers.set_of_replica(replica);
        }
    }

    fn on_exited(&mut self, exited: &Exited, now: Duration) {
        let resources = &mut self.books.resources;
        resources.release(&exited.replica_id, exited.epoch);
        let Some((replica, deployment)) = self.books.strike(&exited.replica_id, exited.epoch)
        else {
            let (id, reason) = (&exited.replica_id, &exited.reason);
            if let Some(said) = self.policies.on_exited(id, reason, now) {
                return self.on_policies(said, now);
            }
            let step = self
                .builds
                .on_exited(id, reason, &exited.stderr_tail, &self.out);
            return self.on_build_ended(step);
        };
        self.touched.insert(deployment.key.application.clone());
        let out = &mut self.out;
        self.questions.on_gone(&exited.replica_id, out);
        deployment.bury(Dead::of(&replica, exited));
        if let Some(going) = &replica.going {
            out.push(Command::Measured {
                deployment: deployment.key.clone(),
                span: Span::Stop,
                took: now.saturating_sub(going.since),
            });
        }
        match replica.state {
            ReplicaState::Stopping | ReplicaState::Stopped => {
                let about = About::replica(&deployment.key, &replica.id);
                out.event(EventKind::Replica, EventLevel::Info, about, "has stopped");
            }
            ReplicaState::Starting => {
                let mut error =
                    format!("the replica ended while it was starting: {}", exited.reason);
                let tail = exited.stderr_tail.trim_end();
                if !tail.is_empty() {
                    error.push('\n');
                    error.push_str(tail);
                }
                failures::start_failed(deployment, &replica.id, &replica.spec, &error, now, out);
            }
            _ => on_death(deployment, &replica, exited, now, out),
        }
    }

    fn on_spawn_failed(&mut self, failed: &SpawnFailed, now: Duration) {
        let resources = &mut self.books.resources;
        resources.release(&failed.replica_id, failed.epoch);
        let Some((replica, deployment)) = self.books.strike(&failed.replica_id, failed.epoch)
        else {
            let (id, message) = (&failed.replica_id, &failed.message);
            if let Some(said) = self.policies.on_exited(id, message, now) {
                return self.on_policies(said, now);
            }
            let step = self.builds.on_not_started(id, message);
            return self.on_build_ended(step);
        };
        self.touched.insert(deployment.key.application.clone());
        let error = format!(
            "the replica's process could not be started: {}",
            failed.message
        );
        deployment.bury(Dead::never_was(&replica, &error));
        if replica.state == ReplicaState::Starting {
            let out = &mut self.out;
            failures::start_failed(deployment, &replica.id, &replica.spec, &error, now, out);
        }
    }
}

/// Returns whether it may have others decided otherwise.
fn on_replica(
    deployment: &mut Deployment,
    id: &str,
    event: replica_event::Body,
    now: Duration,
    out: &mut Outbox,
) -> bool {
    match event {
        replica_event::Body::Health(outcome) => {
            return health::on_health(deployment, id, &outcome, now, out);
        }
        replica_event::Body::Ready(ready) => on_ready(deployment, id, &ready, now, out),
        replica_event::Body::StartFailed(failed) => {
            if failures::on_start_failed(deployment, id, &failed.message, now, out)
                && let Some(replica) = deployment.replicas.get_mut(id)
            {
                replica.failed = true;
            }
        }
        replica_event::Body::Reconfigured(outcome) => {
            on_reconfigured(deployment, id, &outcome, now, out);
        }
        // `Exited` follows; but what it called need not wait for that.
        replica_event::Body::Drained(_) => {
            if let Some(replica) = deployment.replica_mut(id) {
                replica.drained = true;
            }
        }
        // It is for whoever has asked.
        replica_event::Body::Stacks(_) => return false,
        replica_event::Body::Condition(condition) => {
            hung::on_condition(deployment, id, &condition, now, out);
        }
    }
    true
}

/// It serves when it has been reached.
fn on_ready(deployment: &mut Deployment, id: &str, ready: &Ready, now: Duration, out: &mut Outbox) {
    if let Some(replica) = deployment.replica_mut(id)
        && replica.state == ReplicaState::Starting
        && !std::mem::replace(&mut replica.reach.said_ready, true)
    {
        replica.sync_bodies = ready.sync_bodies;
        replica.began_with_bytes = ready.resident_bytes;
        replica.memory_bytes = ready.resident_bytes;
        replica.docs_path.clone_from(&ready.docs_path);
        replica.compiled_routes.clone_from(&ready.compiled_routes);
        reaching::reach(replica, now, out);
    }
}

/// Nobody new can reach the replica: it serves those who are connected until its replacement does.
fn on_socket_lost(deployment: &mut Deployment, id: &str, epoch: u64, out: &mut Outbox) {
    let replica = deployment.replicas.get(id);
    if replica.is_some_and(|replica| replica.epoch == epoch) {
        let message = format!(
            "the socket file of replica {id} was removed, so nobody new can connect to it; it is being replaced"
        );
        lifecycle::replace(deployment, id, &message, out);
    }
}

fn on_reconfigured(
    deployment: &mut Deployment,
    id: &str,
    outcome: &Outcome,
    now: Duration,
    out: &mut Outbox,
) {
    let Some(replica) = deployment.replica_mut(id) else {
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
        let (spec, failure) = (replica.spec.clone(), outcome.failure.as_str());
        let refused = config
            .filter(|answered| answered.news)
            .is_some_and(|answered| {
                configure::config_refused(deployment, id, &answered.value, failure, out)
            });
        if !refused {
            failures::start_failed(deployment, id, &spec, failure, now, out);
        }
    }
}

/// A replica that was ready is gone, and nobody told it to stop.
fn on_death(
    deployment: &mut Deployment,
    replica: &Replica,
    exited: &Exited,
    now: Duration,
    out: &mut Outbox,
) {
    let ended = replica.condition.reason();
    let death = Death {
        killed: ended.is_none() && exited.signal == SIGKILL,
        reason: ended.as_deref().unwrap_or(&exited.reason),
    };
    let refused = replica.config.sent().is_some_and(|config| {
        let error = format!(
            "the replica ended meanwhile: {}\n{}",
            death.reason, exited.stderr_tail
        );
        configure::config_refused(deployment, &replica.id, config, &error, out)
    });
    if refused {
        return;
    }
    if replica.trial.is_on() {
        failures::on_trial(deployment, replica, death.reason, now, out);
    } else {
        failures::died(deployment, replica, &death, now, out);
    }
}
