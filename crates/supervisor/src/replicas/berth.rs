//! What a replica process is given: its sockets and pipes, and a file in memory. A build is the same without a listener.

use std::{
    fs::File,
    io::{self, Seek as _, Write as _},
    os::{
        fd::OwnedFd,
        unix::net::{UnixListener, UnixStream},
    },
    path::Path,
};

use rustix::fs::{MemfdFlags, memfd_create};

use crate::{
    descriptor::{listen, pipe},
    link,
};

/// The ends of a replica process. The listener is the process's alone: with it gone, clients are refused.
#[derive(Debug)]
pub(super) struct Berth {
    pub(super) control: UnixStream,
    pub(super) listener: Option<UnixListener>,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
}

/// The node's ends of them.
pub(super) struct Ends {
    pub(super) control: link::Sender,
    pub(super) incoming: link::Receiver,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
}

/// Makes all that a process needs.
pub(super) fn prepare(
    socket_path: Option<&Path>,
    working_directory: &str,
) -> Result<(Berth, Ends), String> {
    let directory = Path::new(working_directory);
    if !working_directory.is_empty() && !directory.is_dir() {
        return Err(format!(
            "the working directory {} does not exist",
            directory.display()
        ));
    }
    let failed = |what: &str| {
        let what = what.to_owned();
        move |error: io::Error| format!("{what}: {error}")
    };
    let listener = match socket_path {
        Some(path) => Some(listen(path).map_err(failed("cannot listen on its socket"))?),
        None => None,
    };
    let (ours, control) =
        UnixStream::pair().map_err(failed("cannot make its control connection"))?;
    let (sender, incoming) =
        link::open(ours).map_err(failed("cannot make its control connection"))?;
    let (stdout_read, stdout) = pipe().map_err(failed("cannot make a pipe"))?;
    let (stderr_read, stderr) = pipe().map_err(failed("cannot make a pipe"))?;
    let berth = Berth {
        control,
        listener,
        stdout,
        stderr,
    };
    let ends = Ends {
        control: sender,
        incoming,
        stdout: stdout_read,
        stderr: stderr_read,
    };
    Ok((berth, ends))
}

/// A file in memory, to be read from its beginning.
pub(super) fn file_of(name: &str, content: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create(name, MemfdFlags::CLOEXEC)?);
    file.write_all(content)?;
    file.rewind()?;
    Ok(file)
}
