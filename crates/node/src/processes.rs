//! Finding processes by what cannot be taken from them, and ending them until none is left.
//!
//! User code forks: data loaders and engines hold GPUs long after their parent died. A process belongs to a
//! replica (or node) if its environment at start says so, or if it is in the replica's session. Each is pinned by
//! a pidfd and looked at again before the signal, so that a number used again meanwhile hits nobody. Killing is
//! repeated until a scan is empty, because a process may fork while it is being found.

use std::{
    fs, io,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

use crate::settings;

/// Which processes are meant. The calling process never is.
#[derive(Clone, Debug)]
pub(crate) struct Belongs {
    /// Every `NAME=value` of these in the environment that the process was started with.
    variables: Vec<String>,
    /// Or else a process of this session.
    session: Option<u32>,
}

impl Belongs {
    pub(crate) fn to_node(node_id: &str) -> Self {
        Self {
            variables: vec![format!("{}={node_id}", settings::NODE)],
            session: None,
        }
    }

    /// With the node, since replicas of two nodes may have the same id.
    pub(crate) fn to_replica(node_id: &str, replica_id: &str, session: u32) -> Self {
        let variables = vec![
            format!("{}={node_id}", settings::NODE),
            format!("{}={replica_id}", settings::REPLICA),
        ];
        Self {
            variables,
            session: Some(session),
        }
    }

    fn matches(&self, pid: u32) -> bool {
        let Some(status) = Status::read(pid) else {
            return false;
        };
        if status.dead {
            return false;
        }
        if self.session == Some(status.session) {
            return true;
        }
        // Not readable: another user's process, or one that has just ended.
        let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else {
            return false;
        };
        self.variables.iter().all(|variable| {
            environment
                .split(|byte| *byte == 0)
                .any(|entry| entry == variable.as_bytes())
        })
    }
}

struct Status {
    dead: bool,
    session: u32,
}

impl Status {
    fn read(pid: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Self::parse(&text)
    }

    /// `pid (name) state ppid pgrp session ...`, where the name may hold spaces and brackets.
    fn parse(text: &str) -> Option<Self> {
        let mut fields = text.get(text.rfind(')')? + 1..)?.split_ascii_whitespace();
        let state = fields.next()?;
        let session = fields.nth(2)?.parse().ok()?;
        Some(Self {
            dead: matches!(state, "Z" | "X" | "x"),
            session,
        })
    }
}

/// Kills all that belong, again and again, until a scan finds none. Returns whether that was so before `deadline`.
/// Blocks the thread.
pub(crate) fn end_all(belongs: &Belongs, deadline: Instant) -> bool {
    loop {
        let found = scan(belongs);
        if found.is_empty() {
            return true;
        }
        for process in &found {
            // It may have ended since.
            pidfd_send_signal(process, Signal::KILL).ok();
        }
        if Instant::now() >= deadline {
            return false;
        }
        wait_for_deaths(&found, Duration::from_millis(100));
    }
}

fn scan(belongs: &Belongs) -> Vec<OwnedFd> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let own = std::process::id();
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| *pid != own && belongs.matches(*pid))
        .filter_map(|pid| {
            let pinned = pidfd_open(Pid::from_raw(pid.cast_signed())?, PidfdFlags::empty()).ok()?;
            belongs.matches(pid).then_some(pinned)
        })
        .collect()
}

/// Returns when the first of them has ended, or after `limit`: then the next scan is due.
fn wait_for_deaths(processes: &[OwnedFd], limit: Duration) {
    let mut entries: Vec<PollFd<'_>> = processes
        .iter()
        .map(|fd| PollFd::new(fd, PollFlags::IN))
        .collect();
    let limit = Timespec {
        tv_sec: 0,
        tv_nsec: i64::from(limit.subsec_nanos()),
    };
    // Woken early or not: the scan that follows decides.
    poll(&mut entries, Some(&limit)).ok();
}

/// Whether a process with this number lives and is no zombie.
pub(crate) fn is_alive(pid: u32) -> bool {
    Status::read(pid).is_some_and(|status| !status.dead)
}

/// A pidfd of any process.
pub(crate) fn open(pid: u32) -> io::Result<OwnedFd> {
    let pid = Pid::from_raw(pid.cast_signed()).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn the_session_is_read_behind_a_name_with_brackets_and_spaces() {
        let status = Status::parse("42 (a) b (c) S 1 40 39 0 -1").unwrap();
        assert!(!status.dead);
        assert_eq!(status.session, 39);
        assert!(Status::parse("42 (a) Z 1 40 39 0").unwrap().dead);
    }

    #[test]
    fn a_process_is_found_by_its_environment_and_gone_afterwards() {
        let mark = format!("found-{}", std::process::id());
        let mut child = Command::new("sleep")
            .arg("1000")
            .env("EAGLERAY_NODE", &mark)
            .env("EAGLERAY_REPLICA", "one")
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let belongs = Belongs::to_replica(&mark, "one", u32::MAX);
        let deadline = Instant::now() + Duration::from_secs(10);
        assert!(end_all(
            &Belongs::to_replica(&mark, "another", u32::MAX),
            deadline
        ));
        assert!(is_alive(child.id()));
        assert!(end_all(&belongs, deadline));
        assert!(!child.wait().unwrap().success());
    }
}
