//! The head of a request on its way to a replica: written once, however often the request moves.
//!
//! What the client sent goes there, nothing decoded, without what belongs to the connection and without names with
//! underscores (which CGI-like code cannot tell from hyphens), except two that are ours, and without what only a trusted
//! proxy may say; client and scheme are those that it names. A WebSocket's `Connection` and `Upgrade` go too: Engine.IO
//! tells by them that it is one.

use bytes::{Bytes, BytesMut};
use eagleray_wire::{
    HeadError, Headers, HttpHead, ModelKey, RequestHead, SessionKey, is_model_header,
    is_session_header,
};
use http::{HeaderMap, HeaderName, HeaderValue, Version, header, request::Parts};

use super::is_hop_by_hop;
use crate::{
    connection::Connection,
    identity::REQUEST_ID,
    origin::{Origin, is_about_origin},
    routes::Ingress,
    trust::{Network, is_about_client},
};

pub(crate) const TRACEPARENT: &str = "traceparent";
const TIMEOUT: &str = "x-request-timeout-seconds";
const DISCONNECT_DISABLED: &[u8] = b"x-request-disconnect-disabled";
/// True, as structured fields write it.
const TRUE: &[u8] = b"?1";

/// Buffers in which heads are put together, one pair a thread.
#[derive(Debug)]
pub(crate) struct Scratch {
    fields: BytesMut,
    heads: BytesMut,
}

impl Scratch {
    const BYTES: usize = 64 * 1024;

    pub(crate) fn new() -> Self {
        Self {
            fields: BytesMut::with_capacity(4096),
            heads: BytesMut::with_capacity(Self::BYTES),
        }
    }
}

/// The head of a request as it goes to a replica, and what the proxy itself takes from it.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub(crate) head: Bytes,
    /// The multiplexed model that it asks for.
    pub(crate) model: Option<ModelKey>,
    /// The session that it belongs to.
    pub(crate) session: Option<SessionKey>,
    /// It goes on when its client leaves.
    pub(crate) outlives_client: bool,
}

/// Encodes the head of a request for the wire.
pub(crate) fn encode_request(
    scratch: &mut Scratch,
    parts: &Parts,
    ingress: &Ingress,
    connection: &Connection,
    trusted_proxies: &[Network],
    request_id: &HeaderValue,
    websocket: bool,
) -> Result<Encoded, HeadError> {
    let mut noticed = Noticed::default();
    let peers = &connection.peers;
    let named = NamedByConnection::of(&parts.headers);
    let fields = parts
        .headers
        .iter()
        .filter(|(name, value)| {
            websocket && is_of_handshake(name)
                || forwarded(name, value, request_id, peers.trusted) && !named.contains(name)
        })
        .map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()))
        .inspect(|(name, value)| noticed.notice(name, value));
    let headers = Headers::build(&mut scratch.fields, fields)?;
    // Such fields of others than trusted proxies have not come so far.
    let origin = if noticed.tells_origin {
        Origin::of(&parts.headers, trusted_proxies)
    } else {
        Origin::default()
    };
    let client = origin.client.map(|(ip, port)| (ip.to_string(), port));
    let head = HttpHead {
        websocket,
        request_id: request_id.as_bytes(),
        traceparent: parts
            .headers
            .get(TRACEPARENT)
            .map_or(&[][..], HeaderValue::as_bytes),
        version: match parts.version {
            Version::HTTP_10 => 10,
            Version::HTTP_2 => 20,
            _ => 11,
        },
        priority: 0,
        tls: origin.tls.unwrap_or(connection.is_tls),
        method: parts.method.as_str().as_bytes(),
        path: parts.uri.path().as_bytes(),
        query: parts.uri.query().unwrap_or_default().as_bytes(),
        root_path: &ingress.root_path,
        client: client
            .as_ref()
            .map_or((peers.client.0.as_bytes(), peers.client.1), |(ip, port)| {
                (ip.as_bytes(), *port)
            }),
        server: (peers.server.0.as_bytes(), peers.server.1),
        headers,
    };
    scratch.heads.reserve(1024);
    RequestHead::Http(head).encode(&mut scratch.heads)?;
    Ok(Encoded {
        head: scratch.heads.split().freeze(),
        model: noticed.model,
        session: noticed.session,
        outlives_client: noticed.outlives_client,
    })
}

/// What the proxy itself takes from the fields that it passes on.
#[derive(Default)]
struct Noticed {
    model: Option<ModelKey>,
    session: Option<SessionKey>,
    outlives_client: bool,
    /// Some say who the client of a trusted proxy is.
    tells_origin: bool,
}

impl Noticed {
    fn notice(&mut self, name: &[u8], value: &[u8]) {
        if self.model.is_none() && is_model_header(name) {
            self.model = ModelKey::of(value);
        }
        if self.session.is_none() && is_session_header(name) {
            self.session = SessionKey::of(value);
        }
        self.outlives_client |= name == DISCONNECT_DISABLED && value == TRUE;
        self.tells_origin |= is_about_origin(name);
    }
}

fn forwarded(
    name: &HeaderName,
    value: &HeaderValue,
    request_id: &HeaderValue,
    trusted: bool,
) -> bool {
    if is_hop_by_hop(name) || !trusted && is_about_client(name) {
        return false;
    }
    let text = name.as_str();
    if *name == REQUEST_ID {
        return value == request_id;
    }
    // The only names with underscores that are passed on.
    !text.as_bytes().contains(&b'_')
        || is_model_header(text.as_bytes())
        || is_session_header(text.as_bytes())
}

/// Of a WebSocket's handshake, what user code is to see although it is the connection's.
fn is_of_handshake(name: &HeaderName) -> bool {
    *name == header::CONNECTION || *name == header::UPGRADE
}

/// Fields that `Connection` names besides `close` and `keep-alive`: they end here too.
struct NamedByConnection<'a>(Option<&'a HeaderMap>);

impl<'a> NamedByConnection<'a> {
    fn of(headers: &'a HeaderMap) -> Self {
        let names_some = headers.get_all(header::CONNECTION).iter().any(|value| {
            let value = value.as_bytes();
            !value.eq_ignore_ascii_case(b"keep-alive") && !value.eq_ignore_ascii_case(b"close")
        });
        Self(names_some.then_some(headers))
    }

    fn contains(&self, name: &HeaderName) -> bool {
        self.0.is_some_and(|headers| {
            headers.get_all(header::CONNECTION).iter().any(|value| {
                value.as_bytes().split(|byte| *byte == b',').any(|token| {
                    token
                        .trim_ascii()
                        .eq_ignore_ascii_case(name.as_str().as_bytes())
                })
            })
        })
    }
}

/// The limit that a request sets for itself. The outer `None`: it sets none, or one that cannot be read;
/// the inner one: it asks for no limit.
#[expect(
    clippy::option_option,
    reason = "absent and 'no limit' are different wishes"
)]
pub(crate) fn own_timeout(headers: &HeaderMap) -> Option<Option<std::time::Duration>> {
    let seconds: f64 = headers.get(TIMEOUT)?.to_str().ok()?.trim().parse().ok()?;
    if seconds.is_nan() {
        return None;
    }
    // Infinite, or more than a `Duration` holds, is no limit; so is what is not positive.
    Some(if seconds > 0.0 {
        std::time::Duration::try_from_secs_f64(seconds).ok()
    } else {
        None
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_request_may_set_its_own_time_limit() {
        let own = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(TIMEOUT, HeaderValue::from_static(text));
            own_timeout(&headers)
        };
        assert_eq!(own("1.5"), Some(Some(Duration::from_millis(1500))));
        assert_eq!(own("0"), Some(None));
        assert_eq!(own("-1"), Some(None));
        assert_eq!(own("inf"), Some(None));
        assert_eq!(own("soon"), None);
        assert_eq!(own("nan"), None);
        assert_eq!(own_timeout(&HeaderMap::new()), None);
    }

    #[test]
    fn what_a_stranger_says_about_others_is_not_passed_on() {
        let id = HeaderValue::from_static("id");
        let passes = |name: &str, trusted| {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            forwarded(&name, &HeaderValue::from_static("x"), &id, trusted)
        };
        for name in [
            "forwarded",
            "x-forwarded-for",
            "x-forwarded-proto",
            "x-eagleray-user",
        ] {
            assert!(passes(name, true) && !passes(name, false), "{name}");
        }
        assert!(passes("x-forwarder", false) && passes("authorization", false));
    }

    #[test]
    fn fields_that_connection_names_end_here() {
        let mut headers = HeaderMap::new();
        headers.insert("connection", HeaderValue::from_static("close, X-Secret"));
        let named = NamedByConnection::of(&headers);
        assert!(named.contains(&HeaderName::from_static("x-secret")));
        assert!(!named.contains(&HeaderName::from_static("x-other")));
    }
}
