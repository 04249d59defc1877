//! The head of an answer, from user code: it may say anything, so every field is checked. A line break in one would be a
//! second response.

use bytes::Bytes;
use eagleray_wire::ResponseHead;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};

use super::is_hop_by_hop;
use crate::{answer::has_no_content, exchange::Body, identity::REQUEST_ID};

/// A head of user code that cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unsendable;

/// Makes the head of the response, and says whether user code ends the connection with it. `complete`: the whole body is
/// known, so its length is not user code's word.
pub(crate) fn decode_response(
    head: &ResponseHead<'_>,
    payload: &Bytes,
    complete: bool,
    request_id: &HeaderValue,
) -> Result<(Response<Body>, bool), Unsendable> {
    let mut response = Response::new(Body::empty());
    let status = StatusCode::from_u16(head.status).map_err(|_| Unsendable)?;
    if status.is_informational() {
        return Err(Unsendable);
    }
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let has_length = !complete && !has_no_content(status);
    let closes = copy_fields(headers, head, payload, |name| {
        *name != header::CONTENT_LENGTH || has_length
    })?;
    headers.insert(REQUEST_ID, request_id.clone());
    Ok((response, closes))
}

/// Adds the fields of user code's head that do not end here and that are `wanted`. Whether one of those that do ends the
/// connection.
pub(crate) fn copy_fields(
    headers: &mut HeaderMap,
    head: &ResponseHead<'_>,
    payload: &Bytes,
    wanted: impl Fn(&HeaderName) -> bool,
) -> Result<bool, Unsendable> {
    let mut closes = false;
    headers.reserve(head.headers.len() + 4);
    for (name, value) in head.headers.iter() {
        let name = HeaderName::from_bytes(name).map_err(|_| Unsendable)?;
        if is_hop_by_hop(&name) {
            closes |= name == header::CONNECTION && says_close(value);
            continue;
        }
        if name == REQUEST_ID || !wanted(&name) {
            continue;
        }
        if name == header::CONTENT_LENGTH {
            let digits =
                !value.is_empty() && value.len() <= 18 && value.iter().all(u8::is_ascii_digit);
            if !digits || headers.contains_key(header::CONTENT_LENGTH) {
                return Err(Unsendable);
            }
        }
        let value =
            HeaderValue::from_maybe_shared(payload.slice_ref(value)).map_err(|_| Unsendable)?;
        headers.append(name, value);
    }
    Ok(closes)
}

/// `close` among the options of a Connection field.
fn says_close(value: &[u8]) -> bool {
    value
        .split(|byte| *byte == b',')
        .any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"))
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use eagleray_wire::{Flags, ResponsePayload, encode_response_head};

    use super::*;

    fn decoded(status: u16, fields: &[(&[u8], &[u8])]) -> Result<Response<Body>, Unsendable> {
        let mut payload = BytesMut::new();
        encode_response_head(&mut payload, status, fields.iter().copied()).unwrap();
        let payload = payload.freeze();
        let parsed = ResponsePayload::decode(Flags::HEAD, &payload).unwrap();
        decode_response(
            &parsed.head.unwrap(),
            &payload,
            true,
            &HeaderValue::from_static("id"),
        )
        .map(|(response, _closes)| response)
    }

    #[test]
    fn a_response_that_user_code_splits_is_not_sent() {
        for value in [&b"a\r\nb: c"[..], b"a\nb", b"a\0b"] {
            assert!(decoded(200, &[(b"x-name", value)]).is_err(), "{value:?}");
        }
        for name in [&b"x\r\ny"[..], b"", b"x y", b"x:"] {
            assert!(decoded(200, &[(name, b"a")]).is_err(), "{name:?}");
        }
        for status in [0, 99, 100, 101, 1000] {
            assert!(decoded(status, &[]).is_err(), "{status}");
        }
    }

    #[test]
    fn what_belongs_to_the_connection_is_not_taken_from_user_code() {
        let fields: &[(&[u8], &[u8])] = &[
            (b"connection", b"close"),
            (b"transfer-encoding", b"chunked"),
            (b"content-length", b"9"),
            (b"x-request-id", b"other"),
            (b"set-cookie", b"a"),
            (b"set-cookie", b"b"),
        ];
        let response = decoded(200, fields).unwrap();
        assert_eq!(response.headers().len(), 3);
        assert_eq!(response.headers().get_all("set-cookie").iter().count(), 2);
        assert_eq!(response.headers().get("x-request-id").unwrap(), "id");
    }
}
