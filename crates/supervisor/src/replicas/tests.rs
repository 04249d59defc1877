//! Replica processes as a controller sees them. What a replica runs, in the place of the bootstrap, is a few lines that
//! do what the test needs.

use std::{
    collections::VecDeque,
    io,
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use eagleray_types::{
    DeploymentKey, NodeId,
    control::{
        Empty, Exited, ListedReplica, NodeCommand, Ready, Relay, ReplicaCommand, ReplicaEvent,
        Stop, node_command, node_event::Body, replica_command, replica_event,
    },
};
use prost::Message as _;
use tokio::{task::LocalSet, time};

use super::*;
use crate::{
    core::{Command, Core, ReplicaCommand as CoreCommand, ReplicaNews, Role, ServiceNews},
    processes,
};

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
struct Bench {
    directory: tempfile::TempDir,
    began: Instant,
    core: Core,
    replicas: Replicas,
    news: mpsc::Receiver<Event>,
    /// For the controller.
    reports: VecDeque<Body>,
}

/// Of its own for each test: processes are found by it.
fn node_id(directory: &tempfile::TempDir) -> String {
    directory.path().to_string_lossy().replace('/', "-")
}

impl Bench {
    fn new() -> Self {
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

    fn take(&mut self, event: Event) {
        if let Event::Replica(replica_id, ReplicaNews::Exited { .. }) = &event {
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

    fn carry_out(&mut self, replica_id: String, command: CoreCommand) {
        let news = match command {
            CoreCommand::Start(command) => match self.replicas.start(*command) {
                Ok((pid, socket_path)) => ReplicaNews::Started { pid, socket_path },
                Err(message) => ReplicaNews::NotStarted { message },
            },
            CoreCommand::Tell(message) | CoreCommand::Ask(message) => {
                return self.replicas.tell(&replica_id, message).unwrap();
            }
            CoreCommand::Kill => return self.replicas.kill(&replica_id),
        };
        self.take(Event::Replica(replica_id, news));
    }

    /// The controller says this.
    fn command(&mut self, body: node_command::Body) {
        let command = NodeCommand {
            body: Some(body),
            node: String::new(),
        };
        let message = command.encode_to_vec();
        let said = ServiceNews::Said(message.into());
        self.take(Event::Service(Role::Controller, said));
    }

    fn stop(&mut self, replica_id: &str, epoch: u64, grace_milliseconds: u64) {
        self.command(node_command::Body::Stop(Stop {
            replica_id: replica_id.into(),
            epoch,
            grace_milliseconds,
        }));
    }

    fn listed(&mut self) -> Vec<ListedReplica> {
        self.command(node_command::Body::List(Empty {}));
        match self.reports.pop_front() {
            Some(Body::Listed(listed)) => listed.replicas,
            other => panic!("not a list: {other:?}"),
        }
    }

    fn spawn_command(&self, id: &str, epoch: u64, code: &str) -> Spawn {
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
        }
    }

    fn spawn(&mut self, id: &str, code: &str) {
        let command = self.spawn_command(id, 1, code);
        self.command(node_command::Body::Spawn(command));
        assert!(self.reports.is_empty(), "{:?}", self.reports);
    }

    /// The next event for the controller.
    async fn event(&mut self) -> Body {
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

    async fn exited(&mut self) -> Exited {
        loop {
            if let Body::Exited(exited) = self.event().await {
                return exited;
            }
        }
    }

    fn file(&self, name: &str) -> String {
        fs::read_to_string(self.directory.path().join("work").join(name)).unwrap_or_default()
    }
}

fn run(test: impl AsyncFnOnce(&mut Bench)) {
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

#[test]
fn a_replica_gets_its_command_and_is_listed_with_what_it_said() {
    run(async |bench| {
        bench.spawn(
            "one",
            r#"
open("seen", "w").write(receive().hex() + " " + os.environ["FROM_SPAWN"] + " " + os.environ["EAGLERAY_REPLICA"])
listener = socket.socket(fileno=int(os.environ["EAGLERAY_LISTEN_FD"]))
assert os.getsid(0) == os.getpid()
send(READY)
listener.accept()[0].sendall(b"hello")
time.sleep(1000)
"#,
        );
        let Body::Relay(relay) = bench.event().await else {
            panic!("not what it said")
        };
        let ready = ReplicaEvent {
            body: Some(replica_event::Body::Ready(Ready::default())),
        }
        .encode_to_vec();
        assert_eq!(
            relay,
            Relay {
                replica_id: "one".into(),
                payload: ready.clone()
            }
        );
        let listed = bench.listed();
        let [one] = listed.as_slice() else {
            panic!("not one replica")
        };
        assert_eq!(
            (one.label.as_slice(), one.ready.as_slice(), one.stopping),
            (&b"label"[..], ready.as_slice(), false)
        );
        assert_eq!(bench.file("seen"), "2200 yes one");
        assert!(processes::is_alive(one.pid));
        let mut greeting = [0; 5];
        io::Read::read_exact(
            &mut UnixStream::connect(&one.socket_path).unwrap(),
            &mut greeting,
        )
        .unwrap();
        assert_eq!(&greeting, b"hello");
    });
}

#[test]
fn death_is_reported_with_its_reason_and_the_end_of_stderr() {
    run(async |bench| {
        bench.spawn(
            "one",
            "print('to stdout')\nprint('ValueError: no model', file=sys.stderr)\nsys.exit(3)",
        );
        let exited = bench.exited().await;
        assert_eq!(
            (
                exited.replica_id.as_str(),
                exited.reason.as_str(),
                exited.epoch
            ),
            ("one", "exit status 3", 1)
        );
        assert!(
            exited.stderr_tail.contains("ValueError: no model"),
            "{exited:?}"
        );
        assert!(!exited.stderr_tail.contains("to stdout"), "{exited:?}");
        assert!(bench.listed().is_empty());
        assert!(!bench.directory.path().join("r/one.sock").exists());
    });
}

#[test]
fn what_a_replica_said_last_comes_before_its_death() {
    run(async |bench| {
        bench.spawn(
            "one",
            "send(START_FAILED)\nos.kill(os.getpid(), signal.SIGKILL)",
        );
        assert!(matches!(bench.event().await, Body::Relay(_)));
        let Body::Exited(exited) = bench.event().await else {
            panic!("not its death")
        };
        assert_eq!(
            (exited.reason.as_str(), exited.signal),
            ("signal 9 (SIGKILL)", 9)
        );
    });
}

#[test]
fn children_that_outlive_a_replica_are_gone_before_its_death_is_reported() {
    run(async |bench| {
        bench.spawn(
            "one",
            r#"
quiet = dict(stdin=subprocess.DEVNULL)
in_another_session = subprocess.Popen(["sleep", "1000"], start_new_session=True, **quiet)
without_environment = subprocess.Popen(["sleep", "1000"], env={"PATH": os.environ["PATH"]}, **quiet)
# A daemon in full: left to another parent, in a session and with an environment of its own.
said, say = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.write(say, str(os.getpid()).encode())
        for number in range(3):
            os.dup2(os.open("/dev/null", os.O_RDWR), number)
        os.execve("/bin/sleep", ["sleep", "1000"], {})
    os._exit(0)
os.wait()
daemon = os.read(said, 100).decode()
open("pids", "w").write(f"{in_another_session.pid} {without_environment.pid} {daemon}")
"#,
        );
        let exited = bench.exited().await;
        assert_eq!(exited.reason, "exit status 0");
        let pids: Vec<u32> = bench
            .file("pids")
            .split(' ')
            .map(|pid| pid.parse().unwrap())
            .collect();
        assert_eq!(pids.len(), 3);
        for pid in pids {
            assert!(!processes::is_alive(pid));
        }
    });
}

#[test]
fn a_replica_that_becomes_another_program_is_ended_and_says_so() {
    run(async |bench| {
        bench.spawn(
            "one",
            r#"
control.set_inheritable(False)
send(READY)
os.execv("/bin/sleep", ["sleep", "1000"])
"#,
        );
        assert!(matches!(bench.event().await, Body::Relay(_)));
        let exited = bench.exited().await;
        let reason = exited.reason;
        assert_eq!(exited.signal, 0, "that was no death from outside");
        assert!(
            reason.starts_with("signal 9 (SIGKILL): ") && reason.contains("exec"),
            "{reason}"
        );
    });
}

#[test]
fn a_replica_that_is_told_to_stop_leaves_by_itself() {
    run(async |bench| {
        bench.spawn("one", "receive()\nsend(READY)\nreceive()\nsys.exit(7)");
        assert!(matches!(bench.event().await, Body::Relay(_)));
        bench.stop("one", 1, 60_000);
        assert_eq!(bench.exited().await.reason, "exit status 7");
    });
}

#[test]
fn a_replica_that_does_not_stop_is_killed_when_its_time_is_over() {
    run(async |bench| {
        bench.spawn(
            "one",
            "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nsend(READY)\ntime.sleep(1000)",
        );
        assert!(matches!(bench.event().await, Body::Relay(_)));
        bench.stop("one", 1, 1);
        assert_eq!(bench.exited().await.reason, "signal 9 (SIGKILL)");
    });
}

#[test]
fn what_cannot_be_started_is_said_and_leaves_nothing() {
    run(async |bench| {
        for (id, python, directory, expected) in [
            (
                "one",
                "/no/such/python",
                "/",
                "cannot start /no/such/python",
            ),
            (
                "two",
                "python3",
                "/no/such/directory",
                "the working directory /no/such/directory does not exist",
            ),
            ("../x", "python3", "/", "the replica id is not valid"),
        ] {
            let command = Spawn {
                python: python.into(),
                working_directory: directory.into(),
                ..bench.spawn_command(id, 1, "")
            };
            bench.command(node_command::Body::Spawn(command));
            let Body::SpawnFailed(failed) = bench.event().await else {
                panic!("it was started")
            };
            assert!(failed.message.contains(expected), "{failed:?}");
        }
        assert_eq!(
            fs::read_dir(bench.directory.path().join("r"))
                .unwrap()
                .count(),
            0
        );
    });
}
