//! The body of a request on its way out.
//!
//! It does not grow without bound: no more is taken than the owner may keep plus one window.

use std::{collections::VecDeque, io};

use bytes::{Bytes, BytesMut};
use eagleray_wire::{
    Flags, Header, Kind, RequestHead,
    region::{self, Attached, Channel},
};

use super::{INITIAL_BODY_CREDIT, Outgoing, messages::Messages, pieces::append};

/// Longest BODY frame.
const BODY_FRAME: usize = 64 * 1024;

/// A body on its way out.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "facts that are independent of each other"
)]
pub(super) struct Body {
    head: Bytes,
    /// Values beside the body, as the head names them.
    attached: Vec<Attached>,
    /// Chunks from the first that is kept.
    first: Bytes,
    rest: VecDeque<Bytes>,
    /// Chunks sent whole, of `first` and `rest`, and bytes sent of the next one.
    sent_chunks: usize,
    sent_of_chunk: usize,
    /// Bytes not sent yet.
    unsent: usize,
    total: usize,
    keep_bytes: usize,
    /// Some of the front was dropped: the request cannot be sent again.
    dropped: bool,
    complete: bool,
    end_sent: bool,
    /// It may go below zero by what one message costs besides its data.
    credit: isize,
    /// Whether anybody reads it at the other end.
    pub(super) wanted: bool,
    /// The replica has given credit: user code has asked for it.
    pub(super) is_asked_for: bool,
    /// Its owner waits until it is.
    pub(super) awaits_asking: bool,
    /// Instead of the chunks above, if the body is of messages.
    messages: Option<Box<Messages>>,
}

impl Body {
    pub(super) fn new(request: Outgoing) -> Self {
        let Outgoing {
            head,
            first,
            rest,
            complete,
            keep_bytes,
            attached,
            ..
        } = request;
        let total = first.len() + rest.iter().map(Bytes::len).sum::<usize>();
        Self {
            head,
            attached,
            first,
            rest,
            sent_chunks: 0,
            sent_of_chunk: 0,
            unsent: total,
            total,
            keep_bytes,
            dropped: false,
            complete,
            end_sent: false,
            credit: 0,
            wanted: true,
            is_asked_for: false,
            awaits_asking: false,
            messages: None,
        }
    }

    /// Whether more of the body may be pushed: less than a window waits.
    pub(super) fn has_room(&self) -> bool {
        !self.complete && self.unsent < INITIAL_BODY_CREDIT
    }

    /// True if bytes that a repetition would need are dropped from now on.
    pub(super) fn push(&mut self, chunk: Bytes) -> bool {
        if chunk.is_empty() || self.complete || !self.wanted {
            return false;
        }
        let kept_all = self.total <= self.keep_bytes;
        self.total += chunk.len();
        self.unsent += chunk.len();
        if self.first.is_empty() && self.rest.is_empty() && self.sent_chunks == 0 {
            self.first = chunk;
        } else if !self.append_to_last(&chunk) {
            self.rest.push_back(chunk);
        }
        kept_all && self.total > self.keep_bytes
    }

    /// Adds to the last chunk, unless all of that was sent.
    fn append_to_last(&mut self, chunk: &[u8]) -> bool {
        self.sent_chunks <= self.rest.len()
            && self.rest.back_mut().is_some_and(|last| append(last, chunk))
    }

    pub(super) fn end(&mut self) {
        self.complete = true;
    }

    /// Adds to a message, and ends it if it `is_complete`.
    pub(super) fn push_message(&mut self, data: &[u8], is_text: bool, is_complete: bool) {
        if self.complete || !self.wanted {
            return;
        }
        let messages = self.messages.get_or_insert_default();
        messages.push(data, is_text, is_complete);
        self.unsent = messages.cost();
    }

    /// The end of the messages, with the data of the frame that says so.
    pub(super) fn end_messages(&mut self, last: Bytes) {
        if !self.complete {
            self.messages.get_or_insert_default().last = last;
            self.complete = true;
        }
    }

    /// Whether nothing more is to be sent.
    pub(super) fn is_sent(&self) -> bool {
        self.end_sent || !self.wanted
    }

    /// Whether the end has just been sent and its owner may wait for that.
    pub(super) fn has_ended_messages(&self) -> bool {
        self.end_sent && self.messages.is_some()
    }

    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    pub(super) fn credit(&mut self, bytes: u32) {
        self.is_asked_for = true;
        self.credit = self.credit.saturating_add((bytes as usize).cast_signed());
    }

    /// Nothing is sent again from now on: what was sent is dropped.
    pub(super) fn release(&mut self) {
        self.keep_bytes = 0;
        self.head = Bytes::new();
        self.attached = Vec::new();
        self.drop_sent();
    }

    /// Before `write_request`: lends what goes beside the body, or makes it part of the body if this connection cannot
    /// take descriptors now.
    pub(super) fn lend(&mut self, channel: Option<&Channel>) {
        if self.attached.is_empty()
            || channel.is_some_and(|channel| channel.lend(&self.attached).is_ok())
        {
            return;
        }
        if let Err(error) = self.inline() {
            // Then the head names what is not there; the request must not be sent.
            tracing::warn!(%error, "a value can be sent neither in a region nor as data");
            self.dropped = true;
        }
    }

    /// For good: a request that moves stays as it is.
    fn inline(&mut self) -> io::Result<()> {
        let (named, values) = region::inline(&self.attached)?;
        self.head = RequestHead::attach(&self.head, named).map_err(io::Error::other)?;
        self.attached = Vec::new();
        for value in values {
            self.total += value.len();
            self.keep_bytes += value.len();
            self.rest.push_back(value);
        }
        Ok(())
    }

    /// Appends a REQUEST: head, and as much of the body as fits the window. False if the body is not whole any more:
    /// then only the head was written, and the request must be cancelled.
    pub(super) fn write_request(&mut self, mut header: Header, out: &mut BytesMut) -> bool {
        if self.dropped {
            self.attached = Vec::new();
            header.length = self.head.len() as u32;
            header.encode(out);
            out.extend_from_slice(&self.head);
            return false;
        }
        self.sent_chunks = 0;
        self.sent_of_chunk = 0;
        self.unsent = self.total;
        self.end_sent = false;
        self.credit = INITIAL_BODY_CREDIT.cast_signed();
        let data = self.sendable();
        header.length = (self.head.len() + data) as u32;
        if self.complete && data == self.unsent {
            header.flags = header.flags.with(Flags::END);
            self.end_sent = true;
        }
        out.reserve(eagleray_wire::HEADER_BYTES + header.length as usize);
        header.encode(out);
        out.extend_from_slice(&self.head);
        self.write_data(data, out);
        true
    }

    /// Whether [`Self::write_body`] would write a frame.
    pub(super) fn has_frame(&self) -> bool {
        self.wanted && !self.end_sent && (self.sendable() > 0 || self.complete && self.unsent == 0)
    }

    /// What credit allows of what is unsent.
    fn sendable(&self) -> usize {
        self.unsent.min(self.credit.max(0).unsigned_abs())
    }

    /// Appends one BODY frame.
    pub(super) fn write_body(&mut self, slot: u32, sequence: u64, out: &mut BytesMut) {
        let data = self.sendable().min(BODY_FRAME);
        let mut header = Header::new(Kind::Body, slot, sequence);
        if let Some(messages) = &mut self.messages {
            let (flags, data) = if self.unsent > 0 {
                messages.next(data)
            } else {
                self.end_sent = true;
                (Flags::END, BytesMut::from(&messages.last[..]))
            };
            self.unsent = messages.cost();
            self.credit -= flags.cost(data.len()).cast_signed();
            header.flags = flags;
            header.length = data.len() as u32;
            header.encode(out);
            out.extend_from_slice(&data);
            return;
        }
        header.length = data as u32;
        if self.complete && data == self.unsent {
            header.flags = Flags::END;
            self.end_sent = true;
        }
        out.reserve(eagleray_wire::HEADER_BYTES + data);
        header.encode(out);
        self.write_data(data, out);
        if self.total > self.keep_bytes {
            self.drop_sent();
        }
    }

    fn write_data(&mut self, mut bytes: usize, out: &mut BytesMut) {
        self.unsent -= bytes;
        self.credit -= bytes.cast_signed();
        while bytes > 0 {
            let chunk = if self.sent_chunks == 0 {
                Some(&self.first)
            } else {
                self.rest.get(self.sent_chunks - 1)
            };
            let Some(chunk) = chunk else { return };
            let left = &chunk[self.sent_of_chunk..];
            let taken = left.len().min(bytes);
            out.extend_from_slice(&left[..taken]);
            bytes -= taken;
            self.sent_of_chunk += taken;
            if taken == left.len() {
                self.sent_chunks += 1;
                self.sent_of_chunk = 0;
            }
        }
    }

    fn drop_sent(&mut self) {
        if self.sent_chunks == 0 {
            return;
        }
        self.dropped = true;
        self.first = Bytes::new();
        self.rest.drain(..self.sent_chunks - 1);
        self.sent_chunks = 1;
    }
}

#[cfg(test)]
mod tests;
