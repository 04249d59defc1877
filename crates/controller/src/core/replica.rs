//! The life of one replica, as the controller sees it.
//!
//! The states are Ray Serve's words. Every change goes through [`ReplicaState::next`], and a test walks every pair
//! of state and event, so a new event cannot be forgotten in some state. `UPDATING` and `RECOVERING` stay
//! routable: a replica that takes a new `user_config`, or is met again after a restart of the controller, answers
//! requests all the while.

use std::time::Duration;

use eagleray_types::control::{DeploymentOptions, ReplicaTarget};

use super::{condition::Condition, health::Health, model::VersionSpec};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReplicaState {
    /// Spawned; its constructor runs.
    Starting,
    /// Ready, with the options that are wanted.
    Running,
    /// Ready, and a new configuration is on its way to it.
    Updating,
    /// Met after a restart of the controller; its configuration is being confirmed.
    Recovering,
    /// To be replaced, and serving until the replacement runs.
    PendingMigration,
    /// Told to drain and stop.
    Stopping,
    /// Its process is gone. Never stored: the replica leaves the books.
    Stopped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicaInput {
    Ready,
    StartFailed,
    Reconfigure,
    Reconfigured,
    ReconfigureFailed,
    Unhealthy,
    Stop,
    Exited,
}

impl ReplicaState {
    pub const ALL: [Self; 7] = [
        Self::Starting,
        Self::Running,
        Self::Updating,
        Self::Recovering,
        Self::PendingMigration,
        Self::Stopping,
        Self::Stopped,
    ];

    /// The state after `input`; `None` when the input means nothing in this state and is dropped (a late answer
    /// of a replica that was already told to stop).
    pub const fn next(self, input: ReplicaInput) -> Option<Self> {
        use ReplicaInput as I;
        Some(match (self, input) {
            (Self::Stopped, _) => return None,
            (_, I::Exited) => Self::Stopped,
            (Self::Stopping, _) => return None,
            (_, I::Stop) => Self::Stopping,
            (Self::Starting, I::Ready) => Self::Running,
            (Self::Starting, I::StartFailed) => Self::Stopping,
            (Self::Running | Self::Updating, I::Reconfigure) => Self::Updating,
            (Self::Recovering, I::Reconfigure) => Self::Recovering,
            (Self::Updating | Self::Recovering, I::Reconfigured) => Self::Running,
            (Self::Updating | Self::Recovering, I::ReconfigureFailed) => Self::PendingMigration,
            (Self::Running | Self::Updating | Self::Recovering, I::Unhealthy) => {
                Self::PendingMigration
            }
            _ => return None,
        })
    }

    /// Requests may be sent to it.
    pub const fn routable(self) -> bool {
        matches!(
            self,
            Self::Running | Self::Updating | Self::Recovering | Self::PendingMigration
        )
    }

    /// It counts towards the number that is wanted.
    pub const fn serving(self) -> bool {
        matches!(self, Self::Running | Self::Updating | Self::Recovering)
    }

    /// Not yet told to stop.
    pub const fn live(self) -> bool {
        !matches!(self, Self::Stopping | Self::Stopped)
    }

    /// Ray Serve's word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Starting => "STARTING",
            Self::Running => "RUNNING",
            Self::Updating => "UPDATING",
            Self::Recovering => "RECOVERING",
            Self::PendingMigration => "PENDING_MIGRATION",
            Self::Stopping => "STOPPING",
            Self::Stopped => "STOPPED",
        }
    }
}

/// What lives in the replica, of the options and of its place among its siblings: when it changes, the replica hears
/// of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ReplicaView {
    user_config: String,
    max_ongoing_requests: u32,
    graceful_shutdown_wait_loop_s: f64,
    access_log: bool,
    max_body_bytes: u64,
    logging: String,
    rank: u32,
    world_size: u32,
}

impl ReplicaView {
    pub(crate) fn of(options: &DeploymentOptions, rank: u32) -> Self {
        Self {
            rank,
            world_size: options.num_replicas,
            logging: options.logging.clone(),
            user_config: options.user_config.clone(),
            max_ongoing_requests: options.max_ongoing_requests,
            graceful_shutdown_wait_loop_s: options.graceful_shutdown_wait_loop_s,
            access_log: options.access_log,
            max_body_bytes: options.max_body_bytes,
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Replica {
    pub(crate) id: String,
    /// The life of the controller that spawned it.
    pub(crate) epoch: u64,
    /// What it runs, with the newest options that it was told or shall be told.
    pub(crate) spec: VersionSpec,
    pub(crate) rank: u32,
    /// Counts up with every start: the newest is stopped first.
    pub(crate) order: u64,
    pub(crate) state: ReplicaState,
    pub(crate) socket_path: String,
    pub(crate) pid: u32,
    pub(crate) sync_bodies: bool,
    pub(crate) spawned_at: Duration,
    pub(crate) ready_at: Option<Duration>,
    /// What the replica has confirmed; `None` after a restart of the controller, which cannot know.
    pub(crate) applied: Option<ReplicaView>,
    /// The reconfiguration on its way.
    pub(crate) sent: Option<(u64, ReplicaView)>,
    pub(crate) health: Health,
    pub(crate) condition: Condition,
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

    pub(crate) fn target(&self) -> ReplicaTarget {
        ReplicaTarget {
            replica_id: self.id.clone(),
            socket_path: self.socket_path.clone(),
            epoch: self.epoch,
        }
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

    /// Whether it must be told `view`.
    pub(crate) fn needs(&self, view: &ReplicaView) -> bool {
        let known = self
            .sent
            .as_ref()
            .map(|(_, sent)| sent)
            .or(self.applied.as_ref());
        known != Some(view)
    }
}

#[cfg(test)]
mod tests {
    use super::{ReplicaInput as I, ReplicaState as S};

    #[test]
    fn every_pair_of_state_and_event_has_its_place_in_the_table() {
        const INPUTS: [I; 8] = [
            I::Ready,
            I::StartFailed,
            I::Reconfigure,
            I::Reconfigured,
            I::ReconfigureFailed,
            I::Unhealthy,
            I::Stop,
            I::Exited,
        ];
        let (go, stop, gone, replace) = (
            Some(S::Running),
            Some(S::Stopping),
            Some(S::Stopped),
            Some(S::PendingMigration),
        );
        #[rustfmt::skip]
        let table = [
            //  ready, start failed, reconfigure, reconfigured, reconfigure failed, unhealthy, stop, exited
            (S::Starting, [go, stop, None, None, None, None, stop, gone]),
            (S::Running, [None, None, Some(S::Updating), None, None, replace, stop, gone]),
            (S::Updating, [None, None, Some(S::Updating), go, replace, replace, stop, gone]),
            (S::Recovering, [None, None, Some(S::Recovering), go, replace, replace, stop, gone]),
            (S::PendingMigration, [None, None, None, None, None, None, stop, gone]),
            (S::Stopping, [None, None, None, None, None, None, None, gone]),
            (S::Stopped, [None; 8]),
        ];
        assert_eq!(table.map(|(state, _)| state), S::ALL);
        for (state, row) in table {
            for (input, expected) in INPUTS.into_iter().zip(row) {
                assert_eq!(state.next(input), expected, "{state:?} on {input:?}");
            }
        }
    }

    #[test]
    fn what_is_routable_is_never_already_told_to_stop() {
        for state in S::ALL {
            assert!(!state.routable() || state.live(), "{state:?}");
            assert!(!state.serving() || state.routable(), "{state:?}");
        }
    }
}
