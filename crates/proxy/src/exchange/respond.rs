//! The answer to one request, for hyper to wait for: gathers what of the body must come first, hands the request to the
//! router, and turns what comes back into a response.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use eagleray_router::service::{Answer, Exchange, Failure, Outgoing};
use eagleray_types::ErrorCode;
use http::{HeaderValue, Method, Response, StatusCode, header};

use super::{
    body::{Body, Streaming},
    failure::{answer_failure, internal, unsendable},
    gather::{self, Gather, Gathered},
    record::Record,
    upgrade::Upgrade,
    upload::Upload,
};
use crate::{answer, head};

/// The answer to one request, for hyper to wait for.
#[derive(Debug)]
pub(crate) struct Respond {
    pub(super) stage: Stage,
    pub(super) is_http10: bool,
    /// The request asks for a WebSocket; boxed, like all that is rarer.
    pub(super) upgrade: Option<Box<Upgrade>>,
}

#[derive(Debug)]
pub(super) enum Stage {
    Answered(Response<Body>),
    /// Answered, and the body was let go of before its end. hyper learns that when it reads the next time: it takes the
    /// rest if that is short and there, else it gives up the connection. A head that is written after that says which;
    /// one that was written before could not. The record stays as long: what is read meanwhile is no other request. Boxed,
    /// like all that is rarer.
    LetGo(Box<(Response<Body>, Option<Record>)>),
    /// The same, when hyper has read.
    Settled(Box<(Response<Body>, Option<Record>)>),
    Gathering(Box<Gather>, Record),
    Waiting(Exchange, Upload, Record),
    Over,
}

impl Future for Respond {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut response = std::task::ready!(self.poll_stage(context));
        if self.is_http10 {
            answer::for_http10(&mut response);
        }
        Poll::Ready(Ok(response))
    }
}

impl Respond {
    fn poll_stage(&mut self, context: &mut Context<'_>) -> Poll<Response<Body>> {
        loop {
            match std::mem::replace(&mut self.stage, Stage::Over) {
                Stage::Answered(response) => return Poll::Ready(response),
                Stage::Settled(answered) => return Poll::Ready(answered.0),
                Stage::LetGo(answered) => {
                    self.stage = Stage::Settled(answered);
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Stage::Gathering(mut gather, record) => {
                    match gather.poll(context, &record.shard.router_limits) {
                        Poll::Ready(gathered) => self.stage = submit(*gather, gathered, record),
                        Poll::Pending => {
                            self.stage = Stage::Gathering(gather, record);
                            return Poll::Pending;
                        }
                    }
                }
                Stage::Waiting(mut exchange, mut upload, record) => {
                    let pumped = upload.pump(&mut exchange, context);
                    let answer = match pumped {
                        Ok(()) => exchange.poll_answer(context),
                        Err(failure) => Poll::Ready(Err(failure)),
                    };
                    self.stage = match answer {
                        Poll::Pending => {
                            self.stage = Stage::Waiting(exchange, upload, record);
                            return Poll::Pending;
                        }
                        Poll::Ready(Ok(answer)) => {
                            respond(&answer, exchange, upload, record, self.upgrade.take())
                        }
                        Poll::Ready(Err(failure)) => fail(&failure, upload, record),
                    };
                }
                Stage::Over => return Poll::Ready(never_polled_again()),
            }
        }
    }
}

impl Drop for Respond {
    fn drop(&mut self) {
        // The client has left, or its connection was ended. A body that has not come whole never will.
        if let Stage::Waiting(exchange, upload, record) =
            std::mem::replace(&mut self.stage, Stage::Over)
            && record.outlives_client
            && upload.is_over()
        {
            record.abandon(exchange, false);
        }
    }
}

/// hyper drops a future that was ready.
fn never_polled_again() -> Response<Body> {
    debug_assert!(false, "an answer was asked for that has been given");
    Response::new(Body::empty())
}

/// Hands the request to the router.
pub(super) fn submit(gather: Gather, gathered: Result<Gathered, Failure>, record: Record) -> Stage {
    let gathered = match gathered {
        Ok(gathered) => gathered,
        Err(failure) => return fail(&failure, gather.upload, record),
    };
    let Some(ingress) = &record.ingress else {
        debug_assert!(false, "only what has a deployment is sent on");
        let failure = internal("a request was sent on that no deployment answers");
        return fail(&failure, gather.upload, record);
    };
    let Gather {
        encoded,
        first,
        rest,
        upload,
        deadline,
        reserved,
        ..
    } = gather;
    // What must wait in the router's queue counts there, and not twice.
    drop(reserved);
    let outgoing = Outgoing {
        head: encoded.head,
        first,
        rest,
        // A WebSocket's messages follow.
        complete: gathered == Gathered::Whole && !record.is_websocket,
        repeatable: is_idempotent(&record.method),
        deadline,
        keep_bytes: gather::keep_bytes(upload.limit()),
        model: encoded.model,
        session: encoded.session,
        attached: Vec::new(),
    };
    let now = if gathered == Gathered::Whole && upload.received() == 0 {
        record.started
    } else {
        Instant::now()
    };
    match record.shard.router.submit(now, &ingress.key, outgoing) {
        Ok(exchange) => {
            ingress.metrics.count_routed();
            Stage::Waiting(exchange, upload, record)
        }
        Err(failure) => fail(&failure, upload, record),
    }
}

/// Answers a request that failed.
fn fail(failure: &Failure, upload: Upload, mut record: Record) -> Stage {
    let response = answer_failure(&mut record, failure, "");
    answered(response, upload, record)
}

/// Nothing more of the request is read.
fn answered(response: Response<Body>, upload: Upload, record: Record) -> Stage {
    drop(upload);
    if record.connection.settles() {
        Stage::LetGo(Box::new((response, Some(record))))
    } else {
        Stage::Answered(response)
    }
}

/// RFC 9110, section 9.2.2.
fn is_idempotent(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::PUT | Method::DELETE | Method::OPTIONS | Method::TRACE
    )
}

/// Turns the first frame of an answer into a response.
fn respond(
    answer: &Answer,
    exchange: Exchange,
    upload: Upload,
    mut record: Record,
    upgrade: Option<Box<Upgrade>>,
) -> Stage {
    let Ok(parsed) = answer.parse() else {
        exchange.break_peer();
        let failure = internal("the replica sent a head that cannot be read");
        return fail(&failure, upload, record);
    };
    record.route.clone_from(&answer.route);
    let Some(head) = parsed.head.as_ref().filter(|_| !answer.is_error()) else {
        return fail(&Failure::new(ErrorCode::UserCode), upload, record);
    };
    if head.status == StatusCode::SWITCHING_PROTOCOLS.as_u16()
        && let Some(upgrade) = upgrade
    {
        let data = parsed.data(&answer.payload);
        return Stage::Answered(upgrade.accept(head, answer, data, exchange, record));
    }
    let is_head = record.method == Method::HEAD;
    let complete = answer.is_complete();
    let known_length = complete && !is_head;
    let Ok((mut response, closes)) =
        head::decode_response(head, &answer.payload, known_length, &record.request_id)
    else {
        return fail(&unsendable(), upload, record);
    };
    record.status = response.status().as_u16();
    if closes {
        // User code ends connections of HTTP/1; those of HTTP/2 are not its own.
        record.connection.is_last.set(true);
    }
    if record.connection.is_last.get() {
        answer::close_after(&mut response);
    }
    let data = parsed.data(&answer.payload);
    if complete || is_head || answer::has_no_content(response.status()) {
        record.settle_answered();
    }
    if complete {
        if is_head {
            say_length(&mut response, data.len());
        }
        *response.body_mut() = Body::full(data);
        return answered(response, upload, record);
    }
    // Of a body that is still read nobody knows yet where its reading will end.
    let settles = upload.is_over() && record.connection.settles();
    *response.body_mut() = Body::Stream(Box::new(Streaming::new(data, exchange, upload, record)));
    if settles {
        Stage::LetGo(Box::new((response, None)))
    } else {
        Stage::Answered(response)
    }
}

/// The length of the body that a HEAD does not get, unless user code has said it or there is none.
fn say_length(response: &mut Response<Body>, length: usize) {
    if !answer::has_no_content(response.status())
        && !response.headers().contains_key(header::CONTENT_LENGTH)
    {
        let length = HeaderValue::from(length);
        response
            .headers_mut()
            .insert(header::CONTENT_LENGTH, length);
    }
}
