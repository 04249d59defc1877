//! Everything that can fail before a process is started: the run directory, the log, the sockets.

use std::{
    fmt::Write,
    fs::File,
    io::{self, Read},
    net::{SocketAddr, TcpListener},
    os::{fd::AsFd, unix::net::UnixListener},
    path::{Path, PathBuf},
};

use eagleray_types::control::NodeInfo;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{
    listener, log_writer,
    ready::{Failure, Kind},
    replicas,
    run_directory::{self, NodeRecord, RunDirectory},
    service::{Recipe, Role},
    settings::{self, ChildOptions, NodeOptions, ReaperOptions},
    telemetry,
};

/// A node that has all it needs but its processes.
pub(super) struct Setup {
    pub(super) node_id: String,
    pub(super) directory: RunDirectory,
    pub(super) state: PathBuf,
    /// `None`: no HTTP, and the address is empty.
    pub(super) http: Option<TcpListener>,
    pub(super) http_address: String,
    /// For whoever started the node; empty: none.
    pub(super) warning: String,
    pub(super) node_socket: UnixListener,
    pub(super) controller_socket: UnixListener,
    pub(super) log_writer: (log_writer::Writer, log_writer::Finish),
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
        let node_id = new_id().map_err(|error| Failure::new(Kind::Failed, error.to_string()))?;
        let in_root = |error: run_directory::Error| error.or_elsewhere(settings::RUNTIME_ROOT);
        run_directory::private_directory(&root).map_err(in_root)?;
        let stale = run_directory::clean_stale(&root);
        let directory = RunDirectory::acquire(&root, &options.name, &node_id).map_err(in_root)?;
        Self::inside(options, node_id, &stale, directory)
    }

    fn inside(
        options: &NodeOptions,
        node_id: String,
        stale: &[run_directory::Error],
        directory: RunDirectory,
    ) -> Result<Self, Failure> {
        let path = directory.path().to_owned();
        let mut undo = Undo(Some(directory));
        let log = telemetry::open_log(&path.join("logs"), "node")?;
        if !options.foreground {
            // What the starter gave may be a pipe whose reader waits for its end.
            rustix::stdio::dup2_stderr(log.try_clone_file()?)?;
            rustix::stdio::dup2_stdout(File::options().write(true).open("/dev/null")?)?;
        }
        telemetry::start("node", log, options.foreground);
        for error in stale {
            tracing::warn!(%error, "what a dead node left could not be cleaned");
        }
        raise_descriptor_limit();
        let root = path.parent().unwrap_or(&path);
        let http = listen_for_http(root, options)?;
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
        let state = match options.owner_pid {
            Some(_) => path.clone(),
            None => run_directory::state_directory(&options.name)
                .map_err(|error| error.or_elsewhere("XDG_STATE_HOME"))?,
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
            warning,
            node_socket,
            controller_socket,
            log_writer,
        })
    }

    pub(super) fn recipes(&self, options: &NodeOptions) -> io::Result<[Recipe; 3]> {
        let path = self.directory.path();
        let log_directory = path.join("logs");
        let child = serde_json::to_string(&ChildOptions {
            log_directory: log_directory.clone(),
            foreground: options.foreground,
            proxy: options.proxy.clone(),
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
            blob_directory: text(&self.state.join("blobs")),
            controller_socket_path: text(&path.join("controller.sock")),
            owner_pid: options.owner_pid.unwrap_or(0),
            node_id: self.node_id.clone(),
            log_directory: text(&path.join("logs")),
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

/// Leaves the run directory when the start fails after it was taken.
struct Undo(Option<RunDirectory>);

impl Drop for Undo {
    fn drop(&mut self) {
        if let Some(mut directory) = self.0.take()
            && let Err(error) = directory.leave(run_directory::Logs::Remove)
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
