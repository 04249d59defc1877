//! Calls on their way to the router's thread.
//!
//! Waking that thread is the dearest part of making a call. When a turn of a replica's event loop goes on with several
//! requests, the calls that it makes are held and leave together at its end: one wake-up for them all, and one send to
//! each replica that is called. The rule is that of answers (`eagleray_replica`): nothing is held while a request is
//! alone; and code that blocks the loop delays the calls made before it by a millisecond at most, since the I/O thread
//! then sends them.

use std::{
    sync::{Arc, OnceLock},
    thread::{self, ThreadId},
};

use eagleray_replica::Handle;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::{
    carry::Order,
    state::{Failed, Outcome},
};

/// Calls that may wait for the router's thread; it only falls behind when the process has no CPU.
const WAITING: usize = 65_536;
/// Calls that leave together, at most.
const COMPANY: usize = 16;

#[derive(Debug)]
pub(crate) struct Orders {
    sender: mpsc::Sender<Order>,
    held: Mutex<Vec<Order>>,
    replica: OnceLock<OfReplica>,
}

/// The loop whose turns calls are held in.
#[derive(Debug)]
struct OfReplica {
    handle: Handle,
    thread: ThreadId,
}

impl Orders {
    pub(super) fn new() -> (Arc<Self>, mpsc::Receiver<Order>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        let orders = Arc::new(Self {
            sender,
            held: Mutex::default(),
            replica: OnceLock::new(),
        });
        (orders, receiver)
    }

    /// From now on calls made by this thread in a batch of the replica's loop are held. `release` must follow each
    /// batch, and come from the I/O thread while it watches.
    pub(crate) fn hold_in_batches(&self, handle: Handle, thread: ThreadId) {
        // A second one would be of the same replica: a process has one.
        drop(self.replica.set(OfReplica { handle, thread }));
    }

    /// Never waits.
    pub(super) fn send(&self, order: Order) {
        let mut held = self.held.lock();
        held.push(order);
        // Asked with the lock: the I/O thread stops watching before it releases, so either it sees the order or this
        // sees that it does not watch.
        let hold = self
            .replica
            .get()
            .is_some_and(|of| of.handle.in_batch() && of.thread == thread::current().id());
        if !hold || held.len() >= COMPANY {
            self.hand_over(&mut held);
        }
    }

    /// Sends what is held.
    pub(crate) fn release(&self) {
        self.hand_over(&mut self.held.lock());
    }

    fn hand_over(&self, held: &mut Vec<Order>) {
        for order in held.drain(..) {
            // Of a closed channel the order is dropped, which ends its call.
            if let Err(mpsc::error::TrySendError::Full(order)) = self.sender.try_send(order) {
                let message = format!("{WAITING} calls of this process wait to be sent");
                let failed = Failed::new("Unavailable", message);
                order.state.0.finish(Outcome::Failure(failed));
            }
        }
    }
}
