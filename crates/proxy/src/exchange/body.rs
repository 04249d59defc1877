//! The body of an answer, on its way to hyper. The client's may still be going the other way, so this drives that too.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use eagleray_router::service::Exchange;
use eagleray_types::ErrorCode;
use http_body::{Frame, SizeHint};

use super::{record::Record, upload::Upload};
use crate::tally::Outcome;

/// The body of a response.
#[derive(Debug)]
pub(crate) enum Body {
    /// All of it.
    Full(Bytes),
    Stream(Box<Streaming>),
}

impl Body {
    pub(crate) const fn empty() -> Self {
        Self::Full(Bytes::new())
    }

    pub(crate) const fn full(bytes: Bytes) -> Self {
        Self::Full(bytes)
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match self.get_mut() {
            Self::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Self::Stream(streaming) => streaming.poll(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(bytes) => bytes.is_empty(),
            Self::Stream(streaming) => streaming.is_end(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stream(_) => SizeHint::default(),
        }
    }
}

/// The answer broke off, and what was made of it is out; hyper cuts the connection, which is the only way left to say so.
#[derive(Debug, thiserror::Error)]
#[error("the answer broke off: {0:?}")]
pub(crate) struct BrokenOff(ErrorCode);

/// An answer that still comes. The client's body may still be going the other way.
#[derive(Debug)]
pub(crate) struct Streaming {
    first: Bytes,
    /// `None` once it is dropped.
    exchange: Option<Exchange>,
    upload: Upload,
    record: Record,
    broken_off: Option<ErrorCode>,
}

impl Streaming {
    pub(super) fn new(first: Bytes, exchange: Exchange, upload: Upload, record: Record) -> Self {
        Self {
            first,
            exchange: Some(exchange),
            upload,
            record,
            broken_off: None,
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        if !self.first.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.first)))));
        }
        if let Some(code) = self.broken_off {
            return self.break_off(code);
        }
        let Some(exchange) = &mut self.exchange else {
            return Poll::Ready(None);
        };
        if let Err(failure) = self.upload.pump(exchange, context) {
            self.record.count(failure.code);
            return self.break_off(failure.code);
        }
        if self.record.connection.holds_body() {
            return Poll::Pending;
        }
        match exchange.poll_data(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) => {
                self.record.settle_answered();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Ok(data))) => Poll::Ready(Some(Ok(Frame::data(data.bytes)))),
            Poll::Ready(Some(Err(failure))) => self.break_off(failure.code),
        }
    }

    /// Ends the request, and says that the answer has broken off when what came of it is out.
    fn break_off(&mut self, code: ErrorCode) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        self.broken_off = Some(code);
        self.record.settle(Outcome::of(code));
        self.exchange = None;
        if self.record.connection.delivers() {
            return Poll::Pending;
        }
        Poll::Ready(Some(Err(BrokenOff(code))))
    }

    fn is_end(&self) -> bool {
        self.first.is_empty()
            && self.broken_off.is_none()
            && self.exchange.as_ref().is_none_or(Exchange::is_finished)
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        if self.is_end() {
            self.record.settle_answered();
        }
        if self.record.outlives_client
            && self.upload.is_over()
            && let Some(exchange) = self.exchange.take()
            && !exchange.is_finished()
        {
            self.record.abandon(exchange, true);
        }
    }
}
