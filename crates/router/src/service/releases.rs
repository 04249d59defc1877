//! Regions that are not needed here any more, on their way to the router's thread.
//!
//! User code drops values on its own threads; frames are written by the router's. At most one entry for each region that a
//! replica lent, so the replicas' credit bounds it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Waker,
};

use eagleray_wire::region::Release;
use parking_lot::Mutex;

use crate::core::ConnectionKey;

/// RELEASE frames that are to be written.
#[derive(Debug, Default)]
pub(super) struct Releases {
    /// There are some. Looked at once a turn, without the lock.
    some: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<Released>,
    driver: Option<Waker>,
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Released {
    pub(super) connection: ConnectionKey,
    pub(super) number: u64,
    pub(super) reusable: bool,
}

impl Releases {
    /// Whom to wake: the task that calls [`Releases::take`].
    pub(super) fn set_driver(&self, waker: &Waker) {
        self.state.lock().driver = Some(waker.clone());
    }

    pub(super) fn take(&self) -> Vec<Released> {
        if !self.some.swap(false, Ordering::AcqRel) {
            return Vec::new();
        }
        std::mem::take(&mut self.state.lock().waiting)
    }

    fn put(&self, released: Released) {
        let mut state = self.state.lock();
        state.waiting.push(released);
        // After the entry is there, under its lock: whoever clears the flag finds it.
        if !self.some.swap(true, Ordering::AcqRel)
            && let Some(driver) = &state.driver
        {
            driver.wake_by_ref();
        }
    }
}

/// The way back over one connection.
#[derive(Debug)]
pub(super) struct Releaser {
    pub(super) releases: Arc<Releases>,
    pub(super) connection: ConnectionKey,
}

impl Release for Releaser {
    fn release(&self, number: u64, reusable: bool) {
        self.releases.put(Released {
            connection: self.connection,
            number,
            reusable,
        });
    }
}
