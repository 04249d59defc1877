//! The environment variables by which a node and the processes below it know each other.

use std::env;

/// `node`, `controller`, `proxy` or `reaper`; without it the executable is the command line tool.
pub const ROLE: &str = "EAGLERAY_ROLE";
/// JSON of what the process is asked to be.
pub const OPTIONS: &str = "EAGLERAY_OPTIONS";
/// Id of the node, in every process below it. The reaper kills by it.
pub const NODE: &str = "EAGLERAY_NODE";
/// Id of the replica, in a replica and all it starts.
pub const REPLICA: &str = "EAGLERAY_REPLICA";
/// Number of the descriptor that leads to the node.
pub const CONTROL_FD: &str = "EAGLERAY_CONTROL_FD";
/// Names and numbers of the descriptors from which a native process accepts connections
/// ([`listeners`](crate::listeners)). Always said, since it may be empty.
pub const LISTENERS: &str = "EAGLERAY_LISTENERS";
/// Number of the descriptor from which a replica accepts connections.
pub const LISTEN_FD: &str = "EAGLERAY_LISTEN_FD";
/// `SOCKET:FILE:ID`, in a replica's process that others may be forked from (`python/eagleray/_replica/zygote.py`).
pub const ZYGOTE: &str = "EAGLERAY_ZYGOTE_FDS";
/// `0`: each replica is an interpreter of its own.
pub const ZYGOTES: &str = "EAGLERAY_ZYGOTE";
/// Where `PYTHONPATH` waits until the modules of our own are imported in a Python that we start
/// (`python/eagleray/_bootstrap.py`).
pub const PYTHON_PATH: &str = "EAGLERAY_PYTHONPATH";
/// The run directory of the node above.
pub const RUN_DIRECTORY: &str = "EAGLERAY_RUN_DIR";
/// Where run directories are, when not where the system says.
pub const RUNTIME_ROOT: &str = "EAGLERAY_RUNTIME_DIR";

/// A variable that is set and not empty.
pub fn set(variable: &str) -> Option<String> {
    env::var(variable).ok().filter(|value| !value.is_empty())
}
