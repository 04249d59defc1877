//! How a deployment follows its load: what the status says of it, and the question of what another configuration would do.

/// What was measured of a deployment that scales, what it asks for, and what holds it back.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AutoscalingStatus {
    /// JSON of its `autoscaling_config`: the keys that are stated.
    #[prost(string, tag = "1")]
    pub config: String,
    /// Between these it moves.
    #[prost(uint32, tag = "2")]
    pub min_replicas: u32,
    #[prost(uint32, tag = "3")]
    pub max_replicas: u32,
    #[prost(double, tag = "4")]
    pub target_ongoing_requests: f64,
    /// So many shall run.
    #[prost(uint32, tag = "5")]
    pub replicas: u32,
    /// So many serve.
    #[prost(uint32, tag = "6")]
    pub ready: u32,
    /// So many the load asks for now, before delays and bounds.
    #[prost(uint32, tag = "7")]
    pub asked: u32,
    /// Requests that wait in routers, and those that replicas have.
    #[prost(uint64, tag = "8")]
    pub queued: u64,
    #[prost(uint64, tag = "9")]
    pub running: u64,
    /// Every router has said what it has.
    #[prost(bool, tag = "10")]
    pub heard_all: bool,
    /// Why it is not what the load asks for; empty: it is.
    #[prost(string, tag = "11")]
    pub hold: String,
    /// The last one first, ten at most.
    #[prost(message, repeated, tag = "12")]
    pub decisions: Vec<AutoscalingDecision>,
    /// What says how many are needed; empty: the load does.
    #[prost(string, tag = "20")]
    pub policy: String,
    /// Why that says nothing that can be meant; empty: it does.
    #[prost(string, tag = "21")]
    pub policy_error: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct AutoscalingDecision {
    /// Wall clock, seconds.
    #[prost(double, tag = "1")]
    pub at_s: f64,
    #[prost(uint32, tag = "2")]
    pub from: u32,
    #[prost(uint32, tag = "3")]
    pub to: u32,
    #[prost(string, tag = "4")]
    pub reason: String,
}

/// How does this deployment follow its load, and what would be if these keys were other ones?
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct WhatIf {
    #[prost(string, tag = "1")]
    pub application: String,
    #[prost(string, tag = "2")]
    pub deployment: String,
    /// JSON of an object with keys of `autoscaling_config`; empty: as it is.
    #[prost(string, tag = "3")]
    pub changes: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct WhatIfAnswer {
    #[prost(message, required, tag = "1")]
    pub status: AutoscalingStatus,
    /// With the changes; none without any.
    #[prost(message, optional, tag = "2")]
    pub what_if: Option<Supposed>,
}

/// What the same load would do.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Supposed {
    /// So many would run once all delays are over, if the load stays as it is.
    #[prost(uint32, tag = "1")]
    pub replicas: u32,
    /// So many at once.
    #[prost(uint32, tag = "2")]
    pub replicas_now: u32,
    #[prost(uint32, tag = "3")]
    pub asked: u32,
    #[prost(string, tag = "4")]
    pub hold: String,
}

/// From a policy host: its answer to the last question, and the wish for the next one, which is the answer to this.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PolicyHost {
    /// The id of its process.
    #[prost(string, tag = "1")]
    pub host: String,
    /// The question that is answered; 0: none was asked yet.
    #[prost(uint64, tag = "2")]
    pub question: u64,
    #[prost(message, repeated, tag = "3")]
    pub answers: Vec<PolicyAnswer>,
    /// What its policies keep from one question to the next, for the host after this; opaque, and none where that is as
    /// before.
    #[prost(bytes = "vec", optional, tag = "4")]
    pub kept: Option<Vec<u8>>,
}

/// What a policy says of one deployment.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PolicyAnswer {
    #[prost(string, tag = "1")]
    pub deployment: String,
    /// A number as text, as Python writes it; empty: nothing, and the number stays.
    #[prost(string, tag = "2")]
    pub replicas: String,
    /// Why there is none; empty: nothing is wrong.
    #[prost(string, tag = "3")]
    pub error: String,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PolicyQuestion {
    #[prost(uint64, tag = "1")]
    pub question: u64,
    /// What is known of each deployment, as JSON.
    #[prost(string, tag = "2")]
    pub contexts: String,
    /// What the host before this kept; for the first question of a host.
    #[prost(bytes = "vec", optional, tag = "3")]
    pub kept: Option<Vec<u8>>,
}
