//! A request's place and what will be said of it, held from its head to its outcome.
//!
//! Whoever works on the request owns it: the future that waits for the answer, then the body, or a WebSocket. However it
//! is dropped, that is one outcome, one access line, and the connection counts as idle again.

use std::{
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use eagleray_router::service::Exchange;
use eagleray_types::ErrorCode;
use http::{HeaderValue, Method};

use crate::{
    access_log::Line,
    connection::Connection,
    metrics::{End, RouteMetrics},
    routes::Ingress,
    shard::Shard,
    tally::Outcome,
};

/// A request until it has an outcome.
#[derive(Debug)]
pub(crate) struct Record {
    pub(super) shard: Rc<Shard>,
    pub(super) connection: Rc<Connection>,
    pub(super) method: Method,
    /// It asks for a WebSocket.
    pub(super) is_websocket: bool,
    pub(super) ingress: Option<Rc<Ingress>>,
    pub(super) request_id: HeaderValue,
    /// For exemplars, and for the access log where that says it; in a box, since most requests have none.
    pub(super) traceparent: Option<Box<HeaderValue>>,
    pub(super) started: Instant,
    /// It goes on when its client leaves.
    pub(super) outlives_client: bool,
    pub(super) status: u16,
    /// The route of user code that answers, inside the application.
    pub(super) route: Option<Arc<str>>,
    /// `None` until that is known.
    pub(super) outcome: Option<Outcome>,
}

impl Record {
    /// Lets the request go on without its client, as it asked for. `has_begun`: its answer.
    pub(super) fn abandon(&self, exchange: Exchange, has_begun: bool) {
        let Some(ingress) = &self.ingress else {
            debug_assert!(false, "what no deployment answers has no exchange");
            return;
        };
        let settings = self.shard.settings();
        self.shard.abandoned.add(
            exchange,
            has_begun,
            &self.connection,
            &ingress.key,
            &settings.limits,
        );
    }

    /// What the access log will say.
    pub(crate) fn set_status(&mut self, status: u16) {
        self.status = status;
    }

    /// It has this outcome, unless it has another already.
    pub(crate) fn settle(&mut self, outcome: Outcome) {
        self.outcome.get_or_insert(outcome);
    }

    /// Its answer has come whole.
    pub(crate) fn settle_answered(&mut self) {
        self.settle(Outcome::of_status(self.status));
    }

    /// Says in the numbers of its application and in the metrics how it ended.
    fn tally(&self, counted: Option<&RouteMetrics>, latency: Duration) {
        let outcome = self.outcome.unwrap_or_else(|| {
            // The task of its connection has panicked.
            if std::thread::panicking() {
                Outcome::Failed
            } else {
                Outcome::Left
            }
        });
        if let Some(tally) = self.ingress.as_ref().and_then(|one| one.tally.as_ref()) {
            tally.end(outcome);
        }
        let end = End {
            method: &self.method,
            is_websocket: self.is_websocket,
            status: self.status,
            outcome,
            request_id: self.request_id.as_bytes(),
            traceparent: self.traceparent.as_deref(),
        };
        let now = self.started + latency;
        self.shard.metrics.end(counted, end, latency, now);
    }

    /// Counts a failure that is a limit that was hit.
    pub(super) fn count(&self, code: ErrorCode) {
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
        let latency = self.started.elapsed();
        let ingress = self.ingress.as_ref();
        let inside = ingress
            .zip(self.route.as_ref())
            .and_then(|(ingress, route)| ingress.metrics.inside(route));
        let counted = inside.as_deref().or(ingress.map(|one| &*one.metrics));
        self.tally(counted, latency);
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
            whose: self.ingress.as_ref().map(|ingress| &ingress.whose),
            traceparent: self.traceparent.as_ref().map(|one| one.as_bytes()),
            method: if self.is_websocket {
                "WS"
            } else {
                self.method.as_str()
            },
            route: counted.map_or("-", RouteMetrics::label),
            status: self.status,
            latency,
        });
    }
}
