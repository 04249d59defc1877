//! A replica's process: its environment, its command line, what it inherits. A build is the same without a listener.

use std::{
    env,
    ffi::OsString,
    io,
    os::fd::AsFd,
    path::Path,
    process::{Command, Stdio},
};

use eagleray_types::{ReplicaId, control::Spawn};
use rustix::io::Errno;

use super::{
    berth::{Berth, file_of},
    nest::Nest,
};
use crate::{
    descriptor::number,
    environment, package,
    processes::Mark,
    spawn::{self, Process},
};

/// What a build runs: `main` of it.
const BUILD_MODULE: &str = "eagleray._driver.build_process";
/// And a host of autoscaling policies, which is a build to its node: nobody sends it requests.
const POLICY_MODULE: &str = "eagleray._policy.host";

/// Starts an interpreter of its own; with `nest` one that others may be forked from.
pub(super) fn start(
    node_id: &str,
    run_directory: &Path,
    id: &ReplicaId,
    spawn: &Spawn,
    berth: &Berth,
    nest: Option<&Nest>,
) -> Result<Process, String> {
    let mut command = command_line(spawn, id);
    command
        .env_remove(environment::ROLE)
        .env_remove(environment::OPTIONS)
        .env_remove(environment::ZYGOTE);
    command
        .env(environment::NODE, node_id)
        .env(environment::REPLICA, id.as_str());
    command.env(environment::RUN_DIRECTORY, run_directory);
    command.env(environment::CONTROL_FD, number(&berth.control));
    let mut inherited = vec![berth.control.as_fd()];
    if let Some(listener) = &berth.listener {
        command.env(environment::LISTEN_FD, number(listener));
        inherited.push(listener.as_fd());
    }
    if let Some(nest) = nest {
        command.env(environment::ZYGOTE, nest.variable());
        inherited.extend(nest.descriptors());
    }
    let stdin =
        stdin(spawn).map_err(|error| format!("cannot hand it what it is asked to do: {error}"))?;
    command.stdin(stdin);
    berth
        .stdout
        .try_clone()
        .and_then(|stdout| Ok((stdout, berth.stderr.try_clone()?)))
        .and_then(|(stdout, stderr)| {
            command.stdout(stdout).stderr(stderr);
            spawn::spawn(command, &inherited, Some(Mark::of_node(node_id)))
        })
        .map_err(|error| format!("cannot start {}: {error}{}", spawn.python, way_out(&error)))
}

/// What a build is asked to do is what it reads first: it may be longer than an environment can be.
fn stdin(spawn: &Spawn) -> io::Result<Stdio> {
    if spawn.build.is_empty() {
        return Ok(Stdio::null());
    }
    Ok(file_of("eagleray-build", spawn.build.as_bytes())?.into())
}

/// The interpreter with its arguments, its directory and the environment that the controller wants.
fn command_line(spawn: &Spawn, id: &ReplicaId) -> Command {
    let mut command = Command::new(&spawn.python);
    command.envs(&spawn.environment).env("SPT_NOENV", "1");
    let (kind, module) = match spawn.build.as_str() {
        "" => ("replica", "eagleray._replica.main"),
        _ if spawn.policies => ("policies", POLICY_MODULE),
        _ => ("build", BUILD_MODULE),
    };
    let given = Some(&spawn.working_directory).filter(|directory| !directory.is_empty());
    if let Some(directory) = given {
        command.current_dir(directory);
    }
    match (spawn.bootstrap.as_str(), kind) {
        ("", "replica") => drop(command.args(["-P", "-m", "eagleray._replica"])),
        ("", _) => {
            let directory = given.map_or_else(env::current_dir, |given| Ok(given.into()));
            package::run_module(&mut command, module, directory.ok());
        }
        (bootstrap, _) => drop(command.args([bootstrap, module])),
    }
    if !spawn.bootstrap.is_empty() || kind != "replica" {
        hold_python_path_back(&mut command, spawn);
    }
    // The title is an argument so that the command line is long enough for it: a title that runs over would
    // be written over the environment, by which the processes of a replica are found. SPT_NOENV keeps
    // `setproctitle` within it.
    command.arg(match kind {
        "replica" => format!("eagleray: replica {} {id}", spawn.deployment),
        _ => format!("eagleray: {kind} {} {id}", spawn.deployment.application),
    });
    command
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
