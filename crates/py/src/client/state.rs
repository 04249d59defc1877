//! One call, as its caller and the router's thread share it.
//!
//! Two things come: items, of a call whose result is iterated over, and one outcome, which ends it. The call is *ready*
//! when there is an item to take or the outcome is there. Whoever waits, a thread or an event loop, waits for that.

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::Arc,
    task::{Poll, Waker},
    time::Instant,
};

use eagleray_replica::Cancel;
use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::sync::Notify;

use super::{arguments::Arguments, completions::Queue};
use crate::region::Content;

/// Bytes of items that may wait for the caller. A producer is at most so far ahead of its consumer, and the credit of its
/// answer (64 KiB; 256 KiB once it has taken a MiB), and one item.
const HELD_BYTES: usize = 64 * 1024;

/// How a call ended.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    /// The body of the result, or with `true` of the exception.
    Answer(Content, bool),
    /// All items have been handed over.
    End,
    /// The argument with this number was the answer of another call, and there is none.
    Upstream(usize),
    Failure(Failed),
}

/// Why there is no answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Failed {
    /// The name of the code in the error table.
    pub(super) code: &'static str,
    /// What is known besides; may be empty.
    pub(super) message: String,
    /// Of a full queue: `max_queued_requests`, and status and seconds of the HTTP answer.
    pub(super) refusal: Option<(i64, u32, u32)>,
}

impl Failed {
    pub(super) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            refusal: None,
        }
    }
}

/// What a caller gives to the slot that it has reserved.
#[derive(Debug)]
pub(super) struct Dispatched {
    pub(super) arguments: Arguments,
    /// The caller iterates over the result.
    pub(super) stream: bool,
}

#[derive(Debug, Default)]
pub(super) struct Progress {
    items: VecDeque<Content>,
    held_bytes: usize,
    outcome: Option<Outcome>,
    /// Event loops to tell.
    waiting: Vec<(Arc<Queue>, u64)>,
    /// Calls that wait for the outcome, since it is an argument of theirs.
    dependents: Vec<Waker>,
    dispatched: Option<Dispatched>,
}

impl Progress {
    pub(super) fn is_ready(&self) -> bool {
        !self.items.is_empty() || self.outcome.is_some()
    }
}

#[derive(Debug, Default)]
pub(super) struct State {
    progress: Mutex<Progress>,
    ready: Condvar,
    /// The caller wants no answer any more.
    pub(super) cancelled: Notify,
    /// The caller has taken items.
    room: Notify,
    /// `dispatch` was called.
    dispatch: Notify,
}

impl State {
    /// Stores the outcome, the first one only, and wakes whoever waits.
    pub(super) fn finish(&self, outcome: Outcome) {
        let mut progress = self.progress.lock();
        if progress.outcome.is_none() {
            progress.outcome = Some(outcome);
            let dependents = std::mem::take(&mut progress.dependents);
            self.tell(progress);
            dependents.into_iter().for_each(Waker::wake);
        }
    }

    /// Hands an item to the caller.
    pub(super) fn push(&self, item: Content) {
        let mut progress = self.progress.lock();
        progress.held_bytes += item.weight();
        progress.items.push_back(item);
        self.tell(progress);
    }

    fn tell(&self, mut progress: MutexGuard<'_, Progress>) {
        let waiting = std::mem::take(&mut progress.waiting);
        drop(progress);
        self.ready.notify_all();
        for (queue, token) in waiting {
            queue.push(token);
        }
    }

    /// Waits until the caller has taken enough for another item.
    pub(super) async fn room(&self) {
        while self.progress.lock().held_bytes >= HELD_BYTES {
            self.room.notified().await;
        }
    }

    /// The next item.
    pub(super) fn pop(&self) -> Option<Content> {
        let mut progress = self.progress.lock();
        let item = progress.items.pop_front()?;
        let was_full = progress.held_bytes >= HELD_BYTES;
        progress.held_bytes -= item.weight();
        if was_full && progress.held_bytes < HELD_BYTES {
            self.room.notify_one();
        }
        Some(item)
    }

    pub(super) fn is_ready(&self) -> bool {
        self.progress.lock().is_ready()
    }

    pub(super) fn outcome(&self) -> Option<Outcome> {
        self.progress.lock().outcome.clone()
    }

    /// Waits in a thread until `until`. Whether the call is ready.
    pub(super) fn wait_until(&self, until: Instant) -> bool {
        let mut progress = self.progress.lock();
        if !progress.is_ready() {
            self.ready.wait_until(&mut progress, until);
        }
        progress.is_ready()
    }

    /// The queue gets the token when the call is ready. False: it is.
    pub(super) fn notify(&self, queue: &Arc<Queue>, token: u64) -> bool {
        let mut progress = self.progress.lock();
        if progress.is_ready() {
            return false;
        }
        progress.waiting.push((Arc::clone(queue), token));
        true
    }

    /// Waits for the outcome.
    pub(super) async fn ended(&self) -> Outcome {
        poll_fn(|context| {
            let mut progress = self.progress.lock();
            if let Some(outcome) = &progress.outcome {
                return Poll::Ready(outcome.clone());
            }
            progress.dependents.push(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Gives the reserved slot its call.
    pub(super) fn dispatch(&self, dispatched: Dispatched) {
        self.progress.lock().dispatched = Some(dispatched);
        self.dispatch.notify_one();
    }

    /// Waits for `dispatch`.
    pub(super) async fn dispatched(&self) -> Dispatched {
        loop {
            if let Some(dispatched) = self.progress.lock().dispatched.take() {
                return dispatched;
            }
            self.dispatch.notified().await;
        }
    }
}

impl Cancel for State {
    fn cancel(&self) {
        self.cancelled.notify_one();
    }
}
