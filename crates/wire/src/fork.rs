//! What a forked child of user code must not keep.
//!
//! Death is seen by end of file, and a child that user code forks would hold the sockets open after its parent
//! has died. So every descriptor of the replica is listed here, and a handler that runs in each forked child
//! closes them all, whoever forked: Python, or a C library on its own. Claim pages and regions that are written to
//! are not inherited at all (`MADV_DONTFORK`). Children made by exec lose everything by close-on-exec.
//!
//! What user code has in its hands, the child may read on: a value that arrived in a region. Such a region must
//! never be written to again, so forks are counted, and whoever gives a region back says whether one came between.
//!
//! Signals: see [`signals`]. A child that is to be a replica itself: see [`anew`].
//!
//! A list of the process, since the handler of `pthread_atfork` takes no argument: atomics only, for nothing else
//! is safe to touch between fork and exec.

use std::{
    os::fd::{AsFd, AsRawFd, RawFd},
    sync::{
        Once,
        atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering},
    },
};

pub mod anew;
pub mod signals;

/// Far above the connections of one replica (threads of proxies and processes with handles) and its regions.
const MOST: usize = 4096;
static DESCRIPTORS: [AtomicI32; MOST] = [const { AtomicI32::new(-1) }; MOST];
static CHILD: AtomicBool = AtomicBool::new(false);
static FORKS: AtomicU64 = AtomicU64::new(0);
static LIFE: AtomicU64 = AtomicU64::new(0);
static INSTALL: Once = Once::new();

/// True in a process that was forked from a replica: nothing of the replica is left to it.
pub fn in_forked_child() -> bool {
    // Relaxed: written before any thread of the child exists.
    CHILD.load(Ordering::Relaxed)
}

/// A number that is another one in a forked child. What was made in another life than this has its locks, sockets and
/// peers there: it must be left alone here.
pub(crate) fn life() -> u64 {
    INSTALL.call_once(install);
    // Relaxed: written before any thread of the child exists.
    LIFE.load(Ordering::Relaxed)
}

/// How often this process has forked so far. Counted before the child exists, from the first call on.
pub(crate) fn forks() -> u64 {
    INSTALL.call_once(install);
    // Acquire, with the handler's release: user code that has seen a child sees the count.
    FORKS.load(Ordering::Acquire)
}

/// A place in the list, given back when dropped: before the descriptor is closed, or its number may be another's.
#[derive(Debug)]
pub struct Listed(usize);

/// Lists a descriptor. `None`: the list is full, and the descriptor should not be used.
pub fn list(descriptor: impl AsFd) -> Option<Listed> {
    INSTALL.call_once(install);
    let raw = descriptor.as_fd().as_raw_fd();
    let place = DESCRIPTORS.iter().position(|cell| {
        // Relaxed: the list is read only in a child, after fork, which copies all memory.
        cell.compare_exchange(-1, raw, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    })?;
    Some(Listed(place))
}

impl Drop for Listed {
    fn drop(&mut self) {
        DESCRIPTORS[self.0].store(-1, Ordering::Relaxed);
    }
}

#[expect(
    unsafe_code,
    reason = "registers the fork handler; there is no safe interface to it"
)]
fn install() {
    // SAFETY: the handlers touch atomics and call close(2) and sigaction(2), all allowed between fork and exec.
    unsafe {
        libc::pthread_atfork(Some(before_fork), None, Some(in_child));
    }
}

extern "C" fn before_fork() {
    FORKS.fetch_add(1, Ordering::Release);
}

extern "C" fn in_child() {
    CHILD.store(true, Ordering::Relaxed);
    LIFE.fetch_add(1, Ordering::Relaxed);
    signals::in_child();
    for cell in &DESCRIPTORS {
        let raw = cell.swap(-1, Ordering::Relaxed);
        if raw >= 0 {
            close(raw);
        }
    }
}

#[expect(
    unsafe_code,
    reason = "close(2) on raw numbers; the owners do not exist in the child"
)]
fn close(raw: RawFd) {
    // SAFETY: the descriptor was open in the parent at the fork, so this closes the child's copy of it.
    unsafe {
        libc::close(raw);
    }
}
