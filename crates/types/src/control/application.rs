//! What is deployed: a revision of an application, whole.

use super::DeploymentOptions;

/// One immutable state of an application: a revision. Blobs are named by the hex SHA-256 of their bytes and lie
/// in the node's blob directory before the request is sent.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ApplicationSpec {
    #[prost(string, tag = "1")]
    pub name: String,
    /// Empty: not reachable over HTTP.
    #[prost(string, tag = "2")]
    pub route_prefix: String,
    /// Hash over everything below.
    #[prost(string, tag = "3")]
    pub revision: String,
    /// Name of the ingress deployment.
    #[prost(string, tag = "4")]
    pub ingress: String,
    #[prost(message, repeated, tag = "5")]
    pub deployments: Vec<DeploymentSpec>,
    /// Blob with the captured code; empty when unsealed.
    #[prost(string, tag = "6")]
    pub code_blob: String,
    /// What the code blob holds, so that a log line can name the file that changed.
    #[prost(message, repeated, tag = "7")]
    pub code_files: Vec<CodeFile>,
    #[prost(string, tag = "8")]
    pub python: String,
    #[prost(string, tag = "9")]
    pub working_directory: String,
    #[prost(string, repeated, tag = "10")]
    pub sys_path: Vec<String>,
    /// Environment of the replicas, over the node's own.
    #[prost(btree_map = "string, string", tag = "11")]
    pub environment: std::collections::BTreeMap<String, String>,
    /// As in [`Spawn`].
    #[prost(string, tag = "12")]
    pub bootstrap: String,
    /// JSON of the policy that says for all deployments that scale how many replicas they need; empty: each by itself.
    #[prost(string, tag = "20")]
    pub autoscaling_policy: String,
    /// Replicas are scaled by those who ask for it over REST.
    #[prost(bool, tag = "21")]
    pub external_scaler_enabled: bool,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CodeFile {
    #[prost(string, tag = "1")]
    pub path: String,
    #[prost(string, tag = "2")]
    pub sha256: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct DeploymentSpec {
    #[prost(string, tag = "1")]
    pub name: String,
    /// Identity of what a replica runs: a new one means new processes.
    #[prost(string, tag = "2")]
    pub version: String,
    #[prost(string, tag = "3")]
    pub callable_blob: String,
    #[prost(message, required, tag = "4")]
    pub options: DeploymentOptions,
    /// Why this version could not be compared with the one before ("the closure of X cannot be hashed"); or empty.
    #[prost(string, tag = "5")]
    pub version_note: String,
    /// Deployments of the application that it has handles of, as far as its arguments tell.
    #[prost(string, repeated, tag = "6")]
    pub calls: Vec<String>,
    /// Installed packages that its code names, with their versions.
    #[prost(btree_map = "string, string", tag = "7")]
    pub packages: std::collections::BTreeMap<String, String>,
    /// JSON of its `autoscaling_config`; empty: none, and its number of replicas is what is stated.
    #[prost(string, tag = "8")]
    pub autoscaling_config: String,
    /// Blob with the pickle of its policy, where that is no name to import; else empty.
    #[prost(string, tag = "20")]
    pub policy_blob: String,
}
