//! Node and proxy: [`ProxyCommand`], [`ProxyEvent`], and what they carry.

use std::fmt;

use super::{AppliedUpdate, Empty, Loads, Unreachable};

#[derive(Clone, PartialEq, prost::Message)]
pub struct ProxyCommand {
    #[prost(oneof = "proxy_command::Body", tags = "1, 2, 3, 4, 5, 6")]
    pub body: Option<proxy_command::Body>,
}

pub mod proxy_command {
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Body {
        /// An encoded [`super::TargetUpdate`].
        #[prost(bytes, tag = "1")]
        Update(Vec<u8>),
        /// Stop accepting, finish what runs, exit.
        #[prost(message, tag = "2")]
        Drain(super::Empty),
        /// All that is known has been sent: begin to accept connections. Until then they wait in the backlog, so
        /// that a new proxy answers nobody from less than its predecessor knew.
        #[prost(message, tag = "3")]
        Accept(super::Empty),
        /// Answered by `Counted`.
        #[prost(message, tag = "4")]
        Count(super::Empty),
        /// Answered by `Turns`.
        #[prost(message, tag = "5")]
        LookWhetherItTurns(super::Empty),
        /// Answered by `Configured`. Sent before `Accept`, so that nobody is answered by what a predecessor had been told
        /// anew.
        #[prost(message, tag = "6")]
        Configure(super::ConfigureProxy),
    }
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ProxyEvent {
    #[prost(oneof = "proxy_event::Body", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9")]
    pub body: Option<proxy_event::Body>,
}

pub mod proxy_event {
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Body {
        /// The answer to `Accept`: connections are accepted.
        #[prost(message, tag = "1")]
        Ready(super::Empty),
        /// A gap in the numbers.
        #[prost(message, tag = "2")]
        SnapshotWanted(super::Empty),
        /// Every thread has applied this update.
        #[prost(message, tag = "3")]
        Applied(super::AppliedUpdate),
        /// The answer to `Count`.
        #[prost(message, tag = "4")]
        Counted(super::ProxyCounters),
        #[prost(message, tag = "5")]
        Unreachable(super::Unreachable),
        /// The answer to `LookWhetherItTurns`, when every thread has turned.
        #[prost(message, tag = "6")]
        Turns(super::Empty),
        /// What has changed of requests that are counted under marks. Sent unasked: before `Applied`, so that what is
        /// known of a mark when it was taken away is all that has begun under it, and a few times a second.
        #[prost(message, tag = "7")]
        Tallied(super::Tallies),
        /// Of one thread. Sent unasked: after a snapshot of targets a whole one, before its `Applied`, and what changes
        /// within 50 ms.
        #[prost(message, tag = "8")]
        Loads(super::Loads),
        /// The answer to `Configure`, and sent unasked when files that belong to the settings have changed.
        #[prost(message, tag = "9")]
        Configured(super::ProxyConfigured),
    }
}

/// What a proxy goes by from now on.
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub struct ConfigureProxy {
    /// The keys of `http_options` as JSON, whole; empty: as the proxy was started.
    #[prost(string, tag = "1")]
    pub settings: String,
    /// For the answer.
    #[prost(uint64, tag = "2")]
    pub number: u64,
    /// The last `kept` of a predecessor, for files that cannot be used any more.
    #[prost(bytes = "vec", tag = "3")]
    pub kept: Vec<u8>,
}

impl fmt::Debug for ConfigureProxy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("ConfigureProxy");
        shown.field("settings", &self.settings);
        shown.field("number", &self.number).finish_non_exhaustive()
    }
}

/// What a proxy goes by.
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub struct ProxyConfigured {
    /// Of the `Configure` that was carried out last; 0: none was.
    #[prost(uint64, tag = "1")]
    pub number: u64,
    /// What of it could not be, for people; what held before holds then. Empty: all could.
    #[prost(string, tag = "2")]
    pub problem: String,
    /// Files have changed, and were taken.
    #[prost(string, tag = "3")]
    pub renewed: String,
    /// Secret: for a successor, as `ConfigureProxy` has it. Empty: as it was.
    #[prost(bytes = "vec", tag = "4")]
    pub kept: Vec<u8>,
}

impl fmt::Debug for ProxyConfigured {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("ProxyConfigured");
        shown.field("number", &self.number);
        shown.field("problem", &self.problem);
        shown
            .field("renewed", &self.renewed)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Tallies {
    /// The proxy; each counts from 0.
    #[prost(uint32, tag = "1")]
    pub pid: u32,
    #[prost(message, repeated, tag = "2")]
    #[expect(clippy::struct_field_names, reason = "tallies are what it has")]
    pub tallies: Vec<Tally>,
    /// Said by the node: the proxy is gone, and what it had not answered never will be.
    #[prost(bool, tag = "3")]
    pub gone: bool,
}

/// What became of the requests that began under one [`Mark`](super::Mark). Those that are nothing else still run.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Tally {
    #[prost(string, tag = "1")]
    pub application: String,
    #[prost(uint64, tag = "2")]
    pub mark: u64,
    #[prost(uint64, tag = "3")]
    pub began: u64,
    /// To the end, with a status below 500.
    #[prost(uint64, tag = "4")]
    pub answered: u64,
    /// With a status from 500 on, ours or user code's, or an answer that broke off.
    #[prost(uint64, tag = "5")]
    pub failed: u64,
    /// Their client left, or broke a rule.
    #[prost(uint64, tag = "6")]
    pub left: u64,
}

/// What one proxy process has counted since it started. The names are those of `docs/limits.md`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ProxyCounters {
    #[prost(uint32, tag = "1")]
    pub pid: u32,
    #[prost(btree_map = "string, uint64", tag = "2")]
    pub counters: std::collections::BTreeMap<String, u64>,
}
