//! What becomes of the state directories of scripts' nodes that have ended.

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use super::{bases::Bases, keep_logs};
use crate::{
    directory::{Error, Lock, lock, remove_directory},
    run_directory::is_script_name,
};

/// Ended scripts whose logs are kept, when something went wrong in them.
pub(super) const SCRIPT_LOGS_KEPT: usize = 8;
pub(super) const SCRIPT_LOGS_KEPT_FOR: Duration = Duration::from_secs(24 * 3600);

/// Removes what nodes of scripts left that have ended: all of them but the logs, and of the logs the old ones.
/// What cannot be cleaned is returned for the log.
pub(crate) fn clean_stale(bases: &Bases) -> Vec<Error> {
    bases
        .of_scripts()
        .flat_map(|base| clean_stale_in(base, SystemTime::now()))
        .collect()
}

pub(super) fn clean_stale_in(base: &Path, now: SystemTime) -> Vec<Error> {
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
