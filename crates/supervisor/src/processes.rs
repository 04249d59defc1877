//! Finding processes by what cannot be taken from them, and ending them until none is left.
//!
//! User code forks: data loaders and engines hold GPUs long after their parent died. A process belongs to a
//! replica (or node) if it is in the replica's session, or has the replica's `Mark`, or if its environment at start
//! says so: a daemon has a session of its own, and some have an environment of their own too. Each is pinned by
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
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

use crate::environment;

mod mark;

pub(crate) use mark::Mark;

/// How long processes in the middle of `exec` hold up the answer that none is left. It takes them microseconds, but
/// one that waits for a dead disk there must not hold up a node's start.
const EXEC_WITHIN: Duration = Duration::from_millis(500);

/// Which processes are meant. The calling process never is.
#[derive(Clone, Debug)]
pub(crate) struct Belongs {
    mark: Mark,
    /// Every `NAME=value` of these in the environment that the process was started with.
    variables: Vec<String>,
    /// Or else a process of this session.
    session: Option<u32>,
}

impl Belongs {
    pub(crate) fn to_node(node_id: &str) -> Self {
        Self {
            mark: Mark::of_node(node_id),
            variables: vec![format!("{}={node_id}", environment::NODE)],
            session: None,
        }
    }

    /// With the node, since replicas of two nodes may have the same id.
    pub(crate) fn to_replica(node_id: &str, replica_id: &str, session: u32) -> Self {
        let variables = vec![
            format!("{}={node_id}", environment::NODE),
            format!("{}={replica_id}", environment::REPLICA),
        ];
        Self {
            mark: Mark::of_node(node_id).of_process(session),
            variables,
            session: Some(session),
        }
    }

    /// Whether a process with this mark is meant.
    fn has(&self, mark: Mark) -> bool {
        match self.session {
            Some(_) => mark == self.mark,
            None => mark.node() == self.mark.node(),
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
        if Mark::read(pid).is_some_and(|mark| self.has(mark)) {
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
    parent: u32,
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
        let parent = fields.next()?.parse().ok()?;
        let session = fields.nth(1)?.parse().ok()?;
        let flags: u32 = fields.nth(2)?.parse().ok()?;
        let environment_end = fields.nth(41);
        Some(Self {
            dead: matches!(state, "Z" | "X" | "x"),
            parent,
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
        let (mut found, in_exec) = scan(belongs);
        if found.is_empty() && in_exec && start.elapsed() < EXEC_WITHIN && Instant::now() < deadline
        {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        }
        if found.is_empty() {
            return true;
        }
        // It may have ended since. One that has become another user's cannot be ended, and is waited for by nobody.
        found.retain(|process| pidfd_send_signal(process, Signal::KILL) != Err(Errno::PERM));
        if found.is_empty() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        wait_for_deaths(&found, Duration::from_millis(100));
    }
}

/// Pidfds of all that belong, and whether there was one of which that cannot be said yet.
fn scan(belongs: &Belongs) -> (Vec<OwnedFd>, bool) {
    let own = std::process::id();
    let mut found = Vec::new();
    let mut in_exec = false;
    for pid in all().filter(|pid| *pid != own) {
        match belongs.matches(pid) {
            Match::Yes => found.extend(pin(belongs, pid)),
            Match::No => {}
            Match::NotYetKnown => in_exec = true,
        }
    }
    (found, in_exec)
}

/// Numbers of all processes there are.
fn all() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Children of this process that have ended and that nobody has waited for.
pub(crate) fn ended_children() -> Vec<u32> {
    let own = std::process::id();
    all()
        .filter(|pid| Status::read(*pid).is_some_and(|status| status.dead && status.parent == own))
        .collect()
}

/// Who is to wait for it.
pub(crate) fn parent(pid: u32) -> Option<u32> {
    Status::read(pid).map(|status| status.parent)
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
pub fn is_alive(pid: u32) -> bool {
    Status::read(pid).is_some_and(|status| !status.dead)
}

/// A pidfd of any process.
pub fn open(pid: u32) -> io::Result<OwnedFd> {
    let pid = Pid::from_raw(pid.cast_signed()).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

#[cfg(test)]
mod tests;
