//! The reaper: ends everything that a node started when the node itself could not.
//!
//! Its standard input is a pipe that only the node holds. A node that ends in order writes a line first; end of
//! file without it means that the node was killed. It knows nothing but the node's id, so it works whatever the
//! node was doing.

use std::{
    io::Read,
    path::Path,
    time::{Duration, Instant},
};

use crate::{directory::Error, processes, run_directory, state_directory};

/// What the node writes when nothing is left to be ended.
pub(crate) const ALL_IS_WELL: &[u8] = b"all is well\n";

/// Waits until the node has ended, and returns whether it did so in order.
pub fn node_ends_in_order(pipe: impl Read) -> bool {
    let mut said = Vec::new();
    // An error is as good as the end of the pipe: nobody is there any more.
    drop(pipe.take(4096).read_to_end(&mut said));
    said.ends_with(ALL_IS_WELL)
}

/// Ends all processes of the node, however long that takes.
pub fn end_processes(node_id: &str) {
    let belongs = processes::Belongs::to_node(node_id);
    while !processes::end_all(&belongs, Instant::now() + Duration::from_secs(5)) {
        tracing::warn!("some processes cannot be ended yet");
    }
}

/// Removes what a script's node had on disk, but for its logs. Directories that another node holds are left alone.
///
/// # Errors
/// What cannot be removed.
pub fn remove_directories(run: &Path, state: &Path) -> Result<(), Error> {
    let state = state_directory::clean(state);
    run_directory::clean(run).and(state)
}
