//! A node without services, and the few lines that replicas run on it.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use eagleray_types::{
    DeploymentKey, NodeId,
    control::{
        Empty, Exited, ListedReplica, NodeCommand, ReplicaCommand, Stop, node_command,
        node_event::Body, replica_command,
    },
};
use prost::Message as _;
use tokio::{task::LocalSet, time};

use super::super::*;
use crate::core::{Command, Core, ReplicaCommand as CoreCommand, ReplicaNews, Role, ServiceNews};

const WITHIN: Duration = Duration::from_secs(30);

/// Reads and writes frames on the control connection.
const PRELUDE: &str = r#"
import os, signal, socket, struct, subprocess, sys, time
control = socket.socket(fileno=int(os.environ["EAGLERAY_CONTROL_FD"]))
def exactly(count):
    data = b""
    while len(data) < count:
        part = control.recv(count - len(data))
        if not part:
            sys.exit(0)
        data += part
    return data
def receive():
    return exactly(struct.unpack_from("<I", exactly(32))[0])
def send(body):
    control.sendall(struct.pack("<IBBHQIIII", len(body), 13, 0, 0, 0, 0, 0, 0, 0) + body)
READY = b"\x0a\x00"
START_FAILED = b"\x12\x03\x0a\x01x"
"#;

/// A node without services: its core, and the replica processes that this commands.
pub(super) struct Bench {
    pub(super) directory: tempfile::TempDir,
    began: Instant,
    pub(super) core: Core,
    pub(super) replicas: Replicas,
    news: mpsc::Receiver<Event>,
    /// For the controller.
    reports: VecDeque<Body>,
}

/// Of its own for each test: processes are found by it.
fn node_id(directory: &tempfile::TempDir) -> String {
    directory.path().to_string_lossy().replace('/', "-")
}

impl Bench {
    pub(super) fn new() -> Self {
        let directory = tempfile::Builder::new()
            .prefix("er")
            .tempdir_in("/tmp")
            .unwrap();
        for inside in ["r", "logs", "work"] {
            fs::create_dir_all(directory.path().join(inside)).unwrap();
        }
        let (sender, news) = mpsc::channel(64);
        let replicas = Replicas::new(
            directory.path(),
            &directory.path().join("logs"),
            &node_id(&directory),
            Rc::default(),
            Writer::start(eagleray_logs::Limits::default()).unwrap(),
            sender,
        );
        let mut core = Core::new(NodeId::parse("n1").unwrap(), directory.path().join("logs"));
        core.start();
        let started = ServiceNews::Started { pid: 1 };
        core.on_event(Event::Service(Role::Controller, started), Duration::ZERO);
        Self {
            directory,
            began: Instant::now(),
            core,
            replicas,
            news,
            reports: VecDeque::new(),
        }
    }

    pub(super) fn take(&mut self, event: Event) {
        if let Event::Replica(
            replica_id,
            ReplicaNews::Exited { .. } | ReplicaNews::NotStarted { .. },
        ) = &event
        {
            self.replicas.forget(replica_id);
        }
        for command in self.core.on_event(event, self.began.elapsed()) {
            match command {
                Command::Report(event) => self.reports.push_back(event.body.unwrap()),
                Command::Replica(id, command) => self.carry_out(id, command),
                _ => {}
            }
        }
    }

    pub(super) fn carry_out(&mut self, replica_id: String, command: CoreCommand) {
        let news = match command {
            CoreCommand::Start(command) => match self.replicas.start(*command) {
                Some(news) => news,
                None => return,
            },
            CoreCommand::Tell(message) | CoreCommand::Ask(message) => {
                return self.replicas.tell(&replica_id, message).unwrap();
            }
            CoreCommand::Kill => return self.replicas.kill(&replica_id),
        };
        self.take(Event::Replica(replica_id, news));
    }

    /// The controller says this.
    pub(super) fn command(&mut self, body: node_command::Body) {
        let command = NodeCommand {
            body: Some(body),
            node: String::new(),
        };
        let message = command.encode_to_vec();
        let said = ServiceNews::Said(message.into());
        self.take(Event::Service(Role::Controller, said));
    }

    pub(super) fn stop(&mut self, replica_id: &str, epoch: u64, grace_milliseconds: u64) {
        self.command(node_command::Body::Stop(Stop {
            replica_id: replica_id.into(),
            epoch,
            grace_milliseconds,
        }));
    }

    pub(super) fn listed(&mut self) -> Vec<ListedReplica> {
        self.command(node_command::Body::List(Empty {}));
        match self.reports.pop_front() {
            Some(Body::Listed(listed)) => listed.replicas,
            other => panic!("not a list: {other:?}"),
        }
    }

    pub(super) fn spawn_command(&self, id: &str, epoch: u64, code: &str) -> Spawn {
        let module = self.directory.path().join("work/replica.py");
        fs::write(&module, format!("{PRELUDE}{code}")).unwrap();
        Spawn {
            replica_id: id.into(),
            epoch,
            deployment: DeploymentKey::new("app", "Model"),
            python: "python3".into(),
            working_directory: self
                .directory
                .path()
                .join("work")
                .to_string_lossy()
                .into_owned(),
            environment: [("FROM_SPAWN".to_owned(), "yes".to_owned())].into(),
            first_command: ReplicaCommand {
                body: Some(replica_command::Body::Drain(Empty {})),
            }
            .encode_to_vec(),
            label: b"label".to_vec(),
            bootstrap: module.to_string_lossy().into_owned(),
            build: String::new(),
            imports: String::new(),
            policies: false,
        }
    }

    pub(super) fn spawn(&mut self, id: &str, code: &str) {
        let command = self.spawn_command(id, 1, code);
        self.command(node_command::Body::Spawn(command));
        assert!(self.reports.is_empty(), "{:?}", self.reports);
    }

    /// The next event for the controller.
    pub(super) async fn event(&mut self) -> Body {
        loop {
            if let Some(body) = self.reports.pop_front() {
                return body;
            }
            let timeout = self.core.next_timeout().map(|at| self.began + at);
            let timeout = timeout.unwrap_or(self.began + 2 * WITHIN);
            let event = tokio::select! {
                event = self.news.recv() => event.unwrap(),
                () = time::sleep_until(timeout.into()) => Event::Timeout,
                () = time::sleep(WITHIN) => panic!("no event came in time"),
            };
            self.take(event);
        }
    }

    pub(super) async fn exited(&mut self) -> Exited {
        loop {
            if let Body::Exited(exited) = self.event().await {
                return exited;
            }
        }
    }

    pub(super) fn file(&self, name: &str) -> String {
        fs::read_to_string(self.directory.path().join("work").join(name)).unwrap_or_default()
    }
}

pub(super) fn run(test: impl AsyncFnOnce(&mut Bench)) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let local = LocalSet::new();
    local.block_on(&runtime, async {
        let mut bench = Bench::new();
        test(&mut bench).await;
        for replica in bench.listed() {
            bench.stop(&replica.replica_id, u64::MAX, 0);
        }
        while !bench.replicas.running.is_empty() {
            bench.event().await;
        }
    });
}
