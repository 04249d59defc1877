//! Replica processes as a controller sees them. What a replica runs, in the place of the bootstrap, is a few lines that
//! do what the test needs.

use std::{io, os::unix::net::UnixStream};

use eagleray_types::{DeploymentKey, control::Ready};
use tokio::task::LocalSet;

use super::*;
use crate::processes;

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

struct Bench {
    directory: tempfile::TempDir,
    replicas: Replicas,
    news: mpsc::Receiver<News>,
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
        Self {
            directory,
            replicas,
            news,
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
                body: Some(replica_command::Body::Drain(
                    eagleray_types::control::Empty {},
                )),
            }
            .encode_to_vec(),
            label: b"label".to_vec(),
            bootstrap: module.to_string_lossy().into_owned(),
        }
    }

    fn spawn(&mut self, id: &str, code: &str) {
        let command = self.spawn_command(id, 1, code);
        assert_eq!(self.replicas.spawn(command), None);
    }

    /// The next event for the controller.
    async fn event(&mut self) -> Body {
        let news = time::timeout(WITHIN, self.news.recv())
            .await
            .expect("no event came in time")
            .unwrap();
        self.replicas.on_news(news).unwrap().body.unwrap()
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
        bench.replicas.kill_all();
        while !bench.replicas.is_empty() {
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
        let Some(Body::Listed(listed)) = bench.replicas.list().remove(0).body else {
            panic!("not a list")
        };
        let [one] = listed.replicas.as_slice() else {
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
        assert!(bench.replicas.is_empty());
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
        assert_eq!(
            bench.replicas.stop(&Stop {
                replica_id: "one".into(),
                epoch: 1,
                grace_milliseconds: 60_000
            }),
            None
        );
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
        bench.replicas.stop(&Stop {
            replica_id: "one".into(),
            epoch: 1,
            grace_milliseconds: 1,
        });
        assert_eq!(bench.exited().await.reason, "signal 9 (SIGKILL)");
    });
}

#[test]
fn commands_may_come_twice_and_late_ones_are_refused() {
    run(async |bench| {
        let sleeps = "send(READY)\ntime.sleep(1000)";
        let command = bench.spawn_command("one", 5, sleeps);
        assert_eq!(bench.replicas.spawn(command.clone()), None);
        assert_eq!(bench.replicas.spawn(command), None);
        assert_eq!(bench.replicas.ids(), ["one"]);

        let late = bench.spawn_command("two", 4, sleeps);
        let Some(Body::SpawnFailed(failed)) = bench.replicas.spawn(late).unwrap().body else {
            panic!("not refused")
        };
        assert!(failed.message.contains("epoch 4 is over"), "{failed:?}");

        bench.replicas.stop(&Stop {
            replica_id: "one".into(),
            epoch: 4,
            grace_milliseconds: 0,
        });
        assert!(
            matches!(bench.event().await, Body::Relay(_)),
            "a stop from an older epoch was obeyed"
        );

        let unknown = Stop {
            replica_id: "never".into(),
            epoch: 5,
            grace_milliseconds: 0,
        };
        let Some(Body::Exited(exited)) = bench.replicas.stop(&unknown).unwrap().body else {
            panic!("not answered")
        };
        assert_eq!(exited.reason, "not running");
    });
}

#[test]
fn a_failed_start_is_told_again_to_a_controller_that_lists() {
    run(async |bench| {
        bench.spawn("one", "send(START_FAILED)\ntime.sleep(1000)");
        let told = bench.event().await;
        assert_eq!(bench.replicas.list().remove(1).body, Some(told));
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
            let Some(Body::SpawnFailed(failed)) = bench.replicas.spawn(command).unwrap().body
            else {
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
