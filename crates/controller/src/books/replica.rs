//! One replica, as the books have it.

use std::time::Duration;

use eagleray_types::{
    NodeId,
    control::{CompiledRoutes, DeploymentOptions, ReplicaTarget, ResourceShare},
};

use super::{
    condition::Condition,
    health::Health,
    replica_state::{ReplicaInput, ReplicaState},
    revision::VersionSpec,
    told::Told,
    trial::Trial,
};

/// What a replica knows of its options and of its place among its siblings, but for `user_config`: when it changes, the
/// replica hears of it at once.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ReplicaView {
    options: DeploymentOptions,
    rank: u32,
    world_size: u32,
}

impl ReplicaView {
    pub(crate) fn of(options: &DeploymentOptions, rank: u32, world_size: u32) -> Self {
        let mut options = options.of_replica();
        options.user_config.clear();
        // How many siblings it has is `world_size`.
        options.num_replicas = 0;
        Self {
            options,
            rank,
            world_size,
        }
    }
}

/// What is known of the ways to a replica.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Reach {
    /// It was ready, and serves when it is reached.
    pub(crate) said_ready: bool,
    /// The controller is connecting to it.
    pub(crate) trying: bool,
    pub(crate) tried_at: Option<Duration>,
}

/// Why a replica goes, and since when.
#[derive(Clone, Debug)]
pub(crate) struct Going {
    pub(crate) since: Duration,
    pub(crate) reason: String,
}

#[derive(Clone, Debug)]
pub(crate) struct Replica {
    pub(crate) id: String,
    /// Where it runs: what it is told goes there.
    pub(crate) node: NodeId,
    /// The life of the controller that spawned it.
    pub(crate) epoch: u64,
    /// What it runs, with the newest options that it was told or shall be told.
    pub(crate) spec: VersionSpec,
    pub(crate) rank: u32,
    /// What it holds of its node until its process is gone.
    pub(crate) share: ResourceShare,
    /// Counts up with every start: the newest is stopped first.
    pub(crate) order: u64,
    pub(crate) state: ReplicaState,
    pub(crate) socket_path: String,
    pub(crate) pid: u32,
    pub(crate) sync_bodies: bool,
    /// Where `FastAPI`'s documentation is, below the route prefix; or empty.
    pub(crate) docs_path: String,
    /// Of a `FastAPI` application: which of its routes are compiled.
    pub(crate) compiled_routes: Option<CompiledRoutes>,
    /// Bytes of it in memory when it was ready.
    pub(crate) began_with_bytes: u64,
    /// Bytes of it in memory, as it has said last; 0: not known.
    pub(crate) memory_bytes: u64,
    pub(crate) spawned_at: Duration,
    /// The same by the wall clock, in seconds, only shown; 0: not known.
    pub(crate) started_at_s: f64,
    pub(crate) ready_at: Option<Duration>,
    pub(crate) trial: Trial,
    /// Its start failed: nothing of user code runs there any more.
    pub(crate) failed: bool,
    pub(crate) view: Told<ReplicaView>,
    /// Its `user_config`. While one is on its way, `reconfigure` of user code may run.
    pub(crate) config: Told<String>,
    /// When that was sent.
    pub(crate) configured_at: Duration,
    /// It was told to drain, and has nothing left to do.
    pub(crate) drained: bool,
    pub(crate) reach: Reach,
    pub(crate) health: Health,
    pub(crate) condition: Condition,
    /// It is being replaced, or was told to stop; `None` of one that was so before this controller.
    pub(crate) going: Option<Going>,
}

impl Replica {
    /// Moves to the next state; `false` when `input` is dropped.
    pub(crate) fn step(&mut self, input: ReplicaInput) -> bool {
        match self.state.next(input) {
            Some(next) => {
                self.state = next;
                true
            }
            None => false,
        }
    }

    /// It is on its way out from now on.
    pub(crate) fn goes(&mut self, now: Duration, reason: &str) {
        self.going.get_or_insert_with(|| Going {
            since: now,
            reason: reason.to_owned(),
        });
    }

    pub(crate) fn target(&self) -> ReplicaTarget {
        ReplicaTarget {
            replica_id: self.id.clone(),
            socket_path: self.socket_path.clone(),
            epoch: self.epoch,
        }
    }

    /// What it has in memory and what it states, in bytes, if that is over by half.
    pub(crate) fn memory_over(&self) -> Option<(u64, u64)> {
        let stated = self.spec.options().resources.get("memory").copied();
        let stated = stated.filter(|stated| *stated > 0.0)? as u64;
        let most = stated.saturating_add(stated / 2);
        (self.memory_bytes > most).then_some((self.memory_bytes, stated))
    }

    pub(crate) fn grace_milliseconds(&self) -> u64 {
        (self.spec.options().graceful_shutdown_timeout_s.max(0.0) * 1000.0) as u64
    }

    /// When it is ended for not turning.
    pub(crate) fn hang_ends_at(&self) -> Option<Duration> {
        self.condition
            .end_at(self.spec.options())
            .filter(|_| self.state.routable())
    }

    /// When its trial is over; `None`: it is on none, or not well.
    pub(crate) fn trial_over_at(&self) -> Option<Duration> {
        let well = self.health.failing().is_none() && !self.condition.is_hung();
        self.trial
            .over_at(self.spec.options())
            .filter(|_| well && self.state.serving())
    }

    /// When its start has failed because it is not over.
    pub(crate) fn start_ends_at(&self) -> Option<Duration> {
        let limit = self.spec.options().start_timeout_s;
        let bounded = self.state == ReplicaState::Starting && limit > 0.0;
        let time = Duration::try_from_secs_f64(limit).ok()?;
        bounded.then(|| self.spawned_at + time)
    }

    /// When it is asked, found silent, or ended.
    pub(crate) fn next_timeout(&self) -> Option<Duration> {
        let options = self.spec.options();
        let health = self
            .health
            .next_timeout(options, self.is_checked())
            .filter(|_| !self.condition.is_hung());
        let times = health.into_iter().chain(self.hang_ends_at());
        times.chain(self.start_ends_at()).min()
    }

    /// Whether it is asked for its health: `reconfigure` may take its time.
    pub(crate) fn is_checked(&self) -> bool {
        match self.state {
            ReplicaState::Running => true,
            ReplicaState::Recovering => !self.config.on_its_way(),
            _ => false,
        }
    }

    /// It confirmed everything that it was told.
    pub(crate) fn settle(&mut self) {
        if self.view.is_settled() && self.config.is_settled() {
            self.step(ReplicaInput::Reconfigured);
        }
    }
}
