//! The client's body, whichever protocol carries it.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::connection::Inbound;

/// A body on its way in.
#[derive(Debug)]
pub(crate) enum Incoming {
    Http1(hyper::body::Incoming),
    Http2(Inbound),
}

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IncomingError {
    #[error("{0}")]
    Http1(#[from] hyper::Error),
    #[error("{0}")]
    Http2(#[from] h2::Error),
}

impl Incoming {
    /// Whether hyper has to read it on, or to close, when it is dropped now.
    pub(crate) fn is_unread(&self) -> bool {
        matches!(self, Self::Http1(body) if !body.is_end_stream())
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = IncomingError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, IncomingError>>> {
        match self.get_mut() {
            Self::Http1(body) => Pin::new(body)
                .poll_frame(context)
                .map_err(IncomingError::from),
            Self::Http2(body) => body
                .poll_data(context)
                .map(|data| data.map(|data| Ok(Frame::data(data?)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(body) => body.size_hint(),
            Self::Http2(body) => body
                .length()
                .map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}
