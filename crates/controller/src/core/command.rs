//! What the core wants done.

use std::time::Duration;

use eagleray_types::{
    DeploymentKey, NodeId,
    control::{ApiResponse, EventRecord, TargetUpdate, node_command},
};

use super::event::CallId;
use crate::store::checkpoint::Root;

#[derive(Clone, Debug, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "few at a time, and soon carried out"
)]
pub enum Command {
    Node {
        node: NodeId,
        body: node_command::Body,
    },
    /// For every router. The node's copy of it is the service's business.
    Publish(TargetUpdate),
    Save(Save),
    /// The controller's socket is gone: make another.
    Listen,
    /// Connect to a replica as routers do, then [`super::Event::Reached`]. One at a time for each replica.
    Reach {
        replica_id: String,
        socket_path: String,
    },
    Reply {
        call: CallId,
        response: ApiResponse,
    },
    /// How long something has taken, for metrics.
    Measured {
        deployment: DeploymentKey,
        span: Span,
        took: Duration,
    },
    /// Something has happened: to be kept where the next controller finds it.
    Keep(EventRecord),
    Log {
        level: Level,
        message: String,
    },
}

/// What takes its time in the life of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// From the decision to the first request.
    Start,
    /// From the decision to the end of the process.
    Stop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Info,
    Warning,
}

/// Verify the files, keep the blobs, replace the root: in this order, then [`super::Event::Saved`].
#[derive(Clone, Debug, PartialEq)]
pub struct Save {
    /// Names of files in the blob directory that must be there and whole.
    pub files: Vec<String>,
    /// New revisions and entries of the history, with their names.
    pub blobs: Vec<(String, Vec<u8>)>,
    pub root: Root,
}
