//! How a command ends, for programs.

use std::process::ExitCode;

/// The exit statuses of the verbs. Those of other programs in `docs/command-line.md`'s table are not here: a wrong command
/// line is clap's 2, and 130 is what Ctrl-C gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// As asked for.
    Done = 0,
    /// It was tried and did not come up, was rolled back, or something is unwell.
    Failed = 1,
    /// The command line cannot be meant.
    Usage = 2,
    /// No such node runs, or it has no such application.
    Missing = 3,
    /// Nobody can say: the node was not reached, or has not answered in time.
    Unknown = 4,
    /// Nothing was changed: the config is wrong, the plan is old, or a yes is needed.
    Refused = 5,
    /// `diff --exit-code`: something is changed, and nothing restarts.
    InPlace = 10,
    /// `diff --exit-code`: something restarts.
    Restarts = 11,
    /// `diff --exit-code`: something is deleted.
    Deletes = 12,
    /// Ctrl-C.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
