//! Directories that belong to this user alone, and what is done in them.
//!
//! The rule: nobody else can plant anything in one, or put another in its place. So the directory itself is of mode
//! 0700 and ours, and every directory above it belongs to us or to root: the owner of one of them could rename what
//! is below it. Who can merely write to one above (a shared `/tmp` without its sticky bit) is met by those who
//! connect: they ask the kernel who listens.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FlockOperation, OFlags, flock},
    process::geteuid,
};

/// What a start needs for its first files.
const ROOM_BYTES: usize = 64 * 1024;
/// Whom the kernel names as owner where a user namespace does not know the true one.
const UNMAPPED: u32 = 65534;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("node {name} is already running")]
    Held { name: String },
    #[error("{0}")]
    Unsafe(String),
    /// Another user could meddle there.
    #[error("{0}")]
    Foreign(String),
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
}

impl Error {
    /// Says, of a directory that cannot be used, which variable puts it elsewhere.
    pub(crate) fn or_elsewhere(self, variable: &str) -> Self {
        let full = self.is_full();
        match self {
            Self::Io { path, source } if full => Self::Unsafe(format!(
                "{}: {source}; make room on that disk, or set {variable} to a directory on another one",
                path.display()
            )),
            Self::Io { path, source } => Self::Unsafe(format!(
                "{}: {source}; set {variable} to a directory that you can write",
                path.display()
            )),
            Self::Foreign(what) => {
                Self::Unsafe(format!("{what}; set {variable} to a directory of your own"))
            }
            other => other,
        }
    }

    /// The disk, or this user's share of it, has no room left.
    pub(crate) fn is_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if matches!(
            source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        ))
    }
}

pub(crate) trait At<T> {
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

/// Makes sure that `path` is a directory of mode 0700 that belongs to this user; its parents are made as needed.
pub(crate) fn private_directory(path: &Path) -> Result<(), Error> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).at(parent)?;
        check_owners(parent)?;
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
        return Err(belongs_to_another(path, metadata.uid()));
    }
    if metadata.mode() & 0o022 != 0 {
        return Err(Error::Foreign(format!(
            "{} can be written by other users (mode {:o}); run chmod 700 on it",
            path.display(),
            metadata.mode() & 0o7777,
        )));
    }
    if metadata.mode() & 0o777 != 0o700 {
        directory
            .set_permissions(Permissions::from_mode(0o700))
            .at(path)?;
    }
    Ok(())
}

/// Refuses a path that leads through a directory, or a link, of another user.
fn check_owners(path: &Path) -> Result<(), Error> {
    let absolute = std::path::absolute(path).at(path)?;
    let real = fs::canonicalize(path).at(path)?;
    for level in absolute.ancestors().chain(real.ancestors()) {
        let owner = fs::symlink_metadata(level).at(level)?.uid();
        let ours = owner == 0 || owner == geteuid().as_raw();
        let unknown = owner == UNMAPPED && has_unmapped_users();
        if !(ours || unknown) {
            return Err(belongs_to_another(level, owner));
        }
    }
    Ok(())
}

fn belongs_to_another(path: &Path, owner: u32) -> Error {
    Error::Foreign(format!("{} belongs to user {owner}", path.display()))
}

/// In a user namespace (a container without root) `/` itself may belong to a user that has no number here.
fn has_unmapped_users() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().collect::<Vec<_>>() != ["0", "0", "4294967295"]
}

/// Fails if the disk of `directory` has no room for what a start writes.
pub(crate) fn check_room(directory: &Path) -> Result<(), Error> {
    let path = directory.join(".room");
    remove_file(&path)?;
    let written = create_new(&path).and_then(|mut file| file.write_all(&vec![0; ROOM_BYTES]));
    remove_file(&path)?;
    written.at(directory)
}

#[derive(Debug)]
pub(crate) enum Lock {
    Taken(File),
    Held,
    Gone,
}

/// Locks `path/lock`, made if it shall be.
pub(crate) fn lock(path: &Path, create: bool) -> Result<Lock, Error> {
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

/// Whether the file at `path` is the open one.
pub(crate) fn is_same(open: &File, path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|there| {
        open.metadata()
            .is_ok_and(|here| here.ino() == there.ino() && here.dev() == there.dev())
    })
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

pub(crate) fn remove_directory(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).at(path),
        _ => Ok(()),
    }
}

pub(crate) fn remove_file(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).at(path),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_through_the_directory_of_another_user_is_refused_with_the_way_out() {
        // Only root can make directories of others.
        if !geteuid().is_root() {
            return;
        }
        let root = tempfile::tempdir().unwrap();
        let others = root.path().join("others");
        fs::create_dir_all(others.join("ours")).unwrap();
        std::os::unix::fs::chown(&others, Some(1234), None).unwrap();
        let refused = |path: &Path| {
            let error = private_directory(path).unwrap_err();
            let text = error.or_elsewhere("EAGLERAY_RUNTIME_DIR").to_string();
            assert_eq!(
                text,
                format!(
                    "{} belongs to user 1234; set EAGLERAY_RUNTIME_DIR to a directory of your own",
                    others.display()
                )
            );
        };
        refused(&others.join("ours/run"));
        refused(&others);
        // By a link of ours that leads through it.
        let link = root.path().join("link");
        std::os::unix::fs::symlink(others.join("ours"), &link).unwrap();
        refused(&link.join("run"));
    }

    #[test]
    fn a_disk_without_room_is_said_to_be_full_and_which_variable_leads_elsewhere() {
        let error = Error::Io {
            path: "/x".into(),
            source: rustix::io::Errno::DQUOT.into(),
        };
        assert!(error.is_full());
        let text = error.or_elsewhere("XDG_STATE_HOME").to_string();
        assert!(text.starts_with("/x: "), "{text}");
        assert!(
            text.ends_with("set XDG_STATE_HOME to a directory on another one"),
            "{text}"
        );
        let directory = tempfile::tempdir().unwrap();
        check_room(directory.path()).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
