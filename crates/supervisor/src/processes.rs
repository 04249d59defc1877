//! Finding processes by what cannot be taken from them, and ending them until none is left.
//!
//! User code forks: data loaders and engines hold GPUs long after their parent died. A process belongs to a
//! replica (or node) if it is in the replica's session, or has the replica's [`Mark`], or if its environment at start
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
    process::{
        Pid, PidfdFlags, Resource, Rlimit, Signal, getpid, getrlimit, pidfd_open,
        pidfd_send_signal, setrlimit,
    },
};

use crate::environment;

/// How long processes in the middle of `exec` hold up the answer that none is left. It takes them microseconds, but
/// one that waits for a dead disk there must not hold up a node's start.
const EXEC_WITHIN: Duration = Duration::from_millis(500);

/// What a process hands down to all that it starts, through `fork`, `exec`, `setsid` and an empty environment: a limit of
/// a resource that Linux has not counted since 2.4 (`RLIMIT_LOCKS`), read in `/proc/PID/limits`. Its high bits say the
/// node, the low ones the replica's process. Whoever raises that limit again takes the mark off; nothing does by chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark(u64);

/// Process numbers are below 2^22 (`PID_MAX_LIMIT`).
const PROCESS_BITS: u32 = 22;

impl Mark {
    /// For any replica of this node. A number of 41 bits: two nodes of a machine share one with odds of 1 in 10^12.
    pub(crate) fn of_node(node_id: &str) -> Self {
        // FNV-1a: the same in every process and release.
        let hash = node_id
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            });
        // Never that of "unlimited", which is all ones.
        Self(hash >> 1 >> PROCESS_BITS << PROCESS_BITS)
    }

    /// For one replica.
    const fn of_process(self, pid: u32) -> Self {
        Self(self.0 | pid as u64)
    }

    /// Marks the calling process, as one of this node, and all that it will start. System calls only.
    pub(crate) fn set(self) {
        let maximum = getrlimit(Resource::Locks).maximum;
        let mark = self.of_process(getpid().as_raw_nonzero().get().cast_unsigned());
        let limit = Rlimit {
            current: Some(mark.0),
            maximum,
        };
        // Refused where the maximum is lower: then session and environment are what is left.
        setrlimit(Resource::Locks, limit).ok();
    }

    /// Of another process.
    fn read(pid: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("Max file locks"))?;
        Some(Self(line.split_ascii_whitespace().next()?.parse().ok()?))
    }

    const fn node(self) -> u64 {
        self.0 >> PROCESS_BITS
    }
}

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
        assert_eq!(status.parent, 1);
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
    fn a_mark_is_of_one_process_and_of_its_node_and_no_limit_that_anybody_has() {
        let (one, other) = (Mark::of_node("one"), Mark::of_node("other"));
        assert_ne!(one.node(), other.node());
        assert_eq!(one.of_process((1 << 22) - 1).node(), one.node());
        let mine = Belongs::to_replica("one", "r", 7);
        assert!(mine.has(one.of_process(7)));
        assert!(!mine.has(one.of_process(8)));
        assert!(!mine.has(other.of_process(7)));
        assert!(Belongs::to_node("one").has(one.of_process(8)));
        for name in ["", "one", "a-longer-name-0123456789"] {
            assert!(Mark::of_node(name).0 < u64::MAX >> 1);
        }
        // "unlimited", as of nearly every process.
        assert!(Mark::read(std::process::id()).is_none_or(|mark| !mine.has(mark)));
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
