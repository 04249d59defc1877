//! The router's state machine: chooses a replica for each request and keeps it safe until it has an answer.
//!
//! **The rule**: every request that `submit` took ends in exactly one outcome ([`Event::Finished`],
//! [`Event::Failed`], [`Event::Cancelled`]), and none runs twice that must not.
//!
//! Sans-I/O, in the manner of quinn-proto: no socket, no clock (`now` is an argument), no randomness but from its
//! seed, no hash order in a decision. The owner carries frames and payloads; the simulator is another owner. After
//! any call: poll transmits and events until `None`, then sleep until `poll_timeout`.
//!
//! A request takes one of two ways. With nobody waiting before it and a replica believed to have room it is sent at
//! once (`dispatch.rs`, choice in `deployment.rs`). Otherwise it waits in the one queue of its deployment, which
//! the candidates know of by a WAIT each, and leaves on the first GRANT; a belief that was wrong comes back as
//! REJECT, and after three the request leaves on a grant only, so that its control frames are bounded. What a replica
//! frees it offers itself (`eagleray_replica::admission` argues why no request sleeps beside a free slot); nothing
//! here polls.
//!
//! Cost: one hash lookup a request, then integers. Nothing on the path of a request looks at other deployments:
//! timers are those of live requests and of replicas that have some.

mod budget;
mod candidates;
mod connections;
mod deadlines;
mod deployment;
mod dispatch;
mod frames;
mod limits;
mod loads;
mod loss;
mod models;
mod probation;
mod replica;
mod request;
mod sessions;
mod settle;
mod suspects;
mod table;
mod targets;
mod types;
mod waits;
mod watch;

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    sync::Arc,
    time::Instant,
};

use eagleray_types::DeploymentKey;
use eagleray_wire::Claims;
use rustc_hash::FxHashMap;

use self::{
    deployment::Deployment,
    replica::Replica,
    request::Requests,
    table::{DeploymentIndex, ReplicaIndex, Table},
};

pub use limits::{Limits, Reserved};
pub use loads::Seen;
pub use types::{ConnectionKey, Event, Options, Refused, RequestKey, Submit, Transmit};
pub use waits::{WAIT_BOUNDS_MS, Waits};

/// Candidates that know of a queue; of more, so many at random.
pub const MAX_WAITS: usize = 32;

/// Times that a request is sent on a belief about a replica's room. Then it leaves on a grant, which bounds its
/// frames: a wrong belief costs one REJECT, asking everybody one GRANT for each free slot.
const MAX_TRIES: u8 = 3;

/// See the module. `C` is the claim page, or its simulation.
#[derive(Debug)]
pub struct Core<C> {
    limits: Arc<Limits>,
    random: fastrand::Rng,
    by_key: FxHashMap<DeploymentKey, DeploymentIndex>,
    deployments: Table<DeploymentIndex, Deployment>,
    replicas: Table<ReplicaIndex, Replica<C>>,
    requests: Requests,
    /// The age of the next request.
    order: u64,
    /// Of the last connection.
    generation: u32,
    pending: VecDeque<Pending>,
    events: VecDeque<Event>,
    /// Deployments whose load has changed since [`Core::take_marked`], each once.
    marked: Vec<(DeploymentIndex, DeploymentKey)>,
    timers: BinaryHeap<Reverse<(Instant, ConnectionKey, TimerKind)>>,
    /// No replica will come any more.
    draining: bool,
}

/// A frame that was decided on. What it says is filled in when it is polled, so that it is fresh.
#[derive(Clone, Copy, Debug)]
enum Pending {
    Request {
        replica: ReplicaIndex,
        generation: u32,
        slot: u32,
        sequence: u64,
        granted: bool,
    },
    Cancel {
        replica: ReplicaIndex,
        generation: u32,
        slot: u32,
        sequence: u64,
    },
    Return {
        replica: ReplicaIndex,
        generation: u32,
    },
    Wait {
        replica: ReplicaIndex,
        generation: u32,
    },
    Unwait {
        replica: ReplicaIndex,
        generation: u32,
    },
}

impl Pending {
    const fn connection(self) -> (ReplicaIndex, u32) {
        match self {
            Self::Request {
                replica,
                generation,
                ..
            }
            | Self::Cancel {
                replica,
                generation,
                ..
            }
            | Self::Return {
                replica,
                generation,
            }
            | Self::Wait {
                replica,
                generation,
            }
            | Self::Unwait {
                replica,
                generation,
            } => (replica, generation),
        }
    }
}

/// Timers of replicas, each for one connection: one that finds another there does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum TimerKind {
    Connect,
    Watch,
    Probation,
}

impl<C: Claims> Core<C> {
    pub fn new(options: Options) -> Self {
        Self {
            limits: options.limits,
            random: fastrand::Rng::with_seed(options.seed),
            by_key: FxHashMap::default(),
            deployments: Table::default(),
            replicas: Table::default(),
            requests: Requests::default(),
            order: 0,
            generation: 0,
            pending: VecDeque::new(),
            events: VecDeque::new(),
            marked: Vec::new(),
            timers: BinaryHeap::new(),
            draining: false,
        }
    }

    /// The next thing for the owner to do or to know. A request's key is free for reuse once its outcome has been
    /// polled, not before.
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front()?;
        if let Event::Finished { request }
        | Event::Failed { request, .. }
        | Event::Cancelled { request } = event
        {
            self.requests.remove(request);
        }
        Some(event)
    }

    /// Requests whose outcome has not been polled.
    pub fn live_requests(&self) -> usize {
        self.requests.len()
    }

    /// Claim words in use on all connections, abandoned requests that have not said DONE among them.
    pub fn words_in_use(&self) -> usize {
        let busy =
            |replica: &Replica<C>| replica.link.as_ref().map_or(0, |link| link.busy() as usize);
        self.replicas.iter().map(|(_, replica)| busy(replica)).sum()
    }
}

#[cfg(test)]
mod tests;
