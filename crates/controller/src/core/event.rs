//! What happens to the core.

use eagleray_types::{
    NodeId,
    control::{
        ApplicationSpec, Apply, AwaitApplication, Built, Compare, EventsRequest, Loads, PolicyHost,
        Rollback, Scale, Unreachable, WhatIf, node_event,
    },
};

use crate::books::planning::Planning;

/// One call of one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId {
    pub connection: u64,
    /// The sequence number of the frame that made the call.
    pub sequence: u64,
}

/// Whose deploy it is, and what the history keeps of where it came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    pub source: Source,
    pub author: String,
    pub message: String,
    /// What was declared, as JSON; empty: nothing was.
    pub config: String,
    /// Top-level settings that were declared beside it, as JSON.
    pub node_options: String,
    /// The number that it goes back to; 0: it does not.
    pub rollback_of: u64,
    /// What its build was.
    pub build_skipped: bool,
    pub build_milliseconds: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// `serve.run`.
    #[default]
    Imperative,
    /// A file, REST.
    Declarative,
    Rollback,
}

impl Source {
    pub const fn word(self) -> &'static str {
        match self {
            Self::Imperative => "imperative",
            Self::Declarative => "declarative",
            Self::Rollback => "rollback",
        }
    }
}

/// What a client asks to be changed.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "few at a time, and soon taken apart"
)]
pub enum Request {
    Deploy {
        spec: ApplicationSpec,
        origin: Box<Origin>,
    },
    Rollback {
        rollback: Rollback,
    },
    Scale {
        scale: Scale,
    },
    /// Answered when it is gone.
    Delete {
        name: String,
    },
    DeleteAll,
    /// As `Delete`, answered when it is accepted.
    BeginDelete {
        name: String,
    },
    /// A config, to be built and deployed.
    Apply(Box<Apply>),
    /// The same to be shown, and not done.
    Plan(Box<Apply>),
    /// An apply of a plan, of which everything is built.
    CarryOut(Box<Planning>),
    /// How a build ended.
    Built(Box<Built>),
}

#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "few at a time, and soon taken apart"
)]
pub enum Event {
    Request {
        call: CallId,
        request: Request,
    },
    AwaitDeleted {
        call: CallId,
        name: String,
    },
    Await {
        call: CallId,
        wait: AwaitApplication,
    },
    Status {
        call: CallId,
    },
    Stacks {
        call: CallId,
        replica_id: String,
    },
    /// The deploys of one application, or of all (empty).
    History {
        call: CallId,
        application: String,
    },
    /// What leads from one revision to another.
    Compare {
        call: CallId,
        compare: Compare,
    },
    Events {
        call: CallId,
        request: EventsRequest,
    },
    /// A client went away: nobody waits for its answers.
    ClientGone {
        connection: u64,
    },
    /// The last [`super::Command::Save`] is done.
    Saved(Result<(), SaveError>),
    Node {
        node: NodeId,
        body: node_event::Body,
    },
    /// What a [`super::Command::Reach`] found.
    Reached {
        replica_id: String,
        reached: Reached,
    },
    /// A router that is not the proxy's cannot connect to a replica.
    Unreachable(Unreachable),
    /// How a deployment follows its load, and what would be.
    WhatIf {
        call: CallId,
        question: WhatIf,
    },
    /// What a router that is not a proxy's has to do. It counts until the connection ends.
    Loads {
        connection: u64,
        loads: Loads,
    },
    /// A policy host answers, and asks for the next question.
    Policy {
        call: CallId,
        said: PolicyHost,
    },
    /// [`super::Core::next_timeout`] has come.
    Timeout,
}

/// Why a save failed: the client's fault (a blob that is not there), or the store's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SaveError {
    Blob(String),
    Store(String),
}

/// Whether a replica could be connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reached {
    Yes,
    /// Why not.
    No(String),
    /// This process could not even try.
    Unknown,
}
