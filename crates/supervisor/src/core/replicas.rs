//! The replicas of a node, as its controller sees them.
//!
//! Commands are idempotent by replica id: a second `Spawn` does nothing, a `Stop` for one that is not there is
//! answered with its death. A command from an older life of the controller than the newest seen is refused.
//!
//! Death is the node's word. `Exited` is reported when the process and all that it started are gone; until then the
//! replica is listed.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use eagleray_types::{
    ReplicaId,
    control::{
        self, Exited, Listed, ListedReplica, NodeResources, Relay, ReplicaEvent, SocketLost, Spawn,
        SpawnFailed, Stop, StopReplica, node_event::Body, replica_command, replica_event,
    },
};
use prost::Message;

use super::{Command, Level, ReplicaCommand, ReplicaNews, outbox::Outbox};

/// Time over its grace that a replica has to leave by itself after it was told to stop.
const LEAVE_WITHIN: Duration = Duration::from_millis(500);
const LONGEST_GRACE: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug, Default)]
pub(super) struct Replicas {
    newest_epoch: u64,
    known: BTreeMap<String, Replica>,
    /// When each that was told to stop is killed.
    kills: BTreeSet<(Duration, String)>,
    /// What replicas were started with, until the controller says that no more will be.
    imports: BTreeSet<String>,
    any_failed: bool,
    /// What the machine has for them, which the controller is told.
    resources: Option<NodeResources>,
}

#[derive(Debug, Default)]
struct Replica {
    epoch: u64,
    label: Vec<u8>,
    /// It is a build: it has nothing to finish and nothing to give back.
    is_build: bool,
    /// Empty, as `pid` is 0, while its start is under way.
    socket_path: String,
    pid: u32,
    /// The encoded event, once it was sent.
    ready: Bytes,
    /// Kept for a controller that comes back before the process is gone.
    start_failed: Bytes,
    /// A stop was accepted.
    stopping: bool,
    /// Of the earliest stop with a grace.
    kill_at: Option<Duration>,
}

impl Replicas {
    pub(super) fn of(resources: NodeResources) -> Self {
        Self {
            resources: Some(resources),
            ..Self::default()
        }
    }

    pub(super) fn spawn(&mut self, command: Spawn, out: &mut Outbox) {
        let id = &command.replica_id;
        if self.known.contains_key(id) {
            return;
        }
        if command.epoch < self.newest_epoch {
            let (epoch, newest) = (command.epoch, self.newest_epoch);
            let message = format!("epoch {epoch} is over; {newest} has begun");
            return self.has_not_started(id, epoch, message, out);
        }
        self.newest_epoch = command.epoch;
        if ReplicaId::parse(id).is_none() {
            let message = "the replica id is not valid".to_owned();
            return self.has_not_started(id, command.epoch, message, out);
        }
        let replica = Replica {
            epoch: command.epoch,
            label: command.label.clone(),
            is_build: !command.build.is_empty(),
            ..Replica::default()
        };
        self.known.insert(id.clone(), replica);
        if !command.imports.is_empty() {
            self.imports.insert(command.imports.clone());
        }
        let id = id.clone();
        out.replica(&id, ReplicaCommand::Start(Box::new(command)));
    }

    /// No replica that imports this will be started.
    pub(super) fn forget_imports(&mut self, imports: String, out: &mut Outbox) {
        self.imports.remove(&imports);
        out.push(Command::ForgetImports(imports));
    }

    fn has_not_started(&mut self, id: &str, epoch: u64, message: String, out: &mut Outbox) {
        self.any_failed = true;
        out.log(
            Level::Error,
            format!("replica {id} was not started: {message}"),
        );
        out.report(Body::SpawnFailed(SpawnFailed {
            replica_id: id.to_owned(),
            epoch,
            message,
        }));
    }

    /// Ends a replica, or says that it is gone.
    pub(super) fn stop(&mut self, command: &Stop, now: Duration, out: &mut Outbox) {
        let id = &command.replica_id;
        match self.known.get(id) {
            None => out.report(Body::Exited(Exited {
                replica_id: id.clone(),
                epoch: command.epoch,
                reason: "not running".to_owned(),
                ..Exited::default()
            })),
            Some(replica) if command.epoch < replica.epoch => {
                let epoch = command.epoch;
                let message =
                    format!("a stop of replica {id} from the older epoch {epoch} is refused");
                out.log(Level::Warning, message);
            }
            Some(_) => self.end(
                id,
                Duration::from_millis(command.grace_milliseconds),
                now,
                out,
            ),
        }
    }

    /// Tells all replicas to end within `grace`.
    pub(super) fn stop_all(&mut self, grace: Duration, now: Duration, out: &mut Outbox) {
        let ids: Vec<String> = self.known.keys().cloned().collect();
        for id in ids {
            self.end(&id, grace, now, out);
        }
    }

    pub(super) fn kill_all(&mut self, out: &mut Outbox) {
        self.stop_all(Duration::ZERO, Duration::ZERO, out);
    }

    fn end(&mut self, id: &str, grace: Duration, now: Duration, out: &mut Outbox) {
        let Some(replica) = self.known.get_mut(id) else {
            return;
        };
        replica.stopping = true;
        if grace.is_zero() || replica.is_build {
            return out.replica(id, ReplicaCommand::Kill);
        }
        let grace = grace.min(LONGEST_GRACE);
        let kill_at = now + grace + LEAVE_WITHIN;
        if replica.kill_at.is_some_and(|earlier| earlier <= kill_at) {
            return;
        }
        if let Some(later) = replica.kill_at.replace(kill_at) {
            self.kills.remove(&(later, id.to_owned()));
        }
        self.kills.insert((kill_at, id.to_owned()));
        let grace_milliseconds = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        let stop = replica_command::Body::Stop(StopReplica { grace_milliseconds });
        let stop = control::ReplicaCommand { body: Some(stop) };
        // A replica that does not read it is killed when its time is over.
        out.replica(id, ReplicaCommand::Ask(stop.encode_to_vec().into()));
    }

    pub(super) fn next_timeout(&self) -> Option<Duration> {
        self.kills.first().map(|(at, _)| *at)
    }

    /// Kills those whose time is over.
    pub(super) fn on_timeout(&mut self, now: Duration, out: &mut Outbox) {
        while self.next_timeout().is_some_and(|at| at <= now) {
            if let Some((_, id)) = self.kills.pop_first() {
                out.replica(&id, ReplicaCommand::Kill);
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Whether one could not start, or died though nobody asked it to.
    pub(super) fn any_failed(&self) -> bool {
        self.any_failed
    }

    /// Ids of those that live, for people.
    pub(super) fn ids(&self) -> impl Iterator<Item = &str> {
        self.known.keys().map(String::as_str)
    }

    /// The sockets of these are gone: nobody new can reach them.
    pub(super) fn without_socket(&self, ids: &[String], out: &mut Outbox) {
        let lost = ids.iter().filter_map(|id| self.known.get_key_value(id));
        for (id, replica) in lost.filter(|(_, replica)| !replica.stopping) {
            out.report(Body::SocketLost(SocketLost {
                replica_id: id.clone(),
                epoch: replica.epoch,
            }));
        }
    }

    /// Passes a command on.
    pub(super) fn relay(&self, relay: Relay, out: &mut Outbox) {
        if self.known.contains_key(&relay.replica_id) {
            let command = ReplicaCommand::Tell(relay.payload.into());
            out.replica(&relay.replica_id, command);
        }
    }

    /// A controller of this epoch acts.
    pub(super) fn note_epoch(&mut self, epoch: u64) {
        self.newest_epoch = self.newest_epoch.max(epoch);
    }

    /// Every replica that lives; then what a controller that was away has missed of them.
    pub(super) fn list(&self, out: &mut Outbox) {
        let listed = self
            .known
            .iter()
            .map(|(replica_id, replica)| ListedReplica {
                replica_id: replica_id.clone(),
                epoch: replica.epoch,
                socket_path: replica.socket_path.clone(),
                pid: replica.pid,
                label: replica.label.clone(),
                ready: replica.ready.to_vec(),
                stopping: replica.stopping,
            });
        out.report(Body::Listed(Listed {
            replicas: listed.collect(),
            newest_epoch: self.newest_epoch,
            imports: self.imports.iter().cloned().collect(),
            resources: self.resources.clone(),
        }));
        for (replica_id, replica) in &self.known {
            if !replica.start_failed.is_empty() {
                out.report(Body::Relay(Relay {
                    replica_id: replica_id.clone(),
                    payload: replica.start_failed.to_vec(),
                }));
            }
        }
    }

    pub(super) fn on_news(&mut self, id: &str, news: ReplicaNews, out: &mut Outbox) {
        let Some(replica) = self.known.get_mut(id) else {
            return;
        };
        match news {
            ReplicaNews::Started { pid, socket_path } => {
                replica.pid = pid;
                replica.socket_path = socket_path;
            }
            ReplicaNews::NotStarted { message } => {
                let epoch = replica.epoch;
                self.forget(id);
                self.has_not_started(id, epoch, message, out);
            }
            ReplicaNews::Said(said) => {
                match ReplicaEvent::decode(said.clone()).map(|event| event.body) {
                    Ok(Some(replica_event::Body::Ready(_))) => replica.ready = said.clone(),
                    Ok(Some(replica_event::Body::StartFailed(_))) => {
                        replica.start_failed = said.clone();
                        self.any_failed = true;
                    }
                    _ => {}
                }
                out.report(Body::Relay(Relay {
                    replica_id: id.to_owned(),
                    payload: said.to_vec(),
                }));
            }
            // It would miss a change without knowing.
            ReplicaNews::DoesNotRead => {
                let message = format!("replica {id} does not read its commands and is killed");
                out.log(Level::Error, message);
                out.replica(id, ReplicaCommand::Kill);
            }
            ReplicaNews::Exited {
                reason,
                signal,
                stderr_tail,
            } => {
                let is_done = replica.is_build && reason == "exit status 0";
                self.any_failed |= !replica.stopping && !is_done;
                let epoch = replica.epoch;
                self.forget(id);
                out.log(Level::Info, format!("replica {id} is gone: {reason}"));
                out.report(Body::Exited(Exited {
                    replica_id: id.to_owned(),
                    epoch,
                    reason,
                    stderr_tail,
                    signal,
                }));
            }
        }
    }

    fn forget(&mut self, id: &str) {
        let kill_at = self.known.remove(id).and_then(|replica| replica.kill_at);
        if let Some(kill_at) = kill_at {
            self.kills.remove(&(kill_at, id.to_owned()));
        }
    }
}
