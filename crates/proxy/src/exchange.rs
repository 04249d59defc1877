//! One request, from its parsed head to its last byte.
//!
//! Special routes and everything that is refused by its head are answered at once. The rest is handed to the
//! router: with its whole body if that is short (or must be whole before user code is called), else with what is
//! there, and the remainder under credit. A [`Record`] stands for the request meanwhile: however it is dropped,
//! that is one outcome, one access line, and the connection counts as idle again.

mod body;
mod gather;
mod incoming;

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use eagleray_router::service::{Answer, Data, Exchange, Failure, Outgoing};
use eagleray_types::ErrorCode;
use eagleray_wire::ResponsePayload;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header, request::Parts};
use http_body::Body as _;

use crate::{
    abandoned,
    access_log::Line,
    answer,
    connection::Connection,
    head, hosts, identity,
    routes::Ingress,
    rules,
    shard::Shard,
    websocket::{Accepted, Handshake, handshake},
};

pub(crate) use body::Body;
use body::{Streaming, Upload};
use gather::{Gather, Gathered};
pub(crate) use incoming::Incoming;

/// Status of a request whose client left; nobody receives it.
const CLIENT_GONE: u16 = ErrorCode::Cancelled.http_status();

/// What hyper calls for each request of a connection.
#[derive(Debug)]
pub(crate) struct Service {
    shard: Rc<Shard>,
    connection: Rc<Connection>,
}

impl Service {
    pub(crate) fn new(shard: Rc<Shard>, connection: Rc<Connection>) -> Self {
        Self { shard, connection }
    }

    /// Answers a request whose head kept the rules of its protocol's framing.
    pub(crate) fn respond(&self, parts: &Parts, incoming: Incoming) -> Respond {
        self.connection.begin_request();
        self.connection.is_unread.set(incoming.is_unread());
        Respond {
            is_http10: parts.version == Version::HTTP_10,
            stage: self.begin(parts, incoming),
        }
    }

    /// The answer to a head that breaks a rule, before it is a request.
    pub(crate) fn refuse(&self, broken: rules::Broken) -> Response<Body> {
        let request_id = identity::fresh(&mut self.shard.random.borrow_mut());
        answer::refusal(broken, &request_id)
    }

    /// Answers at once, or says what must be waited for.
    fn begin(&self, parts: &Parts, incoming: Incoming) -> Stage {
        let request_id = parts
            .headers
            .get(answer::REQUEST_ID)
            .and_then(identity::from_client)
            .unwrap_or_else(|| identity::fresh(&mut self.shard.random.borrow_mut()));
        let answered = match self.check(parts) {
            Err(broken) => Some(answer::refusal(broken, &request_id)),
            Ok(()) if parts.uri.path() == "*" => Some(answer::methods(&request_id)),
            Ok(()) => None,
        };
        if let Some(response) = answered {
            return self.unread(&incoming, response);
        }
        let path = parts.uri.path();
        if let Some(panics) = self.shard.test_panic_path
            && let Some(below) = path.strip_prefix(panics)
        {
            assert!(!below.is_empty(), "a test asked for this");
            return Stage::Panics;
        }
        let routes = self.shard.routes.borrow();
        if let Some(special) = routes
            .strip_root(path)
            .filter(|path| path.starts_with("/-/"))
            && let Some(response) = self.special(special, &routes.json(), &request_id)
        {
            return self.at_once(response);
        }
        if self.shard.memory.refuses_requests() {
            self.shard.counters.requests_refused_memory.add();
            return self.unread(&incoming, answer::no_memory(&request_id));
        }
        let handshake = match self.handshake(parts, &incoming) {
            Ok(handshake) => handshake,
            Err(broken) => return self.at_once(answer::refusal(broken, &request_id)),
        };
        let mut record = Record {
            shard: Rc::clone(&self.shard),
            connection: Rc::clone(&self.connection),
            method: parts.method.clone(),
            handshake,
            ingress: routes.find(path).map(Rc::clone),
            request_id,
            started: Instant::now(),
            outlives_client: false,
            status: CLIENT_GONE,
        };
        let Some(ingress) = record.ingress.clone() else {
            let failure = if self.shard.is_ready() {
                Failure::new(ErrorCode::NotFound)
            } else {
                Failure {
                    code: ErrorCode::Unavailable,
                    message: "this proxy has not heard of any application yet".into(),
                }
            };
            return Stage::Answered(record.answer(&failure, path));
        };
        drop(routes);
        match self.upload(&mut record, &ingress, parts, incoming) {
            // Nothing to wait for, so no box for it.
            Ok(gather) if gather.upload.is_over() => submit(gather, Ok(Gathered::Whole), record),
            // Nothing comes before user code has asked for it.
            Ok(gather) if gather.upload.waits_for_word() => {
                submit(gather, Ok(Gathered::Part), record)
            }
            Ok(gather) => Stage::Gathering(Box::new(gather), record),
            Err(failure) => Stage::Answered(record.answer(&failure, path)),
        }
    }

    /// What is wrong with a head by itself, counted.
    fn check(&self, parts: &Parts) -> Result<(), rules::Broken> {
        let counters = &self.shard.counters;
        rules::check(parts, self.shard.limits.uri_bytes as usize).inspect_err(|broken| {
            if broken.0 == StatusCode::URI_TOO_LONG {
                counters.uris_too_long.add();
            } else {
                counters.heads_refused.add();
            }
        })?;
        if self.is_for_us(parts) {
            return Ok(());
        }
        counters.hosts_refused.add();
        Err(rules::OTHER_HOST)
    }

    /// Whether the request names a host that is served here, or does not have to.
    fn is_for_us(&self, parts: &Parts) -> bool {
        let allowed = &self.shard.allowed_hosts;
        if allowed.is_empty() {
            return true;
        }
        let field = parts.headers.get(header::HOST).map(HeaderValue::as_bytes);
        let target = || parts.uri.authority().map(|host| host.as_str().as_bytes());
        let routes = self.shard.routes.borrow();
        routes.strip_root(parts.uri.path()) == Some("/-/healthz")
            || hosts::are_allowed(field.or_else(target), allowed)
    }

    /// Answers at once, whatever of a body follows the head.
    fn unread(&self, incoming: &Incoming, mut response: Response<Body>) -> Stage {
        let is_last = !http_body::Body::is_end_stream(incoming);
        self.connection.is_last.set(is_last);
        if is_last {
            answer::close_after(&mut response);
        }
        self.at_once(response)
    }

    /// The wish for a WebSocket, if there is one.
    fn handshake(
        &self,
        parts: &Parts,
        incoming: &Incoming,
    ) -> Result<Option<Box<Handshake>>, rules::Broken> {
        if parts.extensions.is_empty() {
            return Ok(None);
        }
        self.connection.may_upgrade.set(true);
        if !handshake::is_wanted(parts) {
            return Ok(None);
        }
        let has_body = !http_body::Body::is_end_stream(incoming);
        Handshake::check(parts, has_body)
            .map(|handshake| Some(Box::new(handshake)))
            .inspect_err(|_| {
                self.shard.counters.heads_refused.add();
                self.connection.is_last.set(true);
            })
    }

    fn at_once(&self, response: Response<Body>) -> Stage {
        self.connection.end_request(self.shard.tick());
        Stage::Answered(response)
    }

    /// `/-/healthz` and `/-/routes`, by any method. Both answer 503 until the first snapshot of targets has come, and
    /// while the proxy drains. A node without applications is healthy: its snapshot is empty, and a load balancer
    /// that waited for an application before sending requests would keep the first one waiting.
    fn special(
        &self,
        path: &str,
        routes: &bytes::Bytes,
        request_id: &HeaderValue,
    ) -> Option<Response<Body>> {
        let problem = if self.shard.is_draining() {
            Some("this proxy is shutting down\n")
        } else if !self.shard.is_ready() {
            Some("this proxy has not heard of any application yet\n")
        } else if self.shard.memory.refuses_requests() {
            Some("this proxy has nearly no memory left\n")
        } else {
            None
        };
        match (path, problem) {
            ("/-/healthz" | "/-/routes", Some(problem)) => Some(answer::text(
                StatusCode::SERVICE_UNAVAILABLE,
                problem,
                request_id,
            )),
            ("/-/healthz", None) => Some(answer::text(StatusCode::OK, "success", request_id)),
            ("/-/routes", None) => Some(answer::json(routes.clone(), request_id)),
            _ => None,
        }
    }

    /// Prepares the request for the router.
    fn upload(
        &self,
        record: &mut Record,
        ingress: &Ingress,
        parts: &Parts,
        incoming: Incoming,
    ) -> Result<Gather, Failure> {
        let length = incoming.size_hint().exact();
        if ingress
            .sync_body_limit
            .is_some_and(|limit| length.is_some_and(|length| length > limit))
        {
            self.connection.is_last.set(true);
            return Err(Failure::new(ErrorCode::PayloadTooLarge));
        }
        let encoded = head::encode_request(
            &mut self.shard.scratch.borrow_mut(),
            parts,
            ingress,
            &self.connection,
            &self.shard.trusted_proxies,
            &record.request_id,
            record.handshake.is_some(),
        )
        .map_err(|error| Failure {
            code: ErrorCode::BadRequest,
            message: error.to_string().into(),
        })?;
        let expects = length != Some(0) && parts.headers.contains_key(header::EXPECT);
        record.outlives_client = encoded.outlives_client && record.handshake.is_none();
        let timeout = head::own_timeout(&parts.headers).unwrap_or(self.shard.request_timeout);
        let deadline = timeout.and_then(|timeout| record.started.checked_add(timeout));
        Ok(Gather::new(
            encoded,
            Upload::new(
                incoming,
                ingress.sync_body_limit,
                expects,
                Rc::clone(&self.connection),
            ),
            length,
            deadline,
        ))
    }
}

impl hyper::service::Service<Request<hyper::body::Incoming>> for Service {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Respond;

    fn call(&self, request: Request<hyper::body::Incoming>) -> Respond {
        let (parts, incoming) = request.into_parts();
        self.respond(&parts, Incoming::Http1(incoming))
    }
}

/// A request until it has an outcome.
#[derive(Debug)]
pub(crate) struct Record {
    shard: Rc<Shard>,
    connection: Rc<Connection>,
    method: Method,
    /// The request asks for a WebSocket.
    handshake: Option<Box<Handshake>>,
    ingress: Option<Rc<Ingress>>,
    request_id: HeaderValue,
    started: Instant,
    /// It goes on when its client leaves.
    outlives_client: bool,
    status: u16,
}

impl Record {
    /// The answer to a request that failed.
    fn answer(&mut self, failure: &Failure, path: &str) -> Response<Body> {
        if failure.code == ErrorCode::Internal {
            tracing::error!(id = ?self.request_id, failure = %failure.message, "a request failed in the proxy");
        }
        self.count(failure.code);
        let mut response =
            answer::failure(failure, self.ingress.as_deref(), path, &self.request_id);
        if self.connection.is_last.get() {
            answer::close_after(&mut response);
        }
        self.status = response.status().as_u16();
        response
    }
}

impl Record {
    /// Where the request belongs: its thread, its connection, and its deployment.
    pub(crate) fn place(&self) -> (&Rc<Shard>, &Rc<Connection>, Option<&Rc<Ingress>>) {
        (&self.shard, &self.connection, self.ingress.as_ref())
    }

    /// What the access log will say.
    pub(crate) fn set_status(&mut self, status: u16) {
        self.status = status;
    }

    /// Counts a failure that is a limit that was hit.
    fn count(&self, code: ErrorCode) {
        let counters = &self.shard.counters;
        match code {
            ErrorCode::PayloadTooLarge => counters.bodies_too_large.add(),
            ErrorCode::RequestTimeout => counters.bodies_timed_out.add(),
            ErrorCode::BackPressure => counters.requests_refused_queue.add(),
            ErrorCode::Overloaded => counters.requests_refused_queued_bytes.add(),
            ErrorCode::BadRequest => counters.bodies_malformed.add(),
            _ => {}
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.connection.end_request(self.shard.tick());
        if !self.shard.has_access_log()
            || self
                .ingress
                .as_ref()
                .is_some_and(|ingress| !ingress.access_log)
        {
            return;
        }
        self.shard.log(&Line {
            request_id: self.request_id.as_bytes(),
            method: if self.handshake.is_some() {
                "WS"
            } else {
                self.method.as_str()
            },
            route: self.ingress.as_ref().map_or("-", |ingress| &ingress.route),
            status: self.status,
            latency: self.started.elapsed(),
        });
    }
}

/// The answer to one request, for hyper to wait for.
#[derive(Debug)]
pub(crate) struct Respond {
    stage: Stage,
    is_http10: bool,
}

#[derive(Debug)]
enum Stage {
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
    /// For tests only.
    Panics,
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
                        Poll::Ready(Ok(answer)) => respond(&answer, exchange, upload, record),
                        Poll::Ready(Err(failure)) => fail(&failure, upload, record),
                    };
                }
                Stage::Over => return Poll::Ready(never_polled_again()),
                Stage::Panics => unreachable!("a test asked for this"),
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
            abandoned::abandon(&record, exchange, false);
        }
    }
}

/// hyper drops a future that was ready.
fn never_polled_again() -> Response<Body> {
    Response::new(Body::empty())
}

/// Hands the request to the router.
fn submit(gather: Gather, gathered: Result<Gathered, Failure>, record: Record) -> Stage {
    let gathered = match gathered {
        Ok(gathered) => gathered,
        Err(failure) => return fail(&failure, gather.upload, record),
    };
    let Some(ingress) = record.ingress.clone() else {
        return Stage::Over;
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
        complete: gathered == Gathered::Whole && record.handshake.is_none(),
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
        Ok(exchange) => Stage::Waiting(exchange, upload, record),
        Err(failure) => fail(&failure, upload, record),
    }
}

/// Answers a request that failed.
fn fail(failure: &Failure, upload: Upload, mut record: Record) -> Stage {
    let response = record.answer(failure, "");
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
fn respond(answer: &Answer, exchange: Exchange, upload: Upload, mut record: Record) -> Stage {
    let Ok(parsed) = answer.parse() else {
        exchange.break_peer();
        let failure = internal("the replica sent a head that cannot be read");
        return fail(&failure, upload, record);
    };
    let Some(head) = parsed.head.as_ref().filter(|_| !answer.is_error()) else {
        return fail(&Failure::new(ErrorCode::UserCode), upload, record);
    };
    if head.status == StatusCode::SWITCHING_PROTOCOLS.as_u16() && record.handshake.is_some() {
        return Stage::Answered(accept(&parsed, answer, exchange, record));
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
    if complete {
        if is_head
            && !answer::has_no_content(response.status())
            && !response.headers().contains_key(header::CONTENT_LENGTH)
        {
            response
                .headers_mut()
                .insert(header::CONTENT_LENGTH, HeaderValue::from(data.len()));
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

/// Accepts a WebSocket, which begins when hyper has written this answer.
fn accept(
    parsed: &ResponsePayload<'_>,
    answer: &Answer,
    exchange: Exchange,
    mut record: Record,
) -> Response<Body> {
    let (Some(handshake), Some(head)) = (&record.handshake, &parsed.head) else {
        return record.answer(&internal("a WebSocket was accepted that nobody wants"), "");
    };
    let Ok(response) = handshake.accept(head, &answer.payload, &record.request_id) else {
        return record.answer(&unsendable(), "");
    };
    let connection = Rc::clone(&record.connection);
    let data = parsed.data(&answer.payload);
    let says_more = !data.is_empty() || answer.is_complete();
    *connection.upgraded.borrow_mut() = Some(Box::new(Accepted {
        exchange,
        record,
        first: says_more.then_some(Data {
            flags: answer.flags,
            bytes: data,
            arrivals: Vec::new(),
        }),
    }));
    response
}

fn unsendable() -> Failure {
    Failure {
        code: ErrorCode::UserCode,
        message: "it answered with a status or a header that HTTP does not allow".into(),
    }
}

fn internal(message: &'static str) -> Failure {
    Failure {
        code: ErrorCode::Internal,
        message: message.into(),
    }
}

/// Time until `deadline`, at least zero.
fn until(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}
