//! What other processes find a living node by: its run directory, and its own socket there.
//!
//! Somebody may remove it while the node lives: a person with `rm -rf`, or what tidies `/tmp`. Requests do not notice,
//! since connections that are open need no path. But no script finds the node, no new proxy reaches a replica, and
//! nothing that ends can be started again. So the node looks once a second, and makes again what is missing: the
//! directory and its lock, `node.sock` and `node.json`. Sockets that other processes listen on are theirs to make
//! again ([`Lost`]). The state directory is seen to in the same way; the controller writes its checkpoint again, while logs
//! and code are not brought back.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use tokio::{
    net::UnixListener,
    task::{JoinHandle, spawn_local},
};

use crate::{
    api::Api,
    descriptor::listen,
    directory::Error,
    run_directory::{NodeRecord, RunDirectory},
    state_directory::Logs,
    state_watch::StateWatch,
};

/// A file by what cannot be given to another one while it is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity(u64, u64);

impl Identity {
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::symlink_metadata(path).ok()?;
        Some(Self(metadata.dev(), metadata.ino()))
    }
}

#[derive(Debug)]
pub(crate) struct Presence {
    directory: RunDirectory,
    state: StateWatch,
    record: NodeRecord,
    api: Api,
    serving: JoinHandle<()>,
    node_socket: Option<Identity>,
    controller_socket: Option<Identity>,
    /// Said already.
    complaint: String,
}

/// What others have to make again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lost {
    /// The checkpoint among it.
    pub(crate) state: bool,
    pub(crate) controller_socket: bool,
}

impl Presence {
    /// Begins to serve on `node.sock`. Called within the node's `LocalSet`.
    pub(crate) fn new(
        directory: RunDirectory,
        state: StateWatch,
        record: NodeRecord,
        api: Api,
        node_socket: std::os::unix::net::UnixListener,
    ) -> io::Result<Self> {
        let path = directory.path().to_owned();
        let serving = serve(&api, node_socket)?;
        Ok(Self {
            record,
            api,
            serving,
            node_socket: Identity::of(&path.join("node.sock")),
            controller_socket: Identity::of(&path.join("controller.sock")),
            directory,
            state,
            complaint: String::new(),
        })
    }

    pub(crate) fn publish(&self) -> Result<(), Error> {
        self.directory.publish(&self.record)
    }

    /// Whether `controller.sock` is the one that controllers inherit.
    pub(crate) fn has_inherited_controller_socket(&self) -> bool {
        Identity::of(&self.path("controller.sock")) == self.controller_socket
    }

    /// Whether the directory is there in which replicas listen.
    pub(crate) fn has_room_for_sockets(&self) -> bool {
        self.directory.is_whole()
    }

    /// Looks whether all is there, and makes again what is missing.
    pub(crate) fn look(&mut self) -> Lost {
        let mut lost = Lost::default();
        if let Err(error) = self.restore(&mut lost) {
            let complaint = error.to_string();
            if complaint != self.complaint {
                tracing::error!(
                    error = complaint,
                    "the run directory was removed and cannot be made again; requests are served all the same"
                );
                self.complaint = complaint;
            }
            return lost;
        }
        self.complaint.clear();
        lost.controller_socket = Identity::of(&self.path("controller.sock")).is_none();
        lost
    }

    fn restore(&mut self, lost: &mut Lost) -> Result<(), Error> {
        let state = self.state.look();
        self.restore_run_directory()?;
        lost.state = state?;
        if lost.state {
            tracing::warn!("somebody removed the state directory, which is made again");
        }
        Ok(())
    }

    fn restore_run_directory(&mut self) -> Result<(), Error> {
        let record_there = self.path("node.json").exists();
        let socket_there = Identity::of(&self.path("node.sock")) == self.node_socket;
        if record_there && socket_there && self.directory.is_whole() {
            return Ok(());
        }
        tracing::warn!(
            path = %self.directory.path().display(),
            "somebody removed files of this node, which are made again"
        );
        self.directory.restore(&self.record.node_id)?;
        if !socket_there {
            let path = self.path("node.sock");
            let failed = |source| Error::Io {
                path: path.clone(),
                source,
            };
            let listener = listen(&path).map_err(failed)?;
            self.node_socket = Identity::of(&path);
            let serving = serve(&self.api, listener).map_err(failed)?;
            std::mem::replace(&mut self.serving, serving).abort();
        }
        self.publish()
    }

    /// The node ends: what it has on disk is of no use any more.
    pub(crate) async fn leave(&mut self, logs: Logs) -> Result<(), Error> {
        let left = self.directory.leave();
        self.state.leave(logs).await.and(left)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

fn serve(api: &Api, listener: std::os::unix::net::UnixListener) -> io::Result<JoinHandle<()>> {
    listener.set_nonblocking(true)?;
    Ok(spawn_local(
        api.clone().serve(UnixListener::from_std(listener)?),
    ))
}
