//! The replica processes of this node as the machine has them: started, spoken to, killed, and watched until nothing that
//! they started is left. What that means for whom is the core's business ([`core`](crate::core)).

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    rc::Rc,
};

use bytes::Bytes;
use eagleray_logs::Writer;
use eagleray_types::{ReplicaId, build_log_name, control::Spawn, replica_log_name};
use rustix::process::Signal;
use tokio::{sync::mpsc, task::spawn_local};

use self::{process::Started, watch::Tasks};
use crate::{
    core::Event,
    link::{self, NotSent},
    output::{ReplicaOutput, Watchers},
    spawn::Process,
};

mod process;
mod watch;

#[derive(Debug)]
pub(crate) struct Replicas {
    run_directory: PathBuf,
    log_directory: PathBuf,
    node_id: String,
    watchers: Rc<Watchers>,
    logs: Writer,
    news: mpsc::Sender<Event>,
    running: BTreeMap<String, Replica>,
}

#[derive(Debug)]
struct Replica {
    /// None of a build.
    socket_path: Option<PathBuf>,
    process: Rc<Process>,
    control: link::Sender,
}

impl Replicas {
    pub(crate) fn new(
        run_directory: &Path,
        log_directory: &Path,
        node_id: &str,
        watchers: Rc<Watchers>,
        logs: Writer,
        news: mpsc::Sender<Event>,
    ) -> Self {
        Self {
            run_directory: run_directory.to_owned(),
            log_directory: log_directory.to_owned(),
            node_id: node_id.to_owned(),
            watchers,
            logs,
            news,
            running: BTreeMap::new(),
        }
    }

    /// Starts one, and returns its number and the path of its socket. What it says and its end come as news.
    ///
    /// # Errors
    /// Why it was not started, for people. Nothing of it is left.
    pub(crate) fn start(&mut self, command: Spawn) -> Result<(u32, String), String> {
        let id = ReplicaId::parse(&command.replica_id).ok_or("the replica id is not valid")?;
        let is_build = !command.build.is_empty();
        let socket_path = self.run_directory.join("r").join(format!("{id}.sock"));
        let socket_path = Some(socket_path).filter(|_| !is_build);
        let started = process::start(
            &self.node_id,
            &self.run_directory,
            &id,
            socket_path.as_deref(),
            &command,
        );
        let Started {
            process,
            control,
            incoming,
            stdout,
            stderr,
        } = started.inspect_err(|_| remove(socket_path.as_deref()))?;
        let process = Rc::new(process);
        if !is_build {
            // The queue of a new link has room.
            control.send(0, command.first_command).ok();
        }
        let name = if is_build {
            build_log_name(&command.deployment.application, id.as_str())
        } else {
            replica_log_name(&command.deployment, id.as_str())
        };
        let output = Rc::new(ReplicaOutput::new(
            id.as_str(),
            command.deployment,
            Rc::clone(&self.watchers),
            self.logs.open(&self.log_directory.join(name)),
            is_build,
        ));
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
        let pid = process.pid();
        tracing::info!(replica = %id, pid, "replica started");
        let path = socket_path.as_deref().unwrap_or(Path::new(""));
        let answer = (pid, path.to_string_lossy().into_owned());
        let replica = Replica {
            socket_path,
            process,
            control,
        };
        self.running.insert(id.as_str().to_owned(), replica);
        Ok(answer)
    }

    pub(crate) fn tell(&self, replica_id: &str, message: Bytes) -> Result<(), NotSent> {
        let replica = self.running.get(replica_id).ok_or(NotSent::Ended)?;
        replica.control.send(0, message)
    }

    pub(crate) fn kill(&self, replica_id: &str) {
        if let Some(replica) = self.running.get(replica_id) {
            replica.process.signal(Signal::KILL);
        }
    }

    /// It is gone. Clients that still hold the path get "no such file" or "connection refused": both mean gone.
    pub(crate) fn forget(&mut self, replica_id: &str) {
        if let Some(replica) = self.running.remove(replica_id) {
            remove(replica.socket_path.as_deref());
        }
    }

    /// Ids of those whose socket somebody removed.
    pub(crate) fn without_socket(&self) -> Vec<String> {
        self.running
            .iter()
            .filter(|(_, replica)| {
                let path = replica.socket_path.as_ref();
                path.is_some_and(|path| fs::symlink_metadata(path).is_err())
            })
            .map(|(replica_id, _)| replica_id.clone())
            .collect()
    }
}

fn remove(socket_path: Option<&Path>) {
    if let Some(path) = socket_path {
        drop(fs::remove_file(path));
    }
}

#[cfg(test)]
mod tests;
