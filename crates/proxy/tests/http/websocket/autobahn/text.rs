//! Section 6: text is UTF-8, and what is not fails at once.

use super::{Case, TEXT, Wanted, case};
use crate::support::websocket::masked;

const FIN: u8 = 0x80;
/// Ends before a byte that no UTF-8 has there, and goes on after it.
const GOOD: &[u8] = "κόσμε".as_bytes();
const WRONG: &[u8] = b"\xf4\x90\x80\x80";

fn echo(data: &[u8]) -> Vec<Wanted> {
    vec![Wanted::Message(TEXT, data.to_vec())]
}

fn fails() -> Vec<Wanted> {
    vec![Wanted::Close(1007)]
}

/// A message in fragments of one byte.
fn bytewise(data: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = vec![masked(TEXT, &data[..1])];
    frames.extend(data[1..].iter().map(|byte| masked(0, &[*byte])));
    frames.push(masked(FIN, b""));
    frames
}

/// 6.1 to 6.4.
pub(super) fn handling() -> Vec<Case> {
    let text = "Hello-µ@ßöäüàá-UTF-8!!".as_bytes();
    let bad = [GOOD, b"\xed\xa0\x80", b"edited"].concat();
    let frame = masked(FIN | TEXT, &[GOOD, WRONG, b"edited"].concat());
    vec![
        case("6.1.1", &[masked(FIN | TEXT, b"")], echo(b"")),
        case(
            "6.1.2",
            &[masked(TEXT, b""), masked(0, b""), masked(FIN, b"")],
            echo(b""),
        ),
        case(
            "6.1.3",
            &[masked(TEXT, b""), masked(0, b"middle"), masked(FIN, b"")],
            echo(b"middle"),
        ),
        case("6.2.1", &[masked(FIN | TEXT, text)], echo(text)),
        case(
            "6.2.2",
            &[masked(TEXT, &text[..9]), masked(FIN, &text[9..])],
            echo(text),
        ),
        case("6.2.3", &bytewise(text), echo(text)),
        case("6.2.4", &bytewise(GOOD), echo(GOOD)),
        case("6.3.1", &[masked(FIN | TEXT, &bad)], fails()),
        case("6.3.2", &bytewise(&bad), fails()),
        // Nothing comes after what is wrong: the rest of the message, then the rest of the frame.
        case("6.4.1", &[masked(TEXT, GOOD), masked(0, WRONG)], fails()),
        case(
            "6.4.2",
            &[masked(TEXT, &[GOOD, b"\xf4"].concat()), masked(0, b"\x90")],
            fails(),
        ),
        case("6.4.3", &[frame[..6 + GOOD.len() + 4].to_vec()], fails()),
        case("6.4.4", &[frame[..6 + GOOD.len() + 2].to_vec()], fails()).chopped(1),
    ]
}

/// 6.5 to 6.23, each in one frame and in fragments of a byte.
pub(super) fn sequences() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |section: u32, data: &[u8]| {
        let wanted = || {
            if std::str::from_utf8(data).is_ok() {
                echo(data)
            } else {
                fails()
            }
        };
        let number = format!("6.{section} {}", data.escape_ascii());
        cases.push(case(&number, &[masked(FIN | TEXT, data)], wanted()));
        cases.push(case(&number, &bytewise(data), wanted()));
    };
    for length in 1..=GOOD.len() {
        add(6, &GOOD[..length]);
    }
    for (section, sequences) in SEQUENCES {
        for data in *sequences {
            add(*section, data);
        }
    }
    let continuations: Vec<u8> = (0x80..=0xbf).collect();
    add(12, &continuations);
    for lonely in [
        0xc0..=0xdf,
        0xe0..=0xef,
        0xf0..=0xf7,
        0xf8..=0xfb,
        0xfc..=0xfd_u8,
    ] {
        let data: Vec<u8> = lonely.flat_map(|byte| [byte, b' ']).collect();
        add(13, &data);
    }
    // The last two of each plane are no characters, and may be sent.
    for plane in 0..=16_u32 {
        for last in [0xfffe, 0xffff] {
            let character = char::from_u32(plane << 16 | last).unwrap();
            add(22, character.to_string().as_bytes());
        }
    }
    cases
}

const SEQUENCES: &[(u32, &[&[u8]])] = &[
    (5, &[b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5"]),
    (
        7,
        &[b"\x00", b"\xc2\x80", b"\xe0\xa0\x80", b"\xf0\x90\x80\x80"],
    ),
    (8, &[b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80"]),
    (
        9,
        &[b"\x7f", b"\xdf\xbf", b"\xef\xbf\xbf", b"\xf4\x8f\xbf\xbf"],
    ),
    (
        10,
        &[
            b"\xf7\xbf\xbf\xbf",
            b"\xfb\xbf\xbf\xbf\xbf",
            b"\xfd\xbf\xbf\xbf\xbf\xbf",
        ],
    ),
    (
        11,
        &[
            b"\xed\x9f\xbf",
            b"\xee\x80\x80",
            b"\xef\xbf\xbd",
            b"\xf4\x8f\xbf\xbf",
            b"\xf4\x90\x80\x80",
        ],
    ),
    (
        12,
        &[
            b"\x80",
            b"\xbf",
            b"\x80\xbf",
            b"\x80\xbf\x80",
            b"\x80\xbf\x80\xbf",
            b"\x80\xbf\x80\xbf\x80",
            b"\x80\xbf\x80\xbf\x80\xbf",
        ],
    ),
    (
        14,
        &[
            b"\xc0",
            b"\xe0\x80",
            b"\xf0\x80\x80",
            b"\xf8\x80\x80\x80",
            b"\xfc\x80\x80\x80\x80",
            b"\xdf",
            b"\xef\xbf",
            b"\xf7\xbf\xbf",
            b"\xfb\xbf\xbf\xbf",
            b"\xfd\xbf\xbf\xbf\xbf",
        ],
    ),
    (
        15,
        &[b"\xc0\xe0\x80\xf0\x80\x80\xf8\x80\x80\x80\xfc\x80\x80\x80\x80\xdf\xef\xbf\xf7\xbf\xbf"],
    ),
    (16, &[b"\xfe", b"\xff", b"\xfe\xfe\xff\xff"]),
    (
        17,
        &[
            b"\xc0\xaf",
            b"\xe0\x80\xaf",
            b"\xf0\x80\x80\xaf",
            b"\xf8\x80\x80\x80\xaf",
            b"\xfc\x80\x80\x80\x80\xaf",
        ],
    ),
    (
        18,
        &[
            b"\xc1\xbf",
            b"\xe0\x9f\xbf",
            b"\xf0\x8f\xbf\xbf",
            b"\xf8\x87\xbf\xbf\xbf",
            b"\xfc\x83\xbf\xbf\xbf\xbf",
        ],
    ),
    (
        19,
        &[
            b"\xc0\x80",
            b"\xe0\x80\x80",
            b"\xf0\x80\x80\x80",
            b"\xf8\x80\x80\x80\x80",
            b"\xfc\x80\x80\x80\x80\x80",
        ],
    ),
    (
        20,
        &[
            b"\xed\xa0\x80",
            b"\xed\xad\xbf",
            b"\xed\xae\x80",
            b"\xed\xaf\xbf",
            b"\xed\xb0\x80",
            b"\xed\xbe\x80",
            b"\xed\xbf\xbf",
        ],
    ),
    (
        21,
        &[
            b"\xed\xa0\x80\xed\xb0\x80",
            b"\xed\xa0\x80\xed\xbf\xbf",
            b"\xed\xad\xbf\xed\xb0\x80",
            b"\xed\xad\xbf\xed\xbf\xbf",
            b"\xed\xae\x80\xed\xb0\x80",
            b"\xed\xae\x80\xed\xbf\xbf",
            b"\xed\xaf\xbf\xed\xb0\x80",
            b"\xed\xaf\xbf\xed\xbf\xbf",
        ],
    ),
    (
        23,
        &[
            b"\xef\xbf\xb9",
            b"\xef\xbf\xba",
            b"\xef\xbf\xbb",
            b"\xef\xbf\xbc",
            b"\xef\xbf\xbd",
            b"\xef\xbf\xbe",
            b"\xef\xbf\xbf",
        ],
    ),
];
