//! The node's role: its options become a [`Node`] of the supervisor, and how its start went is said where somebody waits.

use std::{
    fs::File, net::TcpListener, os::fd::OwnedFd, os::unix::fs::symlink, path::Path,
    process::ExitCode, sync::Arc,
};

use eagleray_logs::Writer;
use eagleray_supervisor::{
    Identity, Node, Owner, Programs,
    http_listener::{self, Whom, exposure, listen_on},
    listeners::{self, Listener, Listeners},
    places::{Found, Places},
    ready::{self, Failure, Kind, Up},
    resources, run_directory,
    state_directory::Bases,
};
use rustix::process::setsid;
use serde_json::{Map, Value, json};

use crate::{
    control_port, inherited,
    metrics::Metrics,
    roles,
    series::Series,
    settings::{self, ChildOptions, LogOptions, NodeOptions, ReaperOptions},
    telemetry,
};

pub(crate) fn main() -> ExitCode {
    let options: NodeOptions = match settings::own_options() {
        Ok(options) => options,
        Err(message) => return complain(&message),
    };
    // First of all: nothing may be opened under these numbers before.
    let (owner_pipe, ready_pipe) = match (take(options.owner_fd), take(options.ready_fd)) {
        (Ok(owner), Ok(ready)) => (owner, ready.map(File::from)),
        (Err(message), _) | (_, Err(message)) => return complain(&message),
    };
    if let Err(message) = roles::survive_large_files() {
        return complain(&message);
    }
    if !options.foreground {
        // A session of its own, so that Ctrl-C in the terminal reaches the script alone, which ends its node in
        // order. It fails when the starter has seen to it already.
        setsid().ok();
    }
    let owner = Owner {
        pid: options.owner_pid,
        pipe: owner_pipe,
    };
    let announce = |result| report(&options, ready_pipe, &result);
    let succeeded = match Start::new(&options) {
        Ok(start) => start.run(owner, announce),
        Err(failure) => {
            announce(Err(failure));
            false
        }
    };
    if succeeded {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn take(number: Option<i32>) -> Result<Option<OwnedFd>, String> {
    number
        .map(inherited::take)
        .transpose()
        .map_err(|error| error.to_string())
}

fn complain(message: &str) -> ExitCode {
    eagleray_cli::complain(message);
    ExitCode::FAILURE
}

/// Says how the start went: on the pipe that waits for it, else on the terminal.
fn report(options: &NodeOptions, ready_pipe: Option<File>, result: &Result<Up, Failure>) {
    match (ready_pipe, result) {
        (Some(pipe), _) => {
            if let Err(error) = ready::write(pipe, result) {
                tracing::warn!(%error, "nobody waits to hear that the node is up");
            }
        }
        (None, Ok(up)) if options.foreground => crate::cli::announce(up),
        (None, Ok(_)) => {}
        (None, Err(failure)) => eagleray_cli::complain(&failure.message),
    }
}

/// A node that can be run.
struct Start {
    node: Node,
    programs: Programs,
    logs: Writer,
    control: control_port::ControlPort,
    /// For whoever started the node; empty: none.
    warning: String,
}

impl Start {
    /// Everything that can fail before a process is started: the directories, the log, the sockets.
    fn new(options: &NodeOptions) -> Result<Self, Failure> {
        options
            .proxy
            .check_files()
            .map_err(|problem| Failure::new(Kind::Invalid, format!("http_options: {problem}")))?;
        let mut log_options = LogOptions::from_environment(options.foreground)
            .map_err(|problem| Failure::new(Kind::Invalid, problem))?;
        let resources = resources::of_machine(&options.resources)
            .map_err(|problem| Failure::new(Kind::Invalid, problem))?;
        let root = run_directory::root();
        let (places, found) = Places::take(
            &root,
            &Bases::from_environment(),
            &options.name,
            options.owner_pid.is_some(),
        )?;
        log_options.directory = places.state.logs();
        let started = start_log(options, &log_options, found).and_then(|logs| {
            let (mut listeners, warning, http_port) = listen(options, &root)?;
            let (listener, control) = listen_for_control(options, &root)?;
            let programs = programs(options, &log_options, &places, &listener.address, http_port)?;
            let control_address = listener.address.clone();
            listeners.insert(listeners::CONTROL, listener);
            let metrics_listener = match listen_for_metrics(options, &root)? {
                Some((listener, socket)) => {
                    listeners.insert(listeners::METRICS, listener);
                    Some(socket)
                }
                None => None,
            };
            if let Some(token) = &options.control.token_file {
                symlink(token, places.run.path().join("token"))?;
            }
            let series = Series::open(
                &places.state.path().join(eagleray_series::FILE),
                places.run.path(),
                &control_address,
            );
            let control = control_port::ControlPort {
                series: Arc::new(series),
                listener: control,
                rest_socket: places.run.path().join("rest.sock"),
                node_socket: places.run.path().join("node.sock"),
                log_directory: places.state.logs(),
                metrics: Arc::new(Metrics::new(
                    &places.run.metrics(),
                    &options.control.metrics.prefix,
                    options.control.metrics.replica_labels.into(),
                )),
                metrics_listener,
            };
            Ok((logs, programs, listeners, control, warning))
        });
        let (logs, programs, listeners, control, warning) = match started {
            Ok(started) => started,
            Err(failure) => {
                places.give_back();
                return Err(failure);
            }
        };
        let identity = Identity {
            name: options.name.clone(),
            owner_pid: options.owner_pid.unwrap_or(0),
            argv: options.argv.clone(),
        };
        let node = Node::new(identity, resources, places, listeners)?;
        Ok(Self {
            node,
            programs,
            logs,
            control,
            warning,
        })
    }

    fn run(self, owner: Owner, announce: impl FnOnce(Result<Up, Failure>)) -> bool {
        let warning = self.warning;
        if let Err(error) = self.control.start(self.node.ending()) {
            announce(Err(error.into()));
            return false;
        }
        let announce = |result: Result<Up, Failure>| {
            announce(result.map(|up| Up { warning, ..up }));
        };
        self.node.run(self.programs, self.logs, owner, announce)
    }
}

fn start_log(
    options: &NodeOptions,
    log_options: &LogOptions,
    found: Found,
) -> Result<Writer, Failure> {
    if !options.foreground {
        // What the starter gave may be a pipe whose reader waits for its end.
        let nowhere = File::options().write(true).open("/dev/null")?;
        rustix::stdio::dup2_stderr(&nowhere)?;
        rustix::stdio::dup2_stdout(&nowhere)?;
    }
    let logs = telemetry::start("node", "node", log_options)?;
    for error in found.stale {
        tracing::warn!(%error, "what a dead node left could not be cleaned");
    }
    for note in found.notes {
        tracing::warn!(note, "logs and code are not where they should be");
    }
    Ok(logs)
}

/// The listening sockets of the node's proxies, what to say of them, and the port that was bound.
fn listen(options: &NodeOptions, root: &Path) -> Result<(Listeners, String, Option<u16>), Failure> {
    let mut listeners = Listeners::default();
    if options.no_http {
        return Ok((listeners, String::new(), None));
    }
    let socket = listen_on(root, Whom::Http, &options.http_host, options.http_port)?;
    let bound = socket.local_addr()?;
    let warning = exposure(bound);
    if !warning.is_empty() {
        tracing::warn!("{warning}");
    }
    let http = Listener {
        socket: socket.into(),
        address: format!("{}://{bound}", options.proxy.scheme()),
    };
    listeners.insert(listeners::HTTP, http);
    Ok((listeners, warning, Some(bound.port())))
}

/// As a config has them.
fn http_options(options: &NodeOptions, port: Option<u16>) -> Map<String, Value> {
    let mut config = options.proxy.as_config();
    let host = port.map(|_| &options.http_host);
    config.insert("host".to_owned(), json!(host));
    config.insert("port".to_owned(), json!(port));
    config
}

/// The control port. A script may not be able to choose, since other scripts run beside it: then it gets any port.
fn listen_for_control(
    options: &NodeOptions,
    root: &Path,
) -> Result<(Listener, TcpListener), Failure> {
    let host = &options.control.host;
    let socket = match listen_on(root, Whom::Control, host, options.control.port) {
        Err(http_listener::Error::PortTaken(_)) if options.owner_pid.is_some() => {
            listen_on(root, Whom::Control, host, 0)
        }
        result => result,
    }?;
    let listener = Listener {
        address: format!("http://{}", socket.local_addr()?),
        socket: socket.try_clone()?.into(),
    };
    Ok((listener, socket))
}

/// The port for metrics and health alone, where one is wanted.
fn listen_for_metrics(
    options: &NodeOptions,
    root: &Path,
) -> Result<Option<(Listener, TcpListener)>, Failure> {
    let Some(wanted) = &options.control.metrics.listen else {
        return Ok(None);
    };
    let socket = listen_on(root, Whom::Metrics, &wanted.host, wanted.port)?;
    let listener = Listener {
        address: format!("http://{}", socket.local_addr()?),
        socket: socket.try_clone()?.into(),
    };
    Ok(Some((listener, socket)))
}

/// What each process of the node is told.
fn programs(
    options: &NodeOptions,
    log_options: &LogOptions,
    places: &Places,
    control_address: &str,
    http_port: Option<u16>,
) -> Result<Programs, Failure> {
    let run_directory = places.run.path().to_owned();
    let child = ChildOptions {
        logs: log_options.clone(),
        proxy: options.proxy.clone(),
        checkpoint: places.state.checkpoint(),
        blob_directory: places.state.blobs(),
        run_directory: run_directory.clone(),
        node_id: places.node_id.to_string(),
        control_address: control_address.to_owned(),
        http_options: http_options(options, http_port),
        // A script's node comes back by no one's wish, and a file of the user's is its own keeper.
        kept_token: (options.owner_pid.is_none() && options.control.token_file.is_none())
            .then(|| places.state.path().join("token")),
    };
    let reaper = ReaperOptions {
        node_id: places.node_id.to_string(),
        run_directory,
        state_directory: places.state.path().to_owned(),
        remove: run_directory::is_script_name(&options.name),
        logs: LogOptions {
            terminal: false,
            ..log_options.clone()
        },
    };
    let text = |json: serde_json::Result<String>| json.map_err(std::io::Error::from);
    let child = text(serde_json::to_string(&child))?;
    Ok(Programs {
        // That which runs, even when the file has been replaced meanwhile: one node is one release.
        executable: "/proc/self/exe".into(),
        reaper: text(serde_json::to_string(&reaper))?,
        controller: child.clone(),
        proxy: child,
    })
}
