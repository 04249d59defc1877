//! Sections 3.4, 4 and 5.5: the preface, frames, header blocks, extensions.

use super::{Case, Expect, case};
use crate::support::raw::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, FRAME_SIZE_ERROR, GET, GOAWAY, HEADERS, PING,
    POST, PREFACE, PRIORITY, PROTOCOL_ERROR, RST_STREAM, Raw, SETTINGS, WINDOW_UPDATE, block,
    settings, string,
};

use Expect::{Answer, Closed, Connection, Either, Works};

const SIZE: Expect = Connection(&[FRAME_SIZE_ERROR]);
const PROTOCOL: Expect = Connection(&[PROTOCOL_ERROR]);
/// h2 says only that what it cannot read breaks the protocol.
const UNREADABLE: Expect = PROTOCOL;
const SIZE_ASKED: &str = "GOAWAY(FRAME_SIZE_ERROR)";
const COMPRESSION_ASKED: &str = "GOAWAY(COMPRESSION_ERROR)";

/// A request whose header block ends with these bytes.
fn with_block(raw: &mut Raw, more: &[u8]) {
    let mut bytes = block(GET);
    bytes.extend(more);
    raw.frame(HEADERS, END_STREAM | END_HEADERS, 1, &bytes);
}

/// The beginning of a request whose header block goes on in other frames.
fn open_block(raw: &mut Raw) {
    raw.frame(HEADERS, END_STREAM, 1, &block(GET));
}

pub(super) const CASES: &[Case] = &[
    case(
        "3.4",
        "a preface that is wrong in its last byte",
        Closed,
        |raw| {
            raw.bytes(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\r");
        },
    )
    .bare(),
    case("3.4", "a preface that comes byte by byte", Works, |raw| {
        for byte in PREFACE {
            raw.bytes(&[*byte]);
        }
        raw.frame(SETTINGS, 0, 0, &[]);
    })
    .bare(),
    case("3.4", "a preface without SETTINGS after it", Works, |raw| {
        raw.bytes(PREFACE);
    })
    .bare()
    .deviates("GOAWAY(PROTOCOL_ERROR)"),
    case("4.1", "a frame of an unknown kind", Works, |raw| {
        raw.frame(0x42, 0xff, 0, b"anything");
    }),
    case(
        "4.1",
        "a frame of an unknown kind on a stream",
        Answer(1, 200),
        |raw| {
            raw.head(1, 0, POST);
            raw.frame(0x42, 0, 1, b"anything");
            raw.frame(DATA, END_STREAM, 1, b"");
        },
    ),
    case("4.1", "flags that a kind does not have", Works, |raw| {
        raw.frame(PING, 0xfe, 0, b"flagged!");
    }),
    case(
        "4.1",
        "the reserved bit of a stream",
        Answer(1, 200),
        |raw| {
            raw.frame(HEADERS, END_STREAM | END_HEADERS, 0x8000_0001, &block(GET));
        },
    ),
    case("4.2", "DATA of 2^14 bytes", Answer(1, 200), |raw| {
        raw.head(1, 0, POST);
        raw.frame(DATA, END_STREAM, 1, &[b'x'; 16_384]);
    }),
    case("4.2", "DATA above the frame size", SIZE, |raw| {
        raw.head(1, 0, POST);
        raw.frame(DATA, END_STREAM, 1, &[b'x'; 16_385]);
    }),
    case("4.2", "HEADERS above the frame size", SIZE, |raw| {
        raw.frame(HEADERS, END_STREAM | END_HEADERS, 1, &[0; 16_385]);
    }),
    case("4.2", "an unknown kind above the frame size", SIZE, |raw| {
        raw.frame(0x42, 0, 0, &[0; 16_385]);
    }),
    case("4.2", "SETTINGS of 3 bytes", UNREADABLE, |raw| {
        raw.frame(SETTINGS, 0, 0, &[0; 3]);
    })
    .deviates(SIZE_ASKED),
    case("4.2", "PING of 7 bytes", UNREADABLE, |raw| {
        raw.frame(PING, 0, 0, &[0; 7]);
    })
    .deviates(SIZE_ASKED),
    case("4.2", "RST_STREAM of 3 bytes", UNREADABLE, |raw| {
        raw.head(1, 0, POST);
        raw.frame(RST_STREAM, 0, 1, &[0; 3]);
    })
    .deviates(SIZE_ASKED),
    case("4.2", "WINDOW_UPDATE of 3 bytes", UNREADABLE, |raw| {
        raw.frame(WINDOW_UPDATE, 0, 0, &[0; 3]);
    })
    .deviates(SIZE_ASKED),
    case("4.2", "GOAWAY of 7 bytes", UNREADABLE, |raw| {
        raw.frame(GOAWAY, 0, 0, &[0; 7]);
    })
    .deviates(SIZE_ASKED),
    case("4.2", "PRIORITY of 4 bytes", UNREADABLE, |raw| {
        raw.frame(PRIORITY, 0, 1, &[0; 4]);
    })
    .deviates(SIZE_ASKED),
    case("4.3", "index 0 in a header block", UNREADABLE, |raw| {
        with_block(raw, &[0x80]);
    })
    .deviates(COMPRESSION_ASKED),
    case("4.3", "an index that no table has", UNREADABLE, |raw| {
        with_block(raw, &[0xff, 0x20]);
    })
    .deviates(COMPRESSION_ASKED),
    case(
        "4.3",
        "a name whose index no table has",
        UNREADABLE,
        |raw| {
            with_block(raw, &[0x7f, 0x20, 1, b'a']);
        },
    )
    .deviates(COMPRESSION_ASKED),
    case(
        "4.3",
        "a header block that ends inside a string",
        UNREADABLE,
        |raw| {
            with_block(raw, &[0, 5, b'a']);
        },
    )
    .deviates(COMPRESSION_ASKED),
    case("4.3", "an integer without end", UNREADABLE, |raw| {
        with_block(
            raw,
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
        );
    })
    .deviates(COMPRESSION_ASKED),
    case(
        "4.3",
        "Huffman padding of more than 7 bits",
        UNREADABLE,
        |raw| {
            with_block(raw, &[0, 1, b'a', 0x82, 0x1f, 0xff]);
        },
    )
    .deviates(COMPRESSION_ASKED),
    case(
        "4.3",
        "Huffman padding that is not ones",
        UNREADABLE,
        |raw| {
            with_block(raw, &[0, 1, b'a', 0x81, 0x18]);
        },
    )
    .deviates(COMPRESSION_ASKED),
    case("4.3", "the Huffman code of EOS", UNREADABLE, |raw| {
        with_block(raw, &[0, 1, b'a', 0x84, 0xff, 0xff, 0xff, 0xff]);
    })
    .deviates(COMPRESSION_ASKED),
    case("4.3", "a table size above the setting", UNREADABLE, |raw| {
        let mut bytes = vec![0x3f, 0xe2, 0x1f];
        bytes.extend(block(GET));
        raw.frame(HEADERS, END_STREAM | END_HEADERS, 1, &bytes);
    })
    .deviates(COMPRESSION_ASKED),
    case(
        "4.3",
        "a table size at the end of a block",
        UNREADABLE,
        |raw| {
            with_block(raw, &[0x20]);
        },
    )
    .deviates(COMPRESSION_ASKED),
    case(
        "4.3",
        "a table size of 0 at the start of a block",
        Answer(1, 200),
        |raw| {
            let mut bytes = vec![0x20];
            bytes.extend(block(GET));
            raw.frame(HEADERS, END_STREAM | END_HEADERS, 1, &bytes);
        },
    ),
    case(
        "4.3",
        "a field that was added to the table",
        Answer(3, 200),
        |raw| {
            let mut bytes = block(GET);
            bytes.push(0x40);
            string(&mut bytes, b"x-name");
            string(&mut bytes, b"value");
            raw.frame(HEADERS, END_STREAM | END_HEADERS, 1, &bytes);
            let mut bytes = block(GET);
            bytes.push(0xbe);
            raw.frame(HEADERS, END_STREAM | END_HEADERS, 3, &bytes);
        },
    ),
    case(
        "4.3",
        "a field that was evicted from the table",
        UNREADABLE,
        |raw| {
            let mut bytes = block(GET);
            bytes.push(0x40);
            string(&mut bytes, b"x-name");
            string(&mut bytes, b"value");
            raw.frame(HEADERS, END_STREAM | END_HEADERS, 1, &bytes);
            let mut bytes = vec![0x20];
            bytes.extend(block(GET));
            bytes.push(0xbe);
            raw.frame(HEADERS, END_STREAM | END_HEADERS, 3, &bytes);
        },
    )
    .deviates(COMPRESSION_ASKED),
    case("4.3", "PRIORITY inside a header block", PROTOCOL, |raw| {
        open_block(raw);
        raw.frame(PRIORITY, 0, 3, &[0, 0, 0, 0, 1]);
        raw.frame(CONTINUATION, END_HEADERS, 1, &[]);
    }),
    case("4.3", "PING inside a header block", PROTOCOL, |raw| {
        open_block(raw);
        raw.frame(PING, 0, 0, &[0; 8]);
        raw.frame(CONTINUATION, END_HEADERS, 1, &[]);
    }),
    case(
        "4.3",
        "HEADERS of another stream inside a header block",
        PROTOCOL,
        |raw| {
            open_block(raw);
            raw.get(3);
        },
    ),
    case(
        "4.3",
        "HEADERS of the same stream inside a header block",
        PROTOCOL,
        |raw| {
            open_block(raw);
            raw.get(1);
        },
    ),
    case("4.3", "DATA inside a header block", PROTOCOL, |raw| {
        raw.frame(HEADERS, 0, 1, &block(POST));
        raw.frame(DATA, END_STREAM, 1, b"x");
    }),
    case(
        "4.3",
        "CONTINUATION of another stream inside a header block",
        PROTOCOL,
        |raw| {
            open_block(raw);
            raw.frame(CONTINUATION, END_HEADERS, 3, &[]);
        },
    ),
    case(
        "5.5",
        "an unknown kind inside a header block",
        PROTOCOL,
        |raw| {
            open_block(raw);
            raw.frame(0x42, 0, 1, &[]);
            raw.frame(CONTINUATION, END_HEADERS, 1, &[]);
        },
    ),
    case("5.5", "an unknown kind on an idle stream", Works, |raw| {
        raw.frame(0x42, 0, 77, b"anything");
    }),
    case("5.5", "an unknown setting", Works, |raw| {
        raw.frame(SETTINGS, 0, 0, &settings(&[(0x99, 7)]));
    }),
    case(
        "5.5",
        "a known setting with an ACK that nobody awaits",
        Either(&[Works, PROTOCOL]),
        |raw| {
            raw.frame(SETTINGS, ACK, 0, &[]);
        },
    ),
];
