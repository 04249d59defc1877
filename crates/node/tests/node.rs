//! The real executable: nodes that are started, spoken to, killed and ended.

#![expect(
    clippy::cast_possible_wrap,
    clippy::unwrap_used,
    reason = "process ids are small, and a test that cannot go on has failed"
)]

mod support;

use std::{
    fs,
    io::{ErrorKind, Write},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use support::{Machine, eventually, is_dead, kill};

#[test]
fn a_node_comes_up_and_stop_leaves_nothing() {
    let machine = Machine::new();
    let said = machine.succeed(&["start", "--http-port", "0"]);
    assert!(
        said.contains("http://127.0.0.1:") && said.contains("eagleray stop"),
        "{said}"
    );
    let node = machine.node("default");
    let mut titles: Vec<String> = node
        .processes()
        .into_iter()
        .map(|(_, title)| title)
        .collect();
    titles.sort();
    assert_eq!(
        titles,
        [
            "eagleray: controller",
            "eagleray: proxy",
            "eagleray: reaper"
        ]
    );
    assert!(node.healthz().starts_with("HTTP/1.1 200"));
    let status = machine.succeed(&["status"]);
    assert!(status.starts_with("proxies:\n  "), "{status}");
    assert!(
        status.ends_with(": HEALTHY\n\napplications: {}\n\ntarget_capacity: null\n"),
        "{status}"
    );

    machine.succeed(&["stop"]);
    assert_eq!(node.processes(), []);
    assert!(TcpStream::connect(("127.0.0.1", node.port())).is_err());
    assert_eq!(fs::read_dir(machine.root()).unwrap().count(), 0);
    let mut left: Vec<_> = fs::read_dir(machine.state().join("eagleray/default"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| name != "checkpoint.sqlite-journal")
        .collect();
    left.sort();
    assert_eq!(
        left,
        ["blobs", "checkpoint.sqlite", "logs", "series.ring", "token"]
    );
    assert!(
        machine
            .succeed(&["stop"])
            .contains("no node \"default\" runs")
    );
    assert!(
        machine
            .fail(&["stop", "--name", "nope"])
            .contains("no node \"nope\" runs")
    );
    assert!(machine.fail(&["status"]).contains("eagleray start"));
}

#[test]
fn nobody_else_can_read_or_enter_under_any_umask() {
    let machine = Machine::new();
    let script = format!(
        "umask 000; exec {} start --http-port 0",
        env!("CARGO_BIN_EXE_eagleray")
    );
    assert!(
        machine
            .command("sh")
            .args(["-c", &script])
            .output()
            .unwrap()
            .status
            .success()
    );
    let (run, state) = (machine.root(), machine.state().join("eagleray"));
    let mode = |path: std::path::PathBuf| {
        fs::metadata(path)
            .map(|found| found.permissions().mode() & 0o777)
            .ok()
    };
    for directory in ["", "default", "default/r"].map(|name| run.join(name)) {
        assert_eq!(mode(directory.clone()), Some(0o700), "{directory:?}");
    }
    for directory in ["", "default", "default/logs", "default/blobs"].map(|name| state.join(name)) {
        assert_eq!(mode(directory.clone()), Some(0o700), "{directory:?}");
    }
    let sockets = ["node.json", "node.sock", "controller.sock", "lock"]
        .map(|name| run.join("default").join(name));
    let kept = ["logs/node.log", "logs/controller.log", "checkpoint.sqlite"]
        .map(|name| state.join("default").join(name));
    for file in sockets.into_iter().chain(kept) {
        eventually(&format!("{file:?} is there for this user alone"), || {
            mode(file.clone()) == Some(0o600)
        });
    }
}

#[test]
fn a_second_start_says_that_the_node_runs() {
    let machine = Machine::new();
    let node = machine.start("default");
    assert!(machine.succeed(&["start"]).contains("already runs"));
    assert!(
        machine
            .succeed(&["start", "--http-port", &node.port().to_string()])
            .contains("already runs")
    );
    let complaint = machine.fail(&["start", "--http-port", "1"]);
    assert!(
        complaint.contains("already runs") && complaint.contains("eagleray stop"),
        "{complaint}"
    );
}

#[test]
fn a_port_that_is_taken_is_refused_with_the_holder_and_two_ways_out_and_nothing_is_left() {
    let machine = Machine::new();
    let program = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = program.local_addr().unwrap().port().to_string();
    let complaint = machine.fail(&["start", "--http-port", &port]);
    assert!(
        complaint.contains("another program") && complaint.contains("--http-port"),
        "{complaint}"
    );

    let holder = machine.start("holder");
    let complaint = machine.fail(&["start", "--http-port", &holder.port().to_string()]);
    assert!(
        complaint.contains("resident node \"holder\""),
        "{complaint}"
    );

    let script = machine.script_node(std::process::id(), 0);
    let port: u16 = script.answer["http_address"]
        .as_str()
        .unwrap()
        .rsplit(':')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let complaint = machine.fail(&["start", "--http-port", &port.to_string()]);
    assert!(
        complaint.contains(&format!("another script, process {}", std::process::id())),
        "{complaint}"
    );

    let mut own = Command::new("sleep").arg("1000").spawn().unwrap();
    let mut refused = machine.script_node(own.id(), port);
    assert_eq!(refused.answer["kind"], "port_taken");
    assert!(!refused.wait().success());
    assert!(!machine.root().join(format!("script-{}", own.id())).exists());
    assert!(!machine.root().join("default/node.json").exists());
    own.kill().unwrap();
    own.wait().unwrap();
}

#[test]
fn wrong_options_are_one_clear_message() {
    let machine = Machine::new();
    for (arguments, expected) in [
        (&["start", "--http-port", "70000"][..], "70000"),
        (&["start", "--name", "../x"][..], "cannot name a node"),
        (&["start", "--name", "script-1"][..], "choose another"),
        (
            &["start", "--http-host", "host.invalid.", "--http-port", "0"][..],
            "cannot listen for HTTP on host.invalid.",
        ),
        (
            &["start", "--http-root-path", "x"][..],
            "must begin with `/`",
        ),
        (&["strat"][..], "start"),
        (&["status", "--node", "other"][..], "no node \"other\" runs"),
    ] {
        let complaint = machine.fail(arguments);
        assert!(complaint.contains(expected), "{arguments:?}: {complaint}");
    }
    let output = machine
        .command(env!("CARGO_BIN_EXE_eagleray"))
        .arg("start")
        .env("EAGLERAY_SERVE_DEFAULT_HTTP_PORT", "x")
        .output();
    assert!(String::from_utf8_lossy(&output.unwrap().stderr).contains("is not a port"));
}

#[test]
fn after_kill_9_of_the_node_everything_ends_and_the_next_start_recovers() {
    let machine = Machine::new();
    let node = machine.start("default");
    kill(node.pid());
    let killed = Instant::now();
    node.wait_until_nothing_is_left();
    assert!(
        killed.elapsed() < Duration::from_secs(5),
        "{:?}",
        killed.elapsed()
    );
    assert!(machine.root().join("default/node.json").exists());
    assert!(machine.fail(&["status"]).contains("none runs"));

    machine.succeed(&["start", "--http-port", &node.port().to_string()]);
    let next = machine.node("default");
    assert_ne!(next.record["node_id"], node.record["node_id"]);
    assert!(next.healthz().starts_with("HTTP/1.1 200"));
}

#[test]
fn a_start_ends_what_a_dead_node_left_even_without_its_reaper() {
    let machine = Machine::new();
    let node = machine.start("default");
    let mark = format!("EAGLERAY_NODE={}", node.record["node_id"].as_str().unwrap());
    kill(node.pid());
    node.wait_until_nothing_is_left();
    // What neither node nor reaper could end: it is started after both were gone.
    let (name, value) = mark.split_once('=').unwrap();
    let mut orphan = Command::new("sleep")
        .arg("1000")
        .env(name, value)
        .spawn()
        .unwrap();
    machine.start("other");
    assert!(!orphan.wait().unwrap().success());
    assert!(!machine.root().join("default/node.json").exists());
}

#[test]
fn while_the_proxy_is_away_connections_wait_and_are_served() {
    let machine = Machine::new();
    let node = machine.start("default");
    for _ in 0..5 {
        let proxy = node.pid_of("eagleray: proxy").unwrap();
        kill(proxy);
        // Until it is dead it may still take a connection with it.
        eventually("the proxy does not die", || is_dead(proxy));
        let answer = node.healthz();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer:?}");
        eventually("the proxy has not come back", || {
            node.pid_of("eagleray: proxy").is_some()
        });
    }
}

#[test]
fn a_controller_that_dies_is_started_again_and_the_proxy_stays() {
    let machine = Machine::new();
    let node = machine.start("default");
    let proxy = node.pid_of("eagleray: proxy");
    let controller = node.pid_of("eagleray: controller").unwrap();
    kill(controller);
    // The socket is the node's, so the call waits for the next controller.
    machine.succeed(&["status"]);
    assert_ne!(node.pid_of("eagleray: controller"), Some(controller));
    assert_eq!(node.pid_of("eagleray: proxy"), proxy);
}

#[test]
fn a_reaper_that_dies_is_started_again() {
    let machine = Machine::new();
    let node = machine.start("default");
    let reaper = node.pid_of("eagleray: reaper").unwrap();
    kill(reaper);
    eventually("the reaper has not come back", || {
        node.pid_of("eagleray: reaper")
            .is_some_and(|pid| pid != reaper)
    });
    kill(node.pid());
    node.wait_until_nothing_is_left();
}

#[test]
fn the_node_of_a_script_ends_when_the_script_lets_go_of_it() {
    let machine = Machine::new();
    let mut script = machine.script_node(std::process::id(), 0);
    assert_eq!(script.answer["ok"], true);
    let name = format!("script-{}", std::process::id());
    assert_eq!(script.answer["name"], name.as_str());
    let node = machine.node(&name);
    assert_eq!(node.record["owner_pid"], std::process::id());
    script.owner = None;
    assert!(script.wait().success());
    assert_eq!(node.processes(), []);
    assert!(!machine.root().join(name).exists());
}

#[test]
fn the_node_of_a_script_ends_when_the_script_dies_though_its_pipe_stays_open() {
    let machine = Machine::new();
    let mut owner = Command::new("sleep")
        .arg("1000")
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut script = machine.script_node(owner.id(), 0);
    let node = machine.node(&format!("script-{}", owner.id()));
    owner.kill().unwrap();
    owner.wait().unwrap();
    assert!(script.wait().success());
    assert_eq!(node.processes(), []);
}

#[test]
fn after_kill_9_of_a_scripts_node_its_directory_goes_too() {
    let machine = Machine::new();
    let mut script = machine.script_node(std::process::id(), 0);
    let name = format!("script-{}", std::process::id());
    let node = machine.node(&name);
    script.child.kill().unwrap();
    node.wait_until_nothing_is_left();
    assert!(!machine.root().join(name).exists());
}

#[test]
fn two_nodes_live_side_by_side_under_two_names() {
    let machine = Machine::new();
    let (one, two) = (machine.start("one"), machine.start("two"));
    assert!(one.healthz().starts_with("HTTP/1.1 200"));
    assert!(two.healthz().starts_with("HTTP/1.1 200"));
    machine.succeed(&["stop", "--name", "one"]);
    assert_eq!(one.processes(), []);
    assert!(two.healthz().starts_with("HTTP/1.1 200"));
}

#[test]
fn a_signal_ends_a_node_in_order() {
    let machine = Machine::new();
    let node = machine.start("default");
    let pid = rustix::process::Pid::from_raw(node.pid() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    eventually("the node has not ended", || {
        !machine.root().join("default/node.json").exists()
    });
    node.wait_until_nothing_is_left();
}

#[test]
fn a_second_signal_ends_a_node_at_once() {
    let machine = Machine::new();
    let node = machine.start("default");
    // A connection in the middle of a request holds up the orderly end.
    let mut client = TcpStream::connect(("127.0.0.1", node.port())).unwrap();
    client
        .write_all(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nab")
        .unwrap();
    let pid = rustix::process::Pid::from_raw(node.pid() as i32).unwrap();
    let signalled = Instant::now();
    eventually("the node has not ended", || {
        rustix::process::kill_process(pid, rustix::process::Signal::INT).is_err()
            || is_dead(node.pid())
    });
    node.wait_until_nothing_is_left();
    assert!(signalled.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_controller_that_cannot_start_is_one_message_with_its_reason_and_nothing_is_left() {
    let machine = Machine::new();
    let state = machine.state().join("eagleray/default");
    fs::create_dir_all(&state).unwrap();
    fs::write(
        state.join("checkpoint.sqlite"),
        "this is no database, and long enough to be seen as none ".repeat(50),
    )
    .unwrap();
    for directory in [state.as_path(), state.parent().unwrap()] {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).unwrap();
    }
    let complaint = machine.fail(&["start", "--http-port", "0"]);
    assert!(
        complaint.contains("the controller does not start"),
        "{complaint}"
    );
    assert!(complaint.contains("checkpoint"), "{complaint}");
    assert!(!machine.root().join("default/node.sock").exists());
}

#[test]
fn a_run_directory_that_is_removed_comes_back_with_its_sockets() {
    let machine = Machine::new();
    let node = machine.start("default");
    let processes = node.processes();
    for _ in 0..2 {
        // Again where the node makes something in it meanwhile, since it misses what is its own.
        eventually("it cannot be removed", || {
            fs::remove_dir_all(machine.root())
                .err()
                .is_none_or(|error| error.kind() == ErrorKind::NotFound)
        });
        eventually("the node is not found again", || {
            machine.eagleray(&["status"]).status.success()
        });
    }
    assert_eq!(node.processes(), processes, "nothing was started again");
    assert_eq!(machine.node("default").record, node.record);
    assert!(machine.succeed(&["start"]).contains("already runs"));

    // A new controller inherits a socket that nobody can reach any more, and makes one of its own.
    let controller = node.pid_of("eagleray: controller").unwrap();
    kill(controller);
    eventually("the next controller is not reached", || {
        node.pid_of("eagleray: controller")
            .is_some_and(|pid| pid != controller)
            && machine.eagleray(&["status"]).status.success()
    });
    kill(node.pid_of("eagleray: proxy").unwrap());
    assert!(node.healthz().starts_with("HTTP/1.1 200"));

    machine.succeed(&["stop"]);
    assert_eq!(node.processes(), []);
    assert!(!machine.root().join("default/node.sock").exists());
    assert!(!machine.root().join("default/controller.sock").exists());
}

#[test]
fn a_controller_that_keeps_dying_is_no_busy_loop_and_the_status_says_so() {
    let machine = Machine::new();
    let node = machine.start("default");
    // Started anew it does not understand its checkpoint.
    let path = machine.state().join("eagleray/default/checkpoint.sqlite");
    fs::write(
        &path,
        "this is no database, and long enough to be seen as none ".repeat(50),
    )
    .unwrap();
    let before = Instant::now();
    kill(node.pid_of("eagleray: controller").unwrap());
    let mut said = String::new();
    eventually("the status does not say it", || {
        said = String::from_utf8(machine.eagleray(&["status"]).stderr).unwrap();
        said.contains("crash loop")
    });
    for part in [
        "The controller is in a crash loop",
        "deaths in a row",
        "next start in",
        "controller.log",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
    let log = fs::read_to_string(machine.state().join("eagleray/default/logs/node.log")).unwrap();
    let starts = log.matches("process started").count();
    let bound = 12 + before.elapsed().as_secs() / 2;
    assert!(starts as u64 <= bound, "{starts} starts, {log}");
    assert!(
        node.healthz().starts_with("HTTP/1.1 200"),
        "requests are served"
    );
    fs::remove_file(&path).unwrap();
    eventually("it does not recover", || {
        machine.eagleray(&["status"]).status.success()
    });
}

#[test]
fn a_node_that_listens_everywhere_warns_once() {
    let machine = Machine::new();
    let output = machine.eagleray(&["start", "--http-host", "0.0.0.0", "--http-port", "0"]);
    assert!(output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        said.matches("every machine that can reach").count(),
        1,
        "{said}"
    );
    let log = fs::read_to_string(machine.state().join("eagleray/default/logs/node.log")).unwrap();
    assert_eq!(
        log.matches("every machine that can reach").count(),
        1,
        "{log}"
    );
}

#[test]
fn logs_of_a_script_whose_node_had_no_failure_go_with_it() {
    let machine = Machine::new();
    let mut script = machine.script_node(std::process::id(), 0);
    script.owner = None;
    assert!(script.wait().success());
    let left = fs::read_dir(machine.root()).unwrap().count();
    assert_eq!(left, 0);
}
