//! Child processes: each a session of its own, known by a pidfd from its first moment.
//!
//! Descriptors that a child is to inherit keep their number; only in the child, between fork and exec, is
//! close-on-exec taken from them. Clearing it in the parent would hand them to every other child too.
//!
//! What a child leaves behind when it ends becomes a child of the node ([`adopt_orphans`]), so a node that is process 1, and
//! any other, waits for it too: nothing stays a zombie.
//!
//! The kernel binds some things to the thread that forks, so children are started from the main thread only:
//! everything here runs on the one thread of the node's runtime.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
        unix::process::{CommandExt, ExitStatusExt},
    },
    process::{Command, ExitStatus},
};

use rustix::{
    io::{FdFlags, fcntl_setfd},
    process::{
        Pid, Signal, WaitOptions, child_subreaper, getpid, set_child_subreaper, setsid, waitpid,
    },
};

use crate::{
    pidfd::Pidfd,
    processes::{self, Mark},
};

thread_local! {
    /// Those that are not reaped yet, by number: whatever else is a child of this process was left to it.
    static STARTED: RefCell<BTreeSet<u32>> = const { RefCell::new(BTreeSet::new()) };
    /// How many are being forked for this process by another one, and have no name here yet.
    static EXPECTED: Cell<usize> = const { Cell::new(0) };
}

/// A child that has been started. Dropping it does not end it.
#[derive(Debug)]
pub(crate) struct Process {
    pid: u32,
    pidfd: Pidfd,
    reaped: Cell<bool>,
}

/// While it lives no orphan is reaped: one that has ended might be the process that is expected.
#[derive(Debug)]
pub(crate) struct Expecting(());

impl Expecting {
    pub(crate) fn one() -> Self {
        EXPECTED.set(EXPECTED.get() + 1);
        Self(())
    }
}

impl Drop for Expecting {
    fn drop(&mut self) {
        EXPECTED.set(EXPECTED.get() - 1);
    }
}

impl Process {
    /// A process that another one has forked and left to this one. Somebody has been [`Expecting`] it since before it was
    /// there, so its number is its own, even if it has ended.
    pub(crate) fn adopt(pid: u32) -> io::Result<Self> {
        if processes::parent(pid) != Some(std::process::id()) {
            return Err(io::Error::other(format!(
                "process {pid} was not left to the node"
            )));
        }
        Self::of_child(pid)
    }

    fn of_child(pid: u32) -> io::Result<Self> {
        let pidfd = Pidfd::open(pid)?;
        STARTED.with_borrow_mut(|started| started.insert(pid));
        Ok(Self {
            pid,
            pidfd,
            reaped: Cell::new(false),
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a signal; to a process that has ended it does nothing. Never reaches another process, since the
    /// pidfd names this one for ever.
    pub(crate) fn signal(&self, signal: Signal) {
        if !self.reaped.get() {
            self.pidfd.signal(signal);
        }
    }

    /// Waits until the process has ended. It stays a zombie, so its number is not used again before
    /// [`Process::reap`]. Cancel safe.
    pub(crate) async fn ended(&self) {
        self.pidfd.ended().await;
    }

    /// Takes the exit status of a process that has ended.
    pub(crate) fn reap(&self) -> io::Result<ExitStatus> {
        let pid = Pid::from_raw(self.pid.cast_signed());
        let status = waitpid(pid, WaitOptions::empty())?.ok_or(io::ErrorKind::WouldBlock)?;
        self.reaped.set(true);
        STARTED.with_borrow_mut(|started| started.remove(&self.pid));
        Ok(ExitStatus::from_raw(status.1.as_raw()))
    }
}

/// Starts `command` in a session of its own, with `inherited` open in it under the same numbers, and what it starts
/// marked with `mark`.
pub(crate) fn spawn(
    mut command: Command,
    inherited: &[BorrowedFd<'_>],
    mark: Option<Mark>,
) -> io::Result<Process> {
    let numbers: Vec<RawFd> = inherited.iter().map(AsRawFd::as_raw_fd).collect();
    before_exec(&mut command, numbers, mark);
    let mut child = command.spawn()?;
    let process = Process::of_child(child.id());
    if process.is_err() {
        child.kill()?;
        child.wait()?;
    }
    process
}

#[expect(
    unsafe_code,
    reason = "there is no safe way yet to start a session in a child, nor to let it inherit descriptors"
)]
fn before_exec(command: &mut Command, numbers: Vec<RawFd>, mark: Option<Mark>) {
    let prepare = move || {
        setsid()?;
        if let Some(mark) = mark {
            mark.set();
        }
        for number in &numbers {
            // SAFETY: the caller of `spawn` holds these descriptors open until it returns, and the child has a
            // copy of each from the fork on.
            let descriptor = unsafe { BorrowedFd::borrow_raw(*number) };
            fcntl_setfd(descriptor.as_fd(), FdFlags::empty())?;
        }
        Ok(())
    };
    // SAFETY: the closure runs in the child after fork, where only async-signal-safe calls are allowed. It makes
    // system calls only (setsid, getpid, getrlimit, setrlimit, fcntl), takes no lock and allocates nothing: an `io::Error` made from an errno
    // does not allocate.
    unsafe { command.pre_exec(prepare) };
}

/// From now on processes whose parents end become children of this one, as under process 1. [`reap_orphans`] waits for
/// them.
pub(crate) fn adopt_orphans() {
    // Old kernels and sandboxes refuse; then orphans are process 1's, as ever.
    set_child_subreaper(Some(getpid())).ok();
}

/// Whether that is so: what another process forks and leaves is this one's child.
pub(crate) fn adopts_orphans() -> bool {
    matches!(child_subreaper(), Ok(Some(_))) || getpid().is_init()
}

/// Waits for what was left to this process and has ended. Reads all of `/proc`: for when a child has ended, and then now
/// and again. False: not now, since one may be expected.
pub(crate) fn reap_orphans() -> bool {
    if EXPECTED.get() > 0 {
        return false;
    }
    for pid in processes::ended_children() {
        let ours = STARTED.with_borrow(|started| started.contains(&pid));
        if let Some(pid) = Pid::from_raw(pid.cast_signed()).filter(|_| !ours) {
            // It is dead, so this does not wait; an error: it is reaped already.
            waitpid(Some(pid), WaitOptions::NOHANG).ok();
        }
    }
    true
}

/// `exit status 1`, `signal 9 (SIGKILL)`.
pub fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(number)) => {
            let name = match number {
                1 => "SIGHUP",
                2 => "SIGINT",
                3 => "SIGQUIT",
                4 => "SIGILL",
                6 => "SIGABRT",
                7 => "SIGBUS",
                8 => "SIGFPE",
                9 => "SIGKILL",
                11 => "SIGSEGV",
                13 => "SIGPIPE",
                15 => "SIGTERM",
                24 => "SIGXCPU",
                31 => "SIGSYS",
                _ => return format!("signal {number}"),
            };
            format!("signal {number} ({name})")
        }
        (None, None) => status.to_string(),
    }
}
