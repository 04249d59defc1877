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
use tokio::{sync::mpsc, task::spawn_local};

use self::{
    berth::Ends,
    birth::{Birth, Slot},
    watch::Tasks,
    zygotes::Zygotes,
};
use crate::{
    core::{Event, ReplicaNews},
    link::{self, NotSent},
    output::{ReplicaOutput, Watchers},
};

mod berth;
mod birth;
mod nest;
mod process;
mod watch;
mod zygotes;

#[derive(Debug)]
pub(crate) struct Replicas {
    run_directory: PathBuf,
    log_directory: PathBuf,
    node_id: String,
    watchers: Rc<Watchers>,
    logs: Writer,
    news: mpsc::Sender<Event>,
    running: BTreeMap<String, Replica>,
    zygotes: Rc<Zygotes>,
}

#[derive(Debug)]
struct Replica {
    /// None of a build.
    socket_path: Option<PathBuf>,
    slot: Rc<Slot>,
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
            zygotes: Rc::new(Zygotes::new(node_id)),
        }
    }

    /// Starts one. What becomes of it comes as news, and is returned if it is known at once.
    pub(crate) fn start(&mut self, command: Spawn) -> Option<ReplicaNews> {
        match self.begin(command) {
            Ok(news) => news,
            Err(message) => Some(ReplicaNews::NotStarted { message }),
        }
    }

    fn begin(&mut self, command: Spawn) -> Result<Option<ReplicaNews>, String> {
        let id = ReplicaId::parse(&command.replica_id).ok_or("the replica id is not valid")?;
        let is_build = !command.build.is_empty();
        let path = self.run_directory.join("r").join(format!("{id}.sock"));
        let socket_path = Some(path).filter(|_| !is_build);
        let prepared = berth::prepare(socket_path.as_deref(), &command.working_directory);
        let (berth, ends) = prepared.inspect_err(|_| remove(socket_path.as_deref()))?;
        let key = self.zygotes.key(&command).filter(|_| !is_build);
        let birth = Birth {
            node_id: self.node_id.clone(),
            run_directory: self.run_directory.clone(),
            id: id.clone(),
            command,
            slot: Rc::default(),
            zygotes: Rc::clone(&self.zygotes),
        };
        let replica = Replica {
            socket_path: socket_path.clone(),
            slot: Rc::clone(&birth.slot),
            control: ends.control.clone(),
        };
        let path = socket_path.as_deref().unwrap_or(Path::new(""));
        let path = path.to_string_lossy().into_owned();
        let news = if let Some(key) = key {
            let (tasks, incoming) = self.tasks(&birth, ends, is_build);
            spawn_local(tasks.begin(birth, key, berth, incoming, path));
            None
        } else {
            let process = birth
                .alone(&berth)
                .inspect_err(|_| remove(socket_path.as_deref()))?;
            drop(berth);
            let pid = process.pid();
            tracing::info!(replica = %id, pid, "replica started");
            let (tasks, incoming) = self.tasks(&birth, ends, is_build);
            spawn_local(tasks.watch(process, incoming, None));
            Some(ReplicaNews::Started {
                pid,
                socket_path: path,
            })
        };
        self.running.insert(id.as_str().to_owned(), replica);
        Ok(news)
    }

    /// What runs beside a replica. Its first command is on the way then.
    fn tasks(&self, birth: &Birth, ends: Ends, is_build: bool) -> (Tasks, link::Receiver) {
        let Birth { id, command, .. } = birth;
        if !is_build {
            // The queue of a new link has room.
            ends.control.send(0, command.first_command.clone()).ok();
        }
        let name = if is_build {
            build_log_name(&command.deployment.application, id.as_str())
        } else {
            replica_log_name(&command.deployment, id.as_str())
        };
        let output = Rc::new(ReplicaOutput::new(
            id.as_str(),
            command.deployment.clone(),
            Rc::clone(&self.watchers),
            self.logs.open(&self.log_directory.join(name)),
            is_build,
        ));
        let tasks = Tasks {
            node_id: self.node_id.clone(),
            replica_id: id.as_str().to_owned(),
            pumps: [
                spawn_local(Rc::clone(&output).pump(ends.stdout, false)),
                spawn_local(Rc::clone(&output).pump(ends.stderr, true)),
            ],
            output,
            news: self.news.clone(),
        };
        (tasks, ends.incoming)
    }

    /// No replica with these imports will be started any more.
    pub(crate) fn forget_imports(&self, imports: &str) {
        self.zygotes.forget_imports(imports);
    }

    /// No replica is forked any more.
    pub(crate) fn end_zygotes(&self) -> Rc<Zygotes> {
        self.zygotes.end();
        Rc::clone(&self.zygotes)
    }

    pub(crate) fn tell(&self, replica_id: &str, message: Bytes) -> Result<(), NotSent> {
        let replica = self.running.get(replica_id).ok_or(NotSent::Ended)?;
        replica.control.send(0, message)
    }

    pub(crate) fn kill(&self, replica_id: &str) {
        if let Some(replica) = self.running.get(replica_id) {
            replica.slot.kill();
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
