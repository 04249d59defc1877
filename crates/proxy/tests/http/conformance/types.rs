//! Section 6: what each kind of frame may say.

use super::{Case, Expect, case};
use crate::support::raw::{
    ACK, CANCEL, CONTINUATION, DATA, END_HEADERS, END_STREAM, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR,
    GET, GOAWAY, HEADERS, NO_ERROR, PADDED, PING, POST, PRIORITY, PROTOCOL_ERROR, PUSH_PROMISE,
    RST_STREAM, Raw, SETTINGS, WINDOW_UPDATE, WITH_PRIORITY, block, settings,
};

use Expect::{Answer, Connection, Either, Stream, Works};

const PROTOCOL: Expect = Connection(&[PROTOCOL_ERROR]);
const SIZE_ASKED: &str = "GOAWAY(FRAME_SIZE_ERROR)";
const FLOW: Expect = Connection(&[FLOW_CONTROL_ERROR]);

fn set(raw: &mut Raw, id: u16, value: u32) {
    raw.frame(SETTINGS, 0, 0, &settings(&[(id, value)]));
}

/// DATA of the answer of stream 1 is as long as this and does not end it.
fn expect_part(raw: &mut Raw, length: usize) {
    let data = raw.expect_on(1, DATA);
    assert_eq!((data.payload.len(), data.is_end()), (length, false));
}

pub(super) const CASES: &[Case] = &[
    case("6.1", "DATA on stream 0", PROTOCOL, |raw| {
        raw.frame(DATA, 0, 0, b"x");
    }),
    case(
        "6.1",
        "DATA whose padding is longer than it",
        PROTOCOL,
        |raw| {
            raw.head(1, 0, POST);
            raw.frame(DATA, END_STREAM | PADDED, 1, &[5, b'x', 0, 0, 0]);
        },
    ),
    case(
        "6.1",
        "DATA with padding and no length of it",
        Connection(&[PROTOCOL_ERROR, FRAME_SIZE_ERROR]),
        |raw| {
            raw.head(1, 0, POST);
            raw.frame(DATA, END_STREAM | PADDED, 1, &[]);
        },
    ),
    case("6.1", "DATA that is all padding", Answer(1, 200), |raw| {
        raw.head(1, 0, POST);
        raw.frame(DATA, END_STREAM | PADDED, 1, &[4, 0, 0, 0, 0]);
    }),
    case("6.1", "DATA with padding", Answer(1, 200), |raw| {
        raw.head(1, 0, POST);
        raw.frame(DATA, PADDED, 1, &[2, b'x', b'y', 0, 0]);
        raw.frame(DATA, END_STREAM, 1, b"z");
    }),
    case(
        "6.1",
        "empty DATA that ends a body",
        Answer(1, 200),
        |raw| {
            raw.head(1, 0, POST);
            raw.frame(DATA, END_STREAM, 1, &[]);
        },
    ),
    case("6.2", "HEADERS and CONTINUATION", Answer(1, 200), |raw| {
        let bytes = block(GET);
        raw.frame(HEADERS, END_STREAM, 1, &bytes[..9]);
        raw.frame(CONTINUATION, 0, 1, &bytes[9..20]);
        raw.frame(CONTINUATION, END_HEADERS, 1, &bytes[20..]);
    }),
    case(
        "6.2",
        "HEADERS with nothing in it, then CONTINUATION",
        Answer(1, 200),
        |raw| {
            raw.frame(HEADERS, END_STREAM, 1, &[]);
            raw.frame(CONTINUATION, END_HEADERS, 1, &block(GET));
        },
    ),
    case("6.2", "HEADERS with padding", Answer(1, 200), |raw| {
        let bytes = [&[3][..], &block(GET), &[0, 0, 0]].concat();
        raw.frame(HEADERS, END_STREAM | END_HEADERS | PADDED, 1, &bytes);
    }),
    case("6.2", "HEADERS with priority", Answer(1, 200), |raw| {
        let bytes = [&[0, 0, 0, 0, 7][..], &block(GET)].concat();
        raw.frame(HEADERS, END_STREAM | END_HEADERS | WITH_PRIORITY, 1, &bytes);
    }),
    case(
        "6.2",
        "HEADERS with padding and priority",
        Answer(1, 200),
        |raw| {
            let bytes = [&[1, 0x80, 0, 0, 0, 7][..], &block(GET), &[0]].concat();
            let flags = END_STREAM | END_HEADERS | PADDED | WITH_PRIORITY;
            raw.frame(HEADERS, flags, 1, &bytes);
        },
    ),
    case(
        "6.2",
        "HEADERS whose padding is longer than it",
        PROTOCOL,
        |raw| {
            let bytes = [&[200][..], &block(GET)].concat();
            raw.frame(HEADERS, END_STREAM | END_HEADERS | PADDED, 1, &bytes);
        },
    ),
    case(
        "6.2",
        "HEADERS with a priority that is cut off",
        Connection(&[FRAME_SIZE_ERROR, PROTOCOL_ERROR]),
        |raw| {
            raw.frame(
                HEADERS,
                END_STREAM | END_HEADERS | WITH_PRIORITY,
                1,
                &[0, 0],
            );
        },
    ),
    case("6.3", "PRIORITY on stream 0", PROTOCOL, |raw| {
        raw.frame(PRIORITY, 0, 0, &[0, 0, 0, 1, 7]);
    }),
    case("6.3", "PRIORITY", Works, |raw| {
        raw.frame(PRIORITY, 0, 1, &[0x80, 0, 0, 3, 7]);
    }),
    case("6.3", "PRIORITY of 6 bytes", PROTOCOL, |raw| {
        raw.head(1, 0, POST);
        raw.frame(PRIORITY, 0, 1, &[0; 6]);
    })
    .deviates(SIZE_ASKED),
    case("6.4", "RST_STREAM on stream 0", PROTOCOL, |raw| {
        raw.frame(RST_STREAM, 0, 0, &CANCEL.to_be_bytes());
    }),
    case("6.4", "RST_STREAM of 5 bytes", PROTOCOL, |raw| {
        raw.head(1, 0, POST);
        raw.frame(RST_STREAM, 0, 1, &[0; 5]);
    })
    .deviates(SIZE_ASKED),
    case(
        "6.4",
        "RST_STREAM with a code that nobody knows",
        Answer(3, 200),
        |raw| {
            raw.head(1, 0, POST);
            raw.frame(RST_STREAM, 0, 1, &[0xff; 4]);
            raw.get(3);
        },
    ),
    case("6.5", "SETTINGS on a stream", PROTOCOL, |raw| {
        raw.frame(SETTINGS, 0, 1, &[]);
    }),
    case(
        "6.5",
        "an ACK of SETTINGS with a payload",
        PROTOCOL,
        |raw| {
            raw.frame(SETTINGS, ACK, 0, &[0; 6]);
        },
    )
    .deviates(SIZE_ASKED),
    case("6.5", "SETTINGS of 7 bytes", PROTOCOL, |raw| {
        raw.frame(SETTINGS, 0, 0, &[0; 7]);
    })
    .deviates(SIZE_ASKED),
    case("6.5", "SETTINGS are acknowledged", Works, |raw| {
        set(raw, 3, 7);
        let ack = raw.expect(SETTINGS);
        assert_eq!((ack.flags, ack.payload.len()), (ACK, 0));
    }),
    case("6.5.2", "ENABLE_PUSH of 2", PROTOCOL, |raw| set(raw, 2, 2)),
    case("6.5.2", "ENABLE_PUSH of 0", Works, |raw| set(raw, 2, 0)),
    case(
        "6.5.2",
        "INITIAL_WINDOW_SIZE above 2^31-1",
        PROTOCOL,
        |raw| set(raw, 4, 0x8000_0000),
    )
    .deviates("GOAWAY(FLOW_CONTROL_ERROR)"),
    case("6.5.2", "MAX_FRAME_SIZE below 2^14", PROTOCOL, |raw| {
        set(raw, 5, 16_383);
    }),
    case("6.5.2", "MAX_FRAME_SIZE above 2^24-1", PROTOCOL, |raw| {
        set(raw, 5, 16_777_216);
    }),
    case("6.5.2", "MAX_FRAME_SIZE of 2^24-1", Answer(1, 200), |raw| {
        set(raw, 5, 16_777_215);
        raw.get(1);
    }),
    case("6.5.2", "HEADER_TABLE_SIZE of 0", Answer(1, 200), |raw| {
        set(raw, 1, 0);
        raw.get(1);
    }),
    case(
        "6.5.2",
        "HEADER_TABLE_SIZE of 2^32-1",
        Answer(1, 200),
        |raw| {
            set(raw, 1, u32::MAX);
            raw.get(1);
        },
    ),
    case(
        "6.5.2",
        "MAX_CONCURRENT_STREAMS of 0 is for our streams",
        Answer(1, 200),
        |raw| {
            set(raw, 3, 0);
            raw.get(1);
        },
    ),
    case("6.5.2", "ENABLE_CONNECT_PROTOCOL of 2", PROTOCOL, |raw| {
        set(raw, 8, 2);
    }),
    case("6.5.3", "the last of two values holds", Works, |raw| {
        raw.frame(SETTINGS, 0, 0, &settings(&[(4, 100), (4, 1)]));
        raw.get(1);
        expect_part(raw, 1);
    }),
    case("6.6", "PUSH_PROMISE of a client", PROTOCOL, |raw| {
        raw.head(1, 0, POST);
        raw.frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2]);
    }),
    case("6.7", "PING is echoed", Works, |raw| {
        raw.frame(PING, 0, 0, b"a string");
        let pong = raw.expect(PING);
        assert_eq!((pong.flags, &pong.payload[..]), (ACK, &b"a string"[..]));
    }),
    case("6.7", "an ACK of PING is not answered", Works, |raw| {
        raw.frame(PING, ACK, 0, b"a string");
        raw.frame(PING, 0, 0, b"b string");
        assert_eq!(raw.expect(PING).payload, b"b string");
    }),
    case("6.7", "PING on a stream", PROTOCOL, |raw| {
        raw.frame(PING, 0, 1, &[0; 8]);
    }),
    case("6.7", "PING of 9 bytes", PROTOCOL, |raw| {
        raw.frame(PING, 0, 0, &[0; 9]);
    })
    .deviates(SIZE_ASKED),
    case("6.8", "GOAWAY on a stream", PROTOCOL, |raw| {
        raw.frame(GOAWAY, 0, 1, &[0; 8]);
    }),
    case(
        "6.8",
        "GOAWAY of a client lets its streams end",
        Expect::Closed,
        |raw| {
            raw.get(1);
            raw.frame(GOAWAY, 0, 0, &[0; 8]);
            assert_eq!(raw.answer(1).0, 200);
        },
    ),
    case(
        "6.9",
        "WINDOW_UPDATE of 0 on the connection",
        PROTOCOL,
        |raw| {
            raw.window(0, 0);
        },
    ),
    case(
        "6.9",
        "WINDOW_UPDATE of 0 on a stream",
        Either(&[Stream(1, &[PROTOCOL_ERROR]), PROTOCOL]),
        |raw| {
            raw.head(1, 0, POST);
            raw.window(1, 0);
        },
    ),
    case("6.9", "WINDOW_UPDATE of 5 bytes", PROTOCOL, |raw| {
        raw.frame(WINDOW_UPDATE, 0, 0, &[0; 5]);
    })
    .deviates(SIZE_ASKED),
    case("6.9", "the reserved bit of WINDOW_UPDATE", Works, |raw| {
        raw.frame(WINDOW_UPDATE, 0, 0, &[0x80, 0, 0, 1]);
    }),
    case(
        "6.9.1",
        "the window of the connection above 2^31-1",
        FLOW,
        |raw| {
            raw.window(0, 0x7fff_ffff);
        },
    ),
    case(
        "6.9.1",
        "the window of a stream above 2^31-1",
        Stream(1, &[FLOW_CONTROL_ERROR]),
        |raw| {
            raw.head(1, 0, POST);
            raw.window(1, 0x7fff_ffff);
        },
    ),
    case(
        "6.9.1",
        "an answer waits for the window of its stream",
        Works,
        |raw| {
            set(raw, 4, 1);
            raw.get(1);
            expect_part(raw, 1);
            raw.window(1, 2);
            expect_part(raw, 2);
            raw.window(1, 2);
            let data = raw.expect_on(1, DATA);
            assert_eq!(data.payload.len(), 2);
        },
    ),
    case(
        "6.9.2",
        "a setting opens the window of a stream",
        Works,
        |raw| {
            set(raw, 4, 0);
            raw.get(1);
            raw.expect_on(1, HEADERS);
            set(raw, 4, 3);
            expect_part(raw, 3);
        },
    ),
    case("6.9.2", "a window may be below 0", Works, |raw| {
        set(raw, 4, 3);
        raw.get(1);
        expect_part(raw, 3);
        set(raw, 4, 1);
        raw.window(1, 3);
        expect_part(raw, 1);
    }),
    case(
        "6.9.2",
        "a setting that makes a window too large",
        FLOW,
        |raw| {
            set(raw, 4, 0);
            // Nothing is answered before its body has come, so nothing of the window is used in between.
            raw.head(1, 0, POST);
            raw.window(1, 0x7fff_ffff);
            set(raw, 4, 1);
        },
    ),
    case(
        "6.9.1",
        "DATA past the window of a stream",
        Either(&[Stream(1, &[FLOW_CONTROL_ERROR]), FLOW]),
        |raw| {
            // Nobody reads it, so the window may have grown once before it was seen that nobody does.
            raw.head(
                1,
                0,
                &[
                    (":method", "POST"),
                    (":scheme", "http"),
                    (":path", "/held"),
                    (":authority", "test"),
                ],
            );
            for _ in 0..400 {
                raw.frame(DATA, 0, 1, &[b'x'; 16_384]);
            }
        },
    ),
    case("6.10", "CONTINUATION after END_HEADERS", PROTOCOL, |raw| {
        raw.head(1, 0, POST);
        raw.frame(CONTINUATION, END_HEADERS, 1, &[]);
    }),
    case("6.10", "CONTINUATION on stream 0", PROTOCOL, |raw| {
        raw.frame(HEADERS, END_STREAM, 1, &block(GET));
        raw.frame(CONTINUATION, END_HEADERS, 0, &[]);
    }),
    case("6.10", "CONTINUATION after DATA", PROTOCOL, |raw| {
        raw.head(1, 0, POST);
        raw.frame(DATA, 0, 1, b"x");
        raw.frame(CONTINUATION, END_HEADERS, 1, &[]);
    }),
    case(
        "6.10",
        "CONTINUATION after CONTINUATION with END_HEADERS",
        PROTOCOL,
        |raw| {
            raw.frame(HEADERS, 0, 1, &block(POST));
            raw.frame(CONTINUATION, END_HEADERS, 1, &[]);
            raw.frame(CONTINUATION, END_HEADERS, 1, &[]);
        },
    ),
    case(
        "6.4",
        "RST_STREAM with NO_ERROR ends a stream",
        Answer(3, 200),
        |raw| {
            raw.head(1, 0, POST);
            raw.frame(RST_STREAM, 0, 1, &NO_ERROR.to_be_bytes());
            raw.get(3);
        },
    ),
];
