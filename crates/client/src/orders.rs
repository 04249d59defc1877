//! Calls on their way to the router's thread.
//!
//! Waking that thread is the dearest part of making a call. When a turn of a replica's event loop goes on with several
//! requests, the calls that it makes are held and leave together at its end: one wake-up for them all, and one send to
//! each replica that is called. The rule is that of a replica's answers: nothing is held while a request is
//! alone; and code that blocks the loop delays the calls made before it by a millisecond at most, since the I/O thread
//! then sends them.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    thread::{self, ThreadId},
};

use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::{
    call::{Failed, Outcome},
    order::Order,
};

/// Calls that may wait for the router's thread; it only falls behind when the process has no CPU.
const WAITING: usize = 65_536;
/// Calls that leave together, at most.
const COMPANY: usize = 16;

/// Holds calls of one loop's turns, and hands the others over at once.
#[derive(Debug)]
pub struct Orders {
    sender: mpsc::Sender<Order>,
    held: Mutex<Vec<Order>>,
    turns: OnceLock<Turns>,
}

/// The loop whose turns calls are held in: whether it goes on with several requests, and its thread.
struct Turns {
    in_batch: Box<dyn Fn() -> bool + Send + Sync>,
    thread: ThreadId,
}

impl fmt::Debug for Turns {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Turns").field(&self.thread).finish()
    }
}

impl Orders {
    pub(crate) fn new() -> (Arc<Self>, mpsc::Receiver<Order>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        let orders = Arc::new(Self {
            sender,
            held: Mutex::default(),
            turns: OnceLock::new(),
        });
        (orders, receiver)
    }

    /// From now on calls made by this thread are held while `in_batch` says that its loop goes on with several requests.
    /// `release` must follow each such batch, and come from the I/O thread while it watches.
    pub fn hold_in_batches(
        &self,
        thread: ThreadId,
        in_batch: impl Fn() -> bool + Send + Sync + 'static,
    ) {
        // A second one would be of the same replica: a process has one.
        drop(self.turns.set(Turns {
            in_batch: Box::new(in_batch),
            thread,
        }));
    }

    /// Never waits.
    pub(crate) fn send(&self, order: Order) {
        let mut held = self.held.lock();
        held.push(order);
        // Asked with the lock: the I/O thread stops watching before it releases, so either it sees the order or this
        // sees that it does not watch.
        let hold = self
            .turns
            .get()
            .is_some_and(|turns| (turns.in_batch)() && turns.thread == thread::current().id());
        if !hold || held.len() >= COMPANY {
            self.hand_over(&mut held);
        }
    }

    /// Sends what is held.
    pub fn release(&self) {
        self.hand_over(&mut self.held.lock());
    }

    fn hand_over(&self, held: &mut Vec<Order>) {
        for order in held.drain(..) {
            // Of a closed channel the order is dropped, which ends its call.
            if let Err(mpsc::error::TrySendError::Full(order)) = self.sender.try_send(order) {
                let message = format!("{WAITING} calls of this process wait to be sent");
                let failed = Failed::new("Unavailable", message);
                order.call.0.finish(Outcome::Failure(failed));
            }
        }
    }
}
