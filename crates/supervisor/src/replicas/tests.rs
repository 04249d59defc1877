//! Replica processes as a controller sees them. What a replica runs, in the place of the bootstrap, is a few lines that
//! do what the test needs.

use std::{io, os::unix::net::UnixStream};

use eagleray_types::control::{
    Ready, Relay, ReplicaEvent, Spawn, node_command, node_event::Body, replica_event,
};
use prost::Message as _;

use self::bench::{Bench, run};
use super::*;
use crate::core::ReplicaCommand as CoreCommand;
use crate::processes;

mod bench;
mod builds;
mod zygotes;

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
