//! The handshake: what a client must ask, and the answer that accepts it.
//!
//! Accepting is user code's word: the answer is made from its head with status 101. Compression is ours to agree to
//! ([`extension`]): user code sees messages, not how they travel.

use aws_lc_rs::digest;
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use eagleray_wire::ResponseHead;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header, request::Parts,
};

use super::extension::{self, Agreed};
use crate::{
    exchange::Body,
    head::{Unsendable, copy_fields},
    identity::REQUEST_ID,
    rules::Broken,
};

/// RFC 6455, section 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const KEY_BYTES: usize = 16;
const VERSION: HeaderValue = HeaderValue::from_static("13");

/// A client's wish that was found in order.
#[derive(Debug)]
pub(crate) struct Handshake {
    accept: HeaderValue,
    /// What the client offers, as it wrote it.
    subprotocols: Vec<HeaderValue>,
    /// How messages are compressed.
    pub(crate) agreed: Option<Agreed>,
}

/// Whether the request asks for a WebSocket, rightly or not.
pub(crate) fn is_wanted(parts: &Parts) -> bool {
    // hyper notes an upgrade that it would carry out, so that nobody else has to look for the field.
    parts
        .extensions
        .get::<hyper::upgrade::OnUpgrade>()
        .is_some()
        && has_token(&parts.headers, &header::UPGRADE, b"websocket")
}

impl Handshake {
    /// Checks a request that [`is_wanted`]; `has_body`: more than a head comes; `compresses`: if the client wants it.
    pub(crate) fn check(parts: &Parts, has_body: bool, compresses: bool) -> Result<Self, Broken> {
        let headers = &parts.headers;
        if parts.method != Method::GET || has_body {
            return Err(bad("400: a WebSocket is opened by a GET without a body\n"));
        }
        if !has_token(headers, &header::CONNECTION, b"upgrade") {
            return Err(bad(
                "400: the request asks for a WebSocket, but its Connection does not name Upgrade. A proxy in between \
                 may have to be told to pass it on\n",
            ));
        }
        if single(headers, &header::SEC_WEBSOCKET_VERSION) != Some(&VERSION) {
            return Err((
                StatusCode::UPGRADE_REQUIRED,
                "426: only version 13 of WebSocket is spoken here\n",
            ));
        }
        let Some(key) = single(headers, &header::SEC_WEBSOCKET_KEY).filter(|key| is_key(key))
        else {
            return Err(bad(
                "400: the Sec-WebSocket-Key is not 16 bytes in base64\n",
            ));
        };
        Ok(Self {
            accept: accept_of(key),
            subprotocols: headers
                .get_all(header::SEC_WEBSOCKET_PROTOCOL)
                .iter()
                .cloned()
                .collect(),
            agreed: extension::agree(headers).filter(|_| compresses),
        })
    }

    /// The answer that accepts, from the head that user code gave.
    pub(crate) fn accept(
        &self,
        head: &ResponseHead<'_>,
        payload: &Bytes,
        request_id: &HeaderValue,
    ) -> Result<Response<Body>, Unsendable> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        copy_fields(headers, head, payload, |name| !is_ours(name))?;
        let mut chosen = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
        if let Some(subprotocol) = chosen.next()
            && (chosen.next().is_some() || !self.offers(subprotocol))
        {
            return Err(Unsendable);
        }
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        if let Some(agreed) = &self.agreed {
            headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, agreed.answer());
        }
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, self.accept.clone());
        headers.insert(REQUEST_ID, request_id.clone());
        Ok(response)
    }

    fn offers(&self, subprotocol: &HeaderValue) -> bool {
        self.subprotocols
            .iter()
            .flat_map(|offered| offered.as_bytes().split(|byte| *byte == b','))
            .any(|offered| offered.trim_ascii() == subprotocol.as_bytes())
    }
}

const fn bad(text: &'static str) -> Broken {
    (StatusCode::BAD_REQUEST, text)
}

/// Fields of the answer that are not user code's to say.
fn is_ours(name: &HeaderName) -> bool {
    matches!(
        *name,
        header::CONTENT_LENGTH | header::SEC_WEBSOCKET_ACCEPT | header::SEC_WEBSOCKET_EXTENSIONS
    )
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &[u8]) -> bool {
    headers
        .get_all(name)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .any(|found| found.trim_ascii().eq_ignore_ascii_case(token))
}

/// The value of a field that stands there once.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

fn is_key(key: &HeaderValue) -> bool {
    // Longer than any such key is not decoded.
    key.len() <= 24
        && BASE64
            .decode(key.as_bytes())
            .is_ok_and(|bytes| bytes.len() == KEY_BYTES)
}

/// SHA-1 is what the protocol says: it proves that the server read this request, and keeps no secret.
fn accept_of(key: &HeaderValue) -> HeaderValue {
    let mut hash = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    hash.update(key.as_bytes());
    hash.update(GUID);
    HeaderValue::from_str(&BASE64.encode(hash.finish()))
        .expect("base64 has only characters that a field may have")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_the_standard_gets_the_answer_of_the_standard() {
        let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        assert!(is_key(&key));
        assert_eq!(accept_of(&key), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn a_key_is_sixteen_bytes() {
        for wrong in [
            "",
            "AAAA",
            "dGhlIHNhbXBsZSBub25jZQ",
            "dGhlIHNhbXBsZSBub25jZQ===",
            "!GhlIHNhbXBsZSBub25jZQ==",
            "dGhlIHNhbXBsZSBub25jZSE=",
            "dGhlIHNhbXBsZSBub25jZSEhISEhISE=",
        ] {
            assert!(!is_key(&HeaderValue::from_static(wrong)), "{wrong}");
        }
    }

    #[test]
    fn tokens_are_found_in_lists_and_in_repeated_fields() {
        let mut headers = HeaderMap::new();
        headers.append(
            "connection",
            HeaderValue::from_static("keep-alive , Upgrade"),
        );
        headers.append("upgrade", HeaderValue::from_static("h2c"));
        headers.append("upgrade", HeaderValue::from_static("WebSocket"));
        assert!(has_token(&headers, &header::CONNECTION, b"upgrade"));
        assert!(has_token(&headers, &header::UPGRADE, b"websocket"));
        assert!(!has_token(&headers, &header::UPGRADE, b"web"));
    }
}
