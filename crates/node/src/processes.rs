//! Finding processes by what cannot be taken from them, and ending them until none is left.
//!
//! User code forks: data loaders and engines hold GPUs long after their parent died. A process belongs to a
//! replica (or node) if its environment at start says so, or if it is in the replica's session. Each is pinned by
//! a pidfd and looked at again before the signal, so that a number used again meanwhile hits nobody. Killing is
//! repeated until a scan is empty, because a process may fork while it is being found. A process in the middle of
//! `exec` shows no environment for a moment: a scan that met one is no answer and is made again.

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

/// How long processes in the middle of `exec` hold up the answer that none is left. It takes them microseconds, but
/// one that waits for a dead disk there must not hold up a node's start.
const EXEC_WITHIN: Duration = Duration::from_millis(500);

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

    fn matches(&self, pid: u32) -> Match {
        let Some(status) = Status::read(pid) else {
            return Match::No;
        };
        if status.dead {
            return Match::No;
        }
        if self.session == Some(status.session) {
            return Match::Yes;
        }
        // Not readable: another user's process, or one that has just ended.
        let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else {
            return Match::No;
        };
        if environment.is_empty() && status.no_environment_yet {
            return Match::NotYetKnown;
        }
        let all = self.variables.iter().all(|variable| {
            environment
                .split(|byte| *byte == 0)
                .any(|entry| entry == variable.as_bytes())
        });
        if all { Match::Yes } else { Match::No }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Match {
    Yes,
    No,
    /// It is in the middle of `exec`.
    NotYetKnown,
}

struct Status {
    dead: bool,
    session: u32,
    /// A process of user space whose environment has no place: `exec` has taken the old one and not yet laid out the
    /// new one. An empty environment has a place.
    no_environment_yet: bool,
}

impl Status {
    fn read(pid: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Self::parse(&text)
    }

    /// `pid (name) state ppid pgrp session tty tpgid flags ... env_start env_end exit_code`, 52 fields in all (proc(5)),
    /// where the name may hold spaces and brackets.
    fn parse(text: &str) -> Option<Self> {
        /// `PF_KTHREAD` of the kernel's include/linux/sched.h.
        const KERNEL_THREAD: u32 = 0x0020_0000;
        let mut fields = text.get(text.rfind(')')? + 1..)?.split_ascii_whitespace();
        let state = fields.next()?;
        let session = fields.nth(2)?.parse().ok()?;
        let flags: u32 = fields.nth(2)?.parse().ok()?;
        let environment_end = fields.nth(41);
        Some(Self {
            dead: matches!(state, "Z" | "X" | "x"),
            session,
            no_environment_yet: environment_end == Some("0") && flags & KERNEL_THREAD == 0,
        })
    }
}

/// Kills all that belong, again and again, until a scan finds none. Returns whether that was so before `deadline`.
/// Blocks the thread.
pub(crate) fn end_all(belongs: &Belongs, deadline: Instant) -> bool {
    let start = Instant::now();
    loop {
        let (found, in_exec) = scan(belongs);
        if found.is_empty() && in_exec && start.elapsed() < EXEC_WITHIN && Instant::now() < deadline
        {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        }
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

/// Pidfds of all that belong, and whether there was one of which that cannot be said yet.
fn scan(belongs: &Belongs) -> (Vec<OwnedFd>, bool) {
    let Ok(entries) = fs::read_dir("/proc") else {
        return (Vec::new(), false);
    };
    let own = std::process::id();
    let pids = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| *pid != own);
    let mut found = Vec::new();
    let mut in_exec = false;
    for pid in pids {
        match belongs.matches(pid) {
            Match::Yes => found.extend(pin(belongs, pid)),
            Match::No => {}
            Match::NotYetKnown => in_exec = true,
        }
    }
    (found, in_exec)
}

/// A pidfd of the process, if that is still the one that belongs.
fn pin(belongs: &Belongs, pid: u32) -> Option<OwnedFd> {
    let pinned = open(pid).ok()?;
    (belongs.matches(pid) == Match::Yes).then_some(pinned)
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
        let rest = |flags: u32, environment_end: u64| {
            format!("40 39 0 -1 {flags}{} {environment_end} 0", " 7".repeat(41))
        };
        let status = Status::parse(&format!("42 (a) b (c) S 1 {}", rest(0, 9))).unwrap();
        assert!(!status.dead);
        assert_eq!(status.session, 39);
        assert!(!status.no_environment_yet);
        assert!(
            Status::parse(&format!("42 (a) Z 1 {}", rest(0, 9)))
                .unwrap()
                .dead
        );
        let in_exec = Status::parse(&format!("42 (a) R 1 {}", rest(0x40_0000, 0))).unwrap();
        assert!(in_exec.no_environment_yet);
        let kernel_thread =
            Status::parse(&format!("2 (kthreadd) S 0 {}", rest(0x20_8040, 0))).unwrap();
        assert!(!kernel_thread.no_environment_yet);
        let own = Status::read(std::process::id()).unwrap();
        assert!(!own.no_environment_yet);
    }

    #[test]
    fn a_process_that_has_just_been_started_is_found() {
        // Returning from spawn does not mean that the new program's environment is in place.
        for number in 0..200 {
            let mark = format!("new-{}-{number}", std::process::id());
            let mut child = Command::new("sleep")
                .arg("60")
                .env("EAGLERAY_NODE", &mark)
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            let ended = end_all(
                &Belongs::to_node(&mark),
                Instant::now() + Duration::from_secs(10),
            );
            let state = child.try_wait().unwrap();
            let killed = ended && (state.is_some() || !is_alive(child.id()));
            child.kill().ok();
            child.wait().unwrap();
            assert!(killed, "child {number} was not found");
        }
    }

    #[test]
    fn a_process_is_found_by_its_environment_and_gone_afterwards() {
        let mark = format!("found-{}", std::process::id());
        let mut child = Command::new("sleep")
            .arg("60")
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
