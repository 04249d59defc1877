//! The state directory of a node: what is too large for memory, or outlives the node. Checkpoint, code and logs.
//!
//! It lies on a disk, in `$XDG_STATE_HOME/eagleray` (`~/.local/state/eagleray`). That of a resident node has its name
//! and stays. That of a script's node has a name of its own (`script-PID-...`: home directories are shared between
//! machines) and goes with the node, but for the logs when something went wrong: a message may have named them. Of
//! those the newest eight of the last day are kept; each start of a node removes the others.
//!
//! A script must run where there is no home that can be written (a container with a root user that has none, a disk
//! that is read-only). Then its directory is in `/var/tmp`, and where that cannot be either, in the run directory,
//! with which it goes, logs and all. A disk that is full is not gone around: the start fails and names it.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use crate::directory::{
    At, Error, Lock, check_room, is_same, lock, private_directory, remove_directory, remove_file,
};

mod bases;
mod stale;

pub use bases::Bases;
pub(crate) use stale::{clean, clean_stale};

/// Of the node's id, what tells its directory from those of other machines.
const ID_DIGITS: usize = 8;
const VARIABLE: &str = "XDG_STATE_HOME";

/// What becomes of the logs of a script's node that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Logs {
    Remove,
    /// A message may have named them. Later starts remove them.
    Keep,
}

#[derive(Debug)]
pub struct StateDirectory {
    path: PathBuf,
    /// Of a script's. A resident node has locked its run directory, of the same name.
    lock: Option<File>,
}

impl StateDirectory {
    /// That of the resident node `name`.
    pub(crate) fn of_resident(bases: &Bases, name: &str) -> Result<Self, Error> {
        let base = bases.of_user.as_deref().ok_or_else(|| {
            Error::Unsafe(format!(
                "neither HOME nor {VARIABLE} is set; a resident node needs one to keep its checkpoint"
            ))
        })?;
        let state = Self {
            path: base.join(name),
            lock: None,
        };
        let made = private_directory(base).and_then(|()| state.make());
        made.map_err(|error| error.or_elsewhere(VARIABLE))?;
        Ok(state)
    }

    /// A new one for the node of a script. The notes say why it is not where it should be.
    pub(crate) fn of_script(
        bases: &Bases,
        name: &str,
        node_id: &str,
        run_directory: &Path,
    ) -> Result<(Self, Vec<String>), Error> {
        let id = node_id.get(..ID_DIGITS).unwrap_or(node_id);
        let mut notes = Vec::new();
        for base in bases.of_scripts() {
            match Self::locked(base, &format!("{name}-{id}")) {
                Ok(state) => return Ok((state, notes)),
                Err(error) if error.is_full() => return Err(error.or_elsewhere(VARIABLE)),
                Err(error) => notes.push(error.or_elsewhere(VARIABLE).to_string()),
            }
        }
        Ok((Self::locked(run_directory, "state")?, notes))
    }

    fn locked(base: &Path, name: &str) -> Result<Self, Error> {
        private_directory(base)?;
        let path = base.join(name);
        // Whoever cleans may remove it between the two steps.
        let lock = loop {
            private_directory(&path)?;
            match lock(&path, true)? {
                Lock::Taken(lock) => break lock,
                Lock::Gone => {}
                Lock::Held => {
                    return Err(Error::Held {
                        name: name.to_owned(),
                    });
                }
            }
        };
        let state = Self {
            path,
            lock: Some(lock),
        };
        match state.make() {
            Ok(()) => Ok(state),
            Err(error) => {
                // What was made goes; why it failed is what counts.
                drop(remove_directory(&state.path));
                Err(error)
            }
        }
    }

    fn make(&self) -> Result<(), Error> {
        private_directory(&self.path)?;
        private_directory(&self.logs())?;
        private_directory(&self.blobs())?;
        check_room(&self.path)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    pub fn blobs(&self) -> PathBuf {
        self.path.join("blobs")
    }

    pub fn checkpoint(&self) -> PathBuf {
        self.path.join("checkpoint.sqlite")
    }

    /// Whether the directory is there, and ours.
    pub(crate) fn is_whole(&self) -> bool {
        self.is_ours() && self.logs().is_dir() && self.blobs().is_dir()
    }

    /// Makes again what somebody removed, but for what was in it.
    pub(crate) fn restore(&mut self) -> Result<(), Error> {
        private_directory(&self.path)?;
        if !self.is_ours() {
            match lock(&self.path, true)? {
                Lock::Taken(lock) => self.lock = Some(lock),
                Lock::Held | Lock::Gone => {
                    return Err(Error::Unsafe(format!(
                        "another process has taken {}",
                        self.path.display()
                    )));
                }
            }
        }
        private_directory(&self.logs())?;
        private_directory(&self.blobs())
    }

    fn is_ours(&self) -> bool {
        self.lock
            .as_ref()
            .is_none_or(|lock| is_same(lock, &self.path.join("lock")))
    }

    /// The node ends. A resident one leaves all as it is.
    pub(crate) fn leave(&self, logs: Logs) -> Result<(), Error> {
        if self.lock.is_none() || !self.is_ours() {
            return Ok(());
        }
        match logs {
            Logs::Remove => remove_directory(&self.path),
            Logs::Keep => keep_logs(&self.path),
        }
    }
}

/// Removes everything but the logs, and the lock last.
fn keep_logs(path: &Path) -> Result<(), Error> {
    for entry in fs::read_dir(path).at(path)?.flatten() {
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
    remove_file(&path.join("lock"))
}

#[cfg(test)]
mod tests;
