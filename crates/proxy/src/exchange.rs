//! One request, from its parsed head to its last byte.
//!
//! Special routes and everything that is refused by its head are answered at once. The rest is handed to the
//! router: with its whole body if that is short (or must be whole before user code is called), else with what is
//! there, and the remainder under credit. A [`Record`] stands for the request meanwhile: however it is dropped,
//! that is one outcome, one access line, and the connection counts as idle again.

mod body;
mod failure;
mod gather;
mod incoming;
mod record;
mod respond;
mod upgrade;
mod upload;

use std::{cell::OnceCell, convert::Infallible, rc::Rc, time::Instant};

use eagleray_router::service::Failure;
use eagleray_types::ErrorCode;
use http::{HeaderValue, Request, Response, StatusCode, Version, header, request::Parts};
use http_body::Body as _;

use crate::{
    answer,
    connection::Connection,
    head, hosts, identity,
    routes::Ingress,
    rules,
    shard::Shard,
    websocket::{Accepted, Handshake, handshake},
};

pub(crate) use body::{Body, BrokenOff};
pub(crate) use incoming::Incoming;
pub(crate) use record::Record;
pub(crate) use respond::Respond;

use failure::answer_failure;
use gather::{Gather, Gathered};
use respond::{Stage, submit};
use upgrade::{Upgrade, UpgradePlace};
use upload::Upload;

/// Status of a request whose client left; nobody receives it.
const CLIENT_GONE: u16 = ErrorCode::Cancelled.http_status();

/// What hyper calls for each request of a connection.
#[derive(Debug)]
pub(crate) struct Service {
    shard: Rc<Shard>,
    connection: Rc<Connection>,
    /// Where a request that asked for a WebSocket leaves it; made for the first that does.
    upgrade: OnceCell<Rc<UpgradePlace>>,
}

impl Service {
    pub(crate) fn new(shard: Rc<Shard>, connection: Rc<Connection>) -> Self {
        Self {
            shard,
            connection,
            upgrade: OnceCell::new(),
        }
    }

    /// The WebSocket that follows the last answer.
    pub(crate) fn into_accepted(self) -> Option<Box<Accepted>> {
        self.upgrade.get()?.take()
    }

    /// Answers a request whose head kept the rules of its protocol's framing.
    pub(crate) fn respond(&self, parts: &Parts, incoming: Incoming) -> Respond {
        self.connection.begin_request();
        self.connection.is_unread.set(incoming.is_unread());
        let mut upgrade = None;
        Respond {
            is_http10: parts.version == Version::HTTP_10,
            stage: self.begin(parts, incoming, &mut upgrade),
            upgrade,
        }
    }

    /// The answer to a head that breaks a rule, before it is a request.
    pub(crate) fn refuse(&self, broken: rules::Broken) -> Response<Body> {
        let request_id = identity::fresh(&mut self.shard.random.borrow_mut());
        refusal(broken, &request_id)
    }

    /// Answers at once, or says what must be waited for. `upgrade` becomes the wish for a WebSocket, if there is one.
    fn begin(
        &self,
        parts: &Parts,
        incoming: Incoming,
        upgrade: &mut Option<Box<Upgrade>>,
    ) -> Stage {
        let request_id = parts
            .headers
            .get(identity::REQUEST_ID)
            .and_then(identity::from_client)
            .unwrap_or_else(|| identity::fresh(&mut self.shard.random.borrow_mut()));
        let answered = match self.check(parts) {
            Err(broken) => Some(refusal(broken, &request_id)),
            Ok(()) if parts.uri.path() == "*" => Some(answer::methods(&request_id)),
            Ok(()) => None,
        };
        if let Some(response) = answered {
            return self.unread(&incoming, response);
        }
        if let Some(response) = self.special(parts.uri.path(), &request_id) {
            return self.at_once(response);
        }
        if self.shard.memory.refuses_requests() {
            self.shard.counters.requests_refused_memory.add();
            return self.unread(&incoming, answer::no_memory(&request_id));
        }
        match self.upgrade(parts, &incoming) {
            Ok(wish) => *upgrade = wish,
            Err(broken) => return self.at_once(refusal(broken, &request_id)),
        }
        self.send_on(parts, incoming, request_id, upgrade.is_some())
    }

    /// Hands a request that may be somebody's to its deployment, with as much of its body as must come first.
    fn send_on(
        &self,
        parts: &Parts,
        incoming: Incoming,
        request_id: HeaderValue,
        is_websocket: bool,
    ) -> Stage {
        let path = parts.uri.path();
        let routes = self.shard.routes.borrow();
        let ingress = routes.find(path);
        self.shard.metrics.begin();
        let mut record = Record {
            shard: Rc::clone(&self.shard),
            connection: Rc::clone(&self.connection),
            method: parts.method.clone(),
            is_websocket,
            ingress: ingress.map(Rc::clone),
            request_id,
            traceparent: parts.headers.get(head::TRACEPARENT).cloned().map(Box::new),
            started: Instant::now(),
            outlives_client: false,
            status: CLIENT_GONE,
            route: None,
            outcome: None,
        };
        let Some(ingress) = ingress else {
            let failure = if self.shard.is_ready() {
                Failure::new(ErrorCode::NotFound)
            } else {
                Failure {
                    code: ErrorCode::Unavailable,
                    message: "this proxy has not heard of any application yet".into(),
                }
            };
            return Stage::Answered(answer_failure(&mut record, &failure, path));
        };
        if let Some(tally) = &ingress.tally {
            tally.begin();
        }
        match self.upload(&mut record, ingress, parts, incoming) {
            // Nothing to wait for, so no box for it.
            Ok(gather) if gather.upload.is_over() => submit(gather, Ok(Gathered::Whole), record),
            // Nothing comes before user code has asked for it.
            Ok(gather) if gather.upload.waits_for_word() => {
                submit(gather, Ok(Gathered::Part), record)
            }
            Ok(gather) => Stage::Gathering(Box::new(gather), record),
            Err(failure) => Stage::Answered(answer_failure(&mut record, &failure, path)),
        }
    }

    /// What is wrong with a head by itself, counted.
    fn check(&self, parts: &Parts) -> Result<(), rules::Broken> {
        let counters = &self.shard.counters;
        let uri_bytes = self.shard.settings().limits.uri_bytes as usize;
        rules::check(parts, uri_bytes).inspect_err(|broken| {
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
        let settings = self.shard.settings();
        let allowed = &settings.allowed_hosts;
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
    fn upgrade(
        &self,
        parts: &Parts,
        incoming: &Incoming,
    ) -> Result<Option<Box<Upgrade>>, rules::Broken> {
        if parts.extensions.is_empty() {
            return Ok(None);
        }
        self.connection.may_upgrade.set(true);
        if !handshake::is_wanted(parts) {
            return Ok(None);
        }
        let has_body = !http_body::Body::is_end_stream(incoming);
        let compresses = self.shard.settings().limits.websocket_compress_bytes > 0;
        let handshake = Handshake::check(parts, has_body, compresses).inspect_err(|_| {
            self.shard.counters.heads_refused.add();
            self.connection.is_last.set(true);
        })?;
        let place = Rc::clone(self.upgrade.get_or_init(Rc::default));
        Ok(Some(Box::new(Upgrade { handshake, place })))
    }

    fn at_once(&self, response: Response<Body>) -> Stage {
        self.connection.end_request(self.shard.tick());
        Stage::Answered(response)
    }

    /// `/-/healthz` and `/-/routes`, by any method. Both answer 503 until the first snapshot of targets has come, and
    /// while the proxy drains. A node without applications is healthy: its snapshot is empty, and a load balancer
    /// that waited for an application before sending requests would keep the first one waiting.
    fn special(&self, path: &str, request_id: &HeaderValue) -> Option<Response<Body>> {
        let routes = self.shard.routes.borrow();
        let path = routes
            .strip_root(path)
            .filter(|path| path.starts_with("/-/"))?;
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
            ("/-/routes", None) => Some(answer::json(routes.json(), request_id)),
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
        let settings = self.shard.settings();
        let encoded = head::encode_request(
            &mut self.shard.scratch.borrow_mut(),
            parts,
            ingress,
            &self.connection,
            &settings.trusted_proxies,
            &record.request_id,
            record.is_websocket,
        )
        .map_err(|error| Failure {
            code: ErrorCode::BadRequest,
            message: error.to_string().into(),
        })?;
        let expects = length != Some(0) && parts.headers.contains_key(header::EXPECT);
        record.outlives_client = encoded.outlives_client && !record.is_websocket;
        let timeout = head::own_timeout(&parts.headers).unwrap_or(settings.request_timeout);
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

/// The answer to a head that breaks a rule.
fn refusal(broken: rules::Broken, request_id: &HeaderValue) -> Response<Body> {
    tracing::debug!(id = ?request_id, why = broken.1.trim_end(), "a request was refused by its head");
    answer::refusal(broken, request_id)
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
