//! The node: takes its run directory and sockets, starts everything, and runs its loop to the end.

use std::{
    cell::RefCell,
    fs::File,
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    process::ExitCode,
    rc::Rc,
    time::Duration,
};

use eagleray_types::control::NodeInfo;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, setsid};
use tokio::{
    net::UnixListener,
    runtime::Builder,
    task::{LocalSet, spawn_local},
};

use crate::{
    api::Api,
    inherited, listener, log_writer,
    output::Watchers,
    owner,
    ready::{self, Failure, Kind, Up},
    replicas::{self, Replicas},
    run_directory::{self, NodeRecord, RunDirectory},
    service::{Recipe, Role, Service},
    settings::{self, ChildOptions, NodeOptions, ReaperOptions},
    supervisor::{Channels, Services, Supervisor},
    telemetry,
};

/// The last lines of replicas reach the disk within this time, or are lost.
const WRITE_LAST_LINES_WITHIN: Duration = Duration::from_secs(1);
/// Threads that may look through `/proc` at a time.
const SCANNING_THREADS: usize = 2;

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
    if !options.foreground {
        // A session of its own, so that Ctrl-C in the terminal reaches the script alone, which ends its node in
        // order. It fails when the starter has seen to it already.
        setsid().ok();
    }
    match Setup::new(&options) {
        Ok(setup) => setup.run(&options, owner_pipe, ready_pipe),
        Err(failure) => report(&options, ready_pipe, Err(failure)),
    }
}

fn take(number: Option<i32>) -> Result<Option<OwnedFd>, String> {
    number
        .map(inherited::take)
        .transpose()
        .map_err(|error| error.to_string())
}

fn complain(message: &str) -> ExitCode {
    crate::cli::complain(message);
    ExitCode::FAILURE
}

/// Says how the start went: on the pipe that waits for it, else on the terminal.
fn report(
    options: &NodeOptions,
    ready_pipe: Option<File>,
    result: Result<Up, Failure>,
) -> ExitCode {
    let code = if result.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    };
    match (ready_pipe, &result) {
        (Some(pipe), _) => {
            if let Err(error) = ready::write(pipe, &result) {
                tracing::warn!(%error, "nobody waits to hear that the node is up");
            }
        }
        (None, Ok(up)) if options.foreground => crate::cli::announce(up),
        (None, Ok(_)) => {}
        (None, Err(failure)) => crate::cli::complain(&failure.message),
    }
    code
}

/// Everything that can fail before a process is started.
struct Setup {
    node_id: String,
    directory: RunDirectory,
    state: PathBuf,
    http: std::net::TcpListener,
    http_address: String,
    node_socket: std::os::unix::net::UnixListener,
    controller_socket: std::os::unix::net::UnixListener,
    log_writer: (log_writer::Writer, log_writer::Finish),
}

impl Setup {
    fn new(options: &NodeOptions) -> Result<Self, Failure> {
        let root = run_directory::root();
        if !run_directory::is_valid_name(&options.name) {
            let message = format!(
                "{:?} cannot name a node: use letters, digits, `-`, `_` and `.`",
                options.name
            );
            return Err(Failure::new(Kind::Invalid, message));
        }
        let node_id = new_id().map_err(|error| Failure::new(Kind::Failed, error.to_string()))?;
        run_directory::private_directory(&root)?;
        let stale = run_directory::clean_stale(&root);
        let directory = RunDirectory::acquire(&root, &options.name, &node_id)?;
        Self::inside(
            options,
            directory.path().to_owned(),
            node_id,
            &stale,
            directory,
        )
    }

    fn inside(
        options: &NodeOptions,
        path: PathBuf,
        node_id: String,
        stale: &[run_directory::Error],
        directory: RunDirectory,
    ) -> Result<Self, Failure> {
        let mut undo = Undo(Some(directory));
        let log = telemetry::open_log(&path.join("logs"), "node")?;
        if !options.foreground {
            // What the starter gave may be a pipe whose reader waits for its end.
            rustix::stdio::dup2_stderr(&log)?;
            rustix::stdio::dup2_stdout(File::options().write(true).open("/dev/null")?)?;
        }
        telemetry::start("node", log, options.foreground);
        for error in stale {
            tracing::warn!(%error, "what a dead node left could not be cleaned");
        }
        raise_descriptor_limit();
        let root = path.parent().unwrap_or(&path);
        let http = listener::listen_for_http(root, &options.http_host, options.http_port).map_err(
            |error| match error {
                listener::Error::PortTaken(message) => Failure::new(Kind::PortTaken, message),
                other @ listener::Error::Other { .. } => {
                    Failure::new(Kind::Invalid, other.to_string())
                }
            },
        )?;
        let http_address = format!("http://{}", http.local_addr()?);
        let state = match options.owner_pid {
            Some(_) => path.clone(),
            None => run_directory::state_directory(&options.name)?,
        };
        run_directory::private_directory(&state.join("blobs"))?;
        let node_socket = replicas::process::listen(&path.join("node.sock"))?;
        let controller_socket = replicas::process::listen(&path.join("controller.sock"))?;
        let log_writer = log_writer::Writer::start()?;
        let Some(directory) = undo.0.take() else {
            return Err(Failure::new(Kind::Failed, "the run directory is gone"));
        };
        Ok(Self {
            node_id,
            directory,
            state,
            http,
            http_address,
            node_socket,
            controller_socket,
            log_writer,
        })
    }

    fn run(
        self,
        options: &NodeOptions,
        owner_pipe: Option<OwnedFd>,
        ready_pipe: Option<File>,
    ) -> ExitCode {
        let runtime = match Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(SCANNING_THREADS)
            .build()
        {
            Ok(runtime) => runtime,
            Err(error) => return report(options, ready_pipe, Err(Failure::from(error))),
        };
        let local = LocalSet::new();
        let code = local.block_on(&runtime, self.live(options, owner_pipe, ready_pipe));
        drop(local);
        runtime.shutdown_background();
        code
    }

    async fn live(
        self,
        options: &NodeOptions,
        owner_pipe: Option<OwnedFd>,
        mut ready_pipe: Option<File>,
    ) -> ExitCode {
        let path = self.directory.path().to_owned();
        let record = NodeRecord {
            name: options.name.clone(),
            pid: std::process::id(),
            node_id: self.node_id.clone(),
            http_address: self.http_address.clone(),
            owner_pid: options.owner_pid.unwrap_or(0),
            argv: options.argv.clone(),
        };
        let info = Rc::new(RefCell::new(NodeInfo {
            name: options.name.clone(),
            pid: record.pid,
            http_address: self.http_address.clone(),
            run_directory: path.to_string_lossy().into_owned(),
            blob_directory: self.state.join("blobs").to_string_lossy().into_owned(),
            controller_socket_path: path.join("controller.sock").to_string_lossy().into_owned(),
            owner_pid: record.owner_pid,
            node_id: self.node_id.clone(),
            log_directory: path.join("logs").to_string_lossy().into_owned(),
            proxy_status: "STARTING".to_owned(),
        }));
        let watchers = Rc::new(Watchers::default());
        let channels = Channels::new();
        let recipes = match self.recipes(options) {
            Ok(recipes) => recipes,
            Err(error) => return report(options, ready_pipe, Err(Failure::from(error))),
        };
        // From here on the only copies are those that the services hold, so that they can be closed.
        drop((self.http, self.controller_socket));
        let [reaper, controller, proxy] =
            recipes.map(|recipe| Service::start(recipe, channels.service_sender.clone()));
        let (log_writer, logs) = self.log_writer;
        let replicas = Replicas::new(
            &path,
            &self.node_id,
            Rc::clone(&watchers),
            log_writer,
            channels.replica_sender.clone(),
        );
        let api = Api {
            info: Rc::clone(&info),
            watchers,
            shutdown: channels.shutdown_sender.clone(),
        };
        match self
            .node_socket
            .set_nonblocking(true)
            .and_then(|()| UnixListener::from_std(self.node_socket))
        {
            Ok(listener) => drop(spawn_local(api.serve(listener))),
            Err(error) => return report(options, ready_pipe, Err(Failure::from(error))),
        }
        let owner = owner::gone(options.owner_pid, owner_pipe);
        let up = Up {
            name: record.name.clone(),
            pid: record.pid,
            http_address: record.http_address.clone(),
            node_socket: path.join("node.sock"),
            run_directory: path.clone(),
        };
        let mut directory = Some(self.directory);
        let services = Services {
            reaper: Rc::clone(&reaper),
            controller,
            proxy,
        };
        let mut supervisor = Supervisor::new(services, replicas, info, path.join("logs"));
        let announce = |result: Result<(), Failure>| {
            let result = result.and_then(|()| {
                if let Some(directory) = &directory {
                    directory.publish(&record)?;
                }
                Ok(up)
            });
            report(options, ready_pipe.take(), result)
        };
        let outcome = supervisor.run(channels, owner, announce).await;
        if !outcome.in_order {
            // The reaper sees the pipe close, and ends the rest.
            return ExitCode::FAILURE;
        }
        if let Some(directory) = directory.take()
            && let Err(error) = directory.leave()
        {
            tracing::warn!(%error, "the run directory was not cleared");
        }
        tracing::info!("the node ends");
        supervisor.dismiss_reaper().await;
        drop(supervisor);
        logs.wait(WRITE_LAST_LINES_WITHIN);
        outcome.code
    }

    fn recipes(&self, options: &NodeOptions) -> std::io::Result<[Recipe; 3]> {
        let path = self.directory.path();
        let log_directory = path.join("logs");
        let child = serde_json::to_string(&ChildOptions {
            log_directory: log_directory.clone(),
            foreground: options.foreground,
            http_root_path: options.http_root_path.clone(),
            checkpoint: self.state.join("checkpoint.sqlite"),
            blob_directory: self.state.join("blobs"),
            run_directory: path.to_owned(),
            node_id: self.node_id.clone(),
        })?;
        let reaper = serde_json::to_string(&ReaperOptions {
            node_id: self.node_id.clone(),
            run_directory: path.to_owned(),
            remove: run_directory::is_script_name(&options.name),
            log_directory: log_directory.clone(),
        })?;
        let recipe = |role, options_text: &str, listener| Recipe {
            role,
            options: options_text.to_owned(),
            node_id: self.node_id.clone(),
            run_directory: path.to_owned(),
            log_directory: log_directory.clone(),
            foreground: options.foreground,
            listener,
        };
        Ok([
            recipe(Role::Reaper, &reaper, None),
            recipe(
                Role::Controller,
                &child,
                Some(self.controller_socket.as_fd().try_clone_to_owned()?),
            ),
            recipe(
                Role::Proxy,
                &child,
                Some(self.http.as_fd().try_clone_to_owned()?),
            ),
        ])
    }
}

/// Leaves the run directory when the start fails after it was taken.
struct Undo(Option<RunDirectory>);

impl Drop for Undo {
    fn drop(&mut self) {
        if let Some(directory) = self.0.take()
            && let Err(error) = directory.leave()
        {
            tracing::warn!(%error, "the run directory was not cleared");
        }
    }
}

impl From<run_directory::Error> for Failure {
    fn from(error: run_directory::Error) -> Self {
        let kind = match &error {
            run_directory::Error::Held { .. } => Kind::AlreadyRunning,
            run_directory::Error::Unsafe(_) => Kind::Invalid,
            run_directory::Error::Io { .. } => Kind::Failed,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(Kind::Failed, format!("the node cannot start: {error}"))
    }
}

impl From<rustix::io::Errno> for Failure {
    fn from(error: rustix::io::Errno) -> Self {
        std::io::Error::from(error).into()
    }
}

/// Six descriptors a replica, one a client connection: the usual soft limit of 1024 is soon met.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    ) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

/// 128 random bits in hex.
fn new_id() -> std::io::Result<String> {
    use std::{fmt::Write, io::Read};
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        write!(text, "{byte:02x}").ok();
        text
    }))
}
