//! Where state directories may be.

use std::path::{Path, PathBuf};

use rustix::process::geteuid;

use super::VARIABLE;
use crate::environment;

/// Directories for the state directories of all nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bases {
    /// That of this user; `None`: nothing says where it is.
    pub of_user: Option<PathBuf>,
    /// For the nodes of scripts, where that cannot be.
    pub anywhere: PathBuf,
}

impl Bases {
    /// `$XDG_STATE_HOME/eagleray`, or `~/.local/state/eagleray`; and one in `/var/tmp`.
    pub fn from_environment() -> Self {
        let base = environment::set(VARIABLE)
            .map(PathBuf::from)
            .or_else(|| Some(PathBuf::from(environment::set("HOME")?).join(".local/state")));
        Self {
            // A path that depends on where a process happens to be is none, as the XDG specification says.
            of_user: base
                .filter(|base| base.is_absolute())
                .map(|base| base.join("eagleray")),
            anywhere: PathBuf::from(format!("/var/tmp/eagleray-{}", geteuid().as_raw())),
        }
    }

    /// Where the logs of the resident node `name` are.
    pub fn logs_of_resident(&self, name: &str) -> PathBuf {
        let base = self.of_user.clone().unwrap_or_default();
        base.join(name).join("logs")
    }

    /// Where state directories of scripts may be, the best place first.
    pub(super) fn of_scripts(&self) -> impl Iterator<Item = &Path> {
        let of_user = self.of_user.as_deref();
        of_user.into_iter().chain([self.anywhere.as_path()])
    }
}
