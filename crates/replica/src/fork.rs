//! What a forked child of user code must not keep.
//!
//! Death is seen by end of file, and a child that user code forks would hold the sockets open after its parent
//! has died. So every descriptor of the replica is listed here, and a handler that runs in each forked child
//! closes them all, whoever forked: Python, or a C library on its own. Claim pages are not inherited at all
//! (`MADV_DONTFORK`). Children made by exec lose everything by close-on-exec.
//!
//! A list of the process, since the handler of `pthread_atfork` takes no argument: atomics only, for nothing else
//! is safe to touch between fork and exec.

use std::{
    os::fd::{AsFd, AsRawFd, OwnedFd},
    sync::{
        Once,
        atomic::{AtomicBool, AtomicI32, Ordering},
    },
};

/// Far above the connections of one replica (threads of proxies and processes with handles).
const MOST: usize = 1024;
static DESCRIPTORS: [AtomicI32; MOST] = [const { AtomicI32::new(-1) }; MOST];
static CHILD: AtomicBool = AtomicBool::new(false);
static INSTALL: Once = Once::new();

/// True in a process that was forked from a replica: nothing of the replica is left to it.
pub fn in_forked_child() -> bool {
    // Relaxed: written before any thread of the child exists.
    CHILD.load(Ordering::Relaxed)
}

/// A place in the list, given back when dropped.
#[derive(Debug)]
pub(crate) struct Listed(usize);

/// Lists a descriptor. `None`: the list is full, and the descriptor should not be used.
pub(crate) fn list(descriptor: &OwnedFd) -> Option<Listed> {
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
    // SAFETY: `in_child` touches atomics and calls close(2), both allowed between fork and exec.
    unsafe {
        libc::pthread_atfork(None, None, Some(in_child));
    }
}

#[expect(
    unsafe_code,
    reason = "close(2) on raw numbers; the owners do not exist in the child"
)]
extern "C" fn in_child() {
    CHILD.store(true, Ordering::Relaxed);
    for cell in &DESCRIPTORS {
        let raw = cell.swap(-1, Ordering::Relaxed);
        if raw >= 0 {
            // SAFETY: the descriptor was open in the parent at the fork, so this closes the child's copy of it.
            unsafe {
                libc::close(raw);
            }
        }
    }
}
