//! The life of one replica, as the controller sees it.
//!
//! The states are Ray Serve's words. Every change goes through [`ReplicaState::next`], and a test walks every pair
//! of state and event, so a new event cannot be forgotten in some state. `UPDATING` and `RECOVERING` stay
//! routable: a replica that takes a new `user_config`, or is met again after a restart of the controller, answers
//! requests all the while, though routers prefer others while its `reconfigure` runs.

use std::time::Duration;

use eagleray_types::control::{DeploymentOptions, ReplicaTarget};

use super::{condition::Condition, health::Health, model::VersionSpec, reaching::Reach};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReplicaState {
    /// Spawned; its constructor runs, or it has just run and nobody has reached the replica yet.
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

/// What a replica knows of its options and of its place among its siblings, but for `user_config`: when it changes, the
/// replica hears of it at once.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ReplicaView {
    options: DeploymentOptions,
    rank: u32,
}

impl ReplicaView {
    pub(crate) fn of(options: &DeploymentOptions, rank: u32) -> Self {
        let mut options = options.of_replica();
        options.user_config.clear();
        Self { options, rank }
    }
}

/// Something that a replica is told: what it has confirmed, and what is on its way.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Told<T> {
    /// `None` after a restart of the controller, which cannot know.
    confirmed: Option<T>,
    sent: Option<(u64, T)>,
}

impl<T: Clone + PartialEq> Told<T> {
    pub(crate) const fn known(value: T) -> Self {
        Self {
            confirmed: Some(value),
            sent: None,
        }
    }

    pub(crate) const fn unknown() -> Self {
        Self {
            confirmed: None,
            sent: None,
        }
    }

    /// Whether the newest that it was told is another, or not known.
    pub(crate) fn needs(&self, wanted: &T) -> bool {
        self.sent().or(self.confirmed.as_ref()) != Some(wanted)
    }

    /// Whether it has confirmed this and was told nothing since.
    pub(crate) fn is(&self, wanted: &T) -> bool {
        self.is_settled() && !self.needs(wanted)
    }

    pub(crate) fn sent(&self) -> Option<&T> {
        self.sent.as_ref().map(|(_, value)| value)
    }

    pub(crate) const fn on_its_way(&self) -> bool {
        self.sent.is_some()
    }

    pub(crate) const fn is_settled(&self) -> bool {
        self.sent.is_none() && self.confirmed.is_some()
    }

    pub(crate) fn send(&mut self, id: u64, value: T) {
        self.sent = Some((id, value));
    }

    /// Takes the answer `id`. Returns what it is about; `None` when nobody waits for it.
    pub(crate) fn answered(&mut self, id: u64, fine: bool) -> Option<Answered<T>> {
        let (_, value) = self.sent.take_if(|(sent, _)| *sent == id)?;
        let news = self.confirmed.as_ref() != Some(&value);
        if fine {
            self.confirmed = Some(value.clone());
        }
        Some(Answered { value, news })
    }
}

/// An answer that was waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answered<T> {
    pub(crate) value: T,
    /// It is another than was confirmed before.
    pub(crate) news: bool,
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
