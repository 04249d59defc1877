//! Drivers, the command line and processes with handles with the controller: [`ApiRequest`], [`ApiResponse`].

use super::{
    ApplicationSpec, ApplicationStatus, Applied, Apply, Built, Empty, Events, EventsRequest,
    History, Loads, Planned, PolicyHost, PolicyQuestion, Scale, Status, TargetUpdate, Unreachable,
    WhatIf, WhatIfAnswer,
};

/// To the controller, on `controller.sock`. The frame's sequence number names the call; the answers carry it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ApiRequest {
    #[prost(
        oneof = "api_request::Body",
        tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 40"
    )]
    pub body: Option<api_request::Body>,
}

pub mod api_request {
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Body {
        /// Answered by `Deployed` once the revision is durable.
        #[prost(message, tag = "1")]
        Deploy(super::ApplicationSpec),
        /// Answered by `Settled` once the application's newest revision is `RUNNING` or `DEPLOY_FAILED`.
        #[prost(message, tag = "2")]
        AwaitApplication(super::AwaitApplication),
        /// Answered by `Done` once the application is gone; an unknown name is gone.
        #[prost(string, tag = "3")]
        Delete(String),
        #[prost(message, tag = "4")]
        Status(super::Empty),
        /// Answered by a stream of `Target`: a snapshot, then deltas.
        #[prost(message, tag = "5")]
        WatchTargets(super::Empty),
        /// Back to the named revision, code and all. Answered by `Deployed`.
        #[prost(message, tag = "6")]
        Rollback(super::Rollback),
        /// Deletes every application, answered by `Done`; the node goes on.
        #[prost(message, tag = "7")]
        DeleteAll(super::Empty),
        /// Deletes an application, answered by `Done` once that is durable: what is asked for later comes later.
        #[prost(string, tag = "8")]
        BeginDelete(String),
        /// Answered by `Done` once the application is gone, or has been deployed again. Deletes nothing.
        #[prost(string, tag = "9")]
        AwaitDeleted(String),
        /// From a process with handles. Not answered.
        #[prost(message, tag = "10")]
        Unreachable(super::Unreachable),
        /// Answered by `Applied` once what is declared is durable: before anything is built.
        #[prost(message, tag = "11")]
        Apply(super::Apply),
        /// Answered by `Planned` once everything is built that must be, to be compared. Changes nothing.
        #[prost(message, tag = "12")]
        Plan(super::Apply),
        /// From a build process. Answered by `Done`.
        #[prost(message, tag = "13")]
        Built(super::Built),
        /// The revisions of one application, or of all (empty). Answered by `History`.
        #[prost(string, tag = "14")]
        History(String),
        #[prost(message, tag = "15")]
        Events(super::EventsRequest),
        /// Answered by `Done` once it is durable.
        #[prost(message, tag = "16")]
        Scale(super::Scale),
        /// What the threads of this replica are doing now. Answered by `Stacks`.
        #[prost(string, tag = "17")]
        Stacks(String),
        /// Answered by `Planned`: what leads from one revision of an application to another.
        #[prost(message, tag = "18")]
        Compare(super::Compare),
        /// From a process with handles: a whole one on each connection, then what changes within 50 ms. Not answered;
        /// it counts until the connection ends.
        #[prost(message, tag = "19")]
        Loads(super::Loads),
        /// Answered by `WhatIf`. Changes nothing.
        #[prost(message, tag = "20")]
        WhatIf(super::WhatIf),
        /// From a policy host. Answered by `PolicyQuestion` when there is one to ask.
        #[prost(message, tag = "40")]
        Policy(super::PolicyHost),
    }
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct AwaitApplication {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub revision: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Rollback {
    #[prost(string, tag = "1")]
    pub application: String,
    /// Empty: the revision before the current one. Else the hash of one, or its number as `r12`.
    #[prost(string, tag = "2")]
    pub revision: String,
    #[prost(string, tag = "3")]
    pub author: String,
    #[prost(string, tag = "4")]
    pub message: String,
}

/// Two revisions, named as in [`Rollback`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Compare {
    #[prost(string, tag = "1")]
    pub application: String,
    #[prost(string, tag = "2")]
    pub from: String,
    #[prost(string, tag = "3")]
    pub to: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ApiResponse {
    #[prost(
        oneof = "api_response::Body",
        tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 40"
    )]
    pub body: Option<api_response::Body>,
}

pub mod api_response {
    #[derive(Clone, PartialEq, prost::Oneof)]
    #[expect(
        clippy::large_enum_variant,
        reason = "one at a time, and soon taken apart"
    )]
    pub enum Body {
        /// The call failed; nothing was changed.
        #[prost(message, tag = "1")]
        Error(super::ApiError),
        #[prost(message, tag = "2")]
        Deployed(super::Deployed),
        #[prost(message, tag = "3")]
        Settled(super::ApplicationStatus),
        #[prost(message, tag = "4")]
        Done(super::Empty),
        #[prost(message, tag = "5")]
        Status(super::Status),
        #[prost(message, tag = "6")]
        Target(super::TargetUpdate),
        #[prost(message, tag = "7")]
        Applied(super::Applied),
        #[prost(message, tag = "8")]
        Planned(super::Planned),
        #[prost(message, tag = "9")]
        History(super::History),
        #[prost(message, tag = "10")]
        Events(super::Events),
        #[prost(message, tag = "11")]
        Stacks(super::ReplicaStacks),
        #[prost(message, tag = "12")]
        WhatIf(super::WhatIfAnswer),
        #[prost(message, tag = "40")]
        Policy(super::PolicyQuestion),
    }
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ReplicaStacks {
    #[prost(string, tag = "1")]
    pub replica_id: String,
    /// The thread of the event loop first, in each the innermost call first.
    #[prost(string, tag = "2")]
    pub stacks: String,
    /// Wall clock, seconds.
    #[prost(double, tag = "3")]
    pub at_s: f64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ApiError {
    /// `invalid`: the request is wrong. `conflict`: it collides with what runs. `not_found`. `internal`.
    #[prost(string, tag = "1")]
    pub kind: String,
    #[prost(string, tag = "2")]
    pub message: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Deployed {
    #[prost(string, tag = "1")]
    pub revision: String,
    /// For people: which deployments roll and why, which keep their replicas.
    #[prost(string, repeated, tag = "2")]
    pub notes: Vec<String>,
    /// Its number in the history.
    #[prost(uint64, tag = "3")]
    pub number: u64,
    /// The number that it goes back to; 0: it was no rollback.
    #[prost(uint64, tag = "4")]
    pub rollback_of: u64,
}
