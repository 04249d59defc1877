//! A machine of its own for each test: a runtime root in a short path, and nothing left when the test is over.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::fd::{AsRawFd, OwnedFd},
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    io::{FdFlags, fcntl_setfd},
    pipe::{PipeFlags, pipe_with},
    process::{Pid, Signal, kill_process},
};
use serde_json::Value;

pub(crate) const WITHIN: Duration = Duration::from_secs(30);

pub(crate) struct Machine {
    directory: tempfile::TempDir,
}

impl Machine {
    pub(crate) fn new() -> Self {
        Self {
            directory: tempfile::Builder::new()
                .prefix("er")
                .tempdir_in("/tmp")
                .unwrap(),
        }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.directory.path().join("run")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("EAGLERAY_RUNTIME_DIR", self.root())
            .env("XDG_STATE_HOME", self.directory.path().join("state"))
            .env("EAGLERAY_CONTROL_PORT", "0");
        for variable in [
            "EAGLERAY_NODE_NAME",
            "EAGLERAY_SERVE_DEFAULT_HTTP_HOST",
            "EAGLERAY_SERVE_DEFAULT_HTTP_PORT",
        ] {
            command.env_remove(variable);
        }
        command.stdin(Stdio::null());
        command
    }

    pub(crate) fn eagleray(&self, arguments: &[&str]) -> Output {
        self.command(env!("CARGO_BIN_EXE_eagleray"))
            .args(arguments)
            .output()
            .unwrap()
    }

    /// Runs a command that must succeed and returns what it printed.
    pub(crate) fn succeed(&self, arguments: &[&str]) -> String {
        let output = self.eagleray(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that must fail and returns what it complained.
    pub(crate) fn fail(&self, arguments: &[&str]) -> String {
        let output = self.eagleray(arguments);
        assert!(!output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    /// A resident node on any free port.
    pub(crate) fn start(&self, name: &str) -> Node {
        self.succeed(&["start", "--name", name, "--http-port", "0"]);
        self.node(name)
    }

    pub(crate) fn node(&self, name: &str) -> Node {
        let path = self.root().join(name).join("node.json");
        Node {
            record: serde_json::from_slice(&fs::read(path).unwrap()).unwrap(),
        }
    }

    /// A node that belongs to process `owner`, as a script starts it.
    pub(crate) fn script_node(&self, owner: u32, port: u16) -> ScriptNode {
        let (owner_read, owner_write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let (ready_read, ready_write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        for descriptor in [&owner_read, &ready_write] {
            fcntl_setfd(descriptor, FdFlags::empty()).unwrap();
        }
        let name = format!("script-{owner}");
        let child = self
            .command(env!("CARGO_BIN_EXE_eagleray"))
            .args([
                "node",
                "--name",
                &name,
                "--http-port",
                &port.to_string(),
                "--owner-pid",
                &owner.to_string(),
            ])
            .args(["--owner-fd", &owner_read.as_raw_fd().to_string()])
            .args(["--ready-fd", &ready_write.as_raw_fd().to_string()])
            .spawn()
            .unwrap();
        drop((owner_read, ready_write));
        let mut line = String::new();
        BufReader::new(fs::File::from(ready_read))
            .read_line(&mut line)
            .unwrap();
        ScriptNode {
            child,
            owner: Some(owner_write),
            answer: serde_json::from_str(&line).unwrap(),
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let Ok(entries) = fs::read_dir(self.root()) else {
            return;
        };
        for entry in entries.flatten() {
            let Ok(text) = fs::read(entry.path().join("node.json")) else {
                continue;
            };
            if let Ok(record) = serde_json::from_slice(&text) {
                let node = Node { record };
                kill(node.pid());
                node.wait_until_nothing_is_left();
            }
        }
    }
}

pub(crate) struct ScriptNode {
    pub(crate) child: Child,
    pub(crate) owner: Option<OwnedFd>,
    pub(crate) answer: Value,
}

impl ScriptNode {
    pub(crate) fn wait(&mut self) -> std::process::ExitStatus {
        let mut status = None;
        eventually("the node of the script has not ended", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for ScriptNode {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) record: Value,
}

impl Node {
    pub(crate) fn pid(&self) -> u32 {
        self.record["pid"].as_u64().unwrap() as u32
    }

    pub(crate) fn port(&self) -> u16 {
        self.record["http_address"]
            .as_str()
            .unwrap()
            .rsplit(':')
            .next()
            .unwrap()
            .parse()
            .unwrap()
    }

    /// Process ids with their titles of everything that the node started.
    pub(crate) fn processes(&self) -> Vec<(u32, String)> {
        let mark = format!("EAGLERAY_NODE={}", self.record["node_id"].as_str().unwrap());
        let pids = fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(|pid| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment
                .split(|byte| *byte == 0)
                .any(|entry| entry == mark.as_bytes())
        })
        .map(|pid: u32| {
            let title = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            (
                pid,
                String::from_utf8_lossy(&title)
                    .trim_matches('\0')
                    .to_owned(),
            )
        })
        .collect()
    }

    pub(crate) fn pid_of(&self, title: &str) -> Option<u32> {
        self.processes()
            .into_iter()
            .find(|(_, found)| found == title)
            .map(|(pid, _)| pid)
    }

    pub(crate) fn wait_until_nothing_is_left(&self) {
        eventually("processes of the node are left", || {
            self.processes().is_empty()
        });
    }

    /// Asks over HTTP whether the proxy is well; connecting must succeed at the first try.
    pub(crate) fn healthz(&self) -> String {
        let mut stream =
            TcpStream::connect(("127.0.0.1", self.port())).expect("the connection was refused");
        stream.set_read_timeout(Some(WITHIN)).unwrap();
        stream
            .write_all(b"GET /-/healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

pub(crate) fn kill(pid: u32) {
    kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL).ok();
}

pub(crate) fn is_dead(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
}

/// Waits for `condition`, with a bound.
pub(crate) fn eventually(complaint: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + WITHIN;
    while !condition() {
        assert!(Instant::now() < until, "{complaint}");
        thread::sleep(Duration::from_millis(2));
    }
}
