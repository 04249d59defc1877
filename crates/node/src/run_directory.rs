//! The run directory of a node: whose it is, who may read it, and what is done with one that a dead node left.
//!
//! Everything in it is reached through a directory of mode 0700 that belongs to this user, so nothing in it can be
//! planted or opened by another one, under any umask. A node holds an exclusive `flock` on `lock` for its life:
//! the kernel lets go of it however the node dies, so "the lock is free" is what stale means. The lock file holds
//! the node id, by which processes that outlived both the node and its reaper are found and ended.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant, SystemTime},
};

use rustix::{
    fs::{FlockOperation, OFlags, flock},
    process::geteuid,
};
use serde::{Deserialize, Serialize};

use crate::{processes, settings};

/// Longest path that fits a unix socket address, with its terminating zero.
const MAX_SOCKET_PATH: usize = 107;
/// Room for `/controller.sock` or `/r/ID.sock` with the ids that a controller gives.
const LONGEST_NAME_INSIDE: usize = 24;
const END_LEFTOVERS_WITHIN: Duration = Duration::from_secs(10);
/// How long a lock may be held by one that has not said who it is: whoever cleans takes no longer.
const HELD_WITHOUT_A_NODE: Duration = Duration::from_secs(12);
const LOOK_AGAIN: Duration = Duration::from_millis(10);
const INSIDE: [&str; 2] = ["r", "logs"];
/// Ended scripts whose logs are kept, when something went wrong in them.
const SCRIPT_LOGS_KEPT: usize = 8;
const SCRIPT_LOGS_KEPT_FOR: Duration = Duration::from_secs(24 * 3600);

/// What `node.json` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeRecord {
    pub(crate) name: String,
    pub(crate) pid: u32,
    pub(crate) node_id: String,
    pub(crate) http_address: String,
    /// The script that owns the node; 0 for a resident one.
    pub(crate) owner_pid: u32,
    pub(crate) argv: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("node {name} is already running")]
    Held { name: String },
    #[error("{0}")]
    Unsafe(String),
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
}

impl Error {
    /// Says, of a directory that the machine refuses, which variable puts it elsewhere.
    pub(crate) fn or_elsewhere(self, variable: &str) -> Self {
        match self {
            Self::Io { path, source } => Self::Unsafe(format!(
                "{}: {source}; set {variable} to a directory that you can write",
                path.display()
            )),
            other => other,
        }
    }
}

trait At<T> {
    fn at(self, path: &Path) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> At<T> for Result<T, E> {
    fn at(self, path: &Path) -> Result<T, Error> {
        self.map_err(|source| Error::Io {
            path: path.to_owned(),
            source: source.into(),
        })
    }
}

/// Where this user's run directories are.
pub(crate) fn root() -> PathBuf {
    if let Some(root) = settings::set(settings::RUNTIME_ROOT) {
        return PathBuf::from(root);
    }
    if let Some(runtime) = settings::set("XDG_RUNTIME_DIR").map(PathBuf::from)
        && runtime.is_dir()
    {
        return runtime.join("eagleray");
    }
    PathBuf::from(format!("/tmp/eagleray-{}", geteuid().as_raw()))
}

/// Where a resident node keeps what outlives it.
pub(crate) fn state_directory(name: &str) -> Result<PathBuf, Error> {
    let base = settings::set("XDG_STATE_HOME")
        .map(PathBuf::from)
        .or_else(|| {
            let home = settings::set("HOME")?;
            Some(PathBuf::from(home).join(".local/state"))
        });
    let base = base.ok_or_else(|| {
        Error::Unsafe("neither HOME nor XDG_STATE_HOME is set; a resident node needs one to keep its checkpoint".into())
    })?;
    let parent = base.join("eagleray");
    private_directory(&parent)?;
    let path = parent.join(name);
    private_directory(&path)?;
    Ok(path)
}

/// Whether `name` can be the name of a node, and so of a directory.
pub(crate) fn is_valid_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && !name.starts_with('.')
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
}

pub(crate) fn is_script_name(name: &str) -> bool {
    name.starts_with("script-")
}

/// Makes sure that `path` is a directory of mode 0700 that belongs to this user; its parents are made as needed.
pub(crate) fn private_directory(path: &Path) -> Result<(), Error> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).at(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error).at(path),
    }
    // Opened without following a link, and asked and changed through the descriptor: the name cannot be swapped
    // for another between the look and the use.
    let directory = OpenOptions::new()
        .read(true)
        .custom_flags((OFlags::NOFOLLOW | OFlags::DIRECTORY).bits().cast_signed())
        .open(path)
        .map_err(|error| match error.raw_os_error() {
            Some(code)
                if code == rustix::io::Errno::NOTDIR.raw_os_error()
                    || code == rustix::io::Errno::LOOP.raw_os_error() =>
            {
                Error::Unsafe(format!(
                    "{} is not a directory (or is a link to one)",
                    path.display()
                ))
            }
            _ => Error::Io {
                path: path.to_owned(),
                source: error,
            },
        })?;
    let metadata = directory.metadata().at(path)?;
    if metadata.uid() != geteuid().as_raw() {
        return Err(Error::Unsafe(format!(
            "{} belongs to user {}; set {} to a directory of your own",
            path.display(),
            metadata.uid(),
            settings::RUNTIME_ROOT
        )));
    }
    if metadata.mode() & 0o022 != 0 {
        return Err(Error::Unsafe(format!(
            "{} can be written by other users (mode {:o}); run chmod 700 on it, or set {}",
            path.display(),
            metadata.mode() & 0o7777,
            settings::RUNTIME_ROOT
        )));
    }
    if metadata.mode() & 0o777 != 0o700 {
        directory
            .set_permissions(Permissions::from_mode(0o700))
            .at(path)?;
    }
    Ok(())
}

/// The run directory of this node, locked.
#[derive(Debug)]
pub(crate) struct RunDirectory {
    path: PathBuf,
    lock: File,
}

impl RunDirectory {
    /// Takes `root/name` for the node `node_id`: ends what a dead node of that name left running, and clears its
    /// sockets. Logs stay.
    pub(crate) fn acquire(root: &Path, name: &str, node_id: &str) -> Result<Self, Error> {
        private_directory(root)?;
        let path = root.join(name);
        if path.as_os_str().len() + LONGEST_NAME_INSIDE > MAX_SOCKET_PATH {
            return Err(Error::Unsafe(format!(
                "{} is too long for unix sockets inside it; set {} to a shorter path",
                path.display(),
                settings::RUNTIME_ROOT
            )));
        }
        // Whoever cleans a stale directory may remove it between the two steps; then both are repeated.
        let give_up = Instant::now() + HELD_WITHOUT_A_NODE;
        let mut directory = loop {
            private_directory(&path)?;
            match Self::lock(&path, true)? {
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
        if is_script_name(name) {
            // What another script of the same process id left to be read.
            remove_directory(&path.join("logs"))?;
        }
        directory.write_lock(node_id)?;
        for inside in INSIDE {
            private_directory(&path.join(inside))?;
        }
        Ok(directory)
    }

    /// Whether the directory is there with all that it holds, but for the sockets, and is locked by us.
    pub(crate) fn is_whole(&self) -> bool {
        self.is_ours() && INSIDE.iter().all(|inside| self.path.join(inside).is_dir())
    }

    /// Makes again what somebody removed. Refused when another node has taken the name meanwhile.
    pub(crate) fn restore(&mut self, node_id: &str) -> Result<(), Error> {
        private_directory(&self.path)?;
        if !self.is_ours() {
            match Self::lock(&self.path, true)? {
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
        for inside in INSIDE {
            private_directory(&self.path.join(inside))?;
        }
        Ok(())
    }

    /// Whether the lock file is still the one that we hold.
    fn is_ours(&self) -> bool {
        is_same(&self.lock, &self.path.join("lock"))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
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
        fs::rename(&temporary, &path).at(&path)
    }

    /// Removes what is only true while the node lives; all of it for the node of a script, except logs that
    /// somebody may want to read.
    pub(crate) fn leave(&mut self, logs: Logs) -> Result<(), Error> {
        if !self.is_ours() {
            // It was removed, and may be another node's by now.
            return Ok(());
        }
        let name = self.path.file_name().and_then(|name| name.to_str());
        match (name.is_some_and(is_script_name), logs) {
            (false, _) => {
                self.clear()?;
                remove_file(&self.path.join("lock"))
            }
            (true, Logs::Remove) => fs::remove_dir_all(&self.path).at(&self.path),
            (true, Logs::Keep) => {
                self.clear()?;
                for entry in fs::read_dir(&self.path).at(&self.path)?.flatten() {
                    let (name, path) = (entry.file_name(), entry.path());
                    if name == "logs" || name == "lock" {
                        continue;
                    }
                    if path.is_dir() {
                        remove_directory(&path)?;
                    } else {
                        remove_file(&path)?;
                    }
                }
                remove_file(&self.path.join("lock"))
            }
        }
    }

    fn lock(path: &Path, create: bool) -> Result<Lock, Error> {
        let lock_path = path.join("lock");
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .create(create)
            .truncate(false)
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(&lock_path);
        let lock = match opened {
            Ok(lock) => lock,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Lock::Gone),
            Err(error) => return Err(error).at(&lock_path),
        };
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(Lock::Held),
            Err(error) => return Err(error).at(&lock_path),
        }
        // The file that was locked may have been removed, and made anew by another, since it was opened.
        Ok(if is_same(&lock, &lock_path) {
            Lock::Taken(lock)
        } else {
            Lock::Gone
        })
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
        for name in ["node.json", "node.sock", "controller.sock"] {
            remove_file(&self.path.join(name))?;
        }
        remove_directory(&self.path.join("r"))
    }

    fn write_lock(&mut self, node_id: &str) -> Result<(), Error> {
        self.lock.set_len(0).at(&self.path)?;
        self.lock.rewind().at(&self.path)?;
        self.lock.write_all(node_id.as_bytes()).at(&self.path)
    }
}

/// What becomes of the logs of a script's node that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Logs {
    Remove,
    /// A message may have named them. Later starts remove them.
    Keep,
}

fn is_same(open: &File, path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|there| {
        open.metadata()
            .is_ok_and(|here| here.ino() == there.ino() && here.dev() == there.dev())
    })
}

enum Lock {
    Taken(File),
    Held,
    Gone,
}

/// Whether a node holds the directory.
pub(crate) fn is_held(path: &Path) -> bool {
    matches!(RunDirectory::lock(path, false), Ok(Lock::Held))
}

/// Ends what dead nodes under `root` left running and removes their directories, except logs of resident ones.
/// What cannot be cleaned is returned for the log.
pub(crate) fn clean_stale(root: &Path) -> Vec<Error> {
    let Ok(entries) = fs::read_dir(root) else {
        return Vec::new();
    };
    let mut errors: Vec<Error> = entries
        .flatten()
        .filter_map(|entry| clean(&entry.path()).err())
        .collect();
    errors.extend(remove_kept_logs(root, SystemTime::now()));
    errors
}

/// Removes logs that the nodes of scripts left to be read, but for the newest few of the last day.
fn remove_kept_logs(root: &Path, now: SystemTime) -> Vec<Error> {
    let kept = |entry: fs::DirEntry| {
        let (name, path) = (entry.file_name(), entry.path());
        let ended = name.to_str().is_some_and(is_script_name) && !path.join("lock").exists();
        let at = fs::metadata(path.join("logs")).ok()?.modified().ok()?;
        ended.then_some((at, path))
    };
    let Ok(entries) = fs::read_dir(root) else {
        return Vec::new();
    };
    let mut found: Vec<(SystemTime, PathBuf)> = entries.flatten().filter_map(kept).collect();
    found.sort();
    let excess = found.len().saturating_sub(SCRIPT_LOGS_KEPT);
    let old = |at: &SystemTime| {
        now.duration_since(*at)
            .is_ok_and(|age| age > SCRIPT_LOGS_KEPT_FOR)
    };
    found
        .iter()
        .enumerate()
        .filter(|(number, (at, _))| *number < excess || old(at))
        .filter_map(|(_, (_, path))| remove_ended(path).err())
        .collect()
}

/// Under the lock, since a script of the same process id may be about to take the directory.
fn remove_ended(path: &Path) -> Result<(), Error> {
    match RunDirectory::lock(path, true)? {
        Lock::Taken(_lock) => fs::remove_dir_all(path).at(path),
        Lock::Held | Lock::Gone => Ok(()),
    }
}

/// Cleans one directory if no node holds it.
pub(crate) fn clean(path: &Path) -> Result<(), Error> {
    match RunDirectory::lock(path, false)? {
        Lock::Held | Lock::Gone => Ok(()),
        Lock::Taken(lock) => {
            let mut directory = RunDirectory {
                path: path.to_owned(),
                lock,
            };
            directory.end_leftovers()?;
            directory.leave(Logs::Remove)
        }
    }
}

/// The records of all nodes that live, by name.
pub(crate) fn records(root: &Path) -> Vec<NodeRecord> {
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
pub(crate) fn record(path: &Path) -> Option<NodeRecord> {
    serde_json::from_slice(&fs::read(path.join("node.json")).ok()?).ok()
}

/// A new file that only this user can read, under any umask.
pub(crate) fn create_new(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

fn remove_directory(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).at(path),
        _ => Ok(()),
    }
}

fn remove_file(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).at(path),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
