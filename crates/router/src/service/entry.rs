//! One request at the service: its body on the way out, its answer on the way in.
//!
//! Neither grows without bound. Of a body no more is taken than the owner may keep plus one window; of an answer no
//! more comes than was given credit for, and a replica that sends more is broken.

use std::{collections::VecDeque, io, task::Waker};

use bytes::{Bytes, BytesMut};
use eagleray_wire::{
    Flags, Header, Kind, RequestHead,
    region::{self, Arrival, Attached, Channel, Named},
};

use super::{
    Answer, Data, Failure, INITIAL_ANSWER_CREDIT, INITIAL_BODY_CREDIT, Outgoing,
    PROVEN_ANSWER_CREDIT, PROVEN_BYTES, messages::Messages,
};
use crate::core::RequestKey;

/// Longest BODY frame.
const BODY_FRAME: usize = 64 * 1024;
/// Data that is shorter is copied, so that it does not keep the read buffer that it came in.
const COPY_BELOW: usize = 4096;
/// Short pieces that wait are put together up to this length, so that many cost no more than their bytes.
const PIECE_BYTES: usize = 16 * 1024;
/// Pieces of an answer that stay apart although they wait, since the owner has taken all that came before: it is
/// only about to have its turn, and writes each as it was sent.
const APART: usize = 64;

/// Adds a short piece to one that waits. False: it does not fit.
fn append(last: &mut Bytes, piece: &[u8]) -> bool {
    if piece.len() >= COPY_BELOW || last.len() + piece.len() > PIECE_BYTES {
        return false;
    }
    let mut joined = std::mem::take(last)
        .try_into_mut()
        .unwrap_or_else(|shared| {
            let mut own = BytesMut::with_capacity(COPY_BELOW.max(2 * shared.len()));
            own.extend_from_slice(&shared);
            own
        });
    joined.extend_from_slice(piece);
    *last = joined.freeze();
    true
}

#[derive(Debug)]
pub(super) struct Entry {
    /// While the state machine knows the request.
    pub(super) request: Option<RequestKey>,
    pub(super) body: Body,
    pub(super) answer: Incoming,
    /// The owner's task, if it waits.
    pub(super) waker: Option<Waker>,
}

impl Entry {
    pub(super) fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// The outcome is a failure; what has come of the answer is still handed out before it.
    pub(super) fn fail(&mut self, failure: Failure) {
        self.request = None;
        self.body.wanted = false;
        if !self.answer.ended {
            self.answer.ended = true;
            self.answer.failure = Some(failure);
        }
        self.wake();
    }
}

/// A body on its way out.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "four facts that are independent of each other"
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

/// An answer on its way in.
#[derive(Debug)]
pub(super) struct Incoming {
    /// The first frame, until it is taken.
    pub(super) first: Option<Answer>,
    pub(super) begun: bool,
    pub(super) data: VecDeque<Data>,
    /// Bytes that wait in `first` and `data`.
    waiting: usize,
    /// Bytes that the owner took last, and may still have.
    pub(super) handed: usize,
    /// Bytes that the owner is done with and that no credit was given for yet.
    taken: usize,
    /// Bytes that the owner is done with.
    taken_in_all: usize,
    /// Bytes that the replica may be ahead of the owner.
    window: usize,
    /// No more comes.
    pub(super) ended: bool,
    pub(super) failure: Option<Failure>,
}

impl Default for Incoming {
    fn default() -> Self {
        Self {
            first: None,
            begun: false,
            data: VecDeque::new(),
            waiting: 0,
            handed: 0,
            taken: 0,
            taken_in_all: 0,
            window: INITIAL_ANSWER_CREDIT,
            ended: false,
            failure: None,
        }
    }
}

/// What a frame with these cost of the credit, as the replica counts.
pub(super) fn charge(arrivals: &[Arrival]) -> usize {
    let named = arrivals.iter().map(|arrival| match arrival {
        Arrival::Region(received) => received.named(),
        Arrival::Data(length) => Named {
            number: 0,
            length: *length,
        },
        Arrival::Lost(named) => *named,
    });
    region::charge(named) as usize
}

/// The replica sent more than it had credit for, or after the end.
#[derive(Debug)]
pub(super) struct Overrun;

impl Incoming {
    /// Takes a RESPONSE frame.
    pub(super) fn receive(
        &mut self,
        flags: Flags,
        payload: Bytes,
        arrivals: Vec<Arrival>,
    ) -> Result<(), Overrun> {
        let says_something = !payload.is_empty()
            || !arrivals.is_empty()
            || [Flags::HEAD, Flags::END, Flags::END_OF_MESSAGE]
                .iter()
                .any(|flag| flags.contains(*flag));
        if self.ended {
            // A bare DONE after END is how background tasks end.
            return if payload.is_empty() {
                Ok(())
            } else {
                Err(Overrun)
            };
        }
        if !says_something {
            return Ok(());
        }
        self.ended = flags.contains(Flags::END);
        self.waiting += flags.cost(payload.len()) + charge(&arrivals);
        // A head is not counted by the replica: one more frame of slack covers it.
        if self.waiting > self.window + eagleray_wire::MAX_DATA_PAYLOAD as usize {
            return Err(Overrun);
        }
        if !self.begun {
            self.begun = true;
            self.first = Some(Answer {
                flags,
                payload,
                arrivals,
            });
            return Ok(());
        }
        if self.ended && flags.contains(Flags::ERROR) {
            self.failure = Some(Failure::new(eagleray_types::ErrorCode::UserCode));
        }
        // An owner that has what it took last does not come for more, as its own reader takes no more.
        let is_held_back = self.handed > 0 || self.data.len() >= APART;
        let is_joined = is_held_back
            && flags == Flags::NONE
            && arrivals.is_empty()
            && self
                .data
                .back_mut()
                .is_some_and(|last| last.flags == flags && append(&mut last.bytes, &payload));
        let is_something =
            !payload.is_empty() || !arrivals.is_empty() || flags.contains(Flags::END_OF_MESSAGE);
        if is_something && !is_joined {
            let bytes = if payload.len() < COPY_BELOW {
                Bytes::copy_from_slice(&payload)
            } else {
                payload
            };
            self.data.push_back(Data {
                flags,
                bytes,
                arrivals,
            });
        }
        Ok(())
    }

    /// The owner is done with what cost `bytes`. Returns the credit to give now, if it has become worth a frame.
    pub(super) fn take(&mut self, bytes: usize) -> Option<u32> {
        self.waiting = self.waiting.saturating_sub(bytes);
        self.taken += bytes;
        self.taken_in_all = self.taken_in_all.saturating_add(bytes);
        if self.ended || self.taken < self.window / 4 {
            return None;
        }
        let mut credit = std::mem::take(&mut self.taken);
        if self.taken_in_all >= PROVEN_BYTES {
            credit += PROVEN_ANSWER_CREDIT - self.window;
            self.window = PROVEN_ANSWER_CREDIT;
        }
        Some(credit as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(chunks: &[&'static [u8]], keep_bytes: usize) -> Body {
        let mut outgoing = Outgoing::whole(Bytes::from_static(b"head"), Bytes::new());
        outgoing.complete = false;
        outgoing.keep_bytes = keep_bytes;
        let mut body = Body::new(outgoing);
        for chunk in chunks {
            body.push(Bytes::from_static(chunk));
        }
        body
    }

    fn sent(out: &mut BytesMut) -> Vec<(Flags, Vec<u8>)> {
        let mut frames = Vec::new();
        while let Some(frame) = eagleray_wire::Decoder::data().decode(out).unwrap() {
            frames.push((frame.header.flags, frame.payload.to_vec()));
        }
        frames
    }

    #[test]
    fn a_request_that_moves_starts_its_body_over() {
        let mut body = body(&[b"abc", b"def"], 100);
        body.end();
        let mut out = BytesMut::new();
        for _ in 0..2 {
            assert!(body.write_request(Header::new(Kind::Request, 0, 1), &mut out));
            assert!(!body.has_frame());
            assert_eq!(sent(&mut out), [(Flags::END, b"headabcdef".to_vec())]);
        }
    }

    #[test]
    fn a_body_waits_for_credit_and_ends_with_its_last_byte() {
        let chunk: &'static [u8] = vec![7; 40 * 1024].leak();
        let mut body = body(&[chunk, chunk, chunk], 1024 * 1024);
        let mut out = BytesMut::new();
        assert!(body.write_request(Header::new(Kind::Request, 0, 1), &mut out));
        assert!(!body.has_frame());
        body.end();
        assert!(!body.has_frame());
        body.credit(60 * 1024);
        while body.has_frame() {
            body.write_body(0, 1, &mut out);
        }
        let frames = sent(&mut out);
        let lengths: Vec<usize> = frames.iter().map(|(_, data)| data.len()).collect();
        assert_eq!(lengths, [4 + 64 * 1024, 56 * 1024]);
        assert_eq!(frames.last().unwrap().0, Flags::END);
    }

    #[test]
    fn what_is_not_kept_cannot_be_sent_again() {
        let mut body = body(&[b"abc"], 4);
        let mut out = BytesMut::new();
        assert!(body.write_request(Header::new(Kind::Request, 0, 1), &mut out));
        assert!(body.push(Bytes::from_static(b"de")));
        assert!(!body.push(Bytes::from_static(b"f")));
        body.write_body(0, 1, &mut out);
        body.end();
        body.write_body(0, 1, &mut out);
        assert_eq!(
            sent(&mut out),
            [
                (Flags::NONE, b"headabc".to_vec()),
                (Flags::NONE, b"def".to_vec()),
                (Flags::END, Vec::new())
            ]
        );
        assert!(!body.write_request(Header::new(Kind::Request, 0, 2), &mut out));
    }

    #[test]
    fn an_answer_longer_than_its_credit_is_a_broken_replica() {
        let mut answer = Incoming::default();
        let chunk = Bytes::from(vec![0; 64 * 1024]);
        let limit =
            (INITIAL_ANSWER_CREDIT + eagleray_wire::MAX_DATA_PAYLOAD as usize) / chunk.len();
        for _ in 0..limit {
            answer
                .receive(Flags::NONE, chunk.clone(), Vec::new())
                .unwrap();
        }
        assert!(answer.receive(Flags::NONE, chunk, Vec::new()).is_err());
    }

    #[test]
    fn short_pieces_that_wait_cost_their_bytes() {
        let mut answer = Incoming::default();
        let mut body = body(&[], 0);
        for _ in 0..20_000 {
            answer
                .receive(Flags::NONE, Bytes::from_static(b"ab"), Vec::new())
                .unwrap();
            body.push(Bytes::from_static(b"cd"));
        }
        let pieces = 2 + 40_000 / PIECE_BYTES;
        assert!(answer.data.len() <= APART + pieces, "{}", answer.data.len());
        assert!(body.rest.len() <= pieces, "{}", body.rest.len());
        let all: Vec<u8> = answer
            .data
            .iter()
            .flat_map(|data| data.bytes.to_vec())
            .collect();
        assert_eq!(all, b"ab".repeat(19_999));
        body.credit(100_000);
        let mut out = BytesMut::new();
        while body.has_frame() {
            body.write_body(0, 1, &mut out);
        }
        let all: Vec<u8> = sent(&mut out)
            .into_iter()
            .flat_map(|(_, data)| data)
            .collect();
        assert_eq!(all, b"cd".repeat(20_000));
    }

    #[test]
    fn pieces_are_put_together_only_while_the_owner_holds_back() {
        let mut answer = Incoming::default();
        let receive = |answer: &mut Incoming| {
            for piece in [&b"head"[..], b"a", b"b", b"c"] {
                let piece = Bytes::copy_from_slice(piece);
                answer.receive(Flags::NONE, piece, Vec::new()).unwrap();
            }
        };
        receive(&mut answer);
        assert_eq!(answer.data.len(), 3, "its turn is about to come");
        answer.data.clear();
        answer.handed = 1;
        receive(&mut answer);
        assert_eq!(answer.data.len(), 1);
        assert_eq!(answer.data[0].bytes, &b"headabc"[..]);
    }

    #[test]
    fn messages_that_wait_stay_apart() {
        let mut answer = Incoming::default();
        for _ in 0..3 {
            answer
                .receive(Flags::END_OF_MESSAGE, Bytes::from_static(b"ab"), Vec::new())
                .unwrap();
        }
        assert_eq!(answer.data.len(), 2);
    }

    #[test]
    fn a_window_grows_when_more_was_taken_than_sockets_swallow() {
        let mut answer = Incoming::default();
        let chunk = INITIAL_ANSWER_CREDIT / 4;
        let credits: Vec<_> = (0..PROVEN_BYTES / chunk + 4)
            .filter_map(|_| answer.take(chunk))
            .collect();
        let given: usize = credits.iter().map(|credit| *credit as usize).sum();
        let grown = PROVEN_ANSWER_CREDIT - INITIAL_ANSWER_CREDIT;
        assert_eq!(given, PROVEN_BYTES + 4 * chunk + grown);
        assert_eq!(credits[0] as usize, chunk);
        assert_eq!(*credits.last().unwrap() as usize, PROVEN_ANSWER_CREDIT / 4);
    }
}
