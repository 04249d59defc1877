//! What people are told of the node's own processes, and when that changes.

use std::{collections::BTreeMap, path::PathBuf};

use super::{Role, Status};

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

    /// What is wrong with `of`. `None`: nothing, or not yet.
    pub(super) fn set(&mut self, of: &str, trouble: Option<String>) {
        let troubles = &mut self.status.troubles;
        self.changed |= troubles.get(of) != trouble.as_ref();
        match trouble {
            Some(trouble) => troubles.insert(of.to_owned(), trouble),
            None => troubles.remove(of),
        };
    }

    pub(super) fn set_of(&mut self, role: Role, trouble: Option<String>) {
        if role == Role::Proxy && trouble.is_some() {
            self.set_proxy("UNHEALTHY");
        }
        self.set(role.name(), trouble);
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
