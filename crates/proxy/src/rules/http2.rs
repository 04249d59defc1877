//! Rules of HTTP/2 that h2 leaves to its user, and what makes a head like one of HTTP/1.1 for all that follows.
//!
//! h2 itself resets a stream whose head has upper-case names, fields of the connection, `te` other than `trailers`,
//! wrong or missing pseudo-fields, or a `content-length` that its DATA does not have.

use http::{HeaderValue, StatusCode, header, request::Parts};

use super::Broken;
use crate::limits::Limits;

/// Checks a head, gives it a Host, and joins the crumbs of its cookie.
pub(crate) fn check(parts: &mut Parts, limits: &Limits) -> Result<(), Broken> {
    // Pseudo-fields: method, scheme and path, and mostly an authority.
    let count = parts.headers.len() + 3 + usize::from(parts.uri.authority().is_some());
    if count as u64 > limits.h2_header_count {
        return Err((
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "431: the request has too many header fields\n",
        ));
    }
    if parts.headers.values().any(has_outer_space) {
        return Err((
            StatusCode::BAD_REQUEST,
            "400: a header field begins or ends with white space\n",
        ));
    }
    // Equal ones too: h2 holds the body to one of them, and who reads the other need not agree.
    let mut lengths = parts.headers.get_all(header::CONTENT_LENGTH).iter();
    if lengths.nth(1).is_some() {
        return Err((
            StatusCode::BAD_REQUEST,
            "400: the request has more than one Content-Length\n",
        ));
    }
    name_host(parts)?;
    join_cookie(parts);
    Ok(())
}

/// RFC 9113, section 8.2.1.
fn has_outer_space(value: &HeaderValue) -> bool {
    let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let bytes = value.as_bytes();
    is_space(bytes.first()) || is_space(bytes.last())
}

/// `:authority` is what HTTP/1.1 calls Host, and user code looks for that. That both agree is checked later.
fn name_host(parts: &mut Parts) -> Result<(), Broken> {
    if parts.headers.contains_key(header::HOST) {
        return Ok(());
    }
    let authority = parts.uri.authority().ok_or((
        StatusCode::BAD_REQUEST,
        "400: an HTTP/2 request needs an :authority or a Host\n",
    ))?;
    let host = HeaderValue::from_str(authority.as_str())
        .map_err(|_| (StatusCode::BAD_REQUEST, "400: the Host is no host name\n"))?;
    parts.headers.insert(header::HOST, host);
    Ok(())
}

/// RFC 9113, section 8.2.3.
fn join_cookie(parts: &mut Parts) {
    let crumbs = parts.headers.get_all(header::COOKIE);
    if crumbs.iter().nth(1).is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = crumbs.iter().map(HeaderValue::as_bytes).collect();
    // Made of values that were valid, so it is too.
    if let Ok(cookie) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        parts.headers.insert(header::COOKIE, cookie);
    }
}

#[cfg(test)]
mod tests {
    use http::{Request, Version};

    use super::*;

    fn parts(uri: &str, fields: &[(&'static str, &'static str)]) -> Parts {
        let mut request = Request::builder().uri(uri).version(Version::HTTP_2);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn status(uri: &str, fields: &[(&'static str, &'static str)]) -> u16 {
        check(&mut parts(uri, fields), &Limits::default())
            .map_or_else(|broken| broken.0.as_u16(), |()| 200)
    }

    #[test]
    fn a_head_gets_a_host_and_one_cookie() {
        let mut parts = parts("http://a:1/", &[("cookie", "a=1"), ("cookie", "b=2")]);
        check(&mut parts, &Limits::default()).unwrap();
        assert_eq!(parts.headers[header::HOST], "a:1");
        assert_eq!(parts.headers[header::COOKIE], "a=1; b=2");
        assert_eq!(parts.headers.get_all(header::COOKIE).iter().count(), 1);
    }

    #[test]
    fn heads_that_break_a_rule_are_refused() {
        assert_eq!(status("http://a/", &[]), 200);
        assert_eq!(status("/", &[("host", "a")]), 200);
        assert_eq!(status("/", &[]), 400);
        assert_eq!(status("http://a/", &[("x", " a")]), 400);
        assert_eq!(status("http://a/", &[("x", "a\t")]), 400);
        assert_eq!(status("http://a/", &[("content-length", "5"); 1]), 200);
        assert_eq!(status("http://a/", &[("content-length", "5"); 2]), 400);
        assert_eq!(status("http://a/", &[("cookie", "a=1"); 96]), 200);
        assert_eq!(status("http://a/", &[("cookie", "a=1"); 97]), 431);
    }
}
