//! The client's body, whichever protocol carries it.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, header};
use http_body::{Body, Frame, SizeHint};

/// A body on its way in.
#[derive(Debug)]
pub(crate) enum Incoming {
    Http1(hyper::body::Incoming),
    /// A stream, and the length that its head says.
    Http2(h2::RecvStream, Option<u64>),
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
    /// Of a stream whose head has these fields. h2 holds it to the length that they say.
    pub(crate) fn http2(stream: h2::RecvStream, headers: &HeaderMap) -> Self {
        let length = headers
            .get(header::CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        Self::Http2(stream, length)
    }

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
            Self::Http2(stream, _) => stream.poll_data(context).map(|data| {
                data.map(|data| {
                    let data = data?;
                    // What is read here goes on at once, or is in a bounded place: as much again may come.
                    stream.flow_control().release_capacity(data.len())?;
                    Ok(Frame::data(data))
                })
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(stream, _) => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(body) => body.size_hint(),
            Self::Http2(stream, _) if stream.is_end_stream() => SizeHint::with_exact(0),
            Self::Http2(_, Some(length)) => SizeHint::with_exact(*length),
            Self::Http2(_, None) => SizeHint::default(),
        }
    }
}
