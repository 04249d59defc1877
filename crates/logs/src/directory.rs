//! A directory of logs stays within its limits: the oldest files go first.

use std::{
    cmp::Reverse,
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use crate::Limits;

/// Removes the oldest logs beside `path`, which is about to be made or has just been turned over and stays.
pub(crate) fn make_room(path: &Path, limits: &Limits) {
    let Some(directory) = path.parent() else {
        return;
    };
    let mut logs = logs_in(directory);
    // The newest first.
    logs.sort_by_key(|log| Reverse(log.written));
    let (mut bytes, mut replicas) = (0, 0);
    for log in logs {
        let of_replica = log.name.starts_with("replica_");
        bytes += log.bytes;
        replicas += usize::from(of_replica);
        let too_many = of_replica && replicas > limits.replica_files;
        if log.path != path && (bytes > limits.directory_bytes || too_many) {
            // A file that cannot be removed is met again next time.
            drop(fs::remove_file(&log.path));
        }
    }
}

struct Found {
    path: PathBuf,
    name: String,
    bytes: u64,
    written: SystemTime,
}

fn logs_in(directory: &Path) -> Vec<Found> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let found = entries.flatten().filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let metadata = entry.metadata().ok()?;
        (metadata.is_file() && is_log(&name)).then(|| Found {
            path: entry.path(),
            bytes: metadata.len(),
            written: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
            name,
        })
    });
    found.collect()
}

/// The older part of a log, after `NAME.log` or `NAME.log.3`.
pub(crate) fn next_part(path: &Path) -> PathBuf {
    let number = path
        .extension()
        .and_then(|digits| digits.to_str()?.parse::<u32>().ok());
    if let Some(number) = number {
        return path.with_extension(number.saturating_add(1).to_string());
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    name.into()
}

/// `NAME.log` or `NAME.log.3`.
pub(crate) fn is_log(name: &str) -> bool {
    let name = match name.rsplit_once('.') {
        Some((rest, digits))
            if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) =>
        {
            rest
        }
        _ => name,
    };
    name.strip_suffix(".log")
        .is_some_and(|stem| !stem.is_empty())
}

#[cfg(test)]
mod tests {
    use std::{fs::File, time::Duration};

    use super::*;

    fn make(directory: &Path, name: &str, bytes: u64, age_s: u64) {
        let file = File::create(directory.join(name)).unwrap();
        file.set_len(bytes).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(age_s))
            .unwrap();
    }

    fn left(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn the_oldest_logs_go_and_nothing_that_is_no_log() {
        let directory = tempfile::tempdir().unwrap();
        let limits = Limits {
            directory_bytes: 250,
            replica_files: 2,
            ..Limits::default()
        };
        for (name, bytes, age_s) in [
            ("access.log", 100, 0),
            ("access.log.1", 100, 10),
            ("access.log.2", 100, 20),
            ("replica_a.log", 10, 1),
            ("replica_b.log", 10, 2),
            ("replica_c.log", 10, 3),
            ("notes.txt", 1000, 100),
            (".log", 1000, 100),
        ] {
            make(directory.path(), name, bytes, age_s);
        }
        make_room(&directory.path().join("replica_d.log"), &limits);
        assert_eq!(
            left(directory.path()),
            [
                ".log",
                "access.log",
                "access.log.1",
                "notes.txt",
                "replica_a.log",
                "replica_b.log"
            ]
        );
    }

    #[test]
    fn the_file_that_is_written_stays_however_large() {
        let directory = tempfile::tempdir().unwrap();
        let limits = Limits {
            directory_bytes: 1,
            ..Limits::default()
        };
        make(directory.path(), "node.log", 100, 50);
        make(directory.path(), "node.log.1", 100, 0);
        make_room(&directory.path().join("node.log"), &limits);
        assert_eq!(left(directory.path()), ["node.log"]);
    }
}
