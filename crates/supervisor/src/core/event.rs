//! What happens to a node, in the words of its core.

use bytes::Bytes;

use super::command::Role;
use crate::owner::Gone;

/// What happened.
#[derive(Debug)]
pub enum Event {
    Service(Role, ServiceNews),
    Replica(String, ReplicaNews),
    /// A time of [`Core::next_timeout`](super::Core::next_timeout) has come.
    Timeout,
    /// The answer to [`Command::Look`](super::Command::Look), or what was seen on the way.
    Looked(Looked),
    /// A signal to the node, by its name.
    Signalled(&'static str),
    OwnerGone(Gone),
    ShutdownWanted,
    /// Somebody asks what the proxy has counted.
    CountersWanted,
    /// The answer to [`Command::Announce`](super::Command::Announce): whether those who wait for the node know now.
    Announced {
        known: bool,
    },
    /// The answer to [`Command::ReadLog`](super::Command::ReadLog).
    LogRead(String),
}

#[derive(Debug)]
pub enum ServiceNews {
    Started {
        pid: u32,
    },
    NotStarted {
        error: String,
    },
    Said(Bytes),
    /// It does not read: what it was told last is lost, and it is to be ended.
    DoesNotRead,
    /// The process is gone, and what it said last has been passed on.
    Ended {
        reason: String,
    },
}

#[derive(Debug)]
pub enum ReplicaNews {
    Started {
        pid: u32,
        socket_path: String,
    },
    NotStarted {
        message: String,
    },
    Said(Bytes),
    /// As of a service.
    DoesNotRead,
    /// It and all that it started are gone, and what it said last has been passed on.
    Exited {
        reason: String,
        /// That ended it. 0: none, or one that answered what the replica did itself.
        signal: u32,
        stderr_tail: String,
    },
}

/// What is not as it should be on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Looked {
    /// The state directory was gone, and with it the checkpoint.
    pub state_lost: bool,
    /// `controller.sock` is gone, or another one than the controller inherits.
    pub controller_socket_lost: bool,
    /// Replicas whose socket is gone.
    pub replica_sockets_lost: Vec<String>,
    /// Why lines of logs are lost; `None` where it was not looked.
    pub logs: Option<Result<(), String>>,
}
