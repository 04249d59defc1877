//! What exchanges do with their requests.

use std::{task::Context, time::Instant};

use bytes::Bytes;
use eagleray_wire::{Header, Kind};

use super::State;
use crate::service::entry::{Entry, EntryKey};

impl State {
    /// The entry of a live exchange.
    pub(in crate::service) fn entry(&mut self, key: EntryKey) -> &mut Entry {
        &mut self.entries[key]
    }

    pub(in crate::service) fn wait(&mut self, key: EntryKey, context: &Context<'_>) {
        let waker = &mut self.entries[key].waker;
        if !waker
            .as_ref()
            .is_some_and(|waker| waker.will_wake(context.waker()))
        {
            *waker = Some(context.waker().clone());
        }
    }

    /// The owner took bytes of the answer: gives the replica credit for more.
    pub(in crate::service) fn taken(&mut self, key: EntryKey, bytes: usize) {
        let entry = &mut self.entries[key];
        let Some(credit) = entry.answer.take(bytes) else {
            return;
        };
        let Some((connection, slot, sequence)) = entry
            .request
            .and_then(|request| self.core.location(request))
        else {
            return;
        };
        let mut header = Header::new(Kind::Credit, slot, sequence);
        header.a = credit;
        if let Some(link) = self.links.known(connection) {
            header.encode(&mut link.out);
            self.links.list(connection);
        }
    }

    pub(in crate::service) fn push_body(&mut self, key: EntryKey, chunk: Bytes) {
        let entry = &mut self.entries[key];
        if entry.body.push(chunk)
            && let Some(request) = entry.request
        {
            self.core.forbid_repeat(request);
        }
        self.write_body(key);
    }

    pub(in crate::service) fn push_message(
        &mut self,
        key: EntryKey,
        data: &[u8],
        is_text: bool,
        is_complete: bool,
    ) {
        self.entries[key]
            .body
            .push_message(data, is_text, is_complete);
        self.write_body(key);
    }

    pub(in crate::service) fn end_messages(&mut self, key: EntryKey, last: bytes::Bytes) {
        self.entries[key].body.end_messages(last);
        self.write_body(key);
    }

    pub(in crate::service) fn defer(&mut self, key: EntryKey) {
        if let Some(request) = self.entries[key].request {
            self.core.defer(request);
        }
    }

    pub(in crate::service) fn lift_deadline(&mut self, key: EntryKey) {
        if let Some(request) = self.entries[key].request {
            self.core.lift_deadline(request);
        }
    }

    pub(in crate::service) fn end_body(&mut self, key: EntryKey) {
        self.entries[key].body.end();
        self.write_body(key);
    }

    /// The exchange is dropped. True if the state machine must be settled.
    pub(in crate::service) fn forget(&mut self, key: EntryKey) -> bool {
        let entry = self.entries.remove(key);
        let Some(request) = entry.request else {
            return false;
        };
        self.owners[request.index()] = None;
        if entry.answer.ended {
            // Only DONE is missing; `Finished` will find no owner.
            return false;
        }
        self.core.cancel(Instant::now(), request);
        true
    }

    pub(in crate::service) fn break_peer(&mut self, key: EntryKey) {
        let request = self.entries[key].request;
        if let Some((connection, ..)) = request.and_then(|request| self.core.location(request)) {
            self.disconnected(connection);
        }
    }

    /// Writes what may be written of a request's body.
    fn write_body(&mut self, key: EntryKey) {
        let entry = &mut self.entries[key];
        if !entry.body.has_frame() {
            return;
        }
        let place = entry
            .request
            .and_then(|request| self.core.location(request));
        let Some((connection, slot, sequence)) = place else {
            return;
        };
        let Some(link) = self.links.known(connection) else {
            return;
        };
        while entry.body.has_frame() && link.takes_body(key) {
            entry.body.write_body(slot, sequence, &mut link.out);
        }
        self.links.list(connection);
    }

    /// The same, not by the owner's own call: it is woken if there is room for more.
    pub(super) fn resume_body(&mut self, key: EntryKey) {
        self.write_body(key);
        let entry = &mut self.entries[key];
        if entry.body.has_room() || entry.body.has_ended_messages() {
            entry.wake();
        }
    }
}
