//! The run directory of a node: its sockets and who it is, and what is done with one that a dead node left.
//!
//! It lies in memory, as a rule, so nothing that grows is here: logs, code and checkpoint are in the state directory
//! ([`state_directory`](crate::state_directory)); `logs` points there. Everything in it is reached through a directory of
//! mode 0700 that belongs to this user, so nothing in it can be planted or opened by another one, under any umask. A node
//! holds an exclusive `flock` on `lock` for its life: the kernel lets go of it however the node dies, so "the lock is
//! free" is what stale means. The lock file holds the node id, by which processes that outlived both the node and its
//! reaper are found and ended.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, Write},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rustix::process::geteuid;
use serde::{Deserialize, Serialize};

use crate::{
    directory::{
        At, Error, Lock, create_new, is_same, lock, private_directory, remove_directory,
        remove_file,
    },
    environment, processes,
};

/// Longest path that fits a unix socket address, with its terminating zero.
const MAX_SOCKET_PATH: usize = 107;
/// Room for `/controller.sock` or `/r/ID.sock` with the ids that a controller gives.
const LONGEST_NAME_INSIDE: usize = 24;
const END_LEFTOVERS_WITHIN: Duration = Duration::from_secs(10);
/// How long a lock may be held by one that has not said who it is: whoever cleans takes no longer.
const HELD_WITHOUT_A_NODE: Duration = Duration::from_secs(12);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// What `node.json` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    pub name: String,
    pub pid: u32,
    pub node_id: String,
    pub http_address: String,
    /// The control port; empty: none.
    #[serde(default)]
    pub control_address: String,
    /// Where metrics and health are answered to other machines; empty: nowhere.
    #[serde(default)]
    pub metrics_address: String,
    /// The script that owns the node; 0 for a resident one.
    pub owner_pid: u32,
    pub argv: Vec<String>,
    /// Where its logs are, on a disk.
    #[serde(default)]
    pub log_directory: PathBuf,
}

/// Where this user's run directories are.
pub fn root() -> PathBuf {
    if let Some(root) = environment::set(environment::RUNTIME_ROOT) {
        return PathBuf::from(root);
    }
    if let Some(runtime) = environment::set("XDG_RUNTIME_DIR").map(PathBuf::from)
        && runtime.is_dir()
    {
        return runtime.join("eagleray");
    }
    PathBuf::from(format!("/tmp/eagleray-{}", geteuid().as_raw()))
}

/// Whether `name` can be the name of a node, and so of a directory.
pub fn is_valid_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && !name.starts_with('.')
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
}

pub fn is_script_name(name: &str) -> bool {
    name.starts_with("script-")
}

/// The run directory of this node, locked.
#[derive(Debug)]
pub struct RunDirectory {
    path: PathBuf,
    lock: File,
}

impl RunDirectory {
    /// Takes `root/name` for the node `node_id`: ends what a dead node of that name left running, and clears its
    /// sockets.
    pub(crate) fn acquire(root: &Path, name: &str, node_id: &str) -> Result<Self, Error> {
        private_directory(root)?;
        let path = root.join(name);
        if path.as_os_str().len() + LONGEST_NAME_INSIDE > MAX_SOCKET_PATH {
            return Err(Error::Unsafe(format!(
                "{} is too long for unix sockets inside it; set {} to a shorter path",
                path.display(),
                environment::RUNTIME_ROOT
            )));
        }
        // Whoever cleans a stale directory may remove it between the two steps; then both are repeated.
        let give_up = Instant::now() + HELD_WITHOUT_A_NODE;
        let mut directory = loop {
            private_directory(&path)?;
            match lock(&path, true)? {
                Lock::Taken(lock) => {
                    break Self {
                        path: path.clone(),
                        lock,
                    };
                }
                Lock::Gone => {}
                // Held by one that cleans, or by a node that is not up yet: either says more in a moment.
                Lock::Held if record(&path).is_none() && Instant::now() < give_up => {
                    thread::sleep(LOOK_AGAIN);
                }
                Lock::Held => {
                    return Err(Error::Held {
                        name: name.to_owned(),
                    });
                }
            }
        };
        directory.end_leftovers()?;
        directory.clear()?;
        directory.write_lock(node_id)?;
        private_directory(&path.join("r"))?;
        private_directory(&directory.metrics())?;
        Ok(directory)
    }

    /// Whether the directory is there with all that it holds, but for the sockets, and is locked by us.
    pub(crate) fn is_whole(&self) -> bool {
        self.is_ours() && self.path.join("r").is_dir() && self.metrics().is_dir()
    }

    /// Makes again what somebody removed. Refused when another node has taken the name meanwhile.
    pub(crate) fn restore(&mut self, node_id: &str) -> Result<(), Error> {
        private_directory(&self.path)?;
        if !self.is_ours() {
            match lock(&self.path, true)? {
                Lock::Taken(lock) => self.lock = lock,
                Lock::Held | Lock::Gone => {
                    return Err(Error::Unsafe(format!(
                        "another node has taken {}; end this one (process {}) by a signal",
                        self.path.display(),
                        std::process::id()
                    )));
                }
            }
            self.write_lock(node_id)?;
        }
        private_directory(&self.path.join("r"))?;
        private_directory(&self.metrics())
    }

    /// Whether the lock file is still the one that we hold.
    fn is_ours(&self) -> bool {
        is_same(&self.lock, &self.path.join("lock"))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where its processes count.
    pub fn metrics(&self) -> PathBuf {
        self.path.join("metrics")
    }

    /// Writes `node.json`: a reader sees the old one or the new one.
    pub(crate) fn publish(&self, record: &NodeRecord) -> Result<(), Error> {
        let path = self.path.join("node.json");
        let temporary = self.path.join("node.json.new");
        let text = serde_json::to_vec(record)
            .map_err(io::Error::from)
            .at(&path)?;
        remove_file(&temporary)?;
        let mut file = create_new(&temporary).at(&temporary)?;
        file.write_all(&text).at(&temporary)?;
        fs::rename(&temporary, &path).at(&path)?;
        // For who looks for them here. It points nowhere that `node.json` does not name, so nothing depends on it.
        let logs = self.path.join("logs");
        fs::remove_file(&logs).ok();
        symlink(&record.log_directory, &logs).ok();
        Ok(())
    }

    /// Removes what is only true while the node lives: everything, as a rule.
    pub(crate) fn leave(&mut self) -> Result<(), Error> {
        if !self.is_ours() {
            // It was removed, and may be another node's by now.
            return Ok(());
        }
        let name = self.path.file_name().and_then(|name| name.to_str());
        if name.is_some_and(is_script_name) {
            return fs::remove_dir_all(&self.path).at(&self.path);
        }
        self.clear()?;
        remove_file(&self.path.join("lock"))?;
        // Not if somebody has put something there, or is about to take it.
        drop(fs::remove_dir(&self.path));
        Ok(())
    }

    /// Ends the processes of the node that held this directory before.
    fn end_leftovers(&mut self) -> Result<(), Error> {
        let mut node_id = String::new();
        self.lock.rewind().at(&self.path)?;
        (&self.lock)
            .take(256)
            .read_to_string(&mut node_id)
            .at(&self.path)?;
        let node_id = node_id.trim();
        if node_id.is_empty() {
            return Ok(());
        }
        let deadline = Instant::now() + END_LEFTOVERS_WITHIN;
        if processes::end_all(&processes::Belongs::to_node(node_id), deadline) {
            return Ok(());
        }
        Err(Error::Unsafe(format!(
            "processes of a node that died before (id {node_id}) cannot be killed; find them with `grep -l {node_id} /proc/*/environ`"
        )))
    }

    fn clear(&self) -> Result<(), Error> {
        for name in [
            "node.json",
            "node.sock",
            "controller.sock",
            "rest.sock",
            "token",
        ] {
            remove_file(&self.path.join(name))?;
        }
        fs::remove_file(self.path.join("logs")).ok();
        remove_directory(&self.metrics())?;
        remove_directory(&self.path.join("r"))
    }

    fn write_lock(&mut self, node_id: &str) -> Result<(), Error> {
        self.lock.set_len(0).at(&self.path)?;
        self.lock.rewind().at(&self.path)?;
        self.lock.write_all(node_id.as_bytes()).at(&self.path)
    }
}

/// Whether a node holds the directory.
pub fn is_held(path: &Path) -> bool {
    matches!(lock(path, false), Ok(Lock::Held))
}

/// Ends what dead nodes under `root` left running and removes their directories.
/// What cannot be cleaned is returned for the log.
pub(crate) fn clean_stale(root: &Path) -> Vec<Error> {
    let Ok(entries) = fs::read_dir(root) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| clean(&entry.path()).err())
        .collect()
}

/// Cleans one directory if no node holds it.
pub(crate) fn clean(path: &Path) -> Result<(), Error> {
    match lock(path, false)? {
        Lock::Held | Lock::Gone => Ok(()),
        Lock::Taken(lock) => {
            let mut directory = RunDirectory {
                path: path.to_owned(),
                lock,
            };
            directory.end_leftovers()?;
            directory.leave()
        }
    }
}

/// The records of all nodes that live, by name.
pub fn records(root: &Path) -> Vec<NodeRecord> {
    let Ok(entries) = fs::read_dir(root) else {
        return Vec::new();
    };
    let mut records: Vec<NodeRecord> = entries
        .flatten()
        .filter(|entry| is_held(&entry.path()))
        .filter_map(|entry| record(&entry.path()))
        .collect();
    records.sort_by(|a, b| a.name.cmp(&b.name));
    records
}

/// Whether there is a node that is not up yet.
pub(crate) fn any_held_without_record(root: &Path) -> bool {
    let Ok(entries) = fs::read_dir(root) else {
        return false;
    };
    entries
        .flatten()
        .any(|entry| record(&entry.path()).is_none() && is_held(&entry.path()))
}

/// What `node.json` in `path` says, whether or not the node lives.
pub fn record(path: &Path) -> Option<NodeRecord> {
    serde_json::from_slice(&fs::read(path.join("node.json")).ok()?).ok()
}

#[cfg(test)]
mod tests;
