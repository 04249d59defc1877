//! Everything that can fail before a process is started: the run directory, the log, the sockets.

use std::{
    fmt::Write as _,
    fs::File,
    io::{self, Read},
    net::{SocketAddr, TcpListener},
    os::{fd::AsFd, unix::net::UnixListener},
    path::Path,
};

use eagleray_logs::Writer;
use eagleray_types::control::NodeInfo;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{
    directory::{self, check_room, private_directory},
    listener,
    ready::{Failure, Kind, Up},
    replicas,
    run_directory::{self, NodeRecord, RunDirectory},
    service::{Recipe, Role},
    settings::{self, ChildOptions, LogOptions, NodeOptions, ReaperOptions},
    state_directory::{self, Logs, StateDirectory},
    telemetry,
};

/// A node that has all it needs but its processes.
pub(super) struct Setup {
    pub(super) node_id: String,
    pub(super) directory: RunDirectory,
    pub(super) state: StateDirectory,
    /// `None`: no HTTP, and the address is empty.
    pub(super) http: Option<TcpListener>,
    pub(super) http_address: String,
    /// For whoever started the node; empty: none.
    pub(super) warning: String,
    pub(super) node_socket: UnixListener,
    pub(super) controller_socket: UnixListener,
    pub(super) log_options: LogOptions,
    pub(super) logs: Writer,
}

impl Setup {
    pub(super) fn new(options: &NodeOptions) -> Result<Self, Failure> {
        let root = run_directory::root();
        if !run_directory::is_valid_name(&options.name) {
            let message = format!(
                "{:?} cannot name a node: use letters, digits, `-`, `_` and `.`",
                options.name
            );
            return Err(Failure::new(Kind::Invalid, message));
        }
        options
            .proxy
            .check_files()
            .map_err(|problem| Failure::new(Kind::Invalid, format!("http_options: {problem}")))?;
        let mut log_options = LogOptions::from_environment(options.foreground)
            .map_err(|problem| Failure::new(Kind::Invalid, problem))?;
        let node_id = new_id().map_err(|error| Failure::new(Kind::Failed, error.to_string()))?;
        let in_root = |error: directory::Error| error.or_elsewhere(settings::RUNTIME_ROOT);
        private_directory(&root).map_err(in_root)?;
        let mut stale = run_directory::clean_stale(&root);
        stale.extend(state_directory::clean_stale());
        let directory = RunDirectory::acquire(&root, &options.name, &node_id).map_err(in_root)?;
        let mut undo = Undo {
            directory: Some(directory),
            state: None,
        };
        let path = root.join(&options.name);
        check_room(&path).map_err(in_root)?;
        let (state, notes) = match options.owner_pid {
            Some(_) => StateDirectory::of_script(&options.name, &node_id, &path)?,
            None => (StateDirectory::of_resident(&options.name)?, Vec::new()),
        };
        log_options.directory = state.logs();
        undo.state = Some(state);
        if !options.foreground {
            // What the starter gave may be a pipe whose reader waits for its end.
            let nowhere = File::options().write(true).open("/dev/null")?;
            rustix::stdio::dup2_stderr(&nowhere)?;
            rustix::stdio::dup2_stdout(&nowhere)?;
        }
        let logs = telemetry::start("node", "node", &log_options)?;
        for error in stale {
            tracing::warn!(%error, "what a dead node left could not be cleaned");
        }
        for note in notes {
            tracing::warn!(note, "logs and code are not where they should be");
        }
        Self::inside(options, node_id, undo, log_options, logs)
    }

    fn inside(
        options: &NodeOptions,
        node_id: String,
        mut undo: Undo,
        log_options: LogOptions,
        logs: Writer,
    ) -> Result<Self, Failure> {
        raise_descriptor_limit();
        let root = run_directory::root();
        let path = root.join(&options.name);
        let http = listen_for_http(&root, options)?;
        let (http_address, warning) = match &http {
            Some(listener) => {
                let address = listener.local_addr()?;
                let address_text = format!("{}://{address}", options.proxy.scheme());
                (address_text, exposure(address))
            }
            None => (String::new(), String::new()),
        };
        if !warning.is_empty() {
            tracing::warn!("{warning}");
        }
        let node_socket = replicas::process::listen(&path.join("node.sock"))?;
        let controller_socket = replicas::process::listen(&path.join("controller.sock"))?;
        let (Some(directory), Some(state)) = (undo.directory.take(), undo.state.take()) else {
            return Err(Failure::new(Kind::Failed, "the run directory is gone"));
        };
        Ok(Self {
            node_id,
            directory,
            state,
            http,
            http_address,
            warning,
            node_socket,
            controller_socket,
            log_options,
            logs,
        })
    }

    pub(super) fn recipes(&self, options: &NodeOptions) -> io::Result<[Recipe; 3]> {
        let path = self.directory.path();
        let child = serde_json::to_string(&ChildOptions {
            logs: self.log_options.clone(),
            proxy: options.proxy.clone(),
            checkpoint: self.state.checkpoint(),
            blob_directory: self.state.blobs(),
            run_directory: path.to_owned(),
            node_id: self.node_id.clone(),
        })?;
        let reaper = serde_json::to_string(&ReaperOptions {
            node_id: self.node_id.clone(),
            run_directory: path.to_owned(),
            state_directory: self.state.path().to_owned(),
            remove: run_directory::is_script_name(&options.name),
            logs: LogOptions {
                terminal: false,
                ..self.log_options.clone()
            },
        })?;
        let recipe = |role, options_text: &str, listener| Recipe {
            role,
            options: options_text.to_owned(),
            node_id: self.node_id.clone(),
            run_directory: path.to_owned(),
            log_directory: self.state.logs(),
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
                self.http
                    .as_ref()
                    .map(|http| http.as_fd().try_clone_to_owned())
                    .transpose()?,
            ),
        ])
    }
}

impl Setup {
    /// What `node.json` says of this node.
    pub(super) fn record(&self, options: &NodeOptions) -> NodeRecord {
        NodeRecord {
            name: options.name.clone(),
            pid: std::process::id(),
            node_id: self.node_id.clone(),
            http_address: self.http_address.clone(),
            owner_pid: options.owner_pid.unwrap_or(0),
            argv: options.argv.clone(),
            log_directory: self.state.logs(),
        }
    }

    /// What whoever started the node is told.
    pub(super) fn up(&self, record: &NodeRecord) -> Up {
        let path = self.directory.path();
        Up {
            name: record.name.clone(),
            pid: record.pid,
            http_address: record.http_address.clone(),
            node_socket: path.join("node.sock"),
            run_directory: path.to_owned(),
            log_directory: self.state.logs(),
            warning: self.warning.clone(),
        }
    }

    /// What it says of itself on its socket.
    pub(super) fn info(&self, options: &NodeOptions) -> NodeInfo {
        let path = self.directory.path();
        let text = |path: &Path| path.to_string_lossy().into_owned();
        NodeInfo {
            name: options.name.clone(),
            pid: std::process::id(),
            http_address: self.http_address.clone(),
            run_directory: text(path),
            blob_directory: text(&self.state.blobs()),
            controller_socket_path: text(&path.join("controller.sock")),
            owner_pid: options.owner_pid.unwrap_or(0),
            node_id: self.node_id.clone(),
            log_directory: text(&self.state.logs()),
            proxy_status: "STARTING".to_owned(),
            troubles: std::collections::BTreeMap::new(),
        }
    }
}

fn listen_for_http(root: &Path, options: &NodeOptions) -> Result<Option<TcpListener>, Failure> {
    if options.no_http {
        return Ok(None);
    }
    listener::listen_for_http(root, &options.http_host, options.http_port)
        .map(Some)
        .map_err(|error| match error {
            listener::Error::PortTaken(message) => Failure::new(Kind::PortTaken, message),
            other @ listener::Error::Other { .. } => Failure::new(Kind::Invalid, other.to_string()),
        })
}

/// Leaves the directories when the start fails after they were taken.
struct Undo {
    directory: Option<RunDirectory>,
    state: Option<StateDirectory>,
}

impl Drop for Undo {
    fn drop(&mut self) {
        let left = self.directory.take().map_or(Ok(()), |mut one| one.leave());
        let state = self.state.take();
        let left = left.and(state.map_or(Ok(()), |one| one.leave(Logs::Remove)));
        if let Err(error) = left {
            tracing::warn!(%error, "what the node had on disk was not removed");
        }
    }
}

impl From<directory::Error> for Failure {
    fn from(error: directory::Error) -> Self {
        let kind = match &error {
            directory::Error::Held { .. } => Kind::AlreadyRunning,
            directory::Error::Unsafe(_) | directory::Error::Foreign(_) => Kind::Invalid,
            directory::Error::Io { .. } => Kind::Failed,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::new(Kind::Failed, format!("the node cannot start: {error}"))
    }
}

impl From<rustix::io::Errno> for Failure {
    fn from(error: rustix::io::Errno) -> Self {
        io::Error::from(error).into()
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

/// What to say once of an address that every machine can reach.
fn exposure(address: SocketAddr) -> String {
    if !address.ip().is_unspecified() {
        return String::new();
    }
    format!(
        "HTTP listens on {address}: every machine that can reach this one can send requests, and there is no \
         authentication. The address 127.0.0.1 keeps it to this machine."
    )
}

/// 128 random bits in hex.
fn new_id() -> io::Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        write!(text, "{byte:02x}").ok();
        text
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_address_that_is_everywhere_is_warned_of() {
        for everywhere in ["0.0.0.0:80", "[::]:80"] {
            let warning = exposure(everywhere.parse().unwrap());
            assert!(warning.contains(everywhere), "{warning}");
        }
        for one in ["127.0.0.1:80", "[::1]:80", "192.0.2.1:80"] {
            assert_eq!(exposure(one.parse().unwrap()), "");
        }
    }
}
