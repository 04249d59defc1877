//! The cases: what is sent, which rule it is about, what must come back.

#![expect(clippy::too_many_lines, reason = "a table is as long as it is")]

/// What must come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// This status, and the connection carries the next request.
    Kept(u16),
    /// This status, and nothing more on this connection.
    Closed(u16),
}

use Expected::{Closed, Kept};

pub(super) struct Case {
    pub(super) rule: &'static str,
    pub(super) bytes: Vec<u8>,
    pub(super) expected: Expected,
}

pub(super) fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    for group in [
        request_lines(),
        targets(),
        hosts(),
        fields(),
        lengths(),
        codings(),
        both(),
        chunks(),
        connections(),
        sizes(),
    ] {
        cases.extend(group);
    }
    cases
}

fn raw(rule: &'static str, bytes: impl Into<Vec<u8>>, expected: Expected) -> Case {
    Case {
        rule,
        bytes: bytes.into(),
        expected,
    }
}

/// A request with this request line.
fn line(rule: &'static str, line: &str, expected: Expected) -> Case {
    raw(rule, format!("{line}\r\nhost: test\r\n\r\n"), expected)
}

/// A request with this target.
fn target(rule: &'static str, target: &str, expected: Expected) -> Case {
    line(rule, &format!("GET {target} HTTP/1.1"), expected)
}

/// A request with this after its Host.
fn field(rule: &'static str, field: impl AsRef<[u8]>, expected: Expected) -> Case {
    let head = b"GET /case HTTP/1.1\r\nhost: test\r\n";
    raw(rule, [head, field.as_ref(), b"\r\n\r\n"].concat(), expected)
}

/// A POST with these fields and this body.
fn post(rule: &'static str, fields: &str, body: &str, expected: Expected) -> Case {
    let bytes = format!("POST /case HTTP/1.1\r\nhost: test\r\n{fields}\r\n\r\n{body}");
    raw(rule, bytes, expected)
}

fn chunked(rule: &'static str, body: &str, expected: Expected) -> Case {
    post(rule, "transfer-encoding: chunked", body, expected)
}

fn request_lines() -> Vec<Case> {
    let mut cases = vec![
        line("a request line", "GET /case HTTP/1.1", Kept(200)),
        line(
            "any method is user code's",
            "BREW /case HTTP/1.1",
            Kept(200),
        ),
        line(
            "methods are case sensitive",
            "get /case HTTP/1.1",
            Kept(200),
        ),
        line("HTTP/1.0 closes", "GET /case HTTP/1.0", Closed(200)),
        raw(
            "an empty line before is skipped",
            "\r\nGET /case HTTP/1.1\r\nhost: test\r\n\r\n",
            Kept(200),
        ),
        raw(
            "bare LF ends a line (hyper)",
            "GET /case HTTP/1.1\nhost: test\n\n",
            Kept(200),
        ),
        raw("nonsense", "nonsense\r\n\r\n", Closed(400)),
        raw("HTTP/0.9", "GET /case\r\n\r\n", Closed(400)),
        raw(
            "TLS on a plain port",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".as_slice(),
            Closed(400),
        ),
        raw(
            "a field before the request line",
            "host: test\r\nGET /case HTTP/1.1\r\n\r\n",
            Closed(400),
        ),
        raw(
            "CR alone ends no line",
            "GET /case HTTP/1.1\rhost: test\r\r",
            Closed(400),
        ),
        raw(
            "NUL in the method",
            "G\0T /case HTTP/1.1\r\nhost: test\r\n\r\n",
            Closed(400),
        ),
        line(
            "CONNECT is not served",
            "CONNECT test:80 HTTP/1.1",
            Closed(501),
        ),
        line("TRACE is not served", "TRACE /case HTTP/1.1", Closed(405)),
    ];
    for (rule, text) in [
        ("two spaces before the target", "GET  /case HTTP/1.1"),
        ("two spaces before the version", "GET /case  HTTP/1.1"),
        ("a space at the start", " GET /case HTTP/1.1"),
        ("a space at the end", "GET /case HTTP/1.1 "),
        ("a tab for a space", "GET\t/case HTTP/1.1"),
        ("no method", "/case HTTP/1.1"),
        ("no target", "GET HTTP/1.1"),
        ("a fourth word", "GET /case HTTP/1.1 x"),
        ("a method that is no token", "G@T /case HTTP/1.1"),
        ("a method that is no token", "GET: /case HTTP/1.1"),
        ("a method that is no token", "G\u{e9}T /case HTTP/1.1"),
        ("an unknown version", "GET /case HTTP/1.2"),
        ("an unknown version", "GET /case HTTP/2.0"),
        ("an unknown version", "GET /case HTTP/0.9"),
        ("an unknown version", "GET /case HTTP/3"),
        ("the version in small letters", "GET /case http/1.1"),
        ("a version with two digits", "GET /case HTTP/1.10"),
        ("a version without a dot", "GET /case HTTP/11"),
        ("another protocol", "GET /case HTTPS/1.1"),
        ("a bare CR in the request line", "GET /case\r HTTP/1.1"),
    ] {
        cases.push(line(rule, text, Closed(400)));
    }
    cases
}

fn targets() -> Vec<Case> {
    let mut cases = vec![
        target("an absolute target", "http://test/case", Kept(200)),
        target(
            "an absolute target in large letters",
            "HTTP://TEST/case",
            Kept(200),
        ),
        target(
            "an absolute target without a path",
            "http://test",
            Kept(200),
        ),
        target(
            "an absolute target of another host",
            "http://evil/case",
            Closed(400),
        ),
        target(
            "an absolute target of another port",
            "http://test:81/case",
            Closed(400),
        ),
        target(
            "an absolute target with a user",
            "http://user@test/case",
            Closed(400),
        ),
        target("a target of another scheme", "ftp://test/case", Closed(400)),
        target(
            "a target of another scheme",
            "file:///etc/passwd",
            Closed(400),
        ),
        target("a target without a slash", "case", Closed(400)),
        target("a target without a slash", "test:80", Closed(400)),
        target("`*` is for OPTIONS", "*", Closed(400)),
        line(
            "`OPTIONS *` is about the server",
            "OPTIONS * HTTP/1.1",
            Kept(204),
        ),
        target("two slashes are a path", "//evil/case", Kept(200)),
        target("a query", "/case?a=/../b&c=%00", Kept(200)),
        target("an encoded slash passes undecoded", "/case%2fx", Kept(200)),
        target("a percent sign alone passes undecoded", "/case%", Kept(200)),
        target("three dots are a name", "/case/...", Kept(200)),
        target("a fragment is cut off (hyper)", "/case#x", Kept(200)),
        raw(
            "a space in the target",
            "GET /ca se HTTP/1.1\r\nhost: test\r\n\r\n",
            Closed(400),
        ),
        raw(
            "NUL in the target",
            "GET /ca\0se HTTP/1.1\r\nhost: test\r\n\r\n",
            Closed(400),
        ),
        raw(
            "a control byte in the target",
            "GET /ca\x01se HTTP/1.1\r\nhost: test\r\n\r\n",
            Closed(400),
        ),
        raw(
            "DEL in the target",
            "GET /ca\x7fse HTTP/1.1\r\nhost: test\r\n\r\n",
            Closed(400),
        ),
    ];
    for path in [
        "/..",
        "/../case",
        "/case/..",
        "/case/../x",
        "/case/%2e%2e/x",
        "/case/.%2E/x",
        "/case/%2E./x",
        "/case/..%2fx",
        "/case%2f..%2fx",
        "/case\\..\\x",
        "/case/..\\x",
        "/case%5c..%5cx",
        "/case%00",
        "/case%00.html",
        "/..%2f..%2fetc%2fpasswd",
        "/case?/../..#".split('?').next().unwrap_or(""),
    ] {
        if path != "/case" {
            cases.push(target("a path that leaves its folder", path, Closed(400)));
        }
    }
    cases
}

fn hosts() -> Vec<Case> {
    let host = |rule, value: &str, expected| {
        raw(
            rule,
            format!("GET /case HTTP/1.1\r\nhost:{value}\r\n\r\n"),
            expected,
        )
    };
    let mut cases = vec![
        raw(
            "HTTP/1.1 needs a Host",
            "GET /case HTTP/1.1\r\n\r\n",
            Closed(400),
        ),
        raw(
            "HTTP/1.0 needs none",
            "GET /case HTTP/1.0\r\n\r\n",
            Closed(200),
        ),
        field("one Host", "host: test", Closed(400)),
        field("one Host", "Host: other", Closed(400)),
        raw(
            "an absolute target needs a Host too",
            "GET http://test/case HTTP/1.1\r\n\r\n",
            Closed(400),
        ),
    ];
    for value in [
        " test",
        "test",
        "\ttest\t",
        " test:80",
        " 127.0.0.1:80",
        " [::1]:80",
        " a-b.c_d",
        " ",
    ] {
        cases.push(host("a Host", value, Kept(200)));
    }
    for value in [
        " a b",
        " a/b",
        " a\\b",
        " a?b",
        " a#b",
        " user@test",
        " a,b",
        " test:x",
        " test:123456",
        " [::1",
        " ::1",
        " [g]",
        " test:80:80",
        " <a>",
        " \"test\"",
    ] {
        cases.push(host("a Host that is none", value, Closed(400)));
    }
    cases
}

fn fields() -> Vec<Case> {
    let mut cases = vec![
        field("a field without a value", "x:", Kept(200)),
        field("spaces around a value", "x: \t a \t ", Kept(200)),
        field("bytes above 127 in a value", b"x: \xe9\xff", Kept(200)),
        field("a tab in a value", "x: a\tb", Kept(200)),
        field(
            "underscores in names are dropped",
            "content_length: 5\r\ntransfer_encoding: chunked",
            Kept(200),
        ),
        field(
            "100-continue without a body",
            "expect: 100-continue",
            Kept(200),
        ),
        field("another expectation", "expect: magic", Closed(417)),
        field(
            "another expectation",
            "expect: 100-continue, magic",
            Closed(417),
        ),
    ];
    for (rule, text) in [
        ("a space before the colon", &b"x : a"[..]),
        ("a tab before the colon", b"x\t: a"),
        ("no colon", b"x"),
        ("no name", b": a"),
        ("a line folded by a space", b"x: a\r\n b"),
        ("a line folded by a tab", b"x: a\r\n\tb"),
        ("NUL in a value", b"x: a\0b"),
        ("NUL in a name", b"x\0y: a"),
        ("a bare CR in a value", b"x: a\rb"),
        ("a bare CR before a field", b"x: a\ry: b"),
        ("a control byte in a value", b"x: a\x01b"),
        ("a vertical tab in a value", b"x: a\x0bb"),
        ("DEL in a value", b"x: a\x7fb"),
        ("a space in a name", b"x y: a"),
        ("a bracket in a name", b"x(y): a"),
        ("a byte above 127 in a name", b"x\xe9: a"),
        ("a name in quotes", b"\"x\": a"),
    ] {
        cases.push(field(rule, text, Closed(400)));
    }
    cases.push(raw(
        "a space before the first field",
        "GET /case HTTP/1.1\r\n host: test\r\n\r\n",
        Closed(400),
    ));
    cases
}

fn lengths() -> Vec<Case> {
    let mut cases = vec![
        post("a length", "content-length: 5", "hello", Kept(200)),
        post("a length of 0", "content-length: 0", "", Kept(200)),
        post("no length is no body", "x: y", "", Kept(200)),
        post(
            "zeros before a length",
            "content-length: 00005",
            "hello",
            Kept(200),
        ),
        post(
            "spaces around a length",
            "content-length: \t5 ",
            "hello",
            Kept(200),
        ),
        post(
            "equal lengths are one (hyper)",
            "content-length: 5\r\ncontent-length: 5",
            "hello",
            Kept(200),
        ),
        post(
            "a request in a body stays there",
            "content-length: 39",
            "GET /evil HTTP/1.1\r\nhost: test\r\nx: y\r\n\r",
            Kept(200),
        ),
        post(
            "a GET may have a body",
            "content-length: 5",
            "hello",
            Kept(200),
        ),
        post(
            "a length that no body has (hyper)",
            "content-length: 18446744073709551615",
            "",
            Closed(431),
        ),
        post(
            "a length above the limit",
            "content-length: 2000000",
            "",
            Closed(413),
        ),
    ];
    for value in [
        "",
        "+5",
        "-5",
        "5,5",
        "5, 5",
        "5 5",
        "0x5",
        "5.0",
        "5e0",
        "five",
        "\"5\"",
        "5;",
        "99999999999999999999",
        "1000000000000000000",
        "18446744073709551616",
        "5\u{b2}",
    ] {
        let bytes = format!("content-length: {value}");
        cases.push(post("a length that is none", &bytes, "hello", Closed(400)));
    }
    for (first, second) in [("5", "6"), ("6", "5"), ("0", "5"), ("5", "x")] {
        let bytes = format!("content-length: {first}\r\ncontent-length: {second}");
        cases.push(post("two different lengths", &bytes, "hello", Closed(400)));
    }
    for name in [
        "content-length : 5",
        "content-length\t: 5",
        " content-length: 5",
    ] {
        cases.push(post(
            "a length behind a broken name",
            name,
            "hello",
            Closed(400),
        ));
    }
    cases
}

const CHUNKS: &str = "5\r\nhello\r\n0\r\n\r\n";

fn codings() -> Vec<Case> {
    let mut cases = Vec::new();
    for value in ["chunked", "Chunked", "CHUNKED", "  chunked", "chunked\t"] {
        let bytes = format!("transfer-encoding:{value}");
        cases.push(post("chunked", &bytes, CHUNKS, Kept(200)));
    }
    for value in [
        "gzip",
        "identity",
        "xchunked",
        "chunkedx",
        "\"chunked\"",
        "chunked;q=1",
        "",
        "chunked,",
        "x",
        "cow",
        "chunked, gzip",
        "chunked, identity",
        ",",
        "chun ked",
    ] {
        let bytes = format!("transfer-encoding: {value}");
        cases.push(post(
            "a coding that ends no body",
            &bytes,
            CHUNKS,
            Closed(400),
        ));
    }
    for value in [
        "gzip, chunked",
        "identity, chunked",
        "chunked, chunked",
        ", chunked",
        "x,chunked",
    ] {
        let bytes = format!("transfer-encoding: {value}");
        cases.push(post(
            "a coding that is not understood",
            &bytes,
            CHUNKS,
            Closed(501),
        ));
    }
    for (first, second) in [
        ("gzip", "chunked"),
        ("chunked", "chunked"),
        ("identity", "chunked"),
        ("chunked", "x"),
    ] {
        let bytes = format!("transfer-encoding: {first}\r\ntransfer-encoding: {second}");
        cases.push(post("one Transfer-Encoding", &bytes, CHUNKS, Closed(400)));
    }
    for name in [
        "transfer-encoding : chunked",
        "transfer-encoding\t: chunked",
        " transfer-encoding: chunked",
        "x: y\r\n transfer-encoding: chunked",
        "x: y\rtransfer-encoding: chunked",
        "transfer-encoding: \x0bchunked",
        "transfer-encoding: chunked\0",
    ] {
        cases.push(post(
            "a coding behind a broken name",
            name,
            CHUNKS,
            Closed(400),
        ));
    }
    cases.push(raw(
        "no coding in HTTP/1.0",
        format!("POST /case HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n{CHUNKS}"),
        Closed(400),
    ));
    cases
}

/// Where smuggling lives: whatever the length says, the coding counts, and nothing after the body is read.
fn both() -> Vec<Case> {
    const EVIL: &str = "GET /evil HTTP/1.1\r\nhost: test\r\n\r\n";
    let mut cases = Vec::new();
    for fields in [
        "content-length: 5\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 5",
        "content-length: 15\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 0",
        "transfer-encoding: chunked\r\ncontent-length: x",
        "transfer-encoding: chunked\r\ncontent-length: 5\r\ncontent-length: 6",
    ] {
        cases.push(post(
            "coding and length: the coding, then the end",
            fields,
            CHUNKS,
            Closed(200),
        ));
        let body = format!("0\r\n\r\n{EVIL}");
        cases.push(post(
            "nothing after that body is read",
            fields,
            &body,
            Closed(200),
        ));
    }
    cases.push(post(
        "a length that is none before a coding",
        "content-length: x\r\ntransfer-encoding: chunked",
        CHUNKS,
        Closed(400),
    ));
    cases.push(post(
        "two lengths before a coding",
        "content-length: 5\r\ncontent-length: 6\r\ntransfer-encoding: chunked",
        CHUNKS,
        Closed(400),
    ));
    cases
}

fn chunks() -> Vec<Case> {
    let mut cases = vec![
        chunked("chunks", "5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n", Kept(200)),
        chunked("no chunk", "0\r\n\r\n", Kept(200)),
        chunked(
            "zeros before a size",
            "00005\r\nhello\r\n000\r\n\r\n",
            Kept(200),
        ),
        chunked(
            "a size in large letters",
            "A\r\n0123456789\r\n0\r\n\r\n",
            Kept(200),
        ),
        chunked(
            "an extension is ignored",
            "5;a=b\r\nhello\r\n0;c\r\n\r\n",
            Kept(200),
        ),
        chunked(
            "an extension in quotes is ignored",
            "5;a=\"b;c\"\r\nhello\r\n0\r\n\r\n",
            Kept(200),
        ),
        chunked(
            "space after a size (hyper)",
            "5 \r\nhello\r\n0\r\n\r\n",
            Kept(200),
        ),
        chunked(
            "trailers are dropped, and the last of their connection",
            "5\r\nhello\r\n0\r\nx: y\r\ncontent-length: 9\r\n\r\n",
            Closed(200),
        ),
        chunked(
            "what a trailer swallows is not read again",
            "0\r\nx: y\r\n\nGET /evil HTTP/1.1\r\nhost: test\r\n\r\n",
            Closed(200),
        ),
        chunked(
            "trailers without a field",
            "0\r\n\nGET /evil HTTP/1.1\r\nhost: test\r\n\r\n",
            Closed(400),
        ),
        chunked(
            "a request in a chunk stays there",
            "22\r\nGET /evil HTTP/1.1\r\nhost: test\r\n\r\n\r\n0\r\n\r\n",
            Kept(200),
        ),
    ];
    for (rule, body) in [
        ("a size that is none", "g\r\nhello\r\n0\r\n\r\n"),
        ("a size that is none", "-5\r\nhello\r\n0\r\n\r\n"),
        ("a size that is none", "+5\r\nhello\r\n0\r\n\r\n"),
        ("a size that is none", "0x5\r\nhello\r\n0\r\n\r\n"),
        ("a size that is none", "5.\r\nhello\r\n0\r\n\r\n"),
        ("a size that is none", "5_\r\nhello\r\n0\r\n\r\n"),
        ("a space before a size", " 5\r\nhello\r\n0\r\n\r\n"),
        ("two sizes", "5 5\r\nhello\r\n0\r\n\r\n"),
        ("no size", "\r\nhello\r\n0\r\n\r\n"),
        ("no size before an extension", ";a\r\nhello\r\n0\r\n\r\n"),
        (
            "a size beyond 64 bits",
            "10000000000000005\r\nhello\r\n0\r\n\r\n",
        ),
        (
            "a size beyond 64 bits",
            "fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        ),
        ("a bare LF after a size", "5\nhello\r\n0\r\n\r\n"),
        ("a bare CR after a size", "5\rhello\r\n0\r\n\r\n"),
        ("a bare LF in an extension", "5;a\nhello\r\n0\r\n\r\n"),
        ("a bare CR in an extension", "5;a\rb\r\nhello\r\n0\r\n\r\n"),
        ("no line end after a chunk", "5\r\nhello0\r\n\r\n"),
        ("junk after a chunk", "5\r\nhelloXX0\r\n\r\n"),
        ("a bare LF after a chunk", "5\r\nhello\n0\r\n\r\n"),
        ("a chunk longer than its size", "4\r\nhello\r\n0\r\n\r\n"),
        ("a trailer without a colon", "5\r\nhello\r\n0\r\nx\r\n\r\n"),
        (
            "a trailer with a space in its name",
            "5\r\nhello\r\n0\r\nx y: z\r\n\r\n",
        ),
    ] {
        cases.push(chunked(rule, body, Closed(400)));
    }
    cases
}

fn connections() -> Vec<Case> {
    let mut cases = vec![
        field("close", "connection: close", Closed(200)),
        field("close in large letters", "Connection: Close", Closed(200)),
        field("close wins", "connection: close, keep-alive", Closed(200)),
        field(
            "close wins",
            "connection: keep-alive\r\nconnection: close",
            Closed(200),
        ),
        field("keep-alive", "connection: keep-alive", Kept(200)),
        field(
            "fields that Connection names end here",
            "connection: x\r\nx: y",
            Kept(200),
        ),
        field(
            "a hop-by-hop TE",
            "te: trailers\r\nconnection: te",
            Kept(200),
        ),
        field(
            "no upgrade to cleartext HTTP/2",
            "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__",
            Kept(200),
        ),
        field(
            "an unknown upgrade is ignored",
            "connection: upgrade\r\nupgrade: gopher",
            Kept(200),
        ),
    ];
    cases.push(raw(
        "HTTP/1.0 with keep-alive",
        "GET /case HTTP/1.0\r\nconnection: keep-alive\r\n\r\n",
        Kept(200),
    ));
    cases
}

fn sizes() -> Vec<Case> {
    let count = |fields: usize| "x: y\r\n".repeat(fields);
    let long = |length: usize| "a".repeat(length);
    vec![
        target("the longest target", &format!("/{}", long(8191)), Kept(200)),
        target(
            "a target that is too long",
            &format!("/{}", long(8192)),
            Closed(414),
        ),
        target(
            "a query that is too long",
            &format!("/?{}", long(8192)),
            Closed(414),
        ),
        target(
            "a target longer than a head",
            &format!("/{}", long(70_000)),
            Closed(431),
        ),
        field("100 fields", count(98) + "x: y", Kept(200)),
        field("101 fields", count(99) + "x: y", Closed(431)),
        field("a long field", format!("x: {}", long(60_000)), Kept(200)),
        field(
            "a head that is too long",
            format!("x: {}", long(66_000)),
            Closed(431),
        ),
        field(
            "a name that is too long",
            format!("{}: y", long(66_000)),
            Closed(431),
        ),
        line(
            "a method that is too long",
            &format!("{} /case HTTP/1.1", long(66_000)),
            Closed(431),
        ),
        chunked(
            "extensions that are too long",
            &format!("5;{}\r\nhello\r\n0\r\n\r\n", long(17_000)),
            Closed(400),
        ),
        chunked(
            "trailers that are too long",
            &format!("5\r\nhello\r\n0\r\nx: {}\r\n\r\n", long(66_000)),
            Closed(400),
        ),
        chunked(
            "too many trailers",
            &format!("0\r\n{}\r\n", count(101)),
            Closed(400),
        ),
        chunked(
            "a body above the limit",
            &format!("200000\r\n{}\r\n0\r\n\r\n", long(0x0020_0000)),
            Closed(413),
        ),
    ]
}
