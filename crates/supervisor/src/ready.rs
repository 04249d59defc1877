//! The one line that says whether a node came up, and what else the starter must know.

use std::{
    fs::File,
    io::{self, Write},
    path::PathBuf,
};

use serde::{Deserialize, Serialize};

use crate::{directory, http_listener};

/// Why a node did not come up. `kind` is for programs, `message` for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    pub kind: Kind,
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Somebody else listens on the port.
    PortTaken,
    /// A node of that name runs.
    AlreadyRunning,
    /// An option or the place for the run directory is wrong.
    Invalid,
    Failed,
}

impl Failure {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
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

impl From<http_listener::Error> for Failure {
    fn from(error: http_listener::Error) -> Self {
        let kind = match &error {
            http_listener::Error::PortTaken(_) => Kind::PortTaken,
            http_listener::Error::Other { .. } => Kind::Invalid,
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

/// A node that is up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Up {
    pub name: String,
    pub pid: u32,
    pub http_address: String,
    #[serde(default)]
    pub control_address: String,
    /// The port for metrics alone; empty: none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub metrics_address: String,
    pub run_directory: PathBuf,
    pub log_directory: PathBuf,
    pub node_socket: PathBuf,
    /// For people; empty: none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub warning: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Line {
    ok: bool,
    #[serde(default, flatten, skip_serializing_if = "Option::is_none")]
    up: Option<Up>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kind: Option<Kind>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

pub fn write(mut pipe: File, result: &Result<Up, Failure>) -> io::Result<()> {
    let line = match result {
        Ok(up) => Line {
            ok: true,
            up: Some(up.clone()),
            kind: None,
            message: None,
        },
        Err(failure) => Line {
            ok: false,
            up: None,
            kind: Some(failure.kind),
            message: Some(failure.message.clone()),
        },
    };
    let mut text = serde_json::to_vec(&line)?;
    text.push(b'\n');
    pipe.write_all(&text)
}

/// Reads such a line. `None` when it is not one: the node ended before it could say anything.
pub fn parse(text: &str) -> Option<Result<Up, Failure>> {
    let line: Line = serde_json::from_str(text).ok()?;
    match line {
        Line {
            ok: true,
            up: Some(up),
            ..
        } => Some(Ok(up)),
        Line {
            ok: false,
            kind: Some(kind),
            message: Some(message),
            ..
        } => Some(Err(Failure { kind, message })),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_it_was_written() {
        let up = Up {
            name: "default".into(),
            pid: 1,
            http_address: "http://127.0.0.1:8000".into(),
            control_address: "http://127.0.0.1:8265".into(),
            metrics_address: "http://127.0.0.1:9464".into(),
            run_directory: "/run".into(),
            log_directory: "/state/logs".into(),
            node_socket: "/run/node.sock".into(),
            warning: "warned".into(),
        };
        for result in [
            Ok(up),
            Err(Failure::new(Kind::PortTaken, "port 8000 is taken")),
        ] {
            let file = tempfile::NamedTempFile::new().unwrap();
            write(file.reopen().unwrap(), &result).unwrap();
            let text = std::fs::read_to_string(file.path()).unwrap();
            assert_eq!(text.lines().count(), 1);
            assert_eq!(parse(&text), Some(result));
        }
        assert_eq!(parse(""), None);
    }
}
