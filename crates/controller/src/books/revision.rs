//! Revisions: what an application shall be, as it was deployed once.

use std::sync::Arc;

use eagleray_types::control::{ApplicationSpec, DeploymentOptions, DeploymentSpec};
use prost::Message as _;

use crate::store::sha256_hex;

/// One immutable state of an application, with the name of the blob that keeps it.
#[derive(Debug)]
pub struct Revision {
    pub spec: ApplicationSpec,
    /// Hex SHA-256 of the encoded spec.
    pub blob: String,
}

/// The name of the blob says all: it is a hash.
impl PartialEq for Revision {
    fn eq(&self, other: &Self) -> bool {
        self.blob == other.blob
    }
}

impl Revision {
    pub fn new(spec: ApplicationSpec) -> Self {
        let blob = sha256_hex(&spec.encode_to_vec());
        Self { spec, blob }
    }

    pub(crate) fn find_spec(&self, deployment: &str) -> Option<&DeploymentSpec> {
        let mut deployments = self.spec.deployments.iter();
        deployments.find(|spec| spec.name == deployment)
    }

    pub(crate) fn find(self: &Arc<Self>, deployment: &str) -> Option<VersionSpec> {
        let index = self
            .spec
            .deployments
            .iter()
            .position(|spec| spec.name == deployment)?;
        Some(VersionSpec {
            revision: Arc::clone(self),
            index,
        })
    }

    /// The names of every file that a replica of this revision needs.
    pub(crate) fn files(&self) -> impl Iterator<Item = &str> {
        Self::files_of(&self.spec)
    }

    pub(crate) fn files_of(spec: &ApplicationSpec) -> impl Iterator<Item = &str> {
        let callables = spec.deployments.iter();
        callables
            .flat_map(|one| [one.callable_blob.as_str(), one.policy_blob.as_str()])
            .chain([spec.code_blob.as_str()])
            .filter(|name| !name.is_empty())
    }
}

/// One deployment of one revision.
#[derive(Clone, Debug)]
pub(crate) struct VersionSpec {
    revision: Arc<Revision>,
    index: usize,
}

impl VersionSpec {
    pub(crate) fn revision(&self) -> &Arc<Revision> {
        &self.revision
    }

    pub(crate) fn application(&self) -> &ApplicationSpec {
        &self.revision.spec
    }

    pub(crate) fn deployment(&self) -> &DeploymentSpec {
        &self.revision.spec.deployments[self.index]
    }

    pub(crate) fn version(&self) -> &str {
        &self.deployment().version
    }

    pub(crate) fn options(&self) -> &DeploymentOptions {
        &self.deployment().options
    }

    /// How many replicas it has follows from its load.
    pub(crate) fn scales(&self) -> bool {
        !self.deployment().autoscaling_config.is_empty()
    }

    pub(crate) fn same_revision(&self, other: &Self) -> bool {
        self.revision.blob == other.revision.blob
    }
}
