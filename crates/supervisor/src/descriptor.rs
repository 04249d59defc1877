//! Descriptors that a node makes for its processes and for itself.

use std::{
    fs::{self, Permissions},
    io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{fs::PermissionsExt, net::UnixListener},
    },
    path::Path,
};

use rustix::pipe::{PipeFlags, pipe_with};

/// A listening socket at `path` that only this user can reach, under any umask.
pub(crate) fn listen(path: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// A pipe whose ends are closed on exec: the end to read, and the one to write.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(pipe_with(PipeFlags::CLOEXEC)?)
}

/// As an environment variable names it.
pub(crate) fn number(descriptor: &impl AsRawFd) -> String {
    descriptor.as_raw_fd().to_string()
}
