//! What the node tells the controller at its start, as JSON in `EAGLERAY_OPTIONS`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// The `SQLite` file.
    pub checkpoint_path: PathBuf,
    /// Where drivers put code and callables.
    pub blob_directory: PathBuf,
    /// Holds what replicas print, for messages that name it.
    pub log_directory: PathBuf,
    /// Holds `controller.sock` and the sockets of the replicas.
    pub run_directory: PathBuf,
    /// The interpreter of replicas whose application names none.
    #[serde(default = "default_python")]
    pub python: String,
}

fn default_python() -> String {
    "python3".to_owned()
}
