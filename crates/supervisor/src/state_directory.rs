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
    time::{Duration, SystemTime},
};

use rustix::process::geteuid;

use crate::{
    directory::{
        At, Error, Lock, check_room, is_same, lock, private_directory, remove_directory,
        remove_file,
    },
    environment,
    run_directory::is_script_name,
};

/// Of the node's id, what tells its directory from those of other machines.
const ID_DIGITS: usize = 8;
/// Ended scripts whose logs are kept, when something went wrong in them.
const SCRIPT_LOGS_KEPT: usize = 8;
const SCRIPT_LOGS_KEPT_FOR: Duration = Duration::from_secs(24 * 3600);
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
    pub(crate) fn of_resident(name: &str) -> Result<Self, Error> {
        let base = of_user().ok_or_else(|| {
            Error::Unsafe(format!(
                "neither HOME nor {VARIABLE} is set; a resident node needs one to keep its checkpoint"
            ))
        })?;
        let state = Self {
            path: base.join(name),
            lock: None,
        };
        let made = private_directory(&base).and_then(|()| state.make());
        made.map_err(|error| error.or_elsewhere(VARIABLE))?;
        Ok(state)
    }

    /// A new one for the node of a script. The notes say why it is not where it should be.
    pub(crate) fn of_script(
        name: &str,
        node_id: &str,
        run_directory: &Path,
    ) -> Result<(Self, Vec<String>), Error> {
        let id = node_id.get(..ID_DIGITS).unwrap_or(node_id);
        let mut notes = Vec::new();
        for base in bases() {
            match Self::locked(&base, &format!("{name}-{id}")) {
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

/// Where this user's state is, when the environment says so.
fn of_user() -> Option<PathBuf> {
    let base = environment::set(VARIABLE)
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(environment::set("HOME")?).join(".local/state")))?;
    // A path that depends on where a process happens to be is none, as the XDG specification says.
    base.is_absolute().then(|| base.join("eagleray"))
}

/// Where the logs of the resident node `name` are.
pub fn logs_of_resident(name: &str) -> PathBuf {
    of_user().unwrap_or_default().join(name).join("logs")
}

/// Where state directories of scripts may be, the best place first.
fn bases() -> impl Iterator<Item = PathBuf> {
    let anywhere = PathBuf::from(format!("/var/tmp/eagleray-{}", geteuid().as_raw()));
    of_user().into_iter().chain([anywhere])
}

/// Removes what nodes of scripts left that have ended: all of them but the logs, and of the logs the old ones.
/// What cannot be cleaned is returned for the log.
pub(crate) fn clean_stale() -> Vec<Error> {
    bases()
        .flat_map(|base| clean_stale_in(&base, SystemTime::now()))
        .collect()
}

fn clean_stale_in(base: &Path, now: SystemTime) -> Vec<Error> {
    let Ok(entries) = fs::read_dir(base) else {
        return Vec::new();
    };
    let scripts = entries.flatten().filter(|entry| {
        let name = entry.file_name();
        name.to_str().is_some_and(is_script_name)
    });
    let (mut errors, mut kept) = (Vec::new(), Vec::new());
    for path in scripts.map(|entry| entry.path()) {
        if let Err(error) = clean(&path) {
            errors.push(error);
        } else if !path.join("lock").exists() {
            match fs::metadata(path.join("logs")).and_then(|logs| logs.modified()) {
                Ok(at) => kept.push((at, path)),
                // Nothing was kept. One that is being taken is made again by whoever takes it.
                Err(_) => drop(fs::remove_dir(&path)),
            }
        }
    }
    kept.sort();
    let excess = kept.len().saturating_sub(SCRIPT_LOGS_KEPT);
    let old = |at: &SystemTime| {
        now.duration_since(*at)
            .is_ok_and(|age| age > SCRIPT_LOGS_KEPT_FOR)
    };
    let goes = kept
        .iter()
        .enumerate()
        .filter(|(number, (at, _))| *number < excess || old(at));
    errors.extend(goes.filter_map(|(_, (_, path))| remove_ended(path).err()));
    errors
}

/// Under the lock: somebody may be about to clean it too.
fn remove_ended(path: &Path) -> Result<(), Error> {
    match lock(path, true)? {
        Lock::Taken(_lock) => remove_directory(path),
        Lock::Held | Lock::Gone => Ok(()),
    }
}

/// Cleans the directory of a script's node that was killed. Its logs stay: they say what was before.
pub(crate) fn clean(path: &Path) -> Result<(), Error> {
    match lock(path, false)? {
        Lock::Held | Lock::Gone => Ok(()),
        Lock::Taken(_lock) => keep_logs(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(path: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// A script's node that ended and left its log.
    fn ended(base: &Path, name: &str) -> PathBuf {
        let state = StateDirectory::locked(base, name).unwrap();
        fs::write(state.logs().join("replica.log"), "why").unwrap();
        fs::write(state.checkpoint(), "").unwrap();
        fs::write(state.blobs().join("blob"), "").unwrap();
        state.leave(Logs::Keep).unwrap();
        state.path
    }

    #[test]
    fn logs_that_a_script_left_to_be_read_stay_and_nothing_else_does() {
        let base = tempfile::tempdir().unwrap();
        let path = ended(base.path(), "script-1-a");
        assert_eq!(names(&path), ["logs"]);
        assert!(clean_stale_in(base.path(), SystemTime::now()).is_empty());
        let log = path.join("logs/replica.log");
        assert_eq!(fs::read_to_string(log).unwrap(), "why");
        let state = StateDirectory::locked(base.path(), "script-1-b").unwrap();
        state.leave(Logs::Remove).unwrap();
        assert_eq!(names(base.path()), ["script-1-a"]);
    }

    #[test]
    fn logs_that_scripts_left_are_few_and_of_the_last_day() {
        let base = tempfile::tempdir().unwrap();
        for number in 0..SCRIPT_LOGS_KEPT + 3 {
            ended(base.path(), &format!("script-{number}-a"));
        }
        let live = StateDirectory::locked(base.path(), "script-1000-a").unwrap();
        assert!(clean_stale_in(base.path(), SystemTime::now()).is_empty());
        assert_eq!(names(base.path()).len(), SCRIPT_LOGS_KEPT + 1);
        let later = SystemTime::now() + 2 * SCRIPT_LOGS_KEPT_FOR;
        assert!(clean_stale_in(base.path(), later).is_empty());
        assert_eq!(names(base.path()), ["script-1000-a"]);
        assert!(live.is_whole());
    }

    #[test]
    fn of_a_node_that_was_killed_the_logs_stay() {
        let base = tempfile::tempdir().unwrap();
        let state = StateDirectory::locked(base.path(), "script-1-a").unwrap();
        fs::write(state.checkpoint(), "").unwrap();
        assert!(clean_stale_in(base.path(), SystemTime::now()).is_empty());
        assert!(state.is_whole(), "it lives");
        let path = state.path().to_owned();
        drop(state);
        assert!(clean_stale_in(base.path(), SystemTime::now()).is_empty());
        assert_eq!(names(&path), ["logs"]);
    }

    #[test]
    fn a_directory_that_was_removed_is_made_again() {
        let base = tempfile::tempdir().unwrap();
        let mut state = StateDirectory::locked(base.path(), "script-1-a").unwrap();
        fs::remove_dir_all(base.path()).unwrap();
        assert!(!state.is_whole());
        state.restore().unwrap();
        assert!(state.is_whole());
        assert!(clean_stale_in(base.path(), SystemTime::now()).is_empty());
        assert!(state.is_whole(), "it is locked again");
    }

    #[test]
    fn where_there_is_no_place_but_the_run_directory_it_is_there() {
        let run = tempfile::tempdir().unwrap();
        let file = run.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(StateDirectory::locked(&file.join("state"), "script-1-a").is_err());
        let state = StateDirectory::locked(run.path(), "state").unwrap();
        assert!(state.is_whole());
    }
}
