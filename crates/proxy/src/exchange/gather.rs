//! What is read of a body before the router sees the request.
//!
//! A short body of known length is waited for: one frame then carries the whole request, and a slow client holds
//! no replica. So is every body of a deployment whose code needs it whole, up to [`SYNC_BYTES`]. Of any other body
//! only what has come already is taken along: its code may want to answer before it ends.
//!
//! What is kept while it is waited for counts for the bound on queued memory, and small pieces are put together, so
//! that a body of many small chunks costs no more than its bytes.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use eagleray_router::{
    core::{Limits, Reserved},
    service::{Failure, INITIAL_BODY_CREDIT},
};
use eagleray_types::ErrorCode;
use tokio::time::Sleep;

use crate::head::Encoded;

use super::upload::{Step, Upload};

/// Most that is kept of a body that must be whole.
const SYNC_BYTES: usize = 8 * 1024 * 1024;

/// Pieces that are shorter are copied into one of this length.
const PIECE_BYTES: usize = 4096;

/// Body bytes that are kept while the request can still move to another replica.
pub(super) const fn keep_bytes(sync_limit: Option<u64>) -> usize {
    if sync_limit.is_some() {
        SYNC_BYTES
    } else {
        INITIAL_BODY_CREDIT
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gathered {
    Whole,
    /// The rest follows.
    Part,
}

/// A request whose body is being read.
#[derive(Debug)]
pub(super) struct Gather {
    pub(super) encoded: Encoded,
    pub(super) first: Bytes,
    pub(super) rest: VecDeque<Bytes>,
    pub(super) upload: Upload,
    pub(super) deadline: Option<Instant>,
    /// Only once it must be waited.
    timer: Option<Pin<Box<Sleep>>>,
    waits_for_whole: bool,
    most: usize,
    /// Short pieces after `rest`.
    tail: BytesMut,
    /// Once it must be waited for.
    pub(super) reserved: Option<Reserved>,
}

impl Gather {
    pub(super) fn new(
        encoded: Encoded,
        upload: Upload,
        length: Option<u64>,
        deadline: Option<Instant>,
    ) -> Self {
        let most = keep_bytes(upload.limit());
        let waits_for_whole = upload.limit().is_some()
            || length.is_some_and(|length| length <= INITIAL_BODY_CREDIT as u64);
        Self {
            encoded,
            first: Bytes::new(),
            rest: VecDeque::new(),
            upload,
            deadline,
            timer: None,
            waits_for_whole,
            most,
            tail: BytesMut::new(),
            reserved: None,
        }
    }

    /// `limits`: what the bytes count for.
    pub(super) fn poll(
        &mut self,
        context: &mut Context<'_>,
        limits: &Arc<Limits>,
    ) -> Poll<Result<Gathered, Failure>> {
        let gathered = std::task::ready!(self.poll_pieces(context, limits));
        self.end_piece();
        Poll::Ready(gathered)
    }

    fn poll_pieces(
        &mut self,
        context: &mut Context<'_>,
        limits: &Arc<Limits>,
    ) -> Poll<Result<Gathered, Failure>> {
        while self.upload.received() < self.most as u64 {
            match self.upload.poll_step(context) {
                Poll::Ready(Ok(Step::Data(data))) => self.add(data),
                Poll::Ready(Ok(Step::Last(data))) => {
                    self.add(data);
                    return Poll::Ready(Ok(Gathered::Whole));
                }
                Poll::Ready(Ok(Step::End)) => return Poll::Ready(Ok(Gathered::Whole)),
                Poll::Ready(Err(failure)) => return Poll::Ready(Err(failure)),
                Poll::Pending if self.waits_for_whole => {
                    let bytes = self.upload.received() as usize;
                    let reserved = self.reserved.get_or_insert_with(|| limits.reserve());
                    if !reserved.grow_to(bytes) {
                        return Poll::Ready(Err(self.upload.give_up(ErrorCode::Overloaded)));
                    }
                    return self.poll_deadline(context);
                }
                Poll::Pending => return Poll::Ready(Ok(Gathered::Part)),
            }
        }
        Poll::Ready(Ok(Gathered::Part))
    }

    fn add(&mut self, data: Bytes) {
        if self.first.is_empty() {
            self.first = data;
        } else if data.len() < PIECE_BYTES {
            if self.tail.len() + data.len() > PIECE_BYTES {
                self.end_piece();
            }
            self.tail.extend_from_slice(&data);
        } else {
            self.end_piece();
            self.rest.push_back(data);
        }
    }

    fn end_piece(&mut self) {
        if !self.tail.is_empty() {
            self.rest.push_back(self.tail.split().freeze());
        }
    }

    fn poll_deadline(&mut self, context: &mut Context<'_>) -> Poll<Result<Gathered, Failure>> {
        let Some(deadline) = self.deadline else {
            return Poll::Pending;
        };
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(until(deadline))));
        timer
            .as_mut()
            .poll(context)
            .map(|()| Err(Failure::new(ErrorCode::DeadlineExceeded)))
    }
}

/// Time until `deadline`, at least zero.
fn until(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}
