//! The body on its way in.

use std::{collections::VecDeque, time::Duration};

use bytes::{Bytes, BytesMut};
use eagleray_wire::{
    Claims, Flags, Header, Kind, MESSAGE_COST,
    region::{self, Arrival, Attachment},
};

use super::{BODY_WINDOW, FIRST_CREDIT, PROVEN_BYTES, PROVEN_WINDOW, Phase, Request, Runs, State};
use crate::event::Event;

/// A part that is as long is read as it came: putting it together with others would copy it.
const LONG_PART: usize = 16 * 1024;

/// What there is to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// `more` may follow.
    Data { bytes: Bytes, more: bool },
    /// Nothing yet, or no more: `Event::Ready` or `Event::Cancelled` follows.
    Pending,
    /// The end, said once: no more bytes.
    Last,
    /// Nobody wants the answer.
    Disconnected,
}

/// What the I/O thread does after taking in body bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    Fine,
    /// A sync request is complete: it goes to the pool.
    Complete,
    /// More than `max_body_bytes`: answered with 413.
    TooLarge,
    /// The router sent more than it had credit for.
    Overrun,
}

/// The body of a call, and the bytes of values beside it.
pub type Value = (Bytes, Vec<Attachment>);

fn together(body: Bytes, arrivals: Vec<Arrival>) -> Value {
    if arrivals.is_empty() {
        return (body, Vec::new());
    }
    // A body that is shorter than its table says was cut by a peer that broke off: it is no value, and whoever
    // unpickles it says so.
    region::assemble(body, arrivals).unwrap_or_default()
}

#[derive(Debug)]
pub(super) struct Incoming {
    parts: VecDeque<Bytes>,
    /// Bytes received so far.
    received: u64,
    /// Bytes that the router may still send; below zero by what one message costs besides its data, at most.
    allowance: i64,
    /// Bytes read since credit was last given, and ever.
    read: u32,
    read_in_all: u64,
    /// How far the router may be ahead of the reader.
    window: u32,
    /// Credit was given beyond the first.
    is_open: bool,
    end: bool,
    /// The reader knows.
    end_said: bool,
}

impl Incoming {
    pub(super) fn new(first: Bytes, end: bool) -> Self {
        let length = first.len() as u32;
        let mut parts = VecDeque::new();
        if !first.is_empty() {
            parts.push_back(first);
        }
        Self {
            parts,
            received: length.into(),
            allowance: i64::from(FIRST_CREDIT.saturating_sub(length)),
            read: 0,
            read_in_all: 0,
            window: BODY_WINDOW,
            is_open: false,
            end,
            end_said: false,
        }
    }

    /// Whether any of it has come.
    pub(super) const fn has_begun(&self) -> bool {
        self.received > 0 || self.end
    }

    pub(super) fn clear(&mut self) {
        self.parts = VecDeque::new();
    }

    /// A long part as it came, or all short ones up to one.
    fn next(&mut self) -> Bytes {
        let is_long = |part: &Bytes| part.len() >= LONG_PART;
        if self.parts.front().is_some_and(is_long) {
            return self.parts.pop_front().unwrap_or_default();
        }
        let short = self.parts.iter().position(is_long);
        let rest = short.map_or_else(VecDeque::new, |at| self.parts.split_off(at));
        let joined = self.join();
        self.parts = rest;
        joined
    }

    fn join(&mut self) -> Bytes {
        match self.parts.len() {
            0 => Bytes::new(),
            1 => self.parts.pop_front().unwrap_or_default(),
            _ => {
                let mut joined = BytesMut::with_capacity(self.parts.iter().map(Bytes::len).sum());
                self.parts
                    .drain(..)
                    .for_each(|part| joined.extend_from_slice(&part));
                joined.freeze()
            }
        }
    }
}

impl Request {
    /// All of a complete body (sync requests, and those that came in one frame); `None` while more may come.
    pub fn take_body(&self) -> Option<Bytes> {
        let mut state = self.state.lock();
        (state.body.end).then(|| {
            state.body.end_said = true;
            state.body.join()
        })
    }

    /// All of a call's body once it is complete, and what came beside it; `None` while more may come, and then
    /// [`Request::assemble`] takes what [`Request::read`] gave. Only once.
    pub fn take_value(&self) -> Option<Value> {
        let mut state = self.state.lock();
        if !state.body.end {
            return None;
        }
        let body = state.body.join();
        let arrivals = std::mem::take(&mut state.arrivals);
        drop(state);
        Some(together(body, arrivals))
    }

    /// A body that was read to its end, taken apart.
    pub fn assemble(&self, body: Bytes) -> Value {
        let arrivals = std::mem::take(&mut self.state.lock().arrivals);
        together(body, arrivals)
    }

    /// The next bytes. After `Pending` the loop gets `Event::Ready` for this request.
    pub fn read(&self) -> Body {
        let mut state = self.state.lock();
        if !state.body.is_open && state.phase == Phase::Started && !state.cancelled {
            self.open_body(&mut state);
        }
        if !state.body.parts.is_empty() {
            let bytes = state.body.next();
            state.body.read += bytes.len() as u32;
            state.body.read_in_all += bytes.len() as u64;
            if !state.body.end && state.body.read >= state.body.window / 2 {
                let mut credit = std::mem::take(&mut state.body.read);
                if state.body.read_in_all >= PROVEN_BYTES {
                    credit += PROVEN_WINDOW - state.body.window;
                    state.body.window = PROVEN_WINDOW;
                }
                self.give_credit(&mut state, credit);
            }
            state.body.end_said = state.body.end && state.body.parts.is_empty();
            return Body::Data {
                bytes,
                more: !state.body.end_said,
            };
        }
        if state.cancelled || state.phase == Phase::Over {
            return Body::Disconnected;
        }
        if state.body.end && !state.body.end_said {
            state.body.end_said = true;
            return Body::Last;
        }
        state.reader_waits = true;
        Body::Pending
    }

    /// Waits for more body bytes or the end of the wait; for threads. False: time is up.
    pub fn wait_readable(&self, timeout: Duration) -> bool {
        let mut state = self.state.lock();
        if !state.body.parts.is_empty() || state.cancelled || state.body.end {
            return true;
        }
        !self.changed.wait_for(&mut state, timeout).timed_out()
    }

    /// After the claim the router may send ahead of the reader.
    pub(super) fn open_body(&self, state: &mut State) {
        state.body.is_open = true;
        if !state.body.end {
            self.give_credit(state, BODY_WINDOW);
        }
    }

    pub(super) fn give_credit(&self, state: &mut State, bytes: u32) {
        state.body.allowance += i64::from(bytes);
        let mut header = Header::new(Kind::Credit, self.slot, self.sequence);
        header.a = bytes;
        let now = std::time::Instant::now();
        self.connection().out.frame(now, false, header, &[], &[]);
    }

    /// I/O thread: looks at what REQUEST brought, as [`Request::take_in`] does.
    pub(crate) fn take_in_first(&self, max_body_bytes: u64) -> Taken {
        let mut state = self.state.lock();
        if state.body.received > FIRST_CREDIT.into() {
            return Taken::Overrun;
        }
        self.gather(&mut state, max_body_bytes)
    }

    /// I/O thread: a BODY frame.
    pub(crate) fn take_in(&self, flags: Flags, data: Bytes, max_body_bytes: u64) -> Taken {
        let mut state = self.state.lock();
        let length = data.len() as u32;
        let allowance = state.body.allowance - flags.cost(data.len()).cast_signed() as i64;
        let least = if flags.contains(Flags::END_OF_MESSAGE) {
            -(MESSAGE_COST.cast_signed() as i64)
        } else {
            0
        };
        if allowance < least || state.body.end {
            return Taken::Overrun;
        }
        state.body.allowance = allowance;
        state.body.received += u64::from(length);
        state.body.end = flags.contains(Flags::END);
        if self.is_websocket() {
            self.take_in_message(&mut state, flags, &data);
            return Taken::Fine;
        }
        if state.phase != Phase::Over && !state.cancelled && length > 0 {
            state.body.parts.push_back(data);
        }
        if state.gathering {
            return self.gather(&mut state, max_body_bytes);
        }
        if std::mem::take(&mut state.reader_waits) {
            self.shared.event(Event::Ready(self.serial));
        }
        self.changed.notify_all();
        Taken::Fine
    }

    fn gather(&self, state: &mut State, max_body_bytes: u64) -> Taken {
        if self.runs != Runs::InThread {
            return Taken::Fine;
        }
        if state.body.received > max_body_bytes {
            return Taken::TooLarge;
        }
        if state.body.end {
            state.gathering = false;
            return Taken::Complete;
        }
        // A body longer than the first credit: claimed here, since the router may not give away more for nothing.
        if state.body.allowance == 0 && state.phase == Phase::Queued {
            if !self.connection().page.start(self.slot, self.sequence) {
                self.drop_taken(state);
                return Taken::Fine;
            }
            state.phase = Phase::Started;
            self.open_body(state);
        } else if state.phase == Phase::Started && state.body.allowance < i64::from(BODY_WINDOW / 2)
        {
            self.give_credit(state, BODY_WINDOW / 2);
        }
        Taken::Fine
    }

    /// I/O thread: refuses a body that is too large, claiming the request first if that is still to do.
    pub(crate) fn refuse(&self, status: u16, text: &[u8]) {
        {
            let mut state = self.state.lock();
            if state.phase == Phase::Queued {
                if !self.connection().page.start(self.slot, self.sequence) {
                    self.drop_taken(&mut state);
                    return;
                }
                state.phase = Phase::Started;
            }
            state.gathering = false;
        }
        let headers: [(&[u8], &[u8]); 1] = [(b"content-type", b"text/plain; charset=utf-8")];
        self.respond(status, headers, text, true).ok();
    }
}
