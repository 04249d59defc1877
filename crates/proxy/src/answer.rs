//! The words of every answer that is ours: what happened, and what to do next.
//!
//! [`failure`] is the one place where an [`ErrorCode`] becomes a response; [`refusal`] answers a head that breaks a
//! rule of HTTP before it is anybody's request. Neither shows anything of user code: a traceback is in the log of
//! the replica, under the request id that stands in the answer.

use std::fmt::Write;

use bytes::Bytes;
use eagleray_router::service::Failure;
use eagleray_types::ErrorCode;
use http::{HeaderValue, Response, StatusCode, Version, header};

use crate::{exchange::Body, identity::REQUEST_ID, routes::Ingress, rules::Broken};

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
/// What is passed on to applications; each says itself what it takes where.
const METHODS: HeaderValue =
    HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// Seconds after which a request that found no replica is worth another try: about what a replica takes to start.
const NO_REPLICA_RETRY_AFTER: u32 = 1;
/// The same of a deployment that is not available: the longest time between two starts.
const UNAVAILABLE_RETRY_AFTER: u32 = 30;
/// Longest part of a client's path that is repeated to it.
const SHOWN_PATH: usize = 256;

/// The answer to a request that user code did not answer. `path` is as the client sent it.
pub(crate) fn failure(
    failure: &Failure,
    ingress: Option<&Ingress>,
    path: &str,
    request_id: &HeaderValue,
) -> Response<Body> {
    let mut text = words(failure, ingress, path);
    if !failure.message.is_empty() {
        text.push_str(" (");
        text.push_str(&failure.message);
        text.push(')');
    }
    text.push('\n');
    let mut status = failure.code.http_status();
    if let (ErrorCode::BackPressure, Some(ingress)) = (failure.code, ingress) {
        status = ingress.backpressure_status;
    }
    let mut response = plain(status, Bytes::from(text), TEXT, request_id);
    let wait = match (failure.code, ingress) {
        (ErrorCode::BackPressure, Some(ingress)) => ingress.retry_after_seconds,
        (ErrorCode::Overloaded, _) => 1,
        (ErrorCode::NoReplica, _) => NO_REPLICA_RETRY_AFTER,
        (ErrorCode::Unavailable, Some(_)) => UNAVAILABLE_RETRY_AFTER,
        _ => 0,
    };
    if wait > 0 {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(wait));
    }
    response
}

fn words(failure: &Failure, ingress: Option<&Ingress>, path: &str) -> String {
    let mut text = String::new();
    let name: &dyn std::fmt::Display = match ingress {
        Some(ingress) => &ingress.key,
        None => &"the deployment",
    };
    // Writing to a String cannot fail.
    let written = match failure.code {
        ErrorCode::BadRequest => write!(
            text,
            "400: the request cannot be read. Correct it before sending it again"
        ),
        ErrorCode::NotFound => {
            let shown: String = path.chars().take(SHOWN_PATH).collect();
            write!(
                text,
                "404: no application answers the path '{shown}'. GET /-/routes lists the routes that exist"
            )
        }
        ErrorCode::DeadlineExceeded => write!(
            text,
            "408: {name} did not answer within the time limit of the request. Raise request_timeout_s or the \
             x-request-timeout-seconds header, or give the deployment more replicas"
        ),
        ErrorCode::RequestTimeout => write!(
            text,
            "408: the body did not come in time. Send it faster, or raise body_idle_s or lower body_bytes_per_s in \
             http_options.limits"
        ),
        ErrorCode::NoReplica => write!(
            text,
            "503: no replica of {name} was there to take this request within its time limit. Send it again after the \
             seconds in Retry-After; `eagleray status` says what happened to the replicas"
        ),
        ErrorCode::PayloadTooLarge => {
            let limit = ingress.and_then(|ingress| ingress.sync_body_limit);
            write_too_large(&mut text, name, limit)
        }
        ErrorCode::Cancelled => write!(text, "499: the client went away before the answer"),
        ErrorCode::UserCode => write!(
            text,
            "500: the code of {name} failed. The log of its replica has the reason under this request's x-request-id"
        ),
        ErrorCode::Internal => write!(
            text,
            "500: Eagleray failed to carry this request to {name}. The proxy's log has the reason under this \
             request's x-request-id"
        ),
        ErrorCode::ReplicaDied => write!(
            text,
            "502: the replica of {name} died while it worked on this request, which may not be repeated without \
             asking you. Check whether it took effect, then send it again"
        ),
        ErrorCode::BackPressure => {
            write!(
                text,
                "the queue of {name} is full. Send the request again later, or raise max_queued_requests"
            )
        }
        ErrorCode::Overloaded => write!(
            text,
            "503: this proxy holds as much memory for requests as it may. Send the request again later"
        ),
        ErrorCode::Unavailable => {
            write!(
                text,
                "503: {name} is not available. `eagleray status` says why; send the request again then"
            )
        }
        ErrorCode::Draining => write!(
            text,
            "503: this proxy is shutting down. Send the request again"
        ),
    };
    debug_assert!(written.is_ok());
    text
}

fn write_too_large(
    text: &mut String,
    name: &dyn std::fmt::Display,
    limit: Option<u64>,
) -> std::fmt::Result {
    match limit {
        Some(limit) => write!(
            text,
            "413: the body is longer than the {limit} bytes that {name} takes. Send less, or read the body in an \
             async method, which has no limit"
        ),
        None => write!(text, "413: the body is longer than {name} takes. Send less"),
    }
}

/// The answer to a head that breaks a rule. The connection is closed after it.
pub(crate) fn refusal((status, text): Broken, request_id: &HeaderValue) -> Response<Body> {
    let mut response = plain(
        status.as_u16(),
        Bytes::from_static(text.as_bytes()),
        TEXT,
        request_id,
    );
    if status == StatusCode::UPGRADE_REQUIRED {
        let headers = response.headers_mut();
        headers.insert(
            header::SEC_WEBSOCKET_VERSION,
            HeaderValue::from_static("13"),
        );
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    }
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(header::ALLOW, METHODS);
    }
    close_after(&mut response);
    response
}

/// The answer to `OPTIONS *`, which asks about the server and not about an application.
pub(crate) fn methods(request_id: &HeaderValue) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(header::ALLOW, METHODS);
    headers.insert(REQUEST_ID, request_id.clone());
    response
}

/// Whether an answer with this status ends with its head, and has no length.
pub(crate) fn has_no_content(status: StatusCode) -> bool {
    matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// The answer to a request that comes while memory is short. The connection is closed after it.
pub(crate) fn no_memory(request_id: &HeaderValue) -> Response<Body> {
    let text = "503: this proxy has nearly no memory left. Send the request again later\n";
    let mut response = plain(503, Bytes::from_static(text.as_bytes()), TEXT, request_id);
    response
        .headers_mut()
        .insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    close_after(&mut response);
    response
}

/// The connection ends after this answer, and its client is told.
pub(crate) fn close_after(response: &mut Response<Body>) {
    response
        .headers_mut()
        .insert(header::CONNECTION, HeaderValue::from_static("close"));
}

/// hyper promises a client of HTTP/1.0 that asks for it to keep the connection, even beside `close` and where only the
/// end of the connection ends the answer; not if the answer is one of HTTP/1.0 too.
pub(crate) fn for_http10(response: &mut Response<Body>) {
    let headers = response.headers();
    let is_endless =
        matches!(response.body(), Body::Stream(_)) && !headers.contains_key(header::CONTENT_LENGTH);
    if is_endless || headers.contains_key(header::CONNECTION) {
        close_after(response);
        *response.version_mut() = Version::HTTP_10;
    }
}

/// `/-/healthz` and `/-/routes`.
pub(crate) fn text(
    status: StatusCode,
    body: &'static str,
    request_id: &HeaderValue,
) -> Response<Body> {
    plain(
        status.as_u16(),
        Bytes::from_static(body.as_bytes()),
        TEXT,
        request_id,
    )
}

pub(crate) fn json(body: Bytes, request_id: &HeaderValue) -> Response<Body> {
    plain(200, body, JSON, request_id)
}

fn plain(status: u16, body: Bytes, kind: HeaderValue, request_id: &HeaderValue) -> Response<Body> {
    let mut response = Response::new(Body::full(body));
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
        .headers_mut()
        .insert(REQUEST_ID, request_id.clone());
    response
}
