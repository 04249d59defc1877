//! One stream: a request and its answer, until the last byte is with h2 ([`Sending`]).

use std::{
    cell::Cell,
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use h2::server::SendResponse;
use http::{HeaderValue, Response, StatusCode, header};
use http_body::Body as _;

use super::{date::Date, meter::Meter, piece::Piece, sending::Sending};
use crate::{
    answer,
    connection::Connection,
    exchange::{Body, Respond},
    shard::Shard,
};

pub(super) struct Stream {
    stage: Stage,
    reply: SendResponse<Piece>,
    is_head: bool,
    /// The client waits for a word before it sends its body; set when somebody wants that.
    expects: Option<Rc<Cell<bool>>>,
    date: Rc<Date>,
    open: Open,
}

enum Stage {
    Responding(Respond),
    Answering(Option<Response<Body>>),
    Sending(Sending),
}

impl Stream {
    /// A request that goes its way. `expects`: `100-continue`, once this is set.
    pub(super) fn responding(
        respond: Respond,
        reply: SendResponse<Piece>,
        is_head: bool,
        expects: Option<Rc<Cell<bool>>>,
        date: Rc<Date>,
        open: Open,
    ) -> Self {
        Self {
            stage: Stage::Responding(respond),
            reply,
            is_head,
            expects,
            date,
            open,
        }
    }

    /// A request that is answered by its head.
    pub(super) fn answered(
        response: Response<Body>,
        reply: SendResponse<Piece>,
        is_head: bool,
        date: Rc<Date>,
        open: Open,
    ) -> Self {
        Self {
            stage: Stage::Answering(Some(response)),
            reply,
            is_head,
            expects: None,
            date,
            open,
        }
    }

    /// Says that the body is wanted.
    fn go_on(&mut self) {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::CONTINUE;
        if let Err(error) = self.reply.send_informational(response) {
            tracing::debug!(%error, "a stream ended before its body");
        }
    }

    /// Sends the head of the answer. `None`: that was all, or the client is gone.
    fn begin(&mut self, response: Response<Body>) -> Option<Sending> {
        let (mut parts, body) = response.into_parts();
        let headers = &mut parts.headers;
        // Our own answers say this to HTTP/1.1; what user code says of the connection is dropped before.
        headers.remove(header::CONNECTION);
        if !headers.contains_key(header::DATE) {
            headers.insert(header::DATE, self.date.now());
        }
        let has_no_body = self.is_head || answer::has_no_content(parts.status);
        if !has_no_body
            && let Some(length) = body.size_hint().exact()
            && !headers.contains_key(header::CONTENT_LENGTH)
        {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        let is_all = has_no_body || body.is_end_stream();
        if is_all {
            self.open.meter.give_head();
        }
        match self
            .reply
            .send_response(Response::from_parts(parts, ()), is_all)
        {
            Ok(out) if !is_all => Some(Sending::new(body, out)),
            Ok(_) => None,
            Err(error) => {
                tracing::debug!(%error, "a stream ended before its answer");
                None
            }
        }
    }
}

impl Future for Stream {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let stream = &mut *self;
        loop {
            let response = match &mut stream.stage {
                Stage::Responding(respond) => {
                    // Before the request: an answer to a client that left is nobody's.
                    if stream.reply.poll_reset(context).is_ready() {
                        return Poll::Ready(());
                    }
                    let Poll::Ready(Ok(response)) = Pin::new(respond).poll(context) else {
                        if stream.expects.take_if(|wanted| wanted.get()).is_some() {
                            stream.go_on();
                        }
                        return Poll::Pending;
                    };
                    Some(response)
                }
                Stage::Answering(response) => response.take(),
                Stage::Sending(sending) => return sending.poll(&stream.open.shard, context),
            };
            match response.and_then(|response| stream.begin(response)) {
                Some(sending) => stream.stage = Stage::Sending(sending),
                None => return Poll::Ready(()),
            }
        }
    }
}

/// A stream that is open: it keeps its connection busy.
pub(super) struct Open {
    shard: Rc<Shard>,
    state: Rc<Connection>,
    meter: Rc<Meter>,
}

impl Open {
    pub(super) fn new(shard: Rc<Shard>, state: Rc<Connection>, meter: Rc<Meter>) -> Self {
        state.begin_request();
        Self {
            shard,
            state,
            meter,
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.state.end_request(self.shard.tick());
    }
}
