//! Drivers and the command line with a node: [`NodeRequest`], [`NodeResponse`], and what they carry.

use super::{ApiError, Empty, ProxyCounters, Why};
use crate::DeploymentKey;

/// To the node, on `node.sock`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct NodeRequest {
    #[prost(oneof = "node_request::Body", tags = "1, 2, 3, 4")]
    pub body: Option<node_request::Body>,
}

pub mod node_request {
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Body {
        #[prost(message, tag = "1")]
        Info(super::Empty),
        /// Answered by a stream of `Output`; lines written before the call are not repeated.
        #[prost(message, tag = "2")]
        WatchOutput(super::Empty),
        /// Ends the node in order; answered by `Done` before it goes.
        #[prost(message, tag = "3")]
        Shutdown(super::Empty),
        /// Answered by `Counters`.
        #[prost(message, tag = "4")]
        Count(super::Empty),
    }
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct NodeResponse {
    #[prost(oneof = "node_response::Body", tags = "1, 2, 3, 4, 5")]
    pub body: Option<node_response::Body>,
}

pub mod node_response {
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Body {
        #[prost(message, tag = "1")]
        Error(super::ApiError),
        #[prost(message, tag = "2")]
        Info(super::NodeInfo),
        #[prost(message, tag = "3")]
        Output(super::Output),
        #[prost(message, tag = "4")]
        Done(super::Empty),
        #[prost(message, tag = "5")]
        Counters(super::NodeCounters),
    }
}

/// What each proxy has counted. One that does not run has nothing to say: its totals went with it.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct NodeCounters {
    #[prost(message, repeated, tag = "1")]
    pub proxies: Vec<ProxyCounters>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct NodeInfo {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(uint32, tag = "2")]
    pub pid: u32,
    /// `http://127.0.0.1:8000`, with the port that was bound.
    #[prost(string, tag = "3")]
    pub http_address: String,
    #[prost(string, tag = "4")]
    pub run_directory: String,
    #[prost(string, tag = "5")]
    pub blob_directory: String,
    #[prost(string, tag = "6")]
    pub controller_socket_path: String,
    /// The script that owns the node; 0 for a resident one.
    #[prost(uint32, tag = "7")]
    pub owner_pid: u32,
    #[prost(string, tag = "8")]
    pub node_id: String,
    #[prost(string, tag = "9")]
    pub log_directory: String,
    /// `HEALTHY`, `STARTING` while the proxy is away, `UNHEALTHY` while it keeps dying.
    #[prost(string, tag = "10")]
    pub proxy_status: String,
    /// What is wrong with processes of the node.
    #[prost(message, repeated, tag = "11")]
    pub why: Vec<Why>,
    /// `http://127.0.0.1:8265`, with the port that was bound.
    #[prost(string, tag = "12")]
    pub control_address: String,
    /// Wall clock, seconds.
    #[prost(double, tag = "13")]
    pub started_at_s: f64,
}

/// One line that a replica wrote.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Output {
    #[prost(string, tag = "1")]
    pub replica_id: String,
    #[prost(message, optional, tag = "2")]
    pub deployment: Option<DeploymentKey>,
    /// Without the newline; not valid UTF-8 is replaced.
    #[prost(string, tag = "3")]
    pub line: String,
    #[prost(bool, tag = "4")]
    pub stderr: bool,
    /// Lines lost just before this one because the buffer was full.
    #[prost(uint64, tag = "5")]
    pub lost: u64,
}
