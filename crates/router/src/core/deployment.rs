//! What the router knows of one deployment, and the choice of a replica.
//!
//! The version is chosen when a request leaves the queue, by start-time fair queueing: each version has a clock
//! that a request advances by `1 / weight`, and of the versions that have room the one with the lowest clock gets
//! the request. A version that was full is lifted to the common time, so it makes up for nothing later. When only
//! one version has room it gets the request whatever its weight: no request waits beside a free slot, so under
//! saturation the shares are those of capacity. Within the version: two of the replicas with room at random, the
//! less loaded of the two.

use std::{sync::Arc, time::Instant};

use eagleray_types::DeploymentKey;
use eagleray_wire::Claims;

use super::{
    budget::Budget,
    limits::Counter,
    replica::Replica,
    request::Queue,
    table::{Index, ReplicaIndex, Table, VersionIndex},
    waits::Waits,
};

/// A request's cost on a version's clock is this over the weight.
const UNIT: u64 = 1 << 32;

#[derive(Debug)]
pub(super) struct Deployment {
    pub(super) key: DeploymentKey,
    pub(super) max_queued: usize,
    /// Not empty: why requests fail at once.
    pub(super) unavailable: Arc<str>,
    pub(super) removed: bool,
    /// Somebody wants to know its load, see `loads.rs`.
    pub(super) scales: bool,
    /// So, and it has not changed since it was looked at.
    pub(super) quiet: bool,
    /// Requests that the full queue has refused since that was said.
    pub(super) refused: u32,
    pub(super) waits: Waits,
    pub(super) versions: Vec<Version>,
    pub(super) replicas: Vec<ReplicaIndex>,
    /// How many of them take requests and turn. With none left, requests go to those that do not turn.
    pub(super) sound: u32,
    /// Replicas that should know that the queue is not empty.
    pub(super) waiting: Vec<ReplicaIndex>,
    pub(super) queue: Queue,
    /// Suspects that wait for a replica without one, see `suspects.rs`. Oldest first.
    pub(super) held: Queue,
    /// Requests that wait for a replica that holds their model, see `models.rs`. Oldest first.
    pub(super) bound: Queue,
    pub(super) queued: Arc<Counter>,
    pub(super) budget: Budget,
    time: u64,
}

#[derive(Debug)]
pub(super) struct Version {
    pub(super) name: String,
    pub(super) weight: u32,
    pub(super) limit: u32,
    /// Replicas that take requests.
    pub(super) candidates: Vec<ReplicaIndex>,
    /// Those of them that are believed to have room.
    pub(super) roomy: Vec<ReplicaIndex>,
    pub(super) clock: u64,
}

impl Deployment {
    pub(super) fn new(key: DeploymentKey, queued: Arc<Counter>, now: Instant) -> Self {
        Self {
            key,
            max_queued: usize::MAX,
            unavailable: Arc::default(),
            removed: false,
            scales: false,
            quiet: false,
            refused: 0,
            waits: Waits::default(),
            versions: Vec::new(),
            replicas: Vec::new(),
            sound: 0,
            waiting: Vec::new(),
            queue: Queue::new(),
            held: Queue::new(),
            bound: Queue::new(),
            queued,
            budget: Budget::new(now),
            time: 0,
        }
    }

    pub(super) fn takes_requests(&self) -> bool {
        !self.removed && self.unavailable.is_empty()
    }

    /// Requests that wait in this router.
    pub(super) const fn queued_here(&self) -> u32 {
        self.queue.length + self.held.length + self.bound.length
    }

    pub(super) fn candidates(&self) -> usize {
        self.versions
            .iter()
            .map(|version| version.candidates.len())
            .sum()
    }

    /// A candidate by its position among those of all versions.
    pub(super) fn candidate(&self, mut position: usize) -> Option<ReplicaIndex> {
        for version in &self.versions {
            if let Some(replica) = version.candidates.get(position) {
                return Some(*replica);
            }
            position -= version.candidates.len();
        }
        None
    }

    /// A replica that is believed to have room.
    pub(super) fn choose<C: Claims>(
        &self,
        replicas: &Table<ReplicaIndex, Replica<C>>,
        random: &mut fastrand::Rng,
    ) -> Option<ReplicaIndex> {
        let version = match self.versions.as_slice() {
            [only] => only,
            versions => versions
                .iter()
                .filter(|version| !version.roomy.is_empty())
                .min_by_key(|version| version.clock.max(self.time))?,
        };
        match version.roomy.as_slice() {
            [] => None,
            [only] => Some(*only),
            roomy => {
                let first = random.usize(0..roomy.len());
                let second = (first + random.usize(1..roomy.len())) % roomy.len();
                let (first, second) = (*roomy.get(first)?, *roomy.get(second)?);
                let load = |index: ReplicaIndex| replicas.get(index).map(Replica::load);
                Some(if load(second) < load(first) {
                    second
                } else {
                    first
                })
            }
        }
    }

    /// A request goes to this version.
    pub(super) fn charge(&mut self, version: VersionIndex) {
        if self.versions.len() > 1
            && let Some(version) = self.versions.get_mut(version.position())
        {
            let start = version.clock.max(self.time);
            self.time = start;
            version.clock = start + UNIT / u64::from(version.weight.max(1));
        }
    }
}
