//! What should run becomes commands: a state machine without I/O, clock or randomness of its own.
//!
//! [`Core::on_event`] takes one event and the time and returns commands in the order in which they are to be
//! carried out. The same events in the same order give the same commands, replica ids included: they come from a
//! generator seeded at construction, and nothing iterates in hash order.
//!
//! Two rules shape the flow. *Nothing changes before it is durable*: a deploy or delete is checked, becomes
//! [`Command::Save`], and takes effect on [`Event::Saved`]; meanwhile further changes wait in a bounded queue.
//! *Nothing is decided before the node has listed what lives*: until then events only change state, so a restarted
//! controller neither starts a second set of replicas nor takes any from the routers.
//!
//! Who decides what: [`rollout`] how many start and stop, [`backoff`] when, [`health`] who is asked and who is
//! replaced, [`status`] what people are told. An autoscaler will stand beside them, as one more pure function that
//! sets the wanted count.

mod adopt;
mod answers;
mod apply;
mod backoff;
mod change;
mod condition;
mod configure;
mod departure;
mod failures;
mod health;
mod model;
mod notes;
mod ranks;
mod reaching;
mod reconcile;
mod replica;
mod reports;
mod rollout;
mod routed;
mod status;
mod validate;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    mem,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use eagleray_types::{
    DeploymentKey,
    control::{
        ApiResponse, ApplicationSpec, ApplicationStatus, AwaitApplication, Rollback, TargetUpdate,
        Unreachable, api_response, node_command, node_event,
    },
};

pub use adopt::Label;
pub use model::Revision;
pub use replica::{ReplicaInput, ReplicaState};

use crate::{
    store::checkpoint::{Loaded, Root},
    targets::Targets,
};
use change::Change;
use model::Application;

/// Revisions of an application that can be gone back to.
pub const REVISIONS_KEPT: usize = 10;
/// Deploys and deletes that may wait for the store; more are refused.
const CHANGES_QUEUED: usize = 64;
/// Calls that may wait for an application; more are refused.
const WAITS_KEPT: usize = 4096;
/// Pause before a checkpoint that failed is tried again.
const SAVE_RETRY: Duration = Duration::from_secs(1);

/// One call of one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId {
    pub connection: u64,
    /// The sequence number of the frame that made the call.
    pub sequence: u64,
}

#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "one at a time, and soon taken apart"
)]
pub enum Event {
    Deploy {
        call: CallId,
        spec: ApplicationSpec,
        /// Wall-clock seconds, only shown.
        wall_time_s: f64,
    },
    Rollback {
        call: CallId,
        rollback: Rollback,
        wall_time_s: f64,
    },
    Delete {
        call: CallId,
        name: String,
    },
    DeleteAll {
        call: CallId,
    },
    BeginDelete {
        call: CallId,
        name: String,
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
    /// The last [`Command::Save`] is done.
    Saved(Result<(), SaveError>),
    Node(node_event::Body),
    /// What a [`Command::Reach`] found.
    Reached {
        replica_id: String,
        reached: Reached,
    },
    /// A router that is not the proxy's cannot connect to a replica.
    Unreachable(Unreachable),
    /// [`Core::next_timeout`] has come.
    Timeout,
}

/// Why a save failed: the client's fault (a blob that is not there), or the store's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SaveError {
    Blob(String),
    Store(String),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    Node(node_command::Body),
    /// For every router. The node's copy of it is the service's business.
    Publish(TargetUpdate),
    Save(Save),
    /// The controller's socket is gone: make another.
    Listen,
    /// Connect to a replica as routers do, then [`Event::Reached`]. One at a time for each replica.
    Reach {
        replica_id: String,
        socket_path: String,
    },
    Reply {
        call: CallId,
        response: ApiResponse,
    },
    Log {
        level: Level,
        message: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Info,
    Warning,
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

/// Verify the files, keep the revisions, replace the root: in this order, then [`Event::Saved`].
#[derive(Clone, Debug, PartialEq)]
pub struct Save {
    /// Names of files in the blob directory that must be there and whole.
    pub files: Vec<String>,
    pub revisions: Vec<(String, Vec<u8>)>,
    pub root: Root,
}

#[derive(Clone, Debug)]
pub struct CoreOptions {
    /// This life of the controller, one above the last.
    pub epoch: u64,
    pub seed: u64,
    pub blob_directory: PathBuf,
    pub log_directory: PathBuf,
    pub run_directory: PathBuf,
    /// The interpreter of replicas whose application names none.
    pub python: String,
}

#[derive(Debug)]
struct Wait {
    call: CallId,
    name: String,
    revision: String,
}

#[derive(Debug)]
pub struct Core {
    options: CoreOptions,
    random: fastrand::Rng,
    applications: BTreeMap<String, Application>,
    /// Which deployment a replica belongs to.
    owners: BTreeMap<String, DeploymentKey>,
    targets: Targets,
    /// The highest update that the proxy has applied.
    applied: u64,
    /// The node has said what lives.
    listed: bool,
    /// A `List` for process ids is on its way.
    listing: bool,
    /// Applications to look at before this event is over.
    touched: BTreeSet<String>,
    /// The root that the store holds or is being given; `None` after a save that failed.
    saved: Option<Root>,
    saving: Option<Change>,
    changes: VecDeque<Change>,
    save_again_at: Option<Duration>,
    awaiting: Vec<Wait>,
    deleting: Vec<Wait>,
    order: u64,
    question: u64,
    commands: Vec<Command>,
    /// `Stop` goes out after the update that takes the replica from the routers.
    stops: Vec<Command>,
}

impl Core {
    /// Desired state as the checkpoint has it. Follow with [`Core::start`].
    pub fn new(options: CoreOptions, loaded: Loaded) -> Self {
        let mut core = Self {
            random: fastrand::Rng::with_seed(options.seed),
            targets: Targets::new(options.epoch),
            options,
            applications: BTreeMap::new(),
            owners: BTreeMap::new(),
            applied: 0,
            listed: false,
            listing: false,
            touched: BTreeSet::new(),
            saved: None,
            saving: None,
            changes: VecDeque::new(),
            save_again_at: None,
            awaiting: Vec::new(),
            deleting: Vec::new(),
            order: 0,
            question: 0,
            commands: Vec::new(),
            stops: Vec::new(),
        };
        core.restore(loaded);
        core
    }

    /// The first commands: ask what lives.
    pub fn start(&mut self) -> Vec<Command> {
        self.listing = true;
        vec![Command::Node(node_command::Body::List(
            eagleray_types::control::Empty {},
        ))]
    }

    /// Takes one event. `now` is the time since any fixed moment and never goes back.
    pub fn on_event(&mut self, event: Event, now: Duration) -> Vec<Command> {
        match event {
            Event::Deploy {
                call,
                spec,
                wall_time_s,
            } => self.enqueue(Change::Deploy {
                call,
                spec,
                wall_time_s,
            }),
            Event::Rollback {
                call,
                rollback,
                wall_time_s,
            } => {
                self.enqueue(Change::Rollback {
                    call,
                    rollback,
                    wall_time_s,
                });
            }
            Event::Delete { call, name } => self.enqueue(Change::Delete { call, name }),
            Event::DeleteAll { call } => self.enqueue(Change::DeleteAll { call }),
            Event::BeginDelete { call, name } => self.enqueue(Change::BeginDelete { call, name }),
            Event::AwaitDeleted { call, name } => self.on_await_deleted(call, name),
            Event::Await { call, wait } => self.on_await(call, wait),
            Event::Status { call } => {
                let applications = self.statuses(now);
                self.reply(
                    call,
                    api_response::Body::Status(eagleray_types::control::Status { applications }),
                );
            }
            Event::ClientGone { connection } => self.on_client_gone(connection),
            Event::Saved(result) => self.on_saved(result, now),
            Event::Node(event) => self.on_node(event, now),
            Event::Reached {
                replica_id,
                reached,
            } => self.on_reached(&replica_id, reached, now),
            Event::Unreachable(report) => self.on_unreachable(&report, now),
            Event::Timeout => self.on_timeout(now),
        }
        self.advance(now);
        mem::take(&mut self.commands)
    }

    /// When [`Event::Timeout`] is due, unless another event comes first.
    pub fn next_timeout(&self) -> Option<Duration> {
        let deployments = self
            .applications
            .values()
            .flat_map(|one| one.deployments.values());
        let times = deployments.filter_map(model::Deployment::next_timeout);
        times
            .filter(|_| self.listed)
            .chain(self.save_again_at)
            .min()
    }

    /// Every revision that something still needs, each once or more often.
    pub fn revisions(&self) -> Vec<Arc<Revision>> {
        let mut revisions = Vec::new();
        for application in self.applications.values() {
            revisions.extend(
                application
                    .history
                    .iter()
                    .chain(&application.target)
                    .cloned(),
            );
            for deployment in application.deployments.values() {
                let wanted = deployment.target.iter().chain(&deployment.serving);
                let running = deployment.replicas.values().map(|replica| &replica.spec);
                revisions.extend(
                    wanted
                        .chain(running)
                        .map(|spec| Arc::clone(spec.revision())),
                );
            }
        }
        revisions
    }

    /// Names of the files that changes which are on their way need.
    pub fn pending_files(&self) -> Vec<String> {
        let changes = self.changes.iter().chain(&self.saving);
        changes.flat_map(Change::files).collect()
    }

    /// What routers know now, for one who begins to watch; `None` before the first update.
    pub fn snapshot(&self) -> Option<TargetUpdate> {
        self.listed.then(|| self.targets.snapshot())
    }

    /// Status of every application, in the order of their names.
    pub fn statuses(&self, now: Duration) -> Vec<ApplicationStatus> {
        self.applications
            .values()
            .map(|application| status::render(application, now))
            .collect()
    }

    /// Carries out what an event made possible: the next change, decisions, the update to routers, answers.
    fn advance(&mut self, now: Duration) {
        self.begin_changes();
        if self.listed {
            let touched = mem::take(&mut self.touched);
            let mut changes = BTreeMap::new();
            for name in touched {
                self.reconcile(&name, now);
                changes.insert(name.clone(), self.application_targets(&name));
            }
            if let Some(update) = self.targets.update(changes) {
                self.commands.push(Command::Publish(update));
            }
            self.commands.append(&mut self.stops);
            self.answer_waits(now);
        }
        self.save_progress(now);
    }

    fn touch(&mut self, application: &str) {
        self.touched.insert(application.to_owned());
    }

    fn touch_all(&mut self) {
        self.touched.extend(self.applications.keys().cloned());
    }

    fn reply(&mut self, call: CallId, body: api_response::Body) {
        self.commands.push(Command::Reply {
            call,
            response: ApiResponse { body: Some(body) },
        });
    }

    fn log(&mut self, level: Level, message: String) {
        self.commands.push(Command::Log { level, message });
    }

    fn next_question(&mut self) -> u64 {
        self.question += 1;
        self.question
    }

    /// Eight characters of `[a-z0-9]`, not in use.
    fn new_replica_id(&mut self) -> String {
        const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
        loop {
            let id: String = (0..8)
                .map(|_| char::from(LETTERS[self.random.usize(..LETTERS.len())]))
                .collect();
            if !self.owners.contains_key(&id) {
                return id;
            }
        }
    }
}

#[cfg(test)]
mod tests;
