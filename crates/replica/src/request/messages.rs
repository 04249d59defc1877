//! Messages of a WebSocket on their way in, and its end.
//!
//! User code takes whole messages, while credit counts bytes. So what has come of a message that is not complete is
//! given back as credit only while user code waits for a message: it waits for this one. A reader that is slow costs
//! one window, and one that waits costs the longest message that the proxy lets through.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use eagleray_wire::Flags;

use super::{
    BODY_WINDOW, BadAnswer, Request, Room, Runs, State, answer::SWITCHING_PROTOCOLS,
    checked::check_fields, pieces::Pieces,
};
use crate::event::Event;

/// Credit is given in pieces of at least this size; what is not given yet is always less than the window.
const CREDIT_STEP: u32 = BODY_WINDOW / 4;

/// RFC 6455, section 7.4.1: no code was in the closing frame; there was no closing frame.
const NO_CODE: u16 = 1005;
const BROKEN_OFF: u16 = 1006;

/// What there is to read of a WebSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// UTF-8, as the proxy has checked.
    Text(Bytes),
    Binary(Pieces),
    /// The client has closed it, or is gone (1006). Said again and again.
    Closed {
        code: u16,
        reason: Bytes,
    },
    /// Nothing yet: `Event::Ready` follows.
    Pending,
}

#[derive(Debug, Default)]
pub(super) struct Incoming {
    complete: VecDeque<Complete>,
    /// What has come of the message after them.
    begun: Pieces,
    /// What of it costs credit that was not given back.
    owed: u32,
    /// Credit of messages that were read, not given back yet.
    read: u32,
    /// Data of the frame that ended the messages.
    last: Option<Bytes>,
}

#[derive(Debug)]
struct Complete {
    data: Pieces,
    is_text: bool,
    owed: u32,
}

impl Incoming {
    fn take_in(&mut self, flags: Flags, data: &Bytes) {
        if flags.contains(Flags::END) {
            self.last = Some(Bytes::copy_from_slice(data));
            return;
        }
        self.owed += flags.cost(data.len()) as u32;
        self.begun.push(data);
        if !flags.contains(Flags::END_OF_MESSAGE) {
            return;
        }
        self.complete.push_back(Complete {
            data: std::mem::take(&mut self.begun),
            is_text: flags.contains(Flags::TEXT),
            owed: std::mem::take(&mut self.owed),
        });
    }

    /// The credit to give now to a reader that waits.
    fn due(&mut self) -> Option<u32> {
        (self.owed + self.read >= CREDIT_STEP)
            .then(|| std::mem::take(&mut self.owed) + std::mem::take(&mut self.read))
    }

    fn end(&self) -> Message {
        let Some(last) = &self.last else {
            return Message::Closed {
                code: BROKEN_OFF,
                reason: Bytes::new(),
            };
        };
        match last.split_first_chunk::<2>() {
            Some((code, reason)) => Message::Closed {
                code: u16::from_be_bytes(*code),
                reason: last.slice_ref(reason),
            },
            None => Message::Closed {
                code: NO_CODE,
                reason: Bytes::new(),
            },
        }
    }
}

impl Request {
    /// Whether it asks for a WebSocket.
    pub fn is_websocket(&self) -> bool {
        self.runs == Runs::AsWebSocket
    }

    /// The next message. After `Pending` the loop gets `Event::Ready` for this request.
    pub fn read_message(&self) -> Message {
        let mut state = self.state.lock();
        let cancelled = state.cancelled;
        let Some(messages) = &mut state.messages else {
            return Incoming::default().end();
        };
        if let Some(Complete {
            data,
            is_text,
            owed,
        }) = messages.complete.pop_front()
        {
            messages.read += owed;
            if messages.read >= CREDIT_STEP {
                let credit = std::mem::take(&mut messages.read);
                self.give_credit(&mut state, credit);
            }
            return if is_text {
                Message::Text(data.join())
            } else {
                Message::Binary(data)
            };
        }
        if messages.last.is_some() || cancelled {
            return messages.end();
        }
        if let Some(credit) = messages.due() {
            self.give_credit(&mut state, credit);
        }
        state.reader_waits = true;
        Message::Pending
    }

    /// I/O thread: a BODY frame of a WebSocket, within its credit.
    pub(super) fn take_in_message(&self, state: &mut State, flags: Flags, data: &Bytes) {
        let Some(messages) = &mut state.messages else {
            return;
        };
        messages.take_in(flags, data);
        let has_news = !messages.complete.is_empty() || messages.last.is_some();
        if !state.reader_waits {
            return;
        }
        if has_news {
            state.reader_waits = false;
            self.shared.event(Event::Ready(self.serial));
        } else if let Some(credit) = messages.due() {
            self.give_credit(state, credit);
        }
    }

    /// Accepts a WebSocket. Its time limit ends here, and what it hears of the client from now on comes as messages.
    ///
    /// # Errors
    /// A field that cannot stand on the wire; nothing was sent, another answer may be tried.
    pub fn accept_websocket<'f>(
        &self,
        fields: impl IntoIterator<Item = (&'f [u8], &'f [u8]), IntoIter: Clone>,
    ) -> Result<Room, BadAnswer> {
        let fields = fields.into_iter();
        check_fields(fields.clone())?;
        Ok(self.start(SWITCHING_PROTOCOLS, fields)?)
    }

    /// Sends a whole message.
    pub fn send_message(&self, data: &[u8], is_text: bool) -> Room {
        let flags = if is_text { Flags::TEXT } else { Flags::NONE };
        self.send(data, flags.with(Flags::END_OF_MESSAGE))
    }

    /// Closes a WebSocket from this side; [`Request::done`] follows when user code has returned.
    pub fn close_websocket(&self, code: u16, reason: &[u8]) -> Room {
        let mut data = BytesMut::from(&code.to_be_bytes()[..]);
        data.extend_from_slice(reason);
        self.send(&data, Flags::END)
    }
}
