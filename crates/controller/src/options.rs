//! What a controller is told at its start.

use std::path::PathBuf;

use eagleray_types::NodeId;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The node at the other end of its connection.
    pub node: NodeId,
    /// The `SQLite` file.
    pub checkpoint_path: PathBuf,
    /// Where drivers put code and callables.
    pub blob_directory: PathBuf,
    /// Holds what replicas print, for messages that name it.
    pub log_directory: PathBuf,
    /// Holds `controller.sock` and the sockets of the replicas.
    pub run_directory: PathBuf,
    /// The interpreter of replicas whose application names none.
    pub python: String,
    /// `http_options` as the node runs with them, by the keys of a config.
    pub http: serde_json::Map<String, serde_json::Value>,
}
