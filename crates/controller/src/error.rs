//! Why the controller ends.

use std::{io, path::PathBuf};

use crate::store::StoreError;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The checkpoint cannot be used. The node starts the controller again, with back-off.
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the connection to the node broke: {0}")]
    Node(#[source] io::Error),
    /// The node takes no commands; the controller ends rather than queue without bound, and its successor adopts
    /// what runs.
    #[error("the node takes no commands: {0} bytes are waiting")]
    NodeStuck(usize),
    /// The next controller begins above it.
    #[error(
        "this controller's epoch {epoch} is not above {newest}, which another had: the checkpoint is not the last one. Another begins at once"
    )]
    Behind { epoch: u64, newest: u64 },
    #[error("cannot serve {path}: {source}")]
    Listener {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot start the controller's runtime: {0}")]
    Runtime(#[source] io::Error),
}
