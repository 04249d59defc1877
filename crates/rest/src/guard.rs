//! What every request to the control port must satisfy, whatever it asks for: a Host that is ours, an Origin that is ours if
//! it states one, and the token. A page in a browser of this machine can send requests here, and with a name that resolves
//! to 127.0.0.1 it can even read the answers; it cannot choose its Origin or its Host.

use std::sync::Arc;

use axum::{
    body::{Body, to_bytes},
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode, header};
use http_body::Body as _;

use crate::{errors::Refusal, hosts::Hosts, state, token::Token};

/// Ray's clients send the token under this name.
const RAY_AUTHORIZATION: &str = "x-ray-authorization";

/// What is read even for who is not let in.
const SMALL_BODY: usize = 64 * 1024;

pub(crate) async fn check(
    State(state): State<Arc<state::State>>,
    request: Request,
    next: Next,
) -> Response {
    let verdict = verdict(&state.token, &state.hosts, request.headers());
    match (verdict, with_small_body(request).await) {
        (Ok(()), Ok(request)) => next.run(request).await,
        (Err(refusal), _) | (Ok(()), Err(refusal)) => refusal.into_response(),
    }
}

/// A small body is read before anything is answered. An answer to a body that nobody reads ends the connection, and the node,
/// which is still sending that, may see the end and not the answer: it would say that nobody is here. A client that is slow
/// with its body is the node's to end.
async fn with_small_body(request: Request) -> Result<Request, Refusal> {
    let length = request.body().size_hint().upper();
    if length.is_none_or(|length| length == 0 || length > SMALL_BODY as u64) {
        return Ok(request);
    }
    let (parts, body) = request.into_parts();
    match to_bytes(body, SMALL_BODY).await {
        Ok(bytes) => Ok(Request::from_parts(parts, Body::from(bytes))),
        Err(error) => Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            "body",
            format!("the body did not come whole: {error}"),
            "",
        )),
    }
}

/// Whether whoever sends these headers may ask.
pub(crate) fn verdict(token: &Token, hosts: &Hosts, headers: &HeaderMap) -> Result<(), Refusal> {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or(""));
    let host = text("host").unwrap_or("");
    if headers.get_all(header::HOST).iter().count() != 1 || !hosts.allow(host) {
        return Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "host_refused",
            "the Host header names neither this machine's loopback nor the address that the control port is bound to",
            "use http://127.0.0.1 with the port, through a tunnel if need be",
        ));
    }
    if let Some(origin) = text("origin")
        && !is_same_origin(origin, host)
    {
        return Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "origin_refused",
            "the request comes from a page of another origin",
            "",
        ));
    }
    match presented(headers) {
        Some(presented) if token.is(presented) => Ok(()),
        Some(_) => Err(unauthorized("the token is not the one of this node")),
        None => Err(unauthorized("the request has no token")),
    }
}

fn is_same_origin(origin: &str, host: &str) -> bool {
    let authority = origin
        .strip_prefix("http://")
        .or_else(|| origin.strip_prefix("https://"));
    authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host))
}

fn unauthorized(message: &str) -> Refusal {
    Refusal::new(
        StatusCode::UNAUTHORIZED,
        "unauthorized",
        message,
        "send `Authorization: Bearer TOKEN`; the token is in the file `token` of the node's run directory\n\
         the command line finds it by itself, or in EAGLERAY_TOKEN or the file that EAGLERAY_TOKEN_FILE names; Ray's \
         clients with RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH",
    )
}

fn presented(headers: &HeaderMap) -> Option<&str> {
    let of = |name: &str| {
        let text = headers.get(name)?.to_str().ok()?;
        let (scheme, token) = text.split_once(' ')?;
        scheme
            .eq_ignore_ascii_case("bearer")
            .then(|| token.trim())
            .filter(|token| !token.is_empty())
    };
    of(header::AUTHORIZATION.as_str()).or_else(|| of(RAY_AUTHORIZATION))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_ours_if_it_is_the_host_that_was_asked() {
        assert!(is_same_origin("http://127.0.0.1:8265", "127.0.0.1:8265"));
        for other in [
            "null",
            "http://127.0.0.1:3000",
            "http://evil.example",
            "file://",
        ] {
            assert!(!is_same_origin(other, "127.0.0.1:8265"), "{other}");
        }
    }

    #[test]
    fn a_token_is_found_under_both_names() {
        let with = |name: &'static str, value: &'static str| {
            HeaderMap::from_iter([(
                http::HeaderName::from_static(name),
                http::HeaderValue::from_static(value),
            )])
        };
        for (name, value, found) in [
            ("authorization", "Bearer a", Some("a")),
            ("x-ray-authorization", "bearer a", Some("a")),
            ("authorization", "Basic a", None),
            ("authorization", "Bearer ", None),
            ("authorization", "Bearer", None),
            ("x-token", "Bearer a", None),
        ] {
            assert_eq!(presented(&with(name, value)), found, "{name}: {value}");
        }
    }
}
