//! Rules of HTTP that hyper leaves to its user, checked on every parsed head before anything else looks at it.

use http::{HeaderMap, Method, StatusCode, Uri, Version, header};

/// Longest request target that is taken.
const MAX_TARGET: usize = 8 * 1024;

/// Status and words for a head that breaks a rule.
pub(crate) type Broken = (StatusCode, &'static str);

/// Checks a head. What is broken here is answered and the connection closed: nothing after it can be trusted.
pub(crate) fn check(
    method: &Method,
    uri: &Uri,
    version: Version,
    headers: &HeaderMap,
) -> Result<(), Broken> {
    if matches!(*method, Method::CONNECT | Method::TRACE) {
        return Err((
            StatusCode::NOT_IMPLEMENTED,
            "501: CONNECT and TRACE are not served here\n",
        ));
    }
    let target = uri.path().len() + uri.query().map_or(0, |query| query.len() + 1);
    if target > MAX_TARGET {
        return Err((
            StatusCode::URI_TOO_LONG,
            "414: the request target is longer than 8192 bytes\n",
        ));
    }
    if leaves_its_folder(uri.path()) {
        return Err((
            StatusCode::BAD_REQUEST,
            "400: the path has '..', a backslash or a NUL in it\n",
        ));
    }
    check_host(uri, version, headers)?;
    if let Some(expect) = headers.get(header::EXPECT)
        && !expect.as_bytes().eq_ignore_ascii_case(b"100-continue")
    {
        return Err((
            StatusCode::EXPECTATION_FAILED,
            "417: only 'expect: 100-continue' is understood\n",
        ));
    }
    Ok(())
}

fn check_host(uri: &Uri, version: Version, headers: &HeaderMap) -> Result<(), Broken> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (host, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return Err((
            StatusCode::BAD_REQUEST,
            "400: the request has more than one Host\n",
        ));
    }
    let Some(host) = host else {
        return if version == Version::HTTP_11 {
            Err((
                StatusCode::BAD_REQUEST,
                "400: an HTTP/1.1 request needs a Host\n",
            ))
        } else {
            Ok(())
        };
    };
    let plausible = |byte: &u8| {
        byte.is_ascii_graphic() && !matches!(byte, b'/' | b'\\' | b'?' | b'#' | b'@' | b',')
    };
    if !host.as_bytes().iter().all(plausible) {
        return Err((StatusCode::BAD_REQUEST, "400: the Host is no host name\n"));
    }
    if let Some(authority) = uri.authority()
        && !authority
            .as_str()
            .as_bytes()
            .eq_ignore_ascii_case(host.as_bytes())
    {
        return Err((
            StatusCode::BAD_REQUEST,
            "400: the Host and the request target differ\n",
        ));
    }
    Ok(())
}

/// Whether a path, read by code that decodes it, could mean something above its prefix.
fn leaves_its_folder(path: &str) -> bool {
    // Nearly every path has none of these, and this is one pass over it.
    if !path.bytes().any(|byte| matches!(byte, b'%' | b'\\' | b'.')) {
        return false;
    }
    path.contains('\\') || path.split('/').any(is_hostile_segment)
}

fn is_hostile_segment(segment: &str) -> bool {
    let mut decoded = [0_u8; 3];
    let mut length = 0;
    let mut bytes = segment.as_bytes();
    while let [first, rest @ ..] = bytes {
        bytes = rest;
        let mut byte = *first;
        if byte == b'%'
            && let [high, low, rest @ ..] = rest
            && let (Some(high), Some(low)) = (hex(*high), hex(*low))
        {
            byte = high << 4 | low;
            bytes = rest;
        }
        if matches!(byte, 0 | b'\\') {
            return true;
        }
        // `%2f` passes undecoded, but it must not hide the dots beside it.
        if byte == b'/' {
            if decoded[..length.min(3)] == *b".." {
                return true;
            }
            length = 0;
            continue;
        }
        if length < decoded.len() {
            decoded[length] = byte;
        }
        length += 1;
    }
    length == 2 && decoded[..2] == *b".."
}

const fn hex(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn status(method: &str, uri: &str, fields: &[(&'static str, &'static str)]) -> u16 {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        check(&method, &uri.parse().unwrap(), Version::HTTP_11, &headers)
            .map_or_else(|broken| broken.0.as_u16(), |()| 200)
    }

    #[test]
    fn paths_that_leave_their_folder_are_refused() {
        for path in [
            "/..",
            "/a/../b",
            "/a/%2e%2E/b",
            "/a/.%2e",
            "/a%5cb",
            "/a%00",
            "/a/..%2fb",
            "/a%2f..%2fb",
        ] {
            assert_eq!(status("GET", path, &[("host", "a")]), 400, "{path}");
        }
        for path in [
            "/", "/a.b", "/a/...", "/a/..b", "/a%2fb", "/%", "/a/.", "/a/%2",
        ] {
            assert_eq!(status("GET", path, &[("host", "a")]), 200, "{path}");
        }
    }

    #[test]
    fn a_request_has_exactly_one_host() {
        assert_eq!(status("GET", "/", &[]), 400);
        assert_eq!(status("GET", "/", &[("host", "a"), ("host", "a")]), 400);
        assert_eq!(status("GET", "/", &[("host", "a b")]), 400);
        assert_eq!(status("GET", "http://a/", &[("host", "b")]), 400);
        assert_eq!(status("GET", "http://a/", &[("host", "a")]), 200);
    }

    #[test]
    fn methods_and_expectations_that_are_not_served_are_refused() {
        assert_eq!(status("TRACE", "/", &[("host", "a")]), 501);
        assert_eq!(
            status("GET", "/", &[("host", "a"), ("expect", "magic")]),
            417
        );
        assert_eq!(
            status("GET", "/", &[("host", "a"), ("expect", "100-Continue")]),
            200
        );
        assert_eq!(
            status("GET", &format!("/{}", "a".repeat(8192)), &[("host", "a")]),
            414
        );
    }
}
