//! The replica processes of this node: started, spoken to, ended and listed.
//!
//! Commands are idempotent by replica id: a second `Spawn` does nothing, a `Stop` for one that is not there is
//! answered with its death. A command from an older life of the controller than the newest seen is refused.
//!
//! Death is this file's word. `Exited` is reported when the process and all that it started are gone, what it
//! printed has been read, and its last messages have been passed on; until then it is listed.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    rc::Rc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use eagleray_logs::Writer;
use eagleray_types::{
    ReplicaId,
    control::{
        Exited, Listed, ListedReplica, NodeEvent, Relay, ReplicaCommand, ReplicaEvent, SocketLost,
        Spawn, SpawnFailed, Stop, StopReplica, node_event::Body, replica_command, replica_event,
    },
    replica_log_name,
};
use prost::Message;
use rustix::process::Signal;
use tokio::{sync::mpsc, task::spawn_local, time};

use self::{process::Started, watch::Tasks};
use crate::{
    link,
    output::{ReplicaOutput, Watchers},
    spawn::Process,
};

mod process;
mod watch;

/// Time over its grace that a replica has to leave by itself after it was told to stop.
const LEAVE_WITHIN: Duration = Duration::from_millis(500);

/// What the tasks of a replica tell the node's loop.
#[derive(Debug)]
pub(crate) enum News {
    Said {
        replica_id: String,
        event: Bytes,
    },
    Exited {
        replica_id: String,
        reason: String,
        stderr_tail: String,
        signal: u32,
    },
}

#[derive(Debug)]
pub(crate) struct Replicas {
    run_directory: PathBuf,
    log_directory: PathBuf,
    node_id: String,
    watchers: Rc<Watchers>,
    logs: Writer,
    news: mpsc::Sender<News>,
    newest_epoch: u64,
    known: BTreeMap<String, Replica>,
    any_failed: bool,
}

#[derive(Debug)]
struct Replica {
    epoch: u64,
    label: Vec<u8>,
    socket_path: PathBuf,
    process: Rc<Process>,
    control: link::Sender,
    /// The encoded event, once it was sent.
    ready: Bytes,
    /// Kept for a controller that comes back before the process is gone.
    start_failed: Bytes,
    stopping: bool,
    kill_at: Rc<Cell<Option<Instant>>>,
}

impl Replicas {
    pub(crate) fn new(
        run_directory: &Path,
        log_directory: &Path,
        node_id: &str,
        watchers: Rc<Watchers>,
        logs: Writer,
        news: mpsc::Sender<News>,
    ) -> Self {
        Self {
            run_directory: run_directory.to_owned(),
            log_directory: log_directory.to_owned(),
            node_id: node_id.to_owned(),
            watchers,
            logs,
            news,
            newest_epoch: 0,
            known: BTreeMap::new(),
            any_failed: false,
        }
    }

    /// Starts a replica. Returns the event that says why not.
    pub(crate) fn spawn(&mut self, command: Spawn) -> Option<NodeEvent> {
        if self.known.contains_key(&command.replica_id) {
            return None;
        }
        let (replica_id, epoch) = (command.replica_id.clone(), command.epoch);
        let started = if epoch < self.newest_epoch {
            Err(format!(
                "epoch {epoch} is over; {} has begun",
                self.newest_epoch
            ))
        } else {
            self.newest_epoch = epoch;
            self.start(command)
        };
        let message = started.err()?;
        self.any_failed = true;
        tracing::error!(replica = replica_id, message, "replica was not started");
        Some(event(Body::SpawnFailed(SpawnFailed {
            replica_id,
            epoch,
            message,
        })))
    }

    /// Ends a replica, or says that it is gone.
    pub(crate) fn stop(&mut self, command: &Stop) -> Option<NodeEvent> {
        let Some(replica) = self.known.get_mut(&command.replica_id) else {
            return Some(event(Body::Exited(Exited {
                replica_id: command.replica_id.clone(),
                epoch: command.epoch,
                reason: "not running".to_owned(),
                ..Default::default()
            })));
        };
        if command.epoch < replica.epoch {
            tracing::warn!(
                replica = command.replica_id,
                epoch = command.epoch,
                "stop from an older epoch is refused"
            );
            return None;
        }
        replica.stop(command.grace_milliseconds);
        None
    }

    /// Tells all replicas to end within `grace`.
    pub(crate) fn stop_all(&mut self, grace: Duration) {
        let milliseconds = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        for replica in self.known.values_mut() {
            replica.stop(milliseconds);
        }
    }

    pub(crate) fn kill_all(&mut self) {
        for replica in self.known.values_mut() {
            replica.stop(0);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Whether one could not start, or died though nobody asked it to.
    pub(crate) fn any_failed(&self) -> bool {
        self.any_failed
    }

    /// An event for each whose socket somebody removed: nobody new can reach it.
    pub(crate) fn without_socket(&self) -> Vec<NodeEvent> {
        self.known
            .iter()
            .filter(|(_, replica)| !replica.stopping)
            .filter(|(_, replica)| fs::symlink_metadata(&replica.socket_path).is_err())
            .map(|(replica_id, replica)| {
                event(Body::SocketLost(SocketLost {
                    replica_id: replica_id.clone(),
                    epoch: replica.epoch,
                }))
            })
            .collect()
    }

    /// Ids of those that live, for log lines.
    pub(crate) fn ids(&self) -> Vec<&str> {
        self.known.keys().map(String::as_str).collect()
    }

    /// Passes a command on. A replica that does not read is ended: it would miss a change without knowing.
    pub(crate) fn relay(&mut self, relay: Relay) {
        let Some(replica) = self.known.get(&relay.replica_id) else {
            return;
        };
        if replica.control.send(0, relay.payload) == Err(link::NotSent::Full) {
            tracing::error!(
                replica = relay.replica_id,
                "replica does not read its commands and is killed"
            );
            replica.process.signal(Signal::KILL);
        }
    }

    /// A controller of this epoch acts.
    pub(crate) fn note_epoch(&mut self, epoch: u64) {
        self.newest_epoch = self.newest_epoch.max(epoch);
    }

    /// Every replica that lives; then what a controller that was away has missed of them.
    pub(crate) fn list(&self) -> Vec<NodeEvent> {
        let listed = self
            .known
            .iter()
            .map(|(replica_id, replica)| ListedReplica {
                replica_id: replica_id.clone(),
                epoch: replica.epoch,
                socket_path: replica.socket_path.to_string_lossy().into_owned(),
                pid: replica.process.pid(),
                label: replica.label.clone(),
                ready: replica.ready.to_vec(),
                stopping: replica.stopping,
            });
        let missed = self
            .known
            .iter()
            .filter(|(_, replica)| !replica.start_failed.is_empty())
            .map(|(replica_id, replica)| {
                event(Body::Relay(Relay {
                    replica_id: replica_id.clone(),
                    payload: replica.start_failed.to_vec(),
                }))
            });
        let mut events = vec![event(Body::Listed(Listed {
            replicas: listed.collect(),
            newest_epoch: self.newest_epoch,
        }))];
        events.extend(missed);
        events
    }

    /// Takes what a replica's tasks say; returns what the controller is to hear of it.
    pub(crate) fn on_news(&mut self, news: News) -> Option<NodeEvent> {
        match news {
            News::Said {
                replica_id,
                event: said,
            } => {
                let replica = self.known.get_mut(&replica_id)?;
                match ReplicaEvent::decode(said.clone())
                    .ok()
                    .and_then(|event| event.body)
                {
                    Some(replica_event::Body::Ready(_)) => replica.ready = said.clone(),
                    Some(replica_event::Body::StartFailed(_)) => {
                        self.any_failed = true;
                        replica.start_failed = said.clone();
                    }
                    _ => {}
                }
                Some(event(Body::Relay(Relay {
                    replica_id,
                    payload: said.to_vec(),
                })))
            }
            News::Exited {
                replica_id,
                reason,
                stderr_tail,
                signal,
            } => {
                let replica = self.known.remove(&replica_id)?;
                self.any_failed |= !replica.stopping;
                // Clients that still hold the path get "no such file" or "connection refused": both mean gone.
                drop(fs::remove_file(&replica.socket_path));
                tracing::info!(replica = replica_id, reason, "replica is gone");
                Some(event(Body::Exited(Exited {
                    replica_id,
                    epoch: replica.epoch,
                    reason,
                    stderr_tail,
                    signal,
                })))
            }
        }
    }

    fn start(&mut self, command: Spawn) -> Result<(), String> {
        let id = ReplicaId::parse(&command.replica_id).ok_or("the replica id is not valid")?;
        let socket_path = self.run_directory.join("r").join(format!("{id}.sock"));
        let started = process::start(
            &self.node_id,
            &self.run_directory,
            &id,
            &socket_path,
            &command,
        );
        let Started {
            process,
            control,
            stdout,
            stderr,
        } = started.inspect_err(|_| drop(fs::remove_file(&socket_path)))?;
        let process = Rc::new(process);
        let (control, incoming) = link::open(control).map_err(|error| error.to_string())?;
        // The queue of a new link has room.
        control.send(0, command.first_command).ok();
        let output = Rc::new(ReplicaOutput {
            replica_id: id.as_str().to_owned(),
            watchers: Rc::clone(&self.watchers),
            log: self.logs.open(
                &self
                    .log_directory
                    .join(replica_log_name(&command.deployment, id.as_str())),
            ),
            deployment: command.deployment,
            tail: RefCell::default(),
        });
        let tasks = Tasks {
            node_id: self.node_id.clone(),
            replica_id: id.as_str().to_owned(),
            pumps: [
                spawn_local(Rc::clone(&output).pump(stdout, false)),
                spawn_local(Rc::clone(&output).pump(stderr, true)),
            ],
            output,
            process: Rc::clone(&process),
            news: self.news.clone(),
        };
        spawn_local(tasks.watch(incoming));
        tracing::info!(replica = %id, pid = process.pid(), "replica started");
        let replica = Replica {
            epoch: command.epoch,
            label: command.label,
            socket_path,
            process,
            control,
            ready: Bytes::new(),
            start_failed: Bytes::new(),
            stopping: false,
            kill_at: Rc::default(),
        };
        self.known.insert(id.as_str().to_owned(), replica);
        Ok(())
    }
}

impl Replica {
    fn stop(&mut self, grace_milliseconds: u64) {
        let grace = Duration::from_millis(grace_milliseconds.min(24 * 3600 * 1000));
        if grace.is_zero() {
            self.stopping = true;
            self.process.signal(Signal::KILL);
            return;
        }
        let kill_at = Instant::now() + grace + LEAVE_WITHIN;
        if self.kill_at.get().is_some_and(|earlier| earlier <= kill_at) {
            return;
        }
        self.stopping = true;
        self.kill_at.set(Some(kill_at));
        let stop = replica_command::Body::Stop(StopReplica { grace_milliseconds });
        // A replica that does not read it is killed when its time is over.
        self.control
            .send(0, ReplicaCommand { body: Some(stop) }.encode_to_vec())
            .ok();
        let (process, newest) = (Rc::clone(&self.process), Rc::clone(&self.kill_at));
        spawn_local(async move {
            tokio::select! {
                () = time::sleep_until(kill_at.into()) => {}
                () = process.ended() => return,
            }
            if newest.get() == Some(kill_at) {
                process.signal(Signal::KILL);
            }
        });
    }
}

pub(crate) fn event(body: Body) -> NodeEvent {
    NodeEvent { body: Some(body) }
}

#[cfg(test)]
mod tests;
