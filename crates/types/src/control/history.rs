//! What has happened: revisions with their receipts, and events.

use super::{Failure, PlannedDeployment};

/// Newest first.
#[derive(Clone, PartialEq, prost::Message)]
pub struct History {
    #[prost(message, repeated, tag = "1")]
    pub revisions: Vec<RevisionRecord>,
}

/// One deploy of one application.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RevisionRecord {
    #[prost(string, tag = "1")]
    pub application: String,
    /// Counts up from 1 in each application: shown as `r12`.
    #[prost(uint64, tag = "2")]
    pub number: u64,
    /// Hash of what was deployed: two numbers of one hash are one state.
    #[prost(string, tag = "3")]
    pub revision: String,
    /// Wall clock, seconds.
    #[prost(double, tag = "4")]
    pub deployed_at_s: f64,
    #[prost(string, tag = "5")]
    pub author: String,
    #[prost(string, tag = "6")]
    pub message: String,
    /// `deploying`, `running`, `failed`, `rolled_back`, `superseded` (another deploy came before it was up), `deleted`.
    #[prost(string, tag = "7")]
    pub result: String,
    #[prost(message, optional, tag = "8")]
    pub receipt: Option<Receipt>,
    /// What changed against the one before, for people.
    #[prost(string, repeated, tag = "9")]
    pub changed: Vec<String>,
    /// `declarative` (a file, REST), `imperative` (`serve.run`), `rollback`.
    #[prost(string, tag = "10")]
    pub source: String,
    /// What was declared, as JSON; empty for an imperative one.
    #[prost(string, tag = "11")]
    pub config: String,
    /// The number that a rollback went back to; 0: no rollback.
    #[prost(uint64, tag = "12")]
    pub rollback_of: u64,
    /// It is the application's target.
    #[prost(bool, tag = "13")]
    pub current: bool,
    #[prost(message, optional, tag = "14")]
    pub failure: Option<Failure>,
    /// Top-level settings it was deployed with, as JSON.
    #[prost(string, tag = "15")]
    pub node_options: String,
}

/// What a deploy has done, and what it has cost.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Receipt {
    /// Wall clock, seconds.
    #[prost(double, tag = "1")]
    pub began_at_s: f64,
    #[prost(double, tag = "2")]
    pub ended_at_s: f64,
    #[prost(message, repeated, tag = "3")]
    pub deployments: Vec<PlannedDeployment>,
    /// Requests that began between the two times and were answered, with a status below 500.
    #[prost(uint64, tag = "4")]
    pub answered: u64,
    /// Requests that began between the two times and got a status from 500 on, ours or user code's, or a broken answer.
    #[prost(uint64, tag = "5")]
    pub failed: u64,
    /// Requests that began between the two times and still run.
    #[prost(uint64, tag = "6")]
    pub running: u64,
    #[prost(bool, tag = "7")]
    pub build_skipped: bool,
    #[prost(uint64, tag = "8")]
    pub build_milliseconds: u64,
    /// Requests that began between the two times and that their client gave up, or that broke a rule.
    #[prost(uint64, tag = "9")]
    pub left: u64,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct EventsRequest {
    /// Events after this number; 0: from the oldest that is kept.
    #[prost(uint64, tag = "1")]
    pub since: u64,
    /// At most so many; 0: as many as one answer holds.
    #[prost(uint32, tag = "2")]
    pub limit: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Events {
    #[prost(message, repeated, tag = "1")]
    #[expect(clippy::struct_field_names, reason = "events are what it has")]
    pub events: Vec<EventRecord>,
    /// `since` of the next request.
    #[prost(uint64, tag = "2")]
    pub next: u64,
    /// Events before the first of these that are not kept any more.
    #[prost(uint64, tag = "3")]
    pub lost: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct EventRecord {
    #[prost(uint64, tag = "1")]
    pub number: u64,
    /// Wall clock, seconds.
    #[prost(double, tag = "2")]
    pub at_s: f64,
    /// `deploy`, `build`, `replica`, `health`, `scale`, `config`, `node`.
    #[prost(string, tag = "3")]
    pub kind: String,
    /// `info`, `warning`, `error`.
    #[prost(string, tag = "4")]
    pub level: String,
    #[prost(string, tag = "5")]
    pub application: String,
    #[prost(string, tag = "6")]
    pub deployment: String,
    #[prost(string, tag = "7")]
    pub replica_id: String,
    #[prost(string, tag = "8")]
    pub message: String,
}
