//! The answer on its way out.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use eagleray_wire::{
    Flags, HeadError, encode_response_head,
    region::{self, Attached, Attachment, Lent, Named},
};

use super::{Phase, Request, State};
use crate::event::Event;

/// Data of one frame at most: a long answer does not hold up the short ones beside it.
const FRAME_DATA: usize = 256 * 1024;

/// The status with which a WebSocket is accepted.
pub(super) const SWITCHING_PROTOCOLS: u16 = 101;

/// Answer bytes that wait for credit, and the flags of the frame that ends them.
#[derive(Debug)]
pub(super) struct Piece {
    data: Bytes,
    /// Values beside the data; lent to the router with the first frame, so that what is never sent is never lent.
    attached: Vec<Attached>,
    flags: Flags,
}

impl Piece {
    /// What its first frame costs of the credit, beside data.
    fn charge(&self) -> u64 {
        region::charge(self.attached.iter().map(Attached::named))
    }
}

/// Whether more may be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    Yes,
    /// `Event::Ready` follows when there is, or [`Request::wait_writable`] returns.
    Wait,
    /// Nobody takes the answer any more.
    Gone,
}

impl State {
    pub(super) fn pending_done(&self) -> bool {
        self.pending
            .back()
            .is_some_and(|piece| piece.flags.contains(Flags::DONE))
    }

    /// Whether credit allows a frame at once.
    fn may_send(&self, data: usize, flags: Flags) -> bool {
        if flags.cost(data) == 0 {
            return true;
        }
        self.credit > 0 && data.cast_signed() as i64 <= self.credit
    }

    fn room(&mut self) -> Room {
        if self.cancelled || self.phase == Phase::Over {
            return Room::Gone;
        }
        if self.pending.is_empty() && self.credit > 0 {
            return Room::Yes;
        }
        self.writer_waits = self.on_loop;
        Room::Wait
    }
}

impl Request {
    /// The whole answer at once. `done`: the slot is free with it; else [`Request::done`] follows, after background
    /// tasks. What exceeds the credit is sent as the client takes it, without further calls.
    ///
    /// # Errors
    /// A head that cannot be encoded; nothing was sent, another answer may be tried.
    pub fn respond<'f>(
        &self,
        status: u16,
        headers: impl IntoIterator<Item = (&'f [u8], &'f [u8])>,
        data: &[u8],
        done: bool,
    ) -> Result<Room, HeadError> {
        let mut head = BytesMut::with_capacity(256);
        encode_response_head(&mut head, status, headers)?;
        Ok(self.respond_encoded(&head, data, done))
    }

    /// As [`Request::respond`], with a head that was encoded before.
    pub fn respond_encoded(&self, head: &[u8], data: &[u8], done: bool) -> Room {
        let last = if done {
            Flags::END.with(Flags::DONE)
        } else {
            Flags::END
        };
        let mut state = self.state.lock();
        if state.head_sent {
            return Room::Gone;
        }
        state.head_sent = true;
        self.put(&mut state, head, data, last)
    }

    /// The head of an answer whose body follows in pieces.
    ///
    /// # Errors
    /// As [`Request::respond`].
    pub fn start<'f>(
        &self,
        status: u16,
        headers: impl IntoIterator<Item = (&'f [u8], &'f [u8])>,
    ) -> Result<Room, HeadError> {
        let mut head = BytesMut::with_capacity(256);
        encode_response_head(&mut head, status, headers)?;
        let mut state = self.state.lock();
        state.accepted |= !state.head_sent && self.is_websocket() && status == SWITCHING_PROTOCOLS;
        Ok(self.start_in(&mut state, &head))
    }

    pub(super) fn start_in(&self, state: &mut State, head: &[u8]) -> Room {
        if std::mem::replace(&mut state.head_sent, true) {
            return Room::Gone;
        }
        self.put(state, head, &[], Flags::NONE)
    }

    /// More of the body, or a whole message. `flags`: any of END, DONE, ERROR, `END_OF_MESSAGE`, TEXT.
    pub fn send(&self, data: &[u8], flags: Flags) -> Room {
        self.send_in(&mut self.state.lock(), data, flags)
    }

    pub(super) fn send_in(&self, state: &mut State, data: &[u8], flags: Flags) -> Room {
        if state.end_sent && !flags.contains(Flags::DONE) {
            return Room::Gone;
        }
        if data.is_empty() && flags == Flags::NONE {
            return state.room();
        }
        self.put(state, &[], data, flags)
    }

    /// As [`Request::send`], with a value that goes in a region, or as DATA if its descriptor cannot be sent.
    pub fn send_attached(&self, value: Attachment, flags: Flags) -> Room {
        let mut state = self.state.lock();
        if state.end_sent || state.phase != Phase::Started || state.pending_done() {
            return Room::Gone;
        }
        if state.cancelled {
            if flags.contains(Flags::DONE) {
                self.give_up(&mut state);
            }
            return Room::Gone;
        }
        let attached = Attached {
            number: self.shared.regions.number(),
            attachment: value,
        };
        state.pending.push_back(Piece {
            data: Bytes::new(),
            attached: vec![attached],
            flags,
        });
        self.send_pending(&mut state);
        state.room()
    }

    /// Copies `parts` into a region for [`Request::send_attached`]. `None`: they go as data.
    pub fn lend(&self, parts: &[&[u8]]) -> Option<Arc<Lent>> {
        self.connection().channel.as_ref()?;
        self.shared.regions.lend(parts)
    }

    /// The request is over: its slot is free. Ends an answer that was not ended.
    pub fn done(&self) {
        let mut state = self.state.lock();
        if state.phase != Phase::Started || state.pending_done() {
            return;
        }
        let mut flags = Flags::DONE;
        if !state.end_sent
            && !state
                .pending
                .back()
                .is_some_and(|piece| piece.flags.contains(Flags::END))
        {
            flags = flags.with(Flags::END);
            if !state.cancelled {
                // Ended by nobody's word: whoever reads it must not take it for the whole.
                flags = flags.with(Flags::ERROR);
            }
        }
        self.put(&mut state, &[], &[], flags);
    }

    /// True once a head or data of the answer has been sent.
    pub fn has_answered(&self) -> bool {
        let state = self.state.lock();
        state.head_sent || state.end_sent
    }

    /// Waits until more may be sent; for threads, without the interpreter lock. False: time is up.
    pub fn wait_writable(&self, timeout: Duration) -> bool {
        let mut state = self.state.lock();
        if state.room() != Room::Wait {
            return true;
        }
        !self.changed.wait_for(&mut state, timeout).timed_out()
    }

    /// Whether more may be sent now; on `Wait` the loop gets `Event::Ready`.
    pub fn poll_writable(&self) -> Room {
        self.state.lock().room()
    }

    /// I/O thread: the router gives credit.
    pub(crate) fn credit(&self, bytes: u32) {
        let mut state = self.state.lock();
        state.credit += i64::from(bytes);
        self.send_pending(&mut state);
        if state.pending.is_empty() && state.credit > 0 {
            if std::mem::take(&mut state.writer_waits) {
                self.shared.event(Event::Ready(self.serial));
            }
            self.changed.notify_all();
        }
    }

    fn put(&self, state: &mut State, head: &[u8], data: &[u8], flags: Flags) -> Room {
        if state.phase != Phase::Started || state.pending_done() {
            return Room::Gone;
        }
        if state.cancelled {
            if flags.contains(Flags::DONE) {
                self.give_up(state);
            }
            return Room::Gone;
        }
        let head_flags = if head.is_empty() {
            Flags::NONE
        } else {
            Flags::HEAD
        };
        // A whole answer goes at once: a client that is slow to take it then holds no slot.
        let is_whole = !head.is_empty() && flags.contains(Flags::END);
        if state.pending.is_empty()
            && data.len() <= FRAME_DATA
            && (is_whole || state.may_send(data.len(), flags))
        {
            state.credit -= flags.cost(data.len()).cast_signed() as i64;
            self.emit(state, flags.with(head_flags), head, data);
        } else {
            if !head.is_empty() {
                self.emit(state, Flags::HEAD, head, &[]);
            }
            state.pending.push_back(Piece {
                data: Bytes::copy_from_slice(data),
                attached: Vec::new(),
                flags,
            });
            self.send_pending(state);
        }
        state.room()
    }

    fn send_pending(&self, state: &mut State) {
        while let Some(piece) = state.pending.front_mut() {
            let charge = piece.charge().cast_signed();
            let takes_credit =
                !piece.data.is_empty() || piece.flags.contains(Flags::END_OF_MESSAGE);
            if (charge > 0 && state.credit < charge) || (takes_credit && state.credit <= charge) {
                return;
            }
            let mut table = BytesMut::new();
            let mut attachments = 0;
            if !piece.attached.is_empty() {
                let named = self.attach(piece);
                state.credit -= region::charge(named.iter().copied()).cast_signed();
                attachments = named.len();
                region::encode_named(&mut table, named);
            }
            let allowed = usize::try_from(state.credit).unwrap_or(0);
            let length = piece.data.len().min(FRAME_DATA).min(allowed);
            let data = piece.data.split_to(length);
            let flags = if piece.data.is_empty() {
                piece.flags
            } else {
                piece.flags.only(Flags::TEXT)
            };
            state.credit -= flags.cost(length).cast_signed() as i64;
            if piece.data.is_empty() {
                state.pending.pop_front();
            }
            self.emit_attached(state, flags, attachments, &table, &data);
        }
    }

    /// Lends what goes with a piece, or turns it into data; returns the table.
    fn attach(&self, piece: &mut Piece) -> Vec<Named> {
        let attached = std::mem::take(&mut piece.attached);
        let channel = self.connection().channel.as_ref();
        if channel.is_some_and(|channel| channel.lend(&attached).is_ok()) {
            return attached.iter().map(Attached::named).collect();
        }
        match region::inline(&attached) {
            Ok((named, mut values)) => {
                piece.data = match values.pop() {
                    Some(value) if values.is_empty() && piece.data.is_empty() => value,
                    last => {
                        let before = std::iter::once(piece.data.clone()).chain(values);
                        before.chain(last).collect::<Vec<_>>().concat().into()
                    }
                };
                named
            }
            Err(error) => {
                // A region that came from elsewhere and cannot be mapped any more.
                self.shared
                    .problem(format!("a value cannot be sent on: {error}"));
                piece.flags = piece.flags.with(Flags::ERROR);
                Vec::new()
            }
        }
    }
}
