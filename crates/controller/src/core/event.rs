//! What happens to the core.

use eagleray_types::{
    NodeId,
    control::{ApplicationSpec, AwaitApplication, Rollback, Unreachable, node_event},
};

/// One call of one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId {
    pub connection: u64,
    /// The sequence number of the frame that made the call.
    pub sequence: u64,
}

/// What a client asks to be changed. Wall-clock seconds are only shown.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "a short queue")]
pub enum Request {
    Deploy {
        spec: ApplicationSpec,
        wall_time_s: f64,
    },
    Rollback {
        rollback: Rollback,
        wall_time_s: f64,
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
}

#[derive(Clone, Debug)]
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
