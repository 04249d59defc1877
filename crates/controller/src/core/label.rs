//! What the node keeps of a replica for the controller's successor.

use eagleray_types::{DeploymentKey, control::ResourceShare};

use crate::books::{deployment::Deployment, replica::Replica};

/// See the module.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Label {
    #[prost(message, required, tag = "1")]
    pub deployment: DeploymentKey,
    #[prost(string, tag = "2")]
    pub version: String,
    /// Blob of the revision that it was started for.
    #[prost(string, tag = "3")]
    pub revision_blob: String,
    #[prost(uint32, tag = "4")]
    pub rank: u32,
    /// Position among all starts of the epoch.
    #[prost(uint64, tag = "5")]
    pub order: u64,
    /// For a replica that nobody wants any more.
    #[prost(uint64, tag = "6")]
    pub grace_milliseconds: u64,
    /// Wall clock, seconds, only shown; 0: an earlier release has not kept it.
    #[prost(double, tag = "7")]
    pub started_at_s: f64,
    /// What it holds of the node.
    #[prost(message, optional, tag = "8")]
    pub share: Option<ResourceShare>,
    /// Not 0: it is no replica but this build of the application.
    #[prost(uint64, tag = "10")]
    pub build: u64,
    /// It is no replica but a process of the application's autoscaling policies.
    #[prost(bool, tag = "11")]
    pub policy_host: bool,
}

impl Label {
    pub(super) fn of(deployment: &Deployment, replica: &Replica) -> Self {
        Self {
            deployment: deployment.key.clone(),
            version: replica.spec.version().to_owned(),
            revision_blob: replica.spec.revision().blob.clone(),
            rank: replica.rank,
            order: replica.order,
            grace_milliseconds: replica.grace_milliseconds(),
            started_at_s: replica.started_at_s,
            share: Some(replica.share.clone()),
            build: 0,
            policy_host: false,
        }
    }
}
