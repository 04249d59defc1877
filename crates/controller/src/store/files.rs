//! The blob directory: files that drivers write before a deploy, named by the hex SHA-256 of their content.
//!
//! The controller never writes here. It checks each file that a new revision names, and removes each ([`Known`]) when
//! the last revision that names it is gone. A driver that comes for a file which is there already touches it, and a file
//! touched since it was checked is left: that driver's deploy is about to name it again. What no revision ever named
//! (a driver that died before its deploy) is swept at the start of a controller; a driver writes first and deploys
//! afterwards, so whole files of the last hour stay, and half-written ones as long as their driver lives.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use sha2::{Digest as _, Sha256};

use super::hex;

/// Files younger than this are never swept: a driver may be about to deploy them.
pub const KEPT: Duration = Duration::from_secs(3600);

/// The files that revisions name, and when each was last touched as it was checked.
#[derive(Debug, Default)]
pub struct Known(BTreeMap<String, Seen>);

#[derive(Clone, Copy, Debug)]
struct Seen {
    touched: SystemTime,
    bytes: u64,
}

/// A file to be removed, if nobody has touched it since.
pub type Goner = (PathBuf, SystemTime);

impl Known {
    /// Learns of files that are there and whole.
    pub fn learn<'a>(&mut self, directory: &Path, names: impl Iterator<Item = &'a str>) {
        for name in names {
            let found = fs::metadata(directory.join(name));
            let seen = found.and_then(|found| {
                let (touched, bytes) = (found.modified()?, found.len());
                Ok(Seen { touched, bytes })
            });
            if let Ok(seen) = seen {
                self.0.insert(name.to_owned(), seen);
            }
        }
    }

    /// Bytes of each, by name.
    pub fn sizes(&self) -> Vec<(String, u64)> {
        let seen = self.0.iter();
        seen.map(|(name, seen)| (name.clone(), seen.bytes))
            .collect()
    }

    pub fn add(&mut self, learnt: Self) {
        self.0.extend(learnt.0);
    }

    /// Forgets those that `keep` does not have, and returns them.
    pub fn forget(&mut self, directory: &Path, keep: &BTreeSet<&str>) -> Vec<Goner> {
        let (kept, gone) = std::mem::take(&mut self.0)
            .into_iter()
            .partition(|(name, _)| keep.contains(name.as_str()));
        self.0 = kept;
        gone.into_iter()
            .map(|(name, seen)| (directory.join(name), seen.touched))
            .collect()
    }
}

/// Removes files; returns how many.
pub fn remove(goners: &[Goner]) -> usize {
    let untouched = |(path, touched): &&Goner| {
        fs::metadata(path)
            .and_then(|found| found.modified())
            .is_ok_and(|now| now == *touched)
    };
    // One that cannot be removed is met again at the next start.
    let removed = |(path, _): &&Goner| fs::remove_file(path).is_ok();
    goners.iter().filter(untouched).filter(removed).count()
}

/// Whether `name` can name a blob, and so cannot leave the directory.
pub fn is_name(name: &str) -> bool {
    name.len() == 64
        && name
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Reads the file and compares it with its name. The text of an error says what to do.
pub fn verify(directory: &Path, name: &str) -> Result<(), String> {
    if !is_name(name) {
        return Err(format!(
            "'{name}' does not name a blob (64 hexadecimal digits)"
        ));
    }
    let path = directory.join(name);
    let mut file = fs::File::open(&path).map_err(|error| {
        format!(
            "blob {} cannot be opened ({error}); deploy the application again",
            path.display()
        )
    })?;
    let mut sum = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match io::Read::read(&mut file, &mut buffer) {
            Ok(0) => break,
            Ok(read) => sum.update(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(format!("blob {} cannot be read: {error}", path.display())),
        }
    }
    if hex(&sum.finalize()) != name {
        return Err(format!(
            "blob {} is damaged; remove the file and deploy again",
            path.display()
        ));
    }
    Ok(())
}

/// Removes old files that `keep` does not name, and what a driver that died left half written. Returns how many.
/// Strange names are left alone.
pub fn sweep(directory: &Path, keep: &BTreeSet<&str>, now: SystemTime) -> io::Result<usize> {
    let mut removed = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let Some(name) = entry.file_name().to_str().map(str::to_owned) else {
            continue;
        };
        let ours = is_name(
            name.trim_start_matches('.')
                .split('.')
                .next()
                .unwrap_or_default(),
        );
        let metadata = entry.metadata()?;
        let young = metadata
            .modified()
            .is_ok_and(|at| now.duration_since(at).unwrap_or_default() < KEPT)
            && !is_half_of_a_dead_driver(&name);
        if metadata.is_file() && ours && !young && !keep.contains(name.as_str()) {
            fs::remove_file(entry.path())?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// `.NAME.PID.THREAD`, and that process is gone.
fn is_half_of_a_dead_driver(name: &str) -> bool {
    let mut parts = name.split('.');
    let pid = (parts.next() == Some(""))
        .then(|| parts.nth(1)?.parse::<u32>().ok())
        .flatten();
    pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
}
