//! Sections 5.1 to 5.4: states and numbers of streams, errors.

use super::{Case, Expect, case};
use crate::support::raw::{
    CANCEL, CONTINUATION, DATA, END_HEADERS, END_STREAM, FLOW_CONTROL_ERROR, GET, HEADERS,
    NO_ERROR, POST, PRIORITY, PROTOCOL_ERROR, REFUSED_STREAM, RST_STREAM, Raw, STREAM_CLOSED,
    WINDOW_UPDATE, block,
};

use Expect::{Answer, Connection, Either, Stream, Works};

const PROTOCOL: Expect = Connection(&[PROTOCOL_ERROR]);
const ASKED: &str = "STREAM_CLOSED, of the stream or the connection";
const CLOSED: Expect = Either(&[Stream(1, &[STREAM_CLOSED]), Connection(&[STREAM_CLOSED])]);

/// A stream that the client is done with, but we are not: its window has no room for the answer.
fn half_closed(raw: &mut Raw) {
    raw.frame(4, 0, 0, &[0, 4, 0, 0, 0, 0]);
    raw.get(1);
}

/// A stream that is over.
fn answered(raw: &mut Raw) {
    raw.get(1);
    raw.answer(1);
}

fn reset(raw: &mut Raw) {
    raw.head(1, 0, POST);
    raw.frame(RST_STREAM, 0, 1, &CANCEL.to_be_bytes());
}

pub(super) const CASES: &[Case] = &[
    case("5.1", "idle: DATA", PROTOCOL, |raw| {
        raw.frame(DATA, END_STREAM, 1, b"x");
    }),
    case("5.1", "idle: RST_STREAM", PROTOCOL, |raw| {
        raw.frame(RST_STREAM, 0, 1, &CANCEL.to_be_bytes());
    }),
    case("5.1", "idle: WINDOW_UPDATE", PROTOCOL, |raw| {
        raw.window(1, 100);
    }),
    case("5.1", "idle: CONTINUATION", PROTOCOL, |raw| {
        raw.frame(CONTINUATION, END_HEADERS, 1, &block(GET));
    }),
    case("5.1", "idle: PRIORITY", Answer(1, 200), |raw| {
        raw.frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 7]);
        raw.get(1);
    }),
    case("5.1", "half-closed (remote): DATA", PROTOCOL, |raw| {
        half_closed(raw);
        raw.frame(DATA, END_STREAM, 1, b"x");
    })
    .deviates(ASKED),
    case("5.1", "half-closed (remote): HEADERS", PROTOCOL, |raw| {
        half_closed(raw);
        raw.get(1);
    })
    .deviates(ASKED),
    case(
        "5.1",
        "half-closed (remote): CONTINUATION",
        PROTOCOL,
        |raw| {
            half_closed(raw);
            raw.frame(CONTINUATION, END_HEADERS, 1, &block(GET));
        },
    ),
    case(
        "5.1",
        "half-closed (remote): WINDOW_UPDATE",
        Answer(1, 200),
        |raw| {
            half_closed(raw);
            raw.window(1, 100);
        },
    ),
    case(
        "5.1",
        "half-closed (remote): PRIORITY",
        Answer(1, 200),
        |raw| {
            half_closed(raw);
            raw.frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 7]);
        },
    ),
    case("5.1", "half-closed (remote): RST_STREAM", Works, |raw| {
        half_closed(raw);
        raw.frame(RST_STREAM, 0, 1, &CANCEL.to_be_bytes());
    }),
    case("5.1", "closed by RST_STREAM: DATA", CLOSED, |raw| {
        reset(raw);
        raw.frame(DATA, END_STREAM, 1, b"x");
    }),
    case("5.1", "closed by RST_STREAM: HEADERS", PROTOCOL, |raw| {
        reset(raw);
        raw.get(1);
    })
    .deviates(ASKED),
    case(
        "5.1",
        "closed by RST_STREAM: CONTINUATION",
        PROTOCOL,
        |raw| {
            reset(raw);
            raw.frame(CONTINUATION, END_HEADERS, 1, &block(GET));
        },
    ),
    case("5.1", "closed by END_STREAM: DATA", CLOSED, |raw| {
        answered(raw);
        raw.frame(DATA, END_STREAM, 1, b"x");
    }),
    case("5.1", "closed by END_STREAM: HEADERS", PROTOCOL, |raw| {
        answered(raw);
        raw.get(1);
    })
    .deviates(ASKED),
    case(
        "5.1",
        "closed by END_STREAM: CONTINUATION",
        PROTOCOL,
        |raw| {
            answered(raw);
            raw.frame(CONTINUATION, END_HEADERS, 1, &block(GET));
        },
    ),
    case("5.1", "closed: WINDOW_UPDATE", Works, |raw| {
        answered(raw);
        raw.window(1, 100);
    }),
    case("5.1", "closed: PRIORITY", Works, |raw| {
        answered(raw);
        raw.frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 7]);
    }),
    case("5.1", "closed: RST_STREAM", Works, |raw| {
        answered(raw);
        raw.frame(RST_STREAM, 0, 1, &NO_ERROR.to_be_bytes());
    }),
    case("5.1.1", "an even stream", PROTOCOL, |raw| {
        raw.get(2);
    }),
    case("5.1.1", "HEADERS on stream 0", PROTOCOL, |raw| {
        raw.get(0);
    }),
    case(
        "5.1.1",
        "a stream below one that is open",
        Connection(&[PROTOCOL_ERROR, STREAM_CLOSED]),
        |raw| {
            raw.head(5, 0, POST);
            raw.get(3);
        },
    ),
    case(
        "5.1.1",
        "a stream that was passed over gets DATA",
        Stream(3, &[STREAM_CLOSED]),
        |raw| {
            raw.head(5, 0, POST);
            raw.frame(DATA, END_STREAM, 3, b"x");
        },
    ),
    case(
        "5.1.1",
        "streams that skip numbers",
        Answer(9, 200),
        |raw| {
            raw.get(9);
        },
    ),
    case(
        "5.1.1",
        "the highest stream",
        Answer(0x7fff_ffff, 200),
        |raw| {
            raw.get(0x7fff_ffff);
        },
    ),
    case(
        "5.1.2",
        "a stream above the limit",
        Stream(201, &[REFUSED_STREAM, PROTOCOL_ERROR]),
        |raw| {
            for number in 0..=100 {
                raw.head(1 + 2 * number, 0, POST);
            }
        },
    ),
    case("5.1.2", "as many streams as the limit", Works, |raw| {
        for number in 0..100 {
            raw.head(1 + 2 * number, 0, POST);
        }
    }),
    case(
        "5.3.1",
        "a stream that depends on itself (HEADERS)",
        Stream(1, &[PROTOCOL_ERROR]),
        |raw| {
            let mut bytes = vec![0, 0, 0, 1, 7];
            bytes.extend(block(GET));
            raw.frame(HEADERS, END_STREAM | END_HEADERS | 0x20, 1, &bytes);
        },
    ),
    case(
        "5.3.1",
        "a stream that depends on itself (PRIORITY)",
        Stream(1, &[PROTOCOL_ERROR]),
        |raw| {
            raw.frame(PRIORITY, 0, 1, &[0, 0, 0, 1, 7]);
        },
    ),
    case(
        "5.4.1",
        "a fault of the connection ends it",
        Expect::Closed,
        |raw| {
            raw.frame(DATA, 0, 0, b"x");
        },
    ),
    case(
        "5.4.2",
        "a fault of one stream leaves the others",
        Answer(3, 200),
        |raw| {
            raw.head(1, 0, POST);
            raw.window(1, 0x7fff_ffff);
            raw.get(3);
        },
    ),
    case(
        "5.4.2",
        "frames on the way to a stream that was reset",
        Stream(1, &[FLOW_CONTROL_ERROR]),
        |raw| {
            raw.head(1, 0, POST);
            raw.window(1, 0x7fff_ffff);
            raw.frame(DATA, 0, 1, b"x");
            raw.frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 9]);
            raw.frame(DATA, END_STREAM, 1, b"x");
        },
    ),
];
