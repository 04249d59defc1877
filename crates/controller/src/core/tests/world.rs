//! A node, a store, a router and a clock for the core, all simulated, with the invariants checked at every step.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use eagleray_types::{
    DeploymentKey, NodeId,
    control::{
        ApiResponse, DeploymentTarget, EventRecord, Exited, Failed, NodeResources, Ready, Relay,
        ReplicaEvent, RouteTable, Spawn, api_response, node_event, replica_event,
    },
};
use prost::Message as _;

pub(super) use super::specs::{application, deployment, options, simple, with_revision};
use crate::{
    core::{CallId, Command, Core, CoreOptions, Event, Reached},
    store::checkpoint::Loaded,
};

/// The one node there is.
pub(super) fn node_id() -> NodeId {
    NodeId::parse("n1").unwrap()
}

/// What that node says.
pub(super) fn from_node(body: node_event::Body) -> Event {
    Event::Node {
        node: node_id(),
        body,
    }
}

/// How replicas of a version behave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Behaviour {
    #[default]
    Healthy,
    /// The constructor raises.
    StartFails,
    /// The process ends while it starts.
    StartCrashes,
    /// The constructor does not return.
    StartHangs,
    /// `check_health` raises.
    Sick,
    /// It does not answer `check_health`.
    Silent,
    /// `reconfigure` with another `user_config` than before raises.
    ReconfigureFails,
    /// It does not return.
    ReconfigureHangs,
    /// Nobody can connect to it.
    Unreachable,
    /// The process ends in it.
    ReconfigureCrashes,
}

#[derive(Clone, Debug)]
pub(super) struct Process {
    pub(super) spawn: Spawn,
    pub(super) version: String,
    pub(super) ready: bool,
    pub(super) failed: bool,
    pub(super) draining: bool,
    /// The `user_config` that it has taken, and the one that it is taking, with the id of the command.
    pub(super) config: String,
    pub(super) taking: Option<(u64, String)>,
    /// The rank and the number of siblings that it heard of last.
    pub(super) told: (u32, u32),
    pub(super) stopping: Option<u64>,
    pub(super) accepted: u64,
    pub(super) resident_bytes: u64,
}

impl Process {
    pub(super) fn serves(&self) -> bool {
        self.ready && !self.failed && self.stopping.is_none()
    }
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) core: Core,
    pub(super) now: Duration,
    pub(super) processes: BTreeMap<String, Process>,
    /// Builds that run, by the ids of their processes.
    pub(super) builds: BTreeMap<String, Spawn>,
    /// What replicas may still be forked from.
    pub(super) imports: BTreeSet<String>,
    pub(super) behaviours: BTreeMap<String, Behaviour>,
    pub(super) routed: BTreeMap<DeploymentKey, DeploymentTarget>,
    pub(super) routes: RouteTable,
    /// Under which numbers requests are counted.
    pub(super) marks: BTreeMap<String, u64>,
    /// Replicas that were asked for their stacks, and the ids of the questions.
    pub(super) stack_questions: Vec<(String, u64)>,
    pub(super) stored: Loaded,
    pub(super) blobs: BTreeMap<String, Vec<u8>>,
    /// What the next controller remembers.
    pub(super) events: Vec<EventRecord>,
    pub(super) fail_saves: bool,
    pub(super) missing_files: bool,
    /// What a replica has in memory when it is ready.
    pub(super) begin_with_bytes: u64,
    /// Commands since the last `take_commands`, as words.
    pub(super) words: Vec<String>,
    /// What the proxy was told to go by, by this controller.
    pub(super) settings: Vec<String>,
    pub(super) pending: VecDeque<Event>,
    pub(super) replies: BTreeMap<CallId, Vec<api_response::Body>>,
    pub(super) number: u64,
    pub(super) calls: u64,
    pub(super) ids: BTreeSet<String>,
    /// Deaths that nobody asked for: proof that a replica may leave the routers.
    pub(super) dead: BTreeSet<String>,
    /// Replicas that may be killed.
    pub(super) hung: BTreeSet<String>,
    /// How often the controller has tried to connect to a replica.
    pub(super) tries: usize,
    /// After a restart the controller does not know who has moved to which rank.
    knows_ranks: bool,
    /// What the node says that it has.
    pub(super) resources: Option<NodeResources>,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut world = Self::bare(
            seed,
            Loaded {
                epoch: 1,
                ..Default::default()
            },
        );
        world.start();
        world.run();
        world
    }

    fn bare(seed: u64, loaded: Loaded) -> Self {
        let core_options = CoreOptions {
            node: node_id(),
            epoch: loaded.epoch,
            seed,
            blob_directory: "/blobs".into(),
            log_directory: "/run/logs".into(),
            run_directory: "/run".into(),
            python: "python3".into(),
            http: serde_json::Map::new(),
        };
        Self {
            core: Core::new(core_options, &loaded),
            stored: loaded,
            blobs: BTreeMap::new(),
            events: Vec::new(),
            now: Duration::from_secs(1000),
            processes: BTreeMap::new(),
            builds: BTreeMap::new(),
            imports: BTreeSet::new(),
            behaviours: BTreeMap::new(),
            routed: BTreeMap::new(),
            routes: RouteTable::default(),
            marks: BTreeMap::new(),
            stack_questions: Vec::new(),
            fail_saves: false,
            missing_files: false,
            begin_with_bytes: 0,
            words: Vec::new(),
            settings: Vec::new(),
            pending: VecDeque::new(),
            replies: BTreeMap::new(),
            number: 0,
            calls: 0,
            ids: BTreeSet::new(),
            dead: BTreeSet::new(),
            hung: BTreeSet::new(),
            tries: 0,
            knows_ranks: true,
            resources: None,
        }
    }

    pub(super) fn start(&mut self) {
        let commands = self.core.start();
        self.carry_out(commands);
    }

    /// The controller dies and another one begins; everything else stays as it is. Nothing is listed yet.
    pub(super) fn restart_controller(&mut self, seed: u64) {
        let mut loaded = Loaded {
            epoch: self.stored.epoch + 1,
            root: self.stored.root.clone(),
            revisions: self.stored.revisions.clone(),
            records: self.stored.records.clone(),
        };
        let named: BTreeSet<String> = loaded.root.blobs().into_iter().map(str::to_owned).collect();
        loaded.revisions.retain(|blob, _| named.contains(blob));
        loaded.records.retain(|blob, _| named.contains(blob));
        let mut next = Self::bare(seed, loaded);
        next.now = self.now;
        next.knows_ranks = false;
        next.resources = self.resources.take();
        next.processes = std::mem::take(&mut self.processes);
        next.builds = std::mem::take(&mut self.builds);
        next.imports = std::mem::take(&mut self.imports);
        next.behaviours = std::mem::take(&mut self.behaviours);
        next.routed = std::mem::take(&mut self.routed);
        next.routes = std::mem::take(&mut self.routes);
        next.marks = std::mem::take(&mut self.marks);
        next.ids = std::mem::take(&mut self.ids);
        next.dead = std::mem::take(&mut self.dead);
        next.calls = self.calls;
        next.events = std::mem::take(&mut self.events);
        next.core.remember(next.events.clone());
        next.blobs = std::mem::take(&mut self.blobs);
        next.begin_with_bytes = self.begin_with_bytes;
        *self = next;
    }

    pub(super) fn feed(&mut self, event: Event) {
        self.core.set_wall_time_s(self.wall_time_s(), self.now);
        let commands = self.core.on_event(event, self.now);
        self.carry_out(commands);
    }

    /// A clock on the wall that goes as the other does.
    pub(super) fn wall_time_s(&self) -> f64 {
        1e9 + self.now.as_secs_f64()
    }

    pub(super) fn take_words(&mut self) -> Vec<String> {
        std::mem::take(&mut self.words)
    }

    /// Ids of live processes of a version that were not told to stop, oldest first by age in `ids` order of start.
    pub(super) fn running(&self, version: &str) -> Vec<String> {
        let running = |process: &Process| process.version == version && process.stopping.is_none();
        self.processes
            .iter()
            .filter(|(_, process)| running(process))
            .map(|(id, _)| id.clone())
            .collect()
    }

    /// Why requests to a deployment are told that it is not available; empty: they wait.
    pub(super) fn unavailable(&self, name: &str) -> String {
        let target = self.routed.get(&DeploymentKey::new("a", name));
        target
            .map(|target| target.unavailable.clone())
            .unwrap_or_default()
    }

    /// Whether routers say what they have to do of a deployment.
    pub(super) fn is_scaling(&self, name: &str) -> bool {
        let target = self.routed.get(&DeploymentKey::new("a", name));
        target.is_some_and(|target| target.scales)
    }

    /// Replicas that routers send to, of all versions.
    pub(super) fn routed_to(&self, name: &str) -> BTreeSet<String> {
        let key = DeploymentKey::new("a", name);
        let versions = self
            .routed
            .get(&key)
            .map(|target| target.versions.clone())
            .unwrap_or_default();
        versions
            .into_iter()
            .flat_map(|version| version.replicas)
            .map(|replica| replica.replica_id)
            .collect()
    }

    /// The process dies without having been told to, and the controller hears of it if nothing else is on its way.
    pub(super) fn kill(&mut self, id: &str) {
        self.die(id);
        if self.pending.len() == 1 {
            self.step(0);
        }
    }

    /// The process dies without having been told to.
    pub(super) fn die(&mut self, id: &str) {
        self.end_with(id, 9, "signal 9 (SIGKILL)");
    }

    pub(super) fn end_with(&mut self, id: &str, signal: u32, reason: &str) {
        let process = self.processes.remove(id).unwrap();
        self.dead.insert(id.to_owned());
        let exited = Exited {
            replica_id: id.to_owned(),
            epoch: process.spawn.epoch,
            reason: reason.to_owned(),
            stderr_tail: String::new(),
            signal,
        };
        self.pending
            .push_back(from_node(node_event::Body::Exited(exited)));
    }

    pub(super) fn say(&mut self, id: &str, body: replica_event::Body) {
        let payload = ReplicaEvent { body: Some(body) }.encode_to_vec();
        let relay = Relay {
            replica_id: id.to_owned(),
            payload,
        };
        self.pending
            .push_back(from_node(node_event::Body::Relay(relay)));
    }

    /// One thing happens, of those that can: an event arrives, a constructor ends, a stopped process goes. `false`
    /// when all is quiet. `choice` picks among them.
    pub(super) fn step(&mut self, choice: usize) -> bool {
        let starting = self.processes.iter().find(|(_, process)| {
            !process.ready
                && !process.failed
                && process.stopping.is_none()
                && self.behaviours.get(&process.version) != Some(&Behaviour::StartHangs)
        });
        let starting = starting.map(|(id, _)| id.clone());
        let stopping = self
            .processes
            .iter()
            .find(|(_, process)| process.stopping.is_some())
            .map(|(id, _)| id.clone());
        let mut possible: Vec<u8> = Vec::new();
        possible.extend((!self.pending.is_empty()).then_some(0));
        possible.extend(starting.is_some().then_some(1));
        possible.extend(stopping.is_some().then_some(2));
        let Some(kind) = possible.get(choice % possible.len().max(1)) else {
            return false;
        };
        match (kind, starting, stopping) {
            (0, ..) => {
                let event = self.pending.pop_front().unwrap();
                self.feed(event);
            }
            (1, Some(id), _) => self.finish_start(&id),
            (2, _, Some(id)) => self.finish_stop(&id),
            _ => unreachable!(),
        }
        true
    }

    /// Events that are on their way arrive together, so many at most.
    pub(super) fn arrive_together(&mut self, most: usize) {
        let count = most.min(self.pending.len());
        let events: Vec<Event> = self.pending.drain(..count).collect();
        self.core.set_wall_time_s(self.wall_time_s(), self.now);
        let commands = self.core.on_events(events, self.now);
        self.carry_out(commands);
    }

    fn finish_start(&mut self, id: &str) {
        let process = self.processes.get_mut(id).unwrap();
        match self
            .behaviours
            .get(&process.version)
            .copied()
            .unwrap_or_default()
        {
            Behaviour::StartFails => {
                process.failed = true;
                self.say(
                    id,
                    replica_event::Body::StartFailed(Failed {
                        message: "Traceback: ValueError".into(),
                    }),
                );
            }
            Behaviour::StartCrashes => self.kill(id),
            _ => {
                process.ready = true;
                process.resident_bytes = self.begin_with_bytes;
                self.say(
                    id,
                    replica_event::Body::Ready(Ready {
                        sync_bodies: false,
                        start_microseconds: 1,
                        resident_bytes: self.begin_with_bytes,
                        ..Default::default()
                    }),
                );
            }
        }
    }

    fn finish_stop(&mut self, id: &str) {
        let process = self.processes.remove(id).unwrap();
        let exited = Exited {
            replica_id: id.to_owned(),
            epoch: process.spawn.epoch,
            ..Default::default()
        };
        self.pending
            .push_back(from_node(node_event::Body::Exited(exited)));
    }

    /// Lets everything happen that needs no time to pass.
    pub(super) fn run(&mut self) {
        for _ in 0..10_000 {
            if !self.step(0) {
                return;
            }
        }
        panic!("it does not come to rest: {:?}", self.words.last());
    }

    /// Lets time pass.
    pub(super) fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        self.run();
        while let Some(at) = self.core.next_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.feed(Event::Timeout);
            self.run();
        }
        self.now = end;
        self.feed(Event::Timeout);
        self.run();
    }

    fn carry_out(&mut self, commands: Vec<Command>) {
        for command in commands {
            match command {
                Command::Node { node, body } => {
                    assert_eq!(node, node_id());
                    self.on_node_command(body);
                }
                Command::Publish(update) => self.on_publish(update),
                Command::Save(save) => self.on_save(save),
                Command::Reply {
                    call,
                    response: ApiResponse { body },
                } => {
                    self.replies.entry(call).or_default().push(body.unwrap());
                }
                Command::Reach { replica_id, .. } => {
                    let process = self.processes.get(&replica_id);
                    let cut_off = process.is_some_and(|process| {
                        self.behaviours.get(&process.version) == Some(&Behaviour::Unreachable)
                    });
                    let reached = match process {
                        Some(_) if !cut_off => Reached::Yes,
                        _ => Reached::No("no way".to_owned()),
                    };
                    self.tries += 1;
                    self.pending.push_back(Event::Reached {
                        replica_id,
                        reached,
                    });
                }
                Command::Keep(event) => self.events.push(event),
                Command::Log { .. } | Command::Listen | Command::Measured { .. } => {}
            }
        }
        if self.knows_ranks {
            self.assert_ranks_apart();
        }
        self.assert_reasons();
    }

    /// After everything came to rest: as many replicas as wanted, nothing more to do, and what is in force is saved.
    pub(super) fn assert_at_rest(&mut self) {
        self.run();
        assert_eq!(self.stored.root, self.core.books.desired.root());
        self.assert_ranks();
        self.knows_ranks = true;
        self.take_words();
        self.feed(Event::Timeout);
        for name in self
            .stored
            .root
            .applications
            .iter()
            .map(|one| one.name.clone())
            .collect::<Vec<_>>()
        {
            self.core.touched.insert(name);
        }
        let number = self.number;
        self.feed(Event::Timeout);
        assert_eq!(
            (self.take_words(), self.number),
            (Vec::<String>::new(), number),
            "a second look finds work"
        );
    }
}
