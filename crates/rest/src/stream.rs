//! Bodies that are written while they are read: events, lines of logs.
//!
//! A task makes the parts and waits while the client does not read: [`PARTS`] are kept. A client that leaves drops the body,
//! which the task sees as a sender that is closed.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::{HeaderValue, header};
use http_body::Frame;
use tokio::sync::mpsc;

/// Parts that wait for the client.
const PARTS: usize = 64;

struct Parts(mpsc::Receiver<Bytes>);

impl http_body::Body for Parts {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let part = self.0.poll_recv(context);
        part.map(|part| part.map(|part| Ok(Frame::data(part))))
    }
}

/// An answer whose body is what is sent from now on, until the sender is dropped.
pub(crate) fn answer(content_type: &'static str) -> (mpsc::Sender<Bytes>, Response) {
    let (sender, parts) = mpsc::channel(PARTS);
    let mut response = Response::new(Body::new(Parts(parts)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    (sender, response)
}
