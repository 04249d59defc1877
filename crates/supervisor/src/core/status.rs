//! What people are told of the node's own processes, and when that changes.
//!
//! Said in the manner of the controller's reasons: a stable code, one sentence, since when, and what to do. So whoever shows
//! those shows these too.

use std::{collections::BTreeMap, path::PathBuf};

use super::{Role, Status, Trouble};

#[derive(Debug)]
pub(super) struct Troubles {
    status: Status,
    /// It is not what was shown last.
    changed: bool,
    log_directory: PathBuf,
}

impl Troubles {
    pub(super) fn new(log_directory: PathBuf) -> Self {
        Self {
            status: Status {
                proxy: "STARTING",
                troubles: BTreeMap::new(),
            },
            changed: false,
            log_directory,
        }
    }

    /// The status, if it is not what was shown last.
    pub(super) fn changed(&mut self) -> Option<Status> {
        std::mem::take(&mut self.changed).then(|| self.status.clone())
    }

    pub(super) fn log_of(&self, role: Role) -> PathBuf {
        self.log_directory.join(role.log_name())
    }

    /// Something is wrong with `of`. What was wrong in the same way before began then.
    pub(super) fn set(&mut self, of: &str, mut trouble: Trouble) {
        let before = self.status.troubles.get(of);
        if let Some(same) = before.filter(|before| before.code == trouble.code) {
            trouble.since = same.since;
        }
        self.changed |= before != Some(&trouble);
        self.status.troubles.insert(of.to_owned(), trouble);
    }

    /// Nothing is wrong with `of`, or not yet.
    pub(super) fn clear(&mut self, of: &str) {
        self.changed |= self.status.troubles.remove(of).is_some();
    }

    pub(super) fn set_proxy(&mut self, status: &'static str) {
        self.changed |= self.status.proxy != status;
        self.status.proxy = status;
    }
}

#[cfg(test)]
impl Troubles {
    pub(super) fn shown(&self) -> Status {
        self.status.clone()
    }
}
