//! `eagleray start`: a resident node, in the background unless asked otherwise.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    os::{
        fd::{AsFd, AsRawFd},
        unix::process::CommandExt,
    },
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use eagleray_supervisor::{
    describe, pipe,
    ready::{self, Kind, Up},
    run_directory::{self, NodeRecord},
    state_directory::Bases,
};
use eagleray_types::control::{Empty, NodeRequest, NodeResponse, node_request};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::{FdFlags, fcntl_setfd},
};

use eagleray_cli::{place, say, socket};

use super::{StartArguments, announce, node_command};
use crate::settings::NodeOptions;

/// A node says within this time whether it is up; it gives up by itself before.
const START_WITHIN_SECONDS: i64 = 60;
/// The kernel takes a killed process apart within this time.
const DYING_WITHIN: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

pub(super) fn run(arguments: &StartArguments) -> Result<(), String> {
    let name = arguments
        .name
        .clone()
        .unwrap_or_else(socket::default_node_name);
    if run_directory::is_script_name(&name) {
        return Err(format!(
            "{name:?} is a name for the nodes of scripts; choose another"
        ));
    }
    let options = NodeOptions {
        resources: arguments.resources.declared()?,
        ..arguments.http.options(name, arguments.control.options()?)?
    };
    if let Some(running) = running(&options.name) {
        return already_runs(arguments, &options, &running);
    }
    if arguments.foreground {
        let error = node_command(&NodeOptions {
            foreground: true,
            ..options
        })?
        .exec();
        return Err(format!("the node cannot be started: {error}"));
    }
    match start(&options)? {
        Ok(up) => {
            announce(&up);
            Ok(())
        }
        // Two starts at the same time: the other was quicker.
        Err(failure) if failure.kind == Kind::AlreadyRunning => match running(&options.name) {
            Some(running) => already_runs(arguments, &options, &running),
            None => Err(failure.message),
        },
        Err(failure) => Err(failure.message),
    }
}

/// The node of that name, if it runs. One that was killed a moment ago still holds its lock, but answers nothing:
/// it is waited for. One that is stopped is taken for running.
fn running(name: &str) -> Option<NodeRecord> {
    let root = run_directory::root();
    let request = NodeRequest {
        body: Some(node_request::Body::Info(Empty {})),
    };
    let give_up = Instant::now() + DYING_WITHIN;
    loop {
        let record = run_directory::records(&root)
            .into_iter()
            .find(|record| record.name == name)?;
        let answer = socket::call::<NodeResponse>(&root.join(name).join("node.sock"), &request);
        if answer.is_ok() || Instant::now() > give_up {
            return Some(record);
        }
        thread::sleep(LOOK_AGAIN);
    }
}

fn already_runs(
    arguments: &StartArguments,
    wanted: &NodeOptions,
    running: &NodeRecord,
) -> Result<(), String> {
    let http = &arguments.http;
    let asked = http.host.is_some() || http.port.is_some() || http.no_http;
    let host = format!("{}://{}:", wanted.proxy.scheme(), wanted.http_host);
    let same = if wanted.no_http {
        running.http_address.is_empty()
    } else {
        running.http_address == format!("{host}{}", wanted.http_port)
            || (wanted.http_port == 0 && running.http_address.starts_with(&host))
    };
    let runs = format!(
        "node {} already runs{} (process {})",
        running.name,
        place(&running.http_address),
        running.pid
    );
    if asked && !same {
        return Err(format!(
            "{runs}; end it with `eagleray stop` first, or start another with --name"
        ));
    }
    say(&runs);
    Ok(())
}

/// Starts the node and waits for its word.
fn start(options: &NodeOptions) -> Result<Result<Up, ready::Failure>, String> {
    let failed = |error: std::io::Error| format!("the node cannot be started: {error}");
    let (read, write) = pipe().map_err(failed)?;
    // This process starts one child and ends; nobody else can inherit it by accident.
    fcntl_setfd(&write, FdFlags::empty()).map_err(|error| failed(error.into()))?;
    let mut command = node_command(&NodeOptions {
        ready_fd: Some(write.as_raw_fd()),
        ..options.clone()
    })?;
    // A group of its own until it makes its session, so that Ctrl-C here does not end it.
    command
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = command.spawn().map_err(failed)?;
    drop(write);
    let mut waiting = [PollFd::from_borrowed_fd(read.as_fd(), PollFlags::IN)];
    let limit = Timespec {
        tv_sec: START_WITHIN_SECONDS,
        tv_nsec: 0,
    };
    if poll(&mut waiting, Some(&limit)).map_err(|error| failed(error.into()))? == 0 {
        return Err(format!(
            "the node (process {}) has not come up within {START_WITHIN_SECONDS} s; its log is in {}",
            child.id(),
            Bases::from_environment()
                .logs_of_resident(&options.name)
                .display()
        ));
    }
    let mut line = String::new();
    BufReader::new(File::from(read))
        .read_line(&mut line)
        .map_err(failed)?;
    if let Some(Ok(up)) = ready::parse(&line) {
        return Ok(Ok(up));
    }
    // It ends by itself; when we say why, nothing of it is left.
    let status = child.wait().map_err(failed)?;
    ready::parse(&line)
        .ok_or_else(|| format!("the node ended while it started ({})", describe(status)))
}
