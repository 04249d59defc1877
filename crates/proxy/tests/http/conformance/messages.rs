//! Section 8: requests.

use super::{Case, Expect, case};
use crate::support::raw::{
    DATA, END_HEADERS, END_STREAM, GET, HEADERS, POST, PROTOCOL_ERROR, Raw, block,
};

use Expect::{Answer, Either, Stream};

/// A fault of a stream, which may be taken for one of the connection. h2 does that for names and values that cannot be.
const MALFORMED: Expect = Either(&[
    Stream(1, &[PROTOCOL_ERROR]),
    Expect::Connection(&[PROTOCOL_ERROR]),
]);
const REFUSED: Expect = Answer(1, 400);

/// A request with more fields.
fn with(raw: &mut Raw, more: &[(&str, &str)]) {
    raw.head(1, END_STREAM, &[GET, more].concat());
}

/// A POST with a length, without its body.
fn of_length(raw: &mut Raw, length: &str) {
    raw.head(1, 0, &[POST, &[("content-length", length)]].concat());
}

const METHOD: (&str, &str) = (":method", "GET");
const SCHEME: (&str, &str) = (":scheme", "http");
const PATH: (&str, &str) = (":path", "/");
const AUTHORITY: (&str, &str) = (":authority", "test");

pub(super) const CASES: &[Case] = &[
    case("8.1", "a request", Answer(1, 200), |raw| {
        raw.get(1);
    }),
    case(
        "8.1",
        "a request with a body and trailers",
        Answer(1, 200),
        |raw| {
            raw.head(1, 0, POST);
            raw.frame(DATA, 0, 1, b"x");
            raw.head(1, END_STREAM, &[("x-sum", "1")]);
        },
    ),
    case(
        "8.1",
        "a second head that does not end the stream",
        MALFORMED,
        |raw| {
            raw.head(1, 0, POST);
            raw.head(1, 0, POST);
        },
    ),
    case(
        "8.1",
        "trailers with a pseudo-field",
        Answer(1, 200),
        |raw| {
            raw.head(1, 0, POST);
            raw.frame(DATA, 0, 1, b"x");
            raw.head(1, END_STREAM, &[(":method", "POST")]);
        },
    )
    .deviates("RST_STREAM(PROTOCOL_ERROR)"),
    case("8.1", "HEAD has no body", Answer(1, 200), |raw| {
        raw.head(
            1,
            END_STREAM,
            &[(":method", "HEAD"), SCHEME, PATH, AUTHORITY],
        );
    }),
    case(
        "8.1.1",
        "DATA longer than content-length",
        MALFORMED,
        |raw| {
            of_length(raw, "1");
            raw.frame(DATA, END_STREAM, 1, b"xy");
        },
    ),
    case(
        "8.1.1",
        "DATA shorter than content-length",
        MALFORMED,
        |raw| {
            of_length(raw, "3");
            raw.frame(DATA, END_STREAM, 1, b"xy");
        },
    ),
    case(
        "8.1.1",
        "several DATA longer than content-length",
        MALFORMED,
        |raw| {
            of_length(raw, "3");
            raw.frame(DATA, 0, 1, b"xy");
            raw.frame(DATA, END_STREAM, 1, b"xy");
        },
    ),
    case(
        "8.1.1",
        "several DATA as long as content-length",
        Answer(1, 200),
        |raw| {
            of_length(raw, "4");
            raw.frame(DATA, 0, 1, b"xy");
            raw.frame(DATA, END_STREAM, 1, b"xy");
        },
    ),
    case(
        "8.1.1",
        "no DATA where content-length says some",
        MALFORMED,
        |raw| {
            with(raw, &[("content-length", "1")]);
        },
    ),
    case(
        "8.1.1",
        "trailers before as much DATA as content-length says",
        MALFORMED,
        |raw| {
            of_length(raw, "3");
            raw.frame(DATA, 0, 1, b"x");
            raw.head(1, END_STREAM, &[("x-sum", "1")]);
        },
    ),
    case(
        "8.1.1",
        "a content-length that is no number",
        MALFORMED,
        |raw| {
            of_length(raw, "+1");
            raw.frame(DATA, END_STREAM, 1, b"x");
        },
    ),
    case(
        "8.1.1",
        "two content-lengths that differ",
        MALFORMED,
        |raw| {
            raw.head(
                1,
                0,
                &[POST, &[("content-length", "1"), ("content-length", "2")]].concat(),
            );
            raw.frame(DATA, END_STREAM, 1, b"x");
        },
    ),
    case("8.2", "a name in upper case", MALFORMED, |raw| {
        with(raw, &[("X-Name", "a")]);
    }),
    case("8.2", "a pseudo-field in upper case", MALFORMED, |raw| {
        raw.head(
            1,
            END_STREAM,
            &[(":Method", "GET"), SCHEME, PATH, AUTHORITY],
        );
    }),
    case("8.2.1", "a name with a space", MALFORMED, |raw| {
        with(raw, &[("x name", "a")]);
    }),
    case("8.2.1", "a name with a colon in it", MALFORMED, |raw| {
        with(raw, &[("x:name", "a")]);
    }),
    case(
        "8.2.1",
        "a name with a control character",
        MALFORMED,
        |raw| with(raw, &[("x\x01", "a")]),
    ),
    case("8.2.1", "a name that is not ASCII", MALFORMED, |raw| {
        with(raw, &[("x\u{fc}", "a")]);
    }),
    case("8.2.1", "an empty name", MALFORMED, |raw| {
        with(raw, &[("", "a")]);
    }),
    case("8.2.1", "a value with a line feed", MALFORMED, |raw| {
        with(raw, &[("x", "a\nb")]);
    }),
    case(
        "8.2.1",
        "a value with a carriage return",
        MALFORMED,
        |raw| with(raw, &[("x", "a\rb")]),
    ),
    case("8.2.1", "a value with a NUL", MALFORMED, |raw| {
        with(raw, &[("x", "a\0b")]);
    }),
    case(
        "8.2.1",
        "a value that begins with a space",
        REFUSED,
        |raw| with(raw, &[("x", " a")]),
    ),
    case("8.2.1", "a value that ends with a tab", REFUSED, |raw| {
        with(raw, &[("x", "a\t")]);
    }),
    case("8.2.1", "an empty value", Answer(1, 200), |raw| {
        with(raw, &[("x", "")]);
    }),
    case("8.2.2", "connection", MALFORMED, |raw| {
        with(raw, &[("connection", "close")]);
    }),
    case("8.2.2", "keep-alive", MALFORMED, |raw| {
        with(raw, &[("keep-alive", "timeout=5")]);
    }),
    case("8.2.2", "proxy-connection", MALFORMED, |raw| {
        with(raw, &[("proxy-connection", "close")]);
    }),
    case("8.2.2", "transfer-encoding", MALFORMED, |raw| {
        with(raw, &[("transfer-encoding", "chunked")]);
    }),
    case("8.2.2", "upgrade", MALFORMED, |raw| {
        with(raw, &[("upgrade", "websocket")]);
    }),
    case("8.2.2", "te other than trailers", MALFORMED, |raw| {
        with(raw, &[("te", "trailers, deflate")]);
    }),
    case("8.2.2", "te: trailers", Answer(1, 200), |raw| {
        with(raw, &[("te", "trailers")]);
    }),
    case("8.2.3", "crumbs of a cookie", Answer(1, 200), |raw| {
        with(raw, &[("cookie", "a=1"), ("cookie", "b=2")]);
    }),
    case("8.3", "an unknown pseudo-field", MALFORMED, |raw| {
        with(raw, &[(":unknown", "a")]);
    }),
    case("8.3", "a pseudo-field of answers", MALFORMED, |raw| {
        raw.head(
            1,
            END_STREAM,
            &[METHOD, SCHEME, PATH, AUTHORITY, (":status", "200")],
        );
    }),
    case("8.3", "a pseudo-field after a field", MALFORMED, |raw| {
        raw.head(
            1,
            END_STREAM,
            &[METHOD, SCHEME, ("x", "a"), PATH, AUTHORITY],
        );
    }),
    case("8.3.1", "no :method", MALFORMED, |raw| {
        raw.head(1, END_STREAM, &[SCHEME, PATH, AUTHORITY]);
    }),
    case("8.3.1", "no :scheme", MALFORMED, |raw| {
        raw.head(1, END_STREAM, &[METHOD, PATH, AUTHORITY]);
    }),
    case("8.3.1", "no :path", MALFORMED, |raw| {
        raw.head(1, END_STREAM, &[METHOD, SCHEME, AUTHORITY]);
    }),
    case("8.3.1", "an empty :path", MALFORMED, |raw| {
        raw.head(1, END_STREAM, &[METHOD, SCHEME, (":path", ""), AUTHORITY]);
    }),
    case(
        "8.3.1",
        "a :path that does not begin with a slash",
        Either(&[MALFORMED, REFUSED]),
        |raw| {
            raw.head(1, END_STREAM, &[METHOD, SCHEME, (":path", "a"), AUTHORITY]);
        },
    ),
    case(
        "8.3.1",
        "a :path with a space",
        Either(&[MALFORMED, REFUSED]),
        |raw| {
            raw.head(
                1,
                END_STREAM,
                &[METHOD, SCHEME, (":path", "/a b"), AUTHORITY],
            );
        },
    ),
    case(
        "8.3.1",
        "a :path with a fragment",
        Either(&[MALFORMED, REFUSED, Answer(1, 200)]),
        |raw| {
            raw.head(
                1,
                END_STREAM,
                &[METHOD, SCHEME, (":path", "/a#b"), AUTHORITY],
            );
        },
    ),
    case(
        "8.3.1",
        "an absolute URL in :path",
        Either(&[MALFORMED, REFUSED]),
        |raw| {
            raw.head(
                1,
                END_STREAM,
                &[METHOD, SCHEME, (":path", "http://other/"), AUTHORITY],
            );
        },
    ),
    case("8.3.1", "OPTIONS *", Answer(1, 204), |raw| {
        raw.head(
            1,
            END_STREAM,
            &[(":method", "OPTIONS"), SCHEME, (":path", "*"), AUTHORITY],
        );
    }),
    case("8.3.1", "GET *", Either(&[MALFORMED, REFUSED]), |raw| {
        raw.head(1, END_STREAM, &[METHOD, SCHEME, (":path", "*"), AUTHORITY]);
    }),
    case("8.3.1", "two :method", MALFORMED, |raw| {
        raw.head(1, END_STREAM, &[METHOD, METHOD, SCHEME, PATH, AUTHORITY]);
    }),
    case("8.3.1", "two :scheme", MALFORMED, |raw| {
        raw.head(1, END_STREAM, &[METHOD, SCHEME, SCHEME, PATH, AUTHORITY]);
    }),
    case("8.3.1", "two :path", MALFORMED, |raw| {
        raw.head(1, END_STREAM, &[METHOD, SCHEME, PATH, PATH, AUTHORITY]);
    }),
    case("8.3.1", "two :authority", MALFORMED, |raw| {
        raw.head(1, END_STREAM, &[METHOD, SCHEME, PATH, AUTHORITY, AUTHORITY]);
    }),
    case(
        "8.3.1",
        "an :authority with a user",
        Either(&[MALFORMED, REFUSED]),
        |raw| {
            raw.head(
                1,
                END_STREAM,
                &[METHOD, SCHEME, PATH, (":authority", "me@test")],
            );
        },
    ),
    case(
        "8.3.1",
        "an :authority that is no host",
        Either(&[MALFORMED, REFUSED]),
        |raw| {
            raw.head(
                1,
                END_STREAM,
                &[METHOD, SCHEME, PATH, (":authority", "a b")],
            );
        },
    ),
    case(
        "8.3.1",
        "an :authority and a Host that differ",
        REFUSED,
        |raw| {
            with(raw, &[("host", "other")]);
        },
    ),
    case(
        "8.3.1",
        "an :authority and the same Host",
        Answer(1, 200),
        |raw| {
            with(raw, &[("host", "test")]);
        },
    ),
    case(
        "8.3.1",
        "a Host without :authority",
        Answer(1, 200),
        |raw| {
            raw.head(1, END_STREAM, &[METHOD, SCHEME, PATH, ("host", "test")]);
        },
    ),
    case(
        "8.1.1",
        "two equal content-lengths",
        Either(&[MALFORMED, REFUSED]),
        |raw| {
            raw.head(
                1,
                0,
                &[
                    (":method", "POST"),
                    SCHEME,
                    PATH,
                    AUTHORITY,
                    ("content-length", "5"),
                    ("content-length", "5"),
                ],
            );
            raw.frame(DATA, END_STREAM, 1, b"hello");
        },
    ),
    case("8.3.1", "neither :authority nor Host", REFUSED, |raw| {
        raw.head(1, END_STREAM, &[METHOD, SCHEME, PATH]);
    }),
    case(
        "8.3.1",
        "a scheme that is not served",
        Either(&[MALFORMED, REFUSED]),
        |raw| {
            raw.head(
                1,
                END_STREAM,
                &[METHOD, (":scheme", "ftp"), PATH, AUTHORITY],
            );
        },
    ),
    case("8.3.1", "a method that is no token", MALFORMED, |raw| {
        raw.head(
            1,
            END_STREAM,
            &[(":method", "G T"), SCHEME, PATH, AUTHORITY],
        );
    }),
    case("8.5", "CONNECT", Answer(1, 501), |raw| {
        raw.head(
            1,
            END_STREAM,
            &[(":method", "CONNECT"), (":authority", "test:1")],
        );
    }),
    case("8.5", "CONNECT with a path", MALFORMED, |raw| {
        raw.head(
            1,
            END_STREAM,
            &[(":method", "CONNECT"), SCHEME, PATH, AUTHORITY],
        );
    }),
    case(
        "8.5",
        "extended CONNECT, which is not offered",
        MALFORMED,
        |raw| {
            raw.head(
                1,
                0,
                &[
                    (":method", "CONNECT"),
                    (":protocol", "websocket"),
                    SCHEME,
                    PATH,
                    AUTHORITY,
                ],
            );
        },
    ),
    case(
        "8.7",
        "a request after one that was malformed",
        Answer(3, 200),
        |raw| {
            raw.frame(HEADERS, END_STREAM | END_HEADERS, 1, &block(&[METHOD]));
            raw.get(3);
        },
    ),
];
