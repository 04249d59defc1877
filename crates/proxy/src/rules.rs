//! Rules of HTTP that hyper leaves to its user, checked on every parsed head before anything else looks at it.
//!
//! What hyper decides before a head is seen here stands: a line may end with a bare LF; Transfer-Encoding wins over
//! Content-Length, which is taken away, and the connection ends with that request; equal Content-Lengths are one;
//! Transfer-Encoding in HTTP/1.0, a body length that is no number, and all that is no syntax are 400; a fragment in
//! the target is cut off. `docs/limits.md` has the list.

pub(crate) mod http2;

use http::{HeaderMap, Method, StatusCode, Uri, Version, header, request::Parts};

/// Most digits of a body length: more than anybody can send.
const MAX_LENGTH_DIGITS: usize = 18;

/// Status and words for a head that breaks a rule.
pub(crate) type Broken = (StatusCode, &'static str);

/// A request that is not for us: `docs/limits.md` says when.
pub(crate) const OTHER_HOST: Broken = (
    StatusCode::MISDIRECTED_REQUEST,
    "421: this host is not served here; http_options.allowed_hosts names those that are\n",
);

const fn bad(text: &'static str) -> Broken {
    (StatusCode::BAD_REQUEST, text)
}

/// Checks a head; `longest` bounds its target. What is broken here is answered and the connection closed: nothing
/// after it can be trusted.
pub(crate) fn check(parts: &Parts, longest: usize) -> Result<(), Broken> {
    let (method, uri, headers) = (&parts.method, &parts.uri, &parts.headers);
    if *method == Method::CONNECT {
        return Err((
            StatusCode::NOT_IMPLEMENTED,
            "501: CONNECT is not served here\n",
        ));
    }
    if *method == Method::TRACE {
        return Err((
            StatusCode::METHOD_NOT_ALLOWED,
            "405: TRACE is not served here\n",
        ));
    }
    check_target(method, uri, longest)?;
    check_host(uri, parts.version, headers)?;
    check_length(headers)?;
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

fn check_target(method: &Method, uri: &Uri, longest: usize) -> Result<(), Broken> {
    let path = uri.path();
    if path.len() + uri.query().map_or(0, |query| query.len() + 1) > longest {
        return Err((
            StatusCode::URI_TOO_LONG,
            "414: the request target is too long; uri_bytes in http_options.limits is the most\n",
        ));
    }
    match (uri.scheme_str(), uri.authority()) {
        (None, None) => {}
        (Some("http" | "https"), Some(_)) => {}
        _ => return Err(bad("400: the request target is no path and no http URL\n")),
    }
    let is_of_server = path == "*" && *method == Method::OPTIONS;
    if !path.starts_with('/') && !is_of_server {
        return Err(bad("400: the request target is no path and no http URL\n"));
    }
    if leaves_its_folder(path) {
        return Err(bad("400: the path has '..', a backslash or a NUL in it\n"));
    }
    Ok(())
}

fn check_host(uri: &Uri, version: Version, headers: &HeaderMap) -> Result<(), Broken> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (host, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return Err(bad("400: the request has more than one Host\n"));
    }
    let Some(host) = host else {
        return if version == Version::HTTP_11 {
            Err(bad("400: an HTTP/1.1 request needs a Host\n"))
        } else {
            Ok(())
        };
    };
    if !is_host(host.as_bytes()) {
        return Err(bad("400: the Host is no host name\n"));
    }
    if let Some(authority) = uri.authority()
        && !authority
            .as_str()
            .as_bytes()
            .eq_ignore_ascii_case(host.as_bytes())
    {
        return Err(bad("400: the Host and the request target differ\n"));
    }
    Ok(())
}

/// A name, an IPv4 address or an IPv6 address in brackets; then perhaps a port.
fn is_host(host: &[u8]) -> bool {
    let (name, rest) = if let [b'[', inner @ ..] = host {
        let Some(end) = inner.iter().position(|byte| *byte == b']') else {
            return false;
        };
        let address = &inner[..end];
        let plausible = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
        if address.is_empty() || !address.iter().all(plausible) {
            return false;
        }
        (&[][..], &inner[end + 1..])
    } else {
        let end = host.iter().position(|byte| *byte == b':');
        host.split_at(end.unwrap_or(host.len()))
    };
    let of_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=".contains(byte);
    let port = match rest {
        [] => &[][..],
        [b':', digits @ ..] => digits,
        _ => return false,
    };
    name.iter().all(of_name) && port.len() <= 5 && port.iter().all(u8::is_ascii_digit)
}

/// How the body ends must be beyond doubt.
fn check_length(headers: &HeaderMap) -> Result<(), Broken> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        if codings.next().is_some() {
            return Err(bad(
                "400: the request has more than one Transfer-Encoding\n",
            ));
        }
        if !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
            return Err((
                StatusCode::NOT_IMPLEMENTED,
                "501: only 'transfer-encoding: chunked' is understood\n",
            ));
        }
    }
    if let Some(length) = headers.get(header::CONTENT_LENGTH)
        && !(1..=MAX_LENGTH_DIGITS).contains(&length.len())
    {
        return Err(bad("400: the Content-Length is too long a number\n"));
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
    use super::*;

    fn status(method: &str, uri: &str, fields: &[(&'static str, &'static str)]) -> u16 {
        let mut request = http::Request::builder().method(method).uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        check(&parts, 8192).map_or_else(|broken| broken.0.as_u16(), |()| 200)
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
        for host in [
            "a b", "a/b", "a@b", "a,b", "a:b", "a:123456", "[::1", "[]", "[g]", "[::1]x", "a:1:2",
        ] {
            assert_eq!(status("GET", "/", &[("host", host)]), 400, "{host}");
        }
        for host in [
            "",
            "a",
            "a:",
            "a:80",
            "127.0.0.1:8000",
            "[::1]",
            "[::ffff:1.2.3.4]:80",
            "a_b.c",
        ] {
            assert_eq!(status("GET", "/", &[("host", host)]), 200, "{host}");
        }
        assert_eq!(status("GET", "http://a/", &[("host", "b")]), 400);
        assert_eq!(status("GET", "http://a/", &[("host", "a")]), 200);
    }

    #[test]
    fn a_target_is_a_path_or_an_http_url() {
        assert_eq!(status("OPTIONS", "*", &[("host", "a")]), 200);
        for (method, target) in [("GET", "*"), ("GET", "a"), ("GET", "ftp://a/")] {
            assert_eq!(status(method, target, &[("host", "a")]), 400, "{target}");
        }
    }

    #[test]
    fn the_end_of_a_body_is_beyond_doubt() {
        let with = |name, value| status("POST", "/", &[("host", "a"), (name, value)]);
        assert_eq!(with("transfer-encoding", "Chunked"), 200);
        assert_eq!(with("transfer-encoding", "gzip, chunked"), 501);
        assert_eq!(with("content-length", "000000000000000001"), 200);
        assert_eq!(with("content-length", "0000000000000000001"), 400);
        let twice = [
            ("host", "a"),
            ("transfer-encoding", "chunked"),
            ("transfer-encoding", "chunked"),
        ];
        assert_eq!(status("POST", "/", &twice), 400);
    }

    #[test]
    fn methods_and_expectations_that_are_not_served_are_refused() {
        assert_eq!(status("TRACE", "/", &[("host", "a")]), 405);
        assert_eq!(status("CONNECT", "/", &[("host", "a")]), 501);
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
