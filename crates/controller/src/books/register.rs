//! Which deployment each replica belongs to: what a replica says comes with its id alone.
//!
//! Every replica of the books stands here, and nothing else does.

use std::collections::BTreeMap;

use eagleray_types::DeploymentKey;

#[derive(Debug, Default)]
pub(crate) struct Register {
    owners: BTreeMap<String, DeploymentKey>,
    /// Starts so far, those of earlier controllers that are known of included.
    starts: u64,
}

impl Register {
    pub(crate) fn owner(&self, replica_id: &str) -> Option<&DeploymentKey> {
        self.owners.get(replica_id)
    }

    pub(crate) fn len(&self) -> usize {
        self.owners.len()
    }

    /// The position of a new replica among all starts.
    pub(crate) fn count_start(&mut self) -> u64 {
        self.starts += 1;
        self.starts
    }

    /// Another controller has counted this far.
    pub(crate) fn starts_before(&mut self, order: u64) {
        self.starts = self.starts.max(order);
    }

    pub(crate) fn enter(&mut self, replica_id: &str, deployment: &DeploymentKey) {
        let before = self
            .owners
            .insert(replica_id.to_owned(), deployment.clone());
        debug_assert!(before.is_none(), "replica {replica_id} is entered twice");
    }

    pub(crate) fn strike(&mut self, replica_id: &str) {
        let before = self.owners.remove(replica_id);
        debug_assert!(before.is_some(), "replica {replica_id} is struck twice");
    }
}
