//! The two directories of a node, taken together: what dead nodes left is ended and removed first, and a start that
//! fails later gives both back.

use std::{
    fmt::Write as _,
    fs::File,
    io::{self, Read},
    path::Path,
};

use eagleray_types::NodeId;

use crate::{
    directory::{Error, check_room, private_directory},
    environment,
    ready::{Failure, Kind},
    run_directory::{self, RunDirectory},
    state_directory::{self, Bases, Logs, StateDirectory},
};

/// The directories that a node has taken, and the id under which it has: that of this life of the node, 128 random bits
/// in hex.
#[derive(Debug)]
pub struct Places {
    pub node_id: NodeId,
    /// Where sockets are.
    pub run: RunDirectory,
    /// Where checkpoint, code and logs are.
    pub state: StateDirectory,
}

/// What is worth a line in the log of the node, which is in one of the directories.
#[derive(Debug)]
pub struct Found {
    /// What a dead node left and could not be cleaned.
    pub stale: Vec<Error>,
    /// Why the state directory is not where it should be.
    pub notes: Vec<String>,
}

impl Places {
    /// Takes both for the node `name`: its run directory in `root`, its state directory in one of `bases`. One that
    /// `has_owner` is a script's, and leaves nothing that is of no use without it.
    ///
    /// # Errors
    /// When a node of that name runs, or a directory cannot be used: the message names the variable that puts it
    /// elsewhere. Nothing stays taken.
    pub fn take(
        root: &Path,
        bases: &Bases,
        name: &str,
        has_owner: bool,
    ) -> Result<(Self, Found), Failure> {
        if !run_directory::is_valid_name(name) {
            let message =
                format!("{name:?} cannot name a node: use letters, digits, `-`, `_` and `.`");
            return Err(Failure::new(Kind::Invalid, message));
        }
        let node_id = new_id()?;
        let in_root = |error: Error| error.or_elsewhere(environment::RUNTIME_ROOT);
        private_directory(root).map_err(in_root)?;
        let mut stale = run_directory::clean_stale(root);
        stale.extend(state_directory::clean_stale(bases));
        let mut run = RunDirectory::acquire(root, name, node_id.as_str()).map_err(in_root)?;
        let state = check_room(run.path()).map_err(in_root).and_then(|()| {
            if has_owner {
                StateDirectory::of_script(bases, name, node_id.as_str(), run.path())
            } else {
                Ok((StateDirectory::of_resident(bases, name)?, Vec::new()))
            }
        });
        match state {
            Ok((state, notes)) => {
                let places = Self {
                    node_id,
                    run,
                    state,
                };
                Ok((places, Found { stale, notes }))
            }
            Err(error) => {
                warn_unless(run.leave());
                Err(error.into())
            }
        }
    }

    /// The start has failed: removes what was made.
    pub fn give_back(mut self) {
        let left = self.run.leave();
        warn_unless(left.and(self.state.leave(Logs::Remove)));
    }
}

fn warn_unless(left: Result<(), Error>) {
    if let Err(error) = left {
        tracing::warn!(%error, "what the node had on disk was not removed");
    }
}

fn new_id() -> io::Result<NodeId> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    let text = bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        write!(text, "{byte:02x}").ok();
        text
    });
    NodeId::parse(&text).ok_or_else(|| io::Error::other("an id in hex is no id"))
}
