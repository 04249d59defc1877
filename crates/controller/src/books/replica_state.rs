//! The life of one replica, as the controller sees it.
//!
//! The states are Ray Serve's words. Every change goes through [`ReplicaState::next`], and a test walks every pair
//! of state and event, so a new event cannot be forgotten in some state. `UPDATING` and `RECOVERING` stay
//! routable: a replica that takes a new `user_config`, or is met again after a restart of the controller, answers
//! requests all the while, though routers prefer others while its `reconfigure` runs.

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

#[cfg(test)]
mod tests {
    use std::path::Path;

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

    /// `EAGLERAY_WRITE_DOCS=1` writes the page anew.
    #[test]
    fn the_page_of_rollouts_has_the_table() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/internals/rollouts.md");
        let page = std::fs::read_to_string(&path).unwrap();
        let (before, rest) = page.split_once("<!-- table -->\n").unwrap();
        let (_, after) = rest.split_once("<!-- end -->\n").unwrap();
        let wanted = format!("{before}<!-- table -->\n{}<!-- end -->\n{after}", table());
        if std::env::var_os("EAGLERAY_WRITE_DOCS").is_some() {
            std::fs::write(&path, &wanted).unwrap();
        }
        assert!(
            page == wanted,
            "docs/internals/rollouts.md is old: run this test with EAGLERAY_WRITE_DOCS=1"
        );
    }

    fn table() -> String {
        const COLUMNS: [(I, &str); 8] = [
            (I::Ready, "ready and reached"),
            (I::StartFailed, "start failed"),
            (I::Reconfigure, "gets options"),
            (I::Reconfigured, "has taken them"),
            (I::ReconfigureFailed, "has not"),
            (I::Unhealthy, "to be replaced"),
            (I::Stop, "told to stop"),
            (I::Exited, "dead"),
        ];
        let row = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let heads = COLUMNS.iter().map(|(_, head)| (*head).to_owned());
        let mut text = row([String::new()].into_iter().chain(heads).collect());
        text.push_str(&row(vec!["---".to_owned(); COLUMNS.len() + 1]));
        for state in S::ALL {
            let next = |(input, _): &(I, &str)| state.next(*input).map_or("", S::word).to_owned();
            let cells = COLUMNS.iter().map(next);
            text.push_str(&row([format!("`{}`", state.word())]
                .into_iter()
                .chain(cells)
                .collect()));
        }
        text
    }

    #[test]
    fn what_is_routable_is_never_already_told_to_stop() {
        for state in S::ALL {
            assert!(!state.routable() || state.live(), "{state:?}");
            assert!(!state.serving() || state.routable(), "{state:?}");
        }
    }
}
