//! The owner's end of one request.

use std::{
    future::poll_fn,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use eagleray_types::ErrorCode;
use eagleray_wire::region::{self, Arrival};

use super::{Answer, Data, Failure, Handle, Value, entry::EntryKey, incoming::charge};

/// Whether more of a request's body can be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Push the next chunk, or the end.
    Wanted,
    /// It is complete, or nobody reads it any more.
    Closed,
}

/// One submitted request: body out, answer in. All its polls must come from one task. Dropping it cancels what is
/// still going on.
#[derive(Debug)]
pub struct Exchange {
    handle: Handle,
    key: EntryKey,
}

impl Exchange {
    pub(super) fn new(handle: Handle, key: EntryKey) -> Self {
        Self { handle, key }
    }

    /// Waits for the first frame of the answer. To be called until it is ready, once.
    pub fn poll_answer(&mut self, context: &mut Context<'_>) -> Poll<Result<Answer, Failure>> {
        let mut state = self.handle.state.borrow_mut();
        let entry = state.entry(self.key);
        if let Some(answer) = entry.answer.first.take() {
            entry.answer.handed =
                answer.flags.cost(answer.payload.len()) + charge(&answer.arrivals);
            return Poll::Ready(Ok(answer));
        }
        if let Some(failure) = entry.answer.failure.take() {
            return Poll::Ready(Err(failure));
        }
        if entry.answer.ended {
            return Poll::Ready(Err(Failure::new(ErrorCode::Internal)));
        }
        state.wait(self.key, context);
        Poll::Pending
    }

    /// Waits for the next data after the answer; `None` at its end. An error: the answer broke off.
    ///
    /// Who asks is done with what it got before: only then the replica may send more. So an owner that holds back
    /// holds no more than one window.
    pub fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Data, Failure>>> {
        let mut state = self.handle.state.borrow_mut();
        let handed = std::mem::take(&mut state.entry(self.key).answer.handed);
        if handed > 0 {
            state.taken(self.key, handed);
        }
        let entry = state.entry(self.key);
        if let Some(data) = entry.answer.data.pop_front() {
            entry.answer.handed = data.flags.cost(data.bytes.len()) + charge(&data.arrivals);
            return Poll::Ready(Some(Ok(data)));
        }
        if let Some(failure) = entry.answer.failure.take() {
            return Poll::Ready(Some(Err(failure)));
        }
        if entry.answer.ended {
            return Poll::Ready(None);
        }
        state.wait(self.key, context);
        Poll::Pending
    }

    /// Whether all data was handed out and none follows.
    pub fn is_finished(&self) -> bool {
        let mut state = self.handle.state.borrow_mut();
        let answer = &state.entry(self.key).answer;
        answer.ended && answer.first.is_none() && answer.data.is_empty() && answer.failure.is_none()
    }

    /// Waits until user code has asked for the body, of which nothing was sent, or nobody wants it any more.
    pub fn poll_asked(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.handle.state.borrow_mut();
        let body = &mut state.entry(self.key).body;
        if body.is_asked_for || !body.wanted || body.is_complete() {
            return Poll::Ready(());
        }
        body.awaits_asking = true;
        state.wait(self.key, context);
        Poll::Pending
    }

    /// Waits until more of the body can be taken.
    pub fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<Room> {
        let mut state = self.handle.state.borrow_mut();
        let body = &state.entry(self.key).body;
        if !body.wanted || body.is_complete() {
            return Poll::Ready(Room::Closed);
        }
        if body.has_room() {
            return Poll::Ready(Room::Wanted);
        }
        state.wait(self.key, context);
        Poll::Pending
    }

    /// Adds to the body. Only after [`Room::Wanted`]; what comes at another time is kept too, so that is the bound.
    pub fn push_body(&mut self, chunk: Bytes) {
        self.handle.state.borrow_mut().push_body(self.key, chunk);
    }

    /// The body is complete.
    pub fn end_body(&mut self) {
        self.handle.state.borrow_mut().end_body(self.key);
    }

    /// Adds to the message that goes out, and ends it if it `is_complete`. As [`Exchange::push_body`], and only once
    /// the answer has begun: it makes the body one of messages, which are not sent again.
    pub fn push_message(&mut self, data: &[u8], is_text: bool, is_complete: bool) {
        self.handle
            .state
            .borrow_mut()
            .push_message(self.key, data, is_text, is_complete);
    }

    /// No more messages come. `last` is the data of the frame that says so.
    pub fn end_messages(&mut self, last: Bytes) {
        self.handle.state.borrow_mut().end_messages(self.key, last);
    }

    /// Waits until the end of the messages has been sent, or nobody wants it.
    pub fn poll_sent(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.handle.state.borrow_mut();
        if state.entry(self.key).body.is_sent() {
            return Poll::Ready(());
        }
        state.wait(self.key, context);
        Poll::Pending
    }

    /// The request has no time limit any more: its answer has begun and may take as long as it likes.
    pub fn lift_deadline(&mut self) {
        self.handle.state.borrow_mut().lift_deadline(self.key);
    }

    /// Nobody waits for the answer any more, and the request is to be carried out all the same: after those of this router
    /// that somebody waits for. `max_queued_requests` does not bound it, so whoever calls this must.
    pub fn defer(&mut self) {
        self.handle.state.borrow_mut().defer(self.key);
    }

    /// The answer could not be read: its connection ends, and so do all requests on it.
    pub fn break_peer(self) {
        self.handle.state.borrow_mut().break_peer(self.key);
        self.handle.settle();
    }

    /// The first frame of the answer.
    pub async fn answer(&mut self) -> Result<Answer, Failure> {
        poll_fn(|context| self.poll_answer(context)).await
    }

    /// The next data after the answer.
    pub async fn data(&mut self) -> Option<Result<Data, Failure>> {
        poll_fn(|context| self.poll_data(context)).await
    }

    /// The whole answer to a call, which has no head.
    pub async fn collect(mut self) -> Result<Value, Failure> {
        let mut answer = self.answer().await?;
        let arrivals = std::mem::take(&mut answer.arrivals);
        let Ok(offset) = answer.parse().map(|parsed| parsed.data_offset) else {
            self.break_peer();
            return Err(Failure::new(ErrorCode::Internal));
        };
        let mut is_error = answer.is_error();
        let first = answer.payload.slice(offset..);
        if answer.is_complete() {
            return value(first, arrivals, is_error);
        }
        let mut all = BytesMut::from(&first[..]);
        while let Some(data) = self.data().await {
            match data {
                Ok(data) => all.extend_from_slice(&data.bytes),
                // The flag of the last frame: what was collected is the pickled exception.
                Err(failure) if failure.code == ErrorCode::UserCode => is_error = true,
                Err(failure) => return Err(failure),
            }
        }
        value(all.freeze(), arrivals, is_error)
    }
}

fn value(data: Bytes, arrivals: Vec<Arrival>, is_error: bool) -> Result<Value, Failure> {
    let (data, attachments) = if arrivals.is_empty() {
        (data, Vec::new())
    } else {
        region::assemble(data, arrivals).ok_or(Failure::new(ErrorCode::Internal))?
    };
    Ok(Value {
        data,
        attachments,
        is_error,
    })
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if self.handle.state.borrow_mut().forget(self.key) {
            self.handle.settle();
        }
    }
}
