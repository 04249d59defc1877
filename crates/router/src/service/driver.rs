//! The one task that writes and that keeps the time.
//!
//! Whoever appends a frame wakes it; as the runtime's queue is first in, first out, it runs after the tasks that
//! were woken before, so one write carries the frames of a whole turn.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::Instant,
};

use super::Handle;

/// Runs for as long as its runtime.
pub(super) async fn drive(handle: Handle) {
    let mut sleep = pin!(tokio::time::sleep(std::time::Duration::ZERO));
    // What `sleep` is set to, while it has not rung.
    let mut set: Option<Instant> = None;
    let mut known = false;
    poll_fn(|context| {
        if !std::mem::replace(&mut known, true) {
            // The waker of a task is the same for its life.
            handle.state.borrow().set_releaser(context.waker());
        }
        loop {
            handle.state.borrow_mut().write_releases();
            let given_up = handle.state.borrow_mut().flush(context);
            if given_up {
                handle.settle();
                continue;
            }
            let wanted = {
                let mut state = handle.state.borrow_mut();
                state.links().set_driver(context.waker());
                state.armed()
            };
            if wanted != set {
                set = wanted;
                if let Some(deadline) = wanted {
                    sleep.as_mut().reset(deadline.into());
                    // Registers the waker; until the next reset it need not be polled again.
                    if sleep.as_mut().poll(context).is_pending() {
                        return Poll::<()>::Pending;
                    }
                }
            }
            if set.is_none() || !sleep.is_elapsed() {
                return Poll::Pending;
            }
            set = None;
            let now = Instant::now();
            handle.state.borrow_mut().on_timeout(now);
            handle.settle_at(now);
        }
    })
    .await;
}
