//! What a config declares, how it becomes code, and what of it would change: of files, REST and the command line.

use std::collections::BTreeMap;

use super::ApplicationSpec;

/// A config that was checked against its schema, to be built and deployed.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Apply {
    #[prost(message, repeated, tag = "1")]
    pub applications: Vec<DeclaredApplication>,
    /// What the config states beside the applications, as JSON (`eagleray_config::Config::node`).
    #[prost(string, tag = "2")]
    pub node_options: String,
    #[prost(message, required, tag = "3")]
    pub place: BuildPlace,
    /// Who asks, for the history.
    #[prost(string, tag = "4")]
    pub author: String,
    /// Why, for the history.
    #[prost(string, tag = "5")]
    pub message: String,
    /// Import the code although nothing that the last build has read has changed.
    #[prost(bool, tag = "6")]
    pub rebuild: bool,
    /// Refuse unless what would happen is what this plan showed; empty: no plan.
    #[prost(string, tag = "7")]
    pub plan: String,
    /// This is all that shall be declared: what was declared before and is not named is deleted.
    #[prost(bool, tag = "8")]
    pub whole: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct DeclaredApplication {
    #[prost(string, tag = "1")]
    pub name: String,
    /// All that is stated of it, as canonical JSON (`eagleray_config::Application::canonical`).
    #[prost(string, tag = "2")]
    pub config: String,
}

/// Where code is imported, and by which interpreter. What is empty is the node's own.
#[derive(Clone, PartialEq, prost::Message)]
pub struct BuildPlace {
    /// First on the path, and the working directory of replicas.
    #[prost(string, tag = "1")]
    pub app_directory: String,
    /// After it on the path: `PYTHONPATH` of whoever deploys.
    #[prost(string, repeated, tag = "2")]
    pub python_path: Vec<String>,
    #[prost(string, tag = "3")]
    pub python: String,
    /// Variables of whoever deploys that replicas shall see; over the node's own.
    #[prost(btree_map = "string, string", tag = "4")]
    pub environment: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Applied {
    /// Names this apply in [`ApplicationStatus::deploy`](super::ApplicationStatus); counts up.
    #[prost(uint64, tag = "1")]
    pub deploy: u64,
    /// Applications that are being built now.
    #[prost(string, repeated, tag = "2")]
    pub building: Vec<String>,
    #[prost(string, repeated, tag = "3")]
    pub deleted: Vec<String>,
    /// For people.
    #[prost(string, repeated, tag = "4")]
    pub warnings: Vec<String>,
}

/// How a build ended.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Built {
    /// Which: given to the process when it was started.
    #[prost(uint64, tag = "1")]
    pub build: u64,
    /// None: it failed.
    #[prost(message, optional, tag = "2")]
    pub spec: Option<ApplicationSpec>,
    #[prost(message, optional, tag = "3")]
    pub failure: Option<Failure>,
    /// Nothing was imported: all that the last build has read is as it was.
    #[prost(bool, tag = "4")]
    pub skipped: bool,
    /// For people.
    #[prost(string, repeated, tag = "5")]
    pub warnings: Vec<String>,
    #[prost(uint64, tag = "6")]
    pub took_milliseconds: u64,
}

/// What went wrong, where, and what to do next: the one error object of REST and the command line.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Failure {
    /// A stable word, such as `import_failed`.
    #[prost(string, tag = "1")]
    pub code: String,
    #[prost(string, tag = "2")]
    pub message: String,
    /// `models/rank.py:41`; or empty.
    #[prost(string, tag = "3")]
    pub place: String,
    #[prost(string, tag = "4")]
    pub help: String,
}

/// What an [`Apply`] would do.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Planned {
    /// Names this plan in a later [`Apply`].
    #[prost(string, tag = "1")]
    pub plan: String,
    #[prost(message, repeated, tag = "2")]
    pub applications: Vec<PlannedApplication>,
    #[prost(string, repeated, tag = "3")]
    pub warnings: Vec<String>,
    /// What of `http_options` would hold anew, for people: `request_timeout_s 10 -> 30`.
    #[prost(string, repeated, tag = "4")]
    pub http_options: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct PlannedApplication {
    #[prost(string, tag = "1")]
    pub name: String,
    /// `new`, `update`, `unchanged`, `delete`, `failed`.
    #[prost(string, tag = "2")]
    pub change: String,
    /// Number of the present revision; 0: none.
    #[prost(uint64, tag = "3")]
    pub from: u64,
    #[prost(message, repeated, tag = "4")]
    pub deployments: Vec<PlannedDeployment>,
    /// What changed, for people: files, options of the application.
    #[prost(string, repeated, tag = "5")]
    pub changed: Vec<String>,
    #[prost(message, optional, tag = "6")]
    pub failure: Option<Failure>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PlannedDeployment {
    #[prost(string, tag = "1")]
    pub name: String,
    /// `new`, `restart`, `in_place`, `untouched`, `delete`.
    #[prost(string, tag = "2")]
    pub change: String,
    /// For people: `code models/rank.py`, `max_ongoing_requests 5 -> 20`.
    #[prost(string, repeated, tag = "3")]
    pub reasons: Vec<String>,
    #[prost(uint32, tag = "4")]
    pub replicas_before: u32,
    #[prost(uint32, tag = "5")]
    pub replicas_after: u32,
}

/// Another number of replicas, until a deploy states another.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Scale {
    #[prost(string, tag = "1")]
    pub application: String,
    #[prost(string, tag = "2")]
    pub deployment: String,
    #[prost(uint32, tag = "3")]
    pub replicas: u32,
}
