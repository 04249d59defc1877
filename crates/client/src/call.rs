//! One call, as its caller and the router's thread share it. Dropping the caller's end leaves the call alone.
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

use eagleray_types::Cancel;
use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::sync::Notify;

use crate::{completions::Completions, content::Content};

/// Bytes of items that may wait for the caller. A producer is at most so far ahead of its consumer, and the credit of its
/// answer (64 KiB; 512 KiB once it has taken 8 MiB, 2 MiB after 64), and one item.
const HELD_BYTES: usize = 64 * 1024;

/// How a call ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The body of the result, or with `true` of the exception.
    Answer(Content, bool),
    /// All items have been handed over.
    End,
    /// The argument with this number was the answer of another call, and there is none.
    Upstream(usize),
    Failure(Failed),
}

/// What a full queue says: `max_queued_requests`, and status and seconds of the HTTP answer.
pub type Refusal = (i64, u32, u32);

/// Why there is no answer.
#[derive(Clone, Debug, Default)]
pub struct Failed {
    /// The name of the code in the error table.
    pub code: &'static str,
    /// What is known besides; may be empty.
    pub message: String,
    /// Of a full queue.
    pub refusal: Option<Refusal>,
}

impl Failed {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            refusal: None,
        }
    }
}

#[derive(Debug, Default)]
struct Progress {
    items: VecDeque<Content>,
    held_bytes: usize,
    outcome: Option<Outcome>,
    /// Event loops to tell.
    waiting: Vec<(Arc<Completions>, u64)>,
    /// Calls that wait for the outcome, since it is an argument of theirs.
    dependents: Vec<Waker>,
}

impl Progress {
    fn is_ready(&self) -> bool {
        !self.items.is_empty() || self.outcome.is_some()
    }
}

/// The end of a call at its caller, shared with the router's thread.
#[derive(Debug, Default)]
pub struct Call {
    progress: Mutex<Progress>,
    ready: Condvar,
    /// The caller wants no answer any more.
    pub(crate) cancelled: Notify,
    /// The caller has taken items.
    room: Notify,
}

impl Call {
    /// Stores the outcome, the first one only, and wakes whoever waits.
    pub(crate) fn finish(&self, outcome: Outcome) {
        let mut progress = self.progress.lock();
        if progress.outcome.is_none() {
            progress.outcome = Some(outcome);
            let dependents = std::mem::take(&mut progress.dependents);
            self.tell(progress);
            dependents.into_iter().for_each(Waker::wake);
        }
    }

    /// Hands an item to the caller.
    pub(crate) fn push(&self, item: Content) {
        let mut progress = self.progress.lock();
        progress.held_bytes += item.weight();
        progress.items.push_back(item);
        self.tell(progress);
    }

    fn tell(&self, mut progress: MutexGuard<'_, Progress>) {
        let waiting = std::mem::take(&mut progress.waiting);
        drop(progress);
        self.ready.notify_all();
        for (completions, token) in waiting {
            completions.push(token);
        }
    }

    /// Waits until the caller has taken enough for another item.
    pub(crate) async fn room(&self) {
        while self.progress.lock().held_bytes >= HELD_BYTES {
            self.room.notified().await;
        }
    }

    /// The next item.
    pub fn pop(&self) -> Option<Content> {
        let mut progress = self.progress.lock();
        let item = progress.items.pop_front()?;
        let was_full = progress.held_bytes >= HELD_BYTES;
        progress.held_bytes -= item.weight();
        if was_full && progress.held_bytes < HELD_BYTES {
            self.room.notify_one();
        }
        Some(item)
    }

    /// Whether there is an item, or the end.
    pub fn is_ready(&self) -> bool {
        self.progress.lock().is_ready()
    }

    /// How it ended, if it has.
    pub fn outcome(&self) -> Option<Outcome> {
        self.progress.lock().outcome.clone()
    }

    /// Waits in a thread until `until`. Whether the call is ready.
    pub fn wait_until(&self, until: Instant) -> bool {
        let mut progress = self.progress.lock();
        if !progress.is_ready() {
            self.ready.wait_until(&mut progress, until);
        }
        progress.is_ready()
    }

    /// The queue gets the token when the call is ready. False: it is.
    pub fn notify(&self, completions: &Arc<Completions>, token: u64) -> bool {
        let mut progress = self.progress.lock();
        if progress.is_ready() {
            return false;
        }
        progress.waiting.push((Arc::clone(completions), token));
        true
    }

    /// Waits for the outcome.
    pub(crate) async fn ended(&self) -> Outcome {
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
}

impl Cancel for Call {
    fn cancel(&self) {
        self.cancelled.notify_one();
    }
}
