//! A node that another program runs: the supervisor alone, with processes that are a script in all three roles.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    fs::{self, Permissions},
    io::Read,
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::Path,
    time::Duration,
};

use eagleray_logs::{Limits, Writer};
use eagleray_supervisor::{
    Identity, Node, Owner, Programs,
    listeners::{self, Listener, Listeners},
    pipe,
    places::Places,
    ready::Up,
    state_directory::Bases,
};
use eagleray_types::control::NodeResources;

/// Does what each role must do at least, and keeps what it was told.
const SCRIPT: &str = r#"#!/usr/bin/env python3
import os, socket, struct, sys
role = os.environ["EAGLERAY_ROLE"]
def keep(text):
    with open(os.environ["EAGLERAY_OPTIONS"], "a") as file:
        file.write(f"{role} {text}\n")
if role == "reaper":
    keep(sys.stdin.read().strip())
    sys.exit(0)
control = socket.socket(fileno=int(os.environ["EAGLERAY_CONTROL_FD"]))
named = os.environ["EAGLERAY_LISTENERS"].split("=")
keep("listens on " + named[0])
def send(body):
    control.sendall(struct.pack("<IBBHQIIII", len(body), 13, 0, 0, 0, 0, 0, 0, 0) + body)
def exactly(count):
    data = b""
    while len(data) < count:
        part = control.recv(count - len(data))
        if not part:
            sys.exit(0)
        data += part
    return data
SNAPSHOT = b"\x2a\x05\x08\x01\x12\x01x"
READY = b"\x0a\x00"
DRAIN = b"\x12\x00"
if role == "controller":
    send(SNAPSHOT)
while True:
    told = exactly(struct.unpack_from("<I", exactly(32))[0])
    keep("told " + told.hex())
    if role == "proxy":
        if told == b"\x1a\x00":
            listener = socket.socket(fileno=int(named[1]))
            listener.accept()[0].sendall(b"hello")
            send(READY)
        if told == DRAIN:
            sys.exit(0)
"#;

fn write_script(path: &Path) {
    fs::write(path, SCRIPT).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn another_program_runs_a_node_of_its_own_processes_and_nothing_of_it_is_left() {
    let directory = tempfile::Builder::new()
        .prefix("er")
        .tempdir_in("/tmp")
        .unwrap();
    let inside = |name: &str| directory.path().join(name);
    let script = inside("script.py");
    write_script(&script);
    let kept = inside("kept");
    let bases = Bases {
        of_user: Some(inside("state")),
        anywhere: inside("elsewhere"),
    };
    let (places, found) = Places::take(&inside("run"), &bases, "script-1", true).unwrap();
    assert!(
        found.stale.is_empty() && found.notes.is_empty(),
        "{found:?}"
    );
    let (run, state) = (places.run.path().to_owned(), places.state.path().to_owned());

    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let bound = socket.local_addr().unwrap();
    // It waits in the backlog, for a proxy that is not there yet.
    let mut client = std::net::TcpStream::connect(bound).unwrap();
    client
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let mut listeners = Listeners::default();
    let http = Listener {
        socket: socket.into(),
        address: format!("http://{bound}"),
    };
    listeners.insert(listeners::HTTP, http);
    let identity = Identity {
        name: "script-1".into(),
        owner_pid: 0,
        argv: Vec::new(),
    };
    let node = Node::new(identity, NodeResources::default(), places, listeners).unwrap();
    let options = kept.to_string_lossy().into_owned();
    let programs = Programs {
        executable: script,
        reaper: options.clone(),
        controller: options.clone(),
        proxy: options,
    };
    let (owner, ours) = pipe().unwrap();
    let owner = Owner {
        pid: None,
        pipe: Some(owner),
    };
    let logs = Writer::start(Limits::default()).unwrap();
    let mut up = None;
    let ended_well = node.run(programs, logs, owner, |result| {
        let announced: Up = result.unwrap();
        assert!(run.join("node.json").exists(), "it can be found");
        UnixStream::connect(&announced.node_socket).unwrap();
        up = Some(announced);
        // What a script does when it ends.
        drop(ours);
    });
    assert!(ended_well);
    let up = up.unwrap();
    assert_eq!(up.http_address, format!("http://{bound}"));
    let mut greeting = String::new();
    client.read_to_string(&mut greeting).unwrap();
    assert_eq!(greeting, "hello");
    let kept = fs::read_to_string(kept).unwrap();
    for line in [
        "controller listens on controller",
        "proxy listens on http",
        "proxy told 0a0178",
        "proxy told 1a00",
        "proxy told 1200",
        "reaper all is well",
    ] {
        assert!(kept.lines().any(|kept| kept == line), "{line} in {kept}");
    }
    assert!(!run.exists() && !state.exists());
    assert!(std::net::TcpStream::connect(bound).is_err());
}
