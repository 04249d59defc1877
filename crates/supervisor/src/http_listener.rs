//! The listening TCP sockets, of HTTP and of the control port: what is said when somebody else has the port, and what when
//! everybody can reach it.

use std::{
    io,
    net::{SocketAddr, TcpListener, ToSocketAddrs},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};

use crate::{
    processes,
    run_directory::{self, NodeRecord},
};

/// Connections that may wait while the proxy is away.
const BACKLOG: i32 = 4096;
/// A node whose script has ended gives the port back within this time.
const ENDING_NODE_WITHIN: Duration = Duration::from_secs(25);
/// A node that has just taken the port says so within this time.
const STARTING_NODE_WITHIN: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    PortTaken(String),
    #[error("cannot listen for {whom} on {host}:{port}: {reason}")]
    Other {
        whom: &'static str,
        host: String,
        port: u16,
        reason: String,
    },
}

/// What is listened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    Http,
    Control,
    Metrics,
}

impl Whom {
    const fn name(self) -> &'static str {
        match self {
            Self::Http => "HTTP",
            Self::Control => "the control port",
            Self::Metrics => "metrics",
        }
    }

    /// Where that node listens for it.
    fn address(self, node: &NodeRecord) -> &str {
        match self {
            Self::Http => &node.http_address,
            Self::Control => &node.control_address,
            Self::Metrics => &node.metrics_address,
        }
    }

    const fn other_port(self) -> &'static str {
        match self {
            Self::Http => "serve.start(http_options={\"port\": N}) in the script, or --http-port N",
            Self::Control => "eagleray start --control-port N (0 for any that is free)",
            Self::Metrics => "eagleray start --metrics-port N (0 for any that is free)",
        }
    }
}

/// Listens on `host:port`. If a node has the port whose script has ended, waits until it is gone.
pub fn listen_on(root: &Path, whom: Whom, host: &str, port: u16) -> Result<TcpListener, Error> {
    let other = |reason: String| Error::Other {
        whom: whom.name(),
        host: host.to_owned(),
        port,
        reason,
    };
    let address = (host, port)
        .to_socket_addrs()
        .map_err(|error| other(error.to_string()))?
        .next()
        .ok_or_else(|| other("the name has no address".to_owned()))?;
    let begun = Instant::now();
    loop {
        match open(address) {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(other(error.to_string())),
        }
        let holder = holder(root, whom, port);
        let waited = begun.elapsed();
        let wait = match &holder {
            Some(node) if is_ending(node) => waited < ENDING_NODE_WITHIN,
            Some(_) => false,
            None => waited < STARTING_NODE_WITHIN && run_directory::any_held_without_record(root),
        };
        if !wait {
            return Err(Error::PortTaken(taken(whom, host, port, holder.as_ref())));
        }
        thread::sleep(LOOK_AGAIN);
    }
}

/// What to say once of an address that every machine can reach; empty: nothing.
pub fn exposure(address: SocketAddr) -> String {
    if !address.ip().is_unspecified() {
        return String::new();
    }
    format!(
        "HTTP listens on {address}: every machine that can reach this one can send requests, and there is no \
         authentication. The address 127.0.0.1 keeps it to this machine."
    )
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &address)?;
    listen(&socket, BACKLOG)?;
    Ok(TcpListener::from(socket))
}

fn holder(root: &Path, whom: Whom, port: u16) -> Option<NodeRecord> {
    let suffix = format!(":{port}");
    run_directory::records(root)
        .into_iter()
        .find(|record| whom.address(record).ends_with(&suffix))
}

/// Its script has ended, so it is about to follow.
fn is_ending(node: &NodeRecord) -> bool {
    node.owner_pid != 0 && !processes::is_alive(node.owner_pid)
}

fn taken(whom: Whom, host: &str, port: u16, holder: Option<&NodeRecord>) -> String {
    let by = match holder {
        Some(node) if node.owner_pid != 0 => {
            let command = if node.argv.is_empty() {
                String::new()
            } else {
                format!(" ({})", node.argv.join(" "))
            };
            format!(
                "by the node of another script, process {}{command}",
                node.owner_pid
            )
        }
        Some(node) => format!("by the resident node {:?}, process {}", node.name, node.pid),
        None => "by another program".to_owned(),
    };
    let first = match holder {
        Some(node) if node.owner_pid == 0 => {
            "stop that node with `eagleray stop`, or join it by its name with EAGLERAY_NODE_NAME"
                .to_owned()
        }
        Some(node) => format!(
            "end process {} and run `eagleray start` once, so that all scripts share one node",
            node.owner_pid
        ),
        None => {
            "end that program, then run `eagleray start` once, so that all scripts share one node"
                .to_owned()
        }
    };
    format!(
        "port {port} on {host} is taken {by}. Two ways out: (1) {first}; (2) take another port: {}",
        whom.other_port()
    )
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

    #[test]
    fn a_port_of_another_program_is_refused_with_two_ways_out() {
        let root = tempfile::tempdir().unwrap();
        let holder = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = holder.local_addr().unwrap().port();
        for (whom, option) in [
            (Whom::Http, "--http-port"),
            (Whom::Control, "--control-port"),
            (Whom::Metrics, "--metrics-port"),
        ] {
            let error = listen_on(root.path(), whom, "127.0.0.1", port)
                .unwrap_err()
                .to_string();
            assert!(error.contains("by another program"), "{error}");
            assert!(
                error.contains("eagleray start") && error.contains(option),
                "{error}"
            );
        }
    }

    #[test]
    fn a_script_that_holds_the_port_is_named() {
        let record = NodeRecord {
            name: "script-77".into(),
            pid: 78,
            node_id: String::new(),
            http_address: "http://127.0.0.1:8000".into(),
            control_address: String::new(),
            metrics_address: String::new(),
            owner_pid: 77,
            argv: vec!["python".into(), "app.py".into()],
            log_directory: "/state/logs".into(),
        };
        let message = taken(Whom::Http, "127.0.0.1", 8000, Some(&record));
        assert!(message.contains("process 77 (python app.py)"), "{message}");
    }

    #[test]
    fn a_host_that_does_not_exist_is_one_clear_message() {
        let root = tempfile::tempdir().unwrap();
        let error = listen_on(root.path(), Whom::Http, "host.invalid.", 0)
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("cannot listen for HTTP on host.invalid.:0"),
            "{error}"
        );
    }
}
