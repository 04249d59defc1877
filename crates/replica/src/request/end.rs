//! Each frame of an answer, and how a request ends: with the last of them, or without any.

use std::{sync::atomic::Ordering, time::Instant};

use eagleray_wire::{Flags, Header, Kind};

use super::{Phase, Request, State};

impl Request {
    /// I/O thread: it waited for a slot in vain, and is its router's again.
    pub(crate) fn send_back(&self, now: Instant) {
        {
            let mut state = self.state.lock();
            state.phase = Phase::Over;
            state.body.clear();
            state.messages = None;
            state.arrivals = Vec::new();
        }
        self.slots.remove(self.slot);
        let reject = {
            let admission = self.shared.admission.lock();
            admission.reject(self.slot, self.sequence)
        };
        let together = self.shared.together();
        self.connection().out.frame(now, together, reject, &[], &[]);
    }

    /// Frees the slot of a request that never ran, or whose answer nobody takes. Always false.
    pub(super) fn give_up(&self, state: &mut State) -> bool {
        self.emit(state, Flags::END.with(Flags::DONE), &[], &[]);
        false
    }

    /// The router took the request back; it has no interest in a DONE.
    pub(super) fn drop_taken(&self, state: &mut State) {
        state.phase = Phase::Over;
        state.body.clear();
        state.arrivals = Vec::new();
        self.slots.remove(self.slot);
        self.shared.dropped(Instant::now(), self.waited());
    }

    /// Sends one frame of the answer; with DONE the request is over and its slot free.
    pub(super) fn emit(&self, state: &mut State, flags: Flags, head: &[u8], data: &[u8]) {
        self.emit_attached(state, flags, 0, head, data);
    }

    /// The same, where `front` may be the table of so many attachments in place of a head.
    pub(super) fn emit_attached(
        &self,
        state: &mut State,
        mut flags: Flags,
        attachments: usize,
        front: &[u8],
        data: &[u8],
    ) {
        let now = Instant::now();
        let mut header = Header::new(Kind::Response, self.slot, self.sequence);
        header.a = attachments as u32;
        if flags.contains(Flags::HEAD) && self.connection().hears_routes {
            // Relaxed: user code's thread has set it before it answers.
            header.a = self.route.load(Ordering::Relaxed);
        }
        debug_assert!(
            state.phase != Phase::Over,
            "request {} says more after DONE",
            self.serial
        );
        if flags.contains(Flags::DONE) {
            self.count_end(state, now);
            state.phase = Phase::Over;
            state.body.clear();
            state.messages = None;
            state.arrivals = Vec::new();
            state.pending.clear();
            state.calls = Vec::new();
            if std::mem::take(&mut state.abandoned) {
                self.shared.abandoned.fetch_sub(1, Ordering::Relaxed);
            }
            self.slots.remove(self.slot);
            if self.connection().closed.load(Ordering::Acquire) {
                self.shared.dropped(now, self.waited());
                return;
            }
            let released = self
                .shared
                .finished(now, self.connection().key, self.waited());
            if released.granted {
                flags = flags.with(Flags::GRANT);
            }
            header.b = released.occupied;
            header.c = released.places;
        }
        if flags.contains(Flags::END) {
            state.end_sent = true;
        }
        header.flags = flags;
        // A piece of a stream leaves at once: its client may have it before the next is made.
        let is_last = flags.contains(Flags::END) || flags.contains(Flags::DONE);
        let together = is_last && self.shared.together();
        self.connection()
            .out
            .frame(now, together, header, front, data);
    }
}
