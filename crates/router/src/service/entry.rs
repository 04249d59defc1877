//! One request at the service: its body on the way out, its answer on the way in, and whoever waits for it.

use std::task::Waker;

use super::{Failure, body::Body, incoming::Incoming};
use crate::core::RequestKey;

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
