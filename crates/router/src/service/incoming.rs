//! The answer of a request on its way in.
//!
//! It does not grow without bound: no more comes than was given credit for, and a replica that sends more is broken.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use eagleray_wire::{
    Flags,
    region::{self, Arrival, Named},
};

use super::{
    Answer, Data, Failure, INITIAL_ANSWER_CREDIT, LONG_ANSWER_CREDIT, LONG_BYTES,
    PROVEN_ANSWER_CREDIT, PROVEN_BYTES,
    pieces::{COPY_BELOW, append},
};

/// Pieces of an answer that stay apart although they wait, since the owner has taken all that came before: it is
/// only about to have its turn, and writes each as it was sent.
const APART: usize = 64;

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
        route: Option<Arc<str>>,
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
                route,
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
        if self.ended || self.taken < self.window / 2 {
            return None;
        }
        let mut credit = std::mem::take(&mut self.taken);
        let window = window_after(self.taken_in_all);
        credit += window - self.window;
        self.window = window;
        Some(credit as u32)
    }
}

/// How far a replica may be ahead of an owner that has taken so much. It never shrinks.
fn window_after(taken_in_all: usize) -> usize {
    match taken_in_all {
        LONG_BYTES.. => LONG_ANSWER_CREDIT,
        PROVEN_BYTES.. => PROVEN_ANSWER_CREDIT,
        _ => INITIAL_ANSWER_CREDIT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::pieces::PIECE_BYTES;

    #[test]
    fn an_answer_longer_than_its_credit_is_a_broken_replica() {
        let mut answer = Incoming::default();
        let chunk = Bytes::from(vec![0; 64 * 1024]);
        let limit =
            (INITIAL_ANSWER_CREDIT + eagleray_wire::MAX_DATA_PAYLOAD as usize) / chunk.len();
        for _ in 0..limit {
            answer
                .receive(Flags::NONE, chunk.clone(), Vec::new(), None)
                .unwrap();
        }
        assert!(
            answer
                .receive(Flags::NONE, chunk, Vec::new(), None)
                .is_err()
        );
    }

    #[test]
    fn short_pieces_that_wait_cost_their_bytes() {
        let mut answer = Incoming::default();
        for _ in 0..20_000 {
            answer
                .receive(Flags::NONE, Bytes::from_static(b"ab"), Vec::new(), None)
                .unwrap();
        }
        let pieces = 2 + 40_000 / PIECE_BYTES;
        assert!(answer.data.len() <= APART + pieces, "{}", answer.data.len());
        let all: Vec<u8> = answer
            .data
            .iter()
            .flat_map(|data| data.bytes.to_vec())
            .collect();
        assert_eq!(all, b"ab".repeat(19_999));
    }

    #[test]
    fn pieces_are_put_together_only_while_the_owner_holds_back() {
        let mut answer = Incoming::default();
        let receive = |answer: &mut Incoming| {
            for piece in [&b"head"[..], b"a", b"b", b"c"] {
                let piece = Bytes::copy_from_slice(piece);
                answer
                    .receive(Flags::NONE, piece, Vec::new(), None)
                    .unwrap();
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
                .receive(
                    Flags::END_OF_MESSAGE,
                    Bytes::from_static(b"ab"),
                    Vec::new(),
                    None,
                )
                .unwrap();
        }
        assert_eq!(answer.data.len(), 2);
    }

    #[test]
    fn a_window_grows_when_more_was_taken_than_sockets_swallow() {
        let mut answer = Incoming::default();
        let chunk = INITIAL_ANSWER_CREDIT / 2;
        let mut take = |all: usize| -> Vec<usize> {
            (0..all / chunk)
                .filter_map(|_| answer.take(chunk))
                .map(|credit| credit as usize)
                .collect()
        };
        let credits = take(PROVEN_BYTES + PROVEN_ANSWER_CREDIT / 2);
        let grown = PROVEN_ANSWER_CREDIT - INITIAL_ANSWER_CREDIT;
        assert_eq!(
            credits.iter().sum::<usize>(),
            PROVEN_BYTES + PROVEN_ANSWER_CREDIT / 2 + grown
        );
        assert_eq!(credits[0], chunk);
        assert_eq!(*credits.last().unwrap(), PROVEN_ANSWER_CREDIT / 2);

        let rest = LONG_BYTES - PROVEN_BYTES - PROVEN_ANSWER_CREDIT / 2;
        let credits = take(rest + LONG_ANSWER_CREDIT / 2);
        let grown = LONG_ANSWER_CREDIT - PROVEN_ANSWER_CREDIT;
        assert_eq!(
            credits.iter().sum::<usize>(),
            rest + LONG_ANSWER_CREDIT / 2 + grown
        );
        assert_eq!(*credits.last().unwrap(), LONG_ANSWER_CREDIT / 2);
    }
}
