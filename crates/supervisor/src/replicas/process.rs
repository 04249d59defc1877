//! A replica's process: its sockets and pipes, its environment, its command line.

use std::{
    env,
    ffi::OsString,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::Path,
    process::{Command, Stdio},
};

use eagleray_types::{ReplicaId, control::Spawn};
use rustix::io::Errno;

use crate::{
    descriptor::{listen, number, pipe},
    environment, link,
    processes::Mark,
    spawn::{self, Process},
};

/// A process, and the node's ends of what it was given.
pub(super) struct Started {
    pub(super) process: Process,
    pub(super) control: link::Sender,
    pub(super) incoming: link::Receiver,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
}

/// Starts it. The listener is the process's alone: with it gone, clients are refused.
pub(super) fn start(
    node_id: &str,
    run_directory: &Path,
    id: &ReplicaId,
    socket_path: &Path,
    spawn: &Spawn,
) -> Result<Started, String> {
    let directory = Path::new(&spawn.working_directory);
    if !spawn.working_directory.is_empty() && !directory.is_dir() {
        return Err(format!(
            "the working directory {} does not exist",
            directory.display()
        ));
    }
    let failed = |what: &str| {
        let what = what.to_owned();
        move |error: io::Error| format!("{what}: {error}")
    };
    let listener = listen(socket_path).map_err(failed("cannot listen on its socket"))?;
    let (control, theirs) =
        UnixStream::pair().map_err(failed("cannot make its control connection"))?;
    let (control, incoming) =
        link::open(control).map_err(failed("cannot make its control connection"))?;
    let (stdout, stdout_write) = pipe().map_err(failed("cannot make a pipe"))?;
    let (stderr, stderr_write) = pipe().map_err(failed("cannot make a pipe"))?;

    let mut command = Command::new(&spawn.python);
    // The title is an argument so that the command line is long enough for it: a title that runs over would
    // be written over the environment, by which the processes of a replica are found. SPT_NOENV keeps
    // `setproctitle` within it.
    let title = format!("eagleray: replica {} {id}", spawn.deployment);
    match spawn.bootstrap.as_str() {
        "" => command.args(["-P", "-m", "eagleray._replica", &title]),
        bootstrap => command.args([bootstrap, "eagleray._replica.main", &title]),
    };
    command.envs(&spawn.environment).env("SPT_NOENV", "1");
    if !spawn.bootstrap.is_empty() {
        hold_python_path_back(&mut command, spawn);
    }
    command
        .env_remove(environment::ROLE)
        .env_remove(environment::OPTIONS);
    command
        .env(environment::NODE, node_id)
        .env(environment::REPLICA, id.as_str());
    command.env(environment::RUN_DIRECTORY, run_directory);
    command
        .env(environment::CONTROL_FD, number(&theirs))
        .env(environment::LISTEN_FD, number(&listener));
    if !spawn.working_directory.is_empty() {
        command.current_dir(directory);
    }
    command
        .stdin(Stdio::null())
        .stdout(stdout_write)
        .stderr(stderr_write);
    let inherited = [theirs.as_fd(), listener.as_fd()];
    let process = spawn::spawn(command, &inherited, Some(Mark::of_node(node_id)))
        .map_err(|error| format!("cannot start {}: {error}{}", spawn.python, way_out(&error)))?;
    Ok(Started {
        process,
        control,
        incoming,
        stdout,
        stderr,
    })
}

/// The interpreter would look there for modules before the bootstrap can say where from: that puts it back.
fn hold_python_path_back(command: &mut Command, spawn: &Spawn) {
    let given = spawn.environment.get("PYTHONPATH").map(OsString::from);
    if let Some(path) = given.or_else(|| env::var_os("PYTHONPATH")) {
        command.env(environment::PYTHON_PATH, path);
    }
    command.env_remove("PYTHONPATH");
}

/// What to do about a limit of the machine.
fn way_out(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(code) if code == Errno::AGAIN.raw_os_error() => {
            ". No process can be made: the limit of processes is reached. Raise it (pids.max of the control group, \
             ulimit -u), or end something; this replica is tried again by itself"
        }
        Some(code)
            if code == Errno::MFILE.raw_os_error() || code == Errno::NFILE.raw_os_error() =>
        {
            ". The limit of open files is reached. Raise it (ulimit -n, fs.file-max); this replica is tried again by \
             itself"
        }
        Some(code) if code == Errno::NOMEM.raw_os_error() => {
            ". The machine has no memory for another process; this replica is tried again by itself"
        }
        _ => "",
    }
}
