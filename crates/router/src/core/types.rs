//! What goes into the router's state machine and comes out of it.

use std::{sync::Arc, time::Instant};

use eagleray_types::ErrorCode;
use eagleray_wire::{Header, ModelKey, SessionKey};

use super::{
    limits::Limits,
    table::{Index, ReplicaIndex, RequestIndex},
};

/// What a [`Core`](super::Core) is made from.
#[derive(Clone, Debug)]
pub struct Options {
    /// Seed of the random choices; give every router of a process another one.
    pub seed: u64,
    /// Counters that all routers of the process share.
    pub limits: Arc<Limits>,
}

/// One connection to one replica. Never used twice, so a late frame of an old connection is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionKey {
    pub(super) index: ReplicaIndex,
    pub(super) generation: u32,
}

impl ConnectionKey {
    /// Small and dense: good as an index into the owner's own table. Reused by later connections.
    pub fn index(self) -> usize {
        self.index.position()
    }
}

/// One request, from `submit` to its outcome. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestKey {
    pub(super) index: RequestIndex,
    pub(super) generation: u32,
}

impl RequestKey {
    /// Small and dense: good as an index into the owner's own table. Reused by later requests.
    pub fn index(self) -> usize {
        self.index.position()
    }
}

/// What the state machine must know of a request; its payload stays with the owner.
#[derive(Clone, Copy, Debug)]
pub struct Submit {
    /// Running it twice does no harm: an idempotent method, or declared so.
    pub repeatable: bool,
    /// When the answer stops being of use.
    pub deadline: Option<Instant>,
    /// Bytes of head and body that wait with it, for the bound on queued memory.
    pub buffered_bytes: usize,
    /// The multiplexed model that it asks for, see `models.rs`.
    pub model: Option<ModelKey>,
    /// The session that it belongs to, see `sessions.rs`.
    pub session: Option<SessionKey>,
}

/// Why a request was not taken at all. No event follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refused {
    #[error("no such deployment")]
    UnknownDeployment,
    /// The text is in [`Core::unavailable`](super::Core::unavailable).
    #[error("the deployment failed")]
    Unavailable,
    /// `max_queued_requests` are waiting.
    #[error("the queue is full")]
    BackPressure,
    /// The bound on queued memory is reached.
    #[error("what waits holds too much memory")]
    Overloaded,
    #[error("the deadline has passed")]
    DeadlineExceeded,
}

impl Refused {
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::UnknownDeployment => ErrorCode::NotFound,
            Self::Unavailable => ErrorCode::Unavailable,
            Self::BackPressure => ErrorCode::BackPressure,
            Self::Overloaded => ErrorCode::Overloaded,
            Self::DeadlineExceeded => ErrorCode::DeadlineExceeded,
        }
    }
}

/// A frame to write. Frames of one connection must be written in the order in which they were polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    pub connection: ConnectionKey,
    /// Complete but for `length`, and for the flag END of a REQUEST whose body is whole.
    pub header: Header,
    /// For a REQUEST: whose head and first body bytes are the payload. The same key may come again, for another
    /// connection, after a rejection or a death; then the body starts over.
    pub request: Option<RequestKey>,
}

/// Something for the owner to do or to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Connect, exchange HELLO, then call `connected`; or `disconnected` if that fails.
    Connect {
        connection: ConnectionKey,
        replica_id: String,
        socket_path: String,
    },
    /// Close the connection; nothing is left on it. Do not call `disconnected`.
    Disconnect { connection: ConnectionKey },
    /// The answer is complete and the slot is free.
    Finished { request: RequestKey },
    /// No answer, or the answer broke off. `begun`: its head had already come, so another status cannot be sent.
    Failed {
        request: RequestKey,
        code: ErrorCode,
        /// Of a deployment that is not available: why; else empty.
        reason: Arc<str>,
        begun: bool,
    },
    /// `cancel` was called in time.
    Cancelled { request: RequestKey },
}
