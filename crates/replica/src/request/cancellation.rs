//! The end that nobody waits for: of a request, and of the calls that user code makes for it.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use eagleray_types::{Caller, Cancel};
use eagleray_wire::Claims;

use super::{Phase, Request, State};
use crate::event::Event;

impl Request {
    /// Nobody wants the answer. False of an accepted WebSocket, which is told by a message instead.
    pub fn is_cancelled(&self) -> bool {
        let state = self.state.lock();
        state.cancelled && !state.accepted
    }

    /// I/O thread: CANCEL came, or the router is gone.
    pub(crate) fn cancel(&self) {
        let mut state = self.state.lock();
        match state.phase {
            Phase::Over => {}
            Phase::Queued => self.take_back(&mut state),
            Phase::Started => {
                if state.end_sent {
                    // The whole answer has left: what runs are background tasks, and they run to their end.
                    return;
                }
                state.cancelled = true;
                // The whole answer is handed over and only credit is missing: nobody else will say DONE.
                let done_waits = state.pending_done();
                state.pending.clear();
                state.body.clear();
                if state.gathering || done_waits {
                    self.give_up(&mut state);
                    return;
                }
                if !std::mem::replace(&mut state.abandoned, true) {
                    // Relaxed: a number for people.
                    self.shared.abandoned.fetch_add(1, Ordering::Relaxed);
                }
                if state.accepted {
                    self.shared.event(Event::Ready(self.serial));
                    return;
                }
                state.cancel_calls();
                self.changed.notify_all();
                if state.on_loop {
                    self.shared.event(Event::Cancelled(self.serial));
                }
            }
        }
    }

    /// I/O thread: the router is gone; what has not started never will.
    pub(crate) fn abandon(&self) {
        let mut state = self.state.lock();
        if state.phase == Phase::Queued {
            self.take_back(&mut state);
        }
    }

    fn take_back(&self, state: &mut State) {
        // Ours or the router's, it will not start: either way the word is TAKEN afterwards.
        self.connection().page.take(self.slot, self.sequence);
        state.cancelled = true;
        self.give_up(state);
    }
}

impl Caller for Request {
    fn identity(&self) -> (String, String) {
        let Ok(head) = self.head() else {
            debug_assert!(false, "the head was read when the request came");
            return Default::default();
        };
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        (text(head.request_id()), text(head.route()))
    }

    fn traceparent(&self) -> String {
        let head = self.head();
        head.map(|head| String::from_utf8_lossy(head.traceparent()).into_owned())
            .unwrap_or_default()
    }

    /// `None` too when this request has its own answer, so that whatever still runs runs for itself.
    fn deadline_of_calls(&self) -> Option<Instant> {
        let state = self.state.lock();
        self.deadline
            .filter(|_| !state.end_sent && !state.accepted && state.phase != Phase::Over)
    }

    fn cancels(&self, call: &Arc<dyn Cancel>) {
        let mut state = self.state.lock();
        if state.end_sent || state.phase == Phase::Over {
            return;
        }
        if state.cancelled {
            call.cancel();
            return;
        }
        if state.calls.len() == state.calls.capacity() {
            state.calls.retain(|call| call.strong_count() > 0);
        }
        state.calls.push(Arc::downgrade(call));
    }
}

impl State {
    fn cancel_calls(&mut self) {
        for call in std::mem::take(&mut self.calls) {
            if let Some(call) = call.upgrade() {
                call.cancel();
            }
        }
    }
}
