//! Sections 1 to 5, 7, 9 and 10: frames, and what follows what.

use super::{BINARY, Case, TEXT, Wanted, case};
use crate::support::websocket::{CLOSE, PING, PONG, masked};

const FIN: u8 = 0x80;

fn message(opcode: u8, data: &[u8]) -> Wanted {
    Wanted::Message(opcode, data.to_vec())
}

fn hello() -> Wanted {
    Wanted::Maybe(TEXT, b"Hello, world!".to_vec())
}

fn text() -> Vec<u8> {
    masked(FIN | TEXT, b"Hello, world!")
}

/// Section 1, and 10.1.1.
pub(super) fn plain() -> Vec<Case> {
    let mut cases = Vec::new();
    for (section, opcode, byte) in [(1, TEXT, b'*'), (2, BINARY, 0xfe)] {
        let lengths = [0, 125, 126, 127, 128, 65535, 65536, 65536];
        for (at, length) in lengths.into_iter().enumerate() {
            let data = vec![byte; length];
            let number = format!("1.{section}.{}", at + 1);
            let sent = [masked(FIN | opcode, &data)];
            let chop = if at == 7 { 997 } else { 0 };
            cases.push(case(&number, &sent, vec![message(opcode, &data)]).chopped(chop));
        }
    }
    let data = vec![b'*'; 65536];
    let sent = split(TEXT, &data, 1300);
    cases.push(case("10.1.1", &sent, vec![message(TEXT, &data)]));
    cases
}

/// Section 2.
pub(super) fn pings() -> Vec<Case> {
    let pong = |data: &[u8]| Wanted::Pong(data.to_vec());
    let binary = b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff";
    let long = [0xfe; 125];
    let ten: Vec<Vec<u8>> = (0..10)
        .map(|number| format!("payload-{number}").into())
        .collect();
    let pings: Vec<_> = ten.iter().map(|data| masked(PING, data)).collect();
    let pongs: Vec<_> = ten.iter().map(|data| pong(data)).collect();
    let unasked = masked(PONG, b"unsolicited");
    vec![
        case("2.1", &[masked(PING, b"")], vec![pong(b"")]),
        case(
            "2.2",
            &[masked(PING, b"Hello, world!")],
            vec![pong(b"Hello, world!")],
        ),
        case("2.3", &[masked(PING, binary)], vec![pong(binary)]),
        case("2.4", &[masked(PING, &long)], vec![pong(&long)]),
        case(
            "2.5",
            &[masked(PING, &[0xfe; 126])],
            vec![Wanted::Close(1002)],
        ),
        case("2.6", &[masked(PING, &long)], vec![pong(&long)]).chopped(1),
        case("2.7", &[masked(PONG, b"")], vec![]),
        case("2.8", std::slice::from_ref(&unasked), vec![]),
        case(
            "2.9",
            &[unasked, masked(PING, b"asked")],
            vec![pong(b"asked")],
        ),
        case("2.10", &pings, pongs.clone()),
        case("2.11", &pings, pongs).chopped(1),
    ]
}

/// Sections 3 and 4: reserved bits and reserved opcodes.
pub(super) fn reserved() -> Vec<Case> {
    let fails = || vec![Wanted::Close(1002)];
    let after = || vec![hello(), Wanted::Close(1002)];
    let ping = || masked(PING, b"");
    let bits = |bits: u8, first: u8| masked(first | bits << 4, b"Hello, world!");
    let mut cases = vec![
        case("3.1", &[bits(1, FIN | TEXT)], fails()),
        case("3.2", &[text(), bits(2, FIN | TEXT), ping()], after()),
        case("3.3", &[text(), bits(3, FIN | TEXT), ping()], after()).chopped(19),
        case("3.4", &[text(), bits(4, FIN | TEXT), ping()], after()).chopped(1),
        case("3.5", &[bits(5, FIN | BINARY)], fails()),
        case("3.6", &[bits(6, PING)], fails()),
        case("3.7", &[bits(7, CLOSE)], fails()),
    ];
    for (section, opcodes) in [(1, 3..=7_u8), (2, 11..=15)] {
        for (at, opcode) in opcodes.enumerate() {
            let payload: &[u8] = if at % 2 == 0 { b"" } else { b"reserved" };
            let bad = masked(FIN | opcode, payload);
            let number = format!("4.{section}.{}", at + 1);
            cases.push(if at < 2 {
                case(&number, &[bad], fails())
            } else {
                let chop = usize::from(at == 4);
                case(&number, &[text(), bad, ping()], after()).chopped(chop)
            });
        }
    }
    cases
}

/// Section 5.
pub(super) fn fragments() -> Vec<Case> {
    let (one, two) = (b"fragment1", b"fragment2");
    let whole = || message(TEXT, b"fragment1fragment2");
    let maybe = || Wanted::Maybe(TEXT, b"fragment1fragment2".to_vec());
    let ping = || masked(PING, b"ping payload");
    let pong = || Wanted::Pong(b"ping payload".to_vec());
    let begin = || masked(TEXT, one);
    let end = || masked(FIN, two);
    let fails = || vec![Wanted::Close(1002)];
    let stray = |first: u8| vec![masked(first, b"non-continuation payload"), text()];
    let five = |number: u8| format!("fragment{number}").into_bytes();
    let with_pings = [
        masked(TEXT, &five(1)),
        masked(0, &five(2)),
        masked(PING, b"pongme 1!"),
        masked(0, &five(3)),
        masked(0, &five(4)),
        masked(PING, b"pongme 2!"),
        masked(FIN, &five(5)),
    ];
    let of_five = vec![
        Wanted::Pong(b"pongme 1!".to_vec()),
        Wanted::Pong(b"pongme 2!".to_vec()),
        message(TEXT, &(1..=5).flat_map(five).collect::<Vec<_>>()),
    ];
    let again = |first: u8| {
        let once = [
            masked(first, b"fragment1"),
            masked(TEXT, b"fragment2"),
            masked(FIN, b"fragment3"),
        ];
        [once.clone(), once].concat()
    };
    let mut cases = vec![
        case("5.1", &[masked(PING & !FIN, one), end()], fails()),
        case("5.2", &[masked(PONG & !FIN, one), end()], fails()),
        case("5.3", &[begin(), end()], vec![whole()]),
        case("5.4", &[begin(), end()], vec![whole()]).chopped(begin().len()),
        case("5.5", &[begin(), end()], vec![whole()]).chopped(1),
        case("5.6", &[begin(), ping(), end()], vec![pong(), whole()]),
        case("5.7", &[begin(), ping(), end()], vec![pong(), whole()]).chopped(begin().len()),
        case("5.8", &[begin(), ping(), end()], vec![pong(), whole()]).chopped(1),
        case(
            "5.15",
            &[begin(), end(), masked(0, b"fragment3"), text()],
            vec![maybe(), Wanted::Close(1002)],
        ),
        case("5.16", &again(0), fails()),
        case("5.17", &again(FIN), fails()),
        case("5.18", &[begin(), masked(FIN | TEXT, two)], fails()),
        case("5.19", &with_pings, of_five.clone()),
        case("5.20", &with_pings, of_five).chopped(1),
    ];
    for (number, first, chop) in [
        ("5.9", FIN, 0),
        ("5.10", FIN, 30),
        ("5.11", FIN, 1),
        ("5.12", 0, 0),
        ("5.13", 0, 30),
        ("5.14", 0, 1),
    ] {
        cases.push(case(number, &stray(first), fails()).chopped(chop));
    }
    cases
}

fn close(code: u16, reason: &[u8]) -> Vec<u8> {
    masked(CLOSE, &[&code.to_be_bytes(), reason].concat())
}

/// Section 7.
pub(super) fn closing() -> Vec<Case> {
    let normal = || close(1000, b"");
    let ends = |code| vec![Wanted::Close(code)];
    let long = vec![b'*'; 256 * 1024];
    let mut cases = vec![
        case("7.1.1", &[text()], vec![message(TEXT, b"Hello, world!")]),
        case("7.1.2", &[normal(), normal()], ends(1000)),
        case("7.1.3", &[normal(), masked(PING, b"")], ends(1000)),
        case("7.1.4", &[normal(), text()], ends(1000)),
        case(
            "7.1.5",
            &[
                masked(TEXT, b"fragment1"),
                normal(),
                masked(FIN, b"fragment2"),
            ],
            ends(1000),
        ),
        case(
            "7.1.6",
            &[
                masked(FIN | TEXT, &long),
                text(),
                normal(),
                masked(PING, b""),
            ],
            vec![Wanted::Maybe(TEXT, long), hello(), Wanted::Close(1000)],
        ),
        case("7.3.1", &[masked(CLOSE, b"")], ends(1005)),
        case("7.3.2", &[masked(CLOSE, b"a")], ends(1002)),
        case("7.3.3", &[normal()], ends(1000)),
        case("7.3.4", &[close(1000, b"Hello World!")], ends(1000)),
        case("7.3.5", &[close(1000, &[b'*'; 123])], ends(1000)),
        case("7.3.6", &[close(1000, &[b'*'; 124])], ends(1002)),
        case(
            "7.5.1",
            &[close(
                1000,
                b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited",
            )],
            ends(1007),
        ),
    ];
    let good = [
        1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999,
    ];
    for (at, code) in good.into_iter().enumerate() {
        cases.push(case(
            &format!("7.7.{}", at + 1),
            &[close(code, b"")],
            ends(code),
        ));
    }
    let bad = [0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999];
    for (at, code) in bad.into_iter().enumerate() {
        cases.push(case(
            &format!("7.9.{}", at + 1),
            &[close(code, b"")],
            ends(1002),
        ));
    }
    for (at, code) in [5000, 65535].into_iter().enumerate() {
        cases.push(case(
            &format!("7.13.{}", at + 1),
            &[close(code, b"")],
            ends(1002),
        ));
    }
    cases
}

/// The frames of a message in fragments of this length.
pub(super) fn split(opcode: u8, data: &[u8], length: usize) -> Vec<Vec<u8>> {
    if data.is_empty() {
        return vec![masked(FIN | opcode, b"")];
    }
    let pieces = data.len().div_ceil(length);
    let pieces_of = data.chunks(length).enumerate();
    pieces_of
        .map(|(at, piece)| {
            let opcode = if at == 0 { opcode } else { 0 };
            let last = if at + 1 == pieces { FIN } else { 0 };
            masked(opcode | last, piece)
        })
        .collect()
}

/// Section 9.
pub(super) fn limits() -> Vec<Case> {
    const KIBIBYTE: usize = 1024;
    const MEBIBYTE: usize = 1024 * KIBIBYTE;
    let mut cases = Vec::new();
    for (section, opcode, byte) in [(1, TEXT, b'*'), (2, BINARY, 0xfe)] {
        let lengths = [
            64 * KIBIBYTE,
            256 * KIBIBYTE,
            MEBIBYTE,
            4 * MEBIBYTE,
            8 * MEBIBYTE,
            16 * MEBIBYTE,
        ];
        for (at, length) in lengths.into_iter().enumerate() {
            let data = vec![byte; length];
            let sent = [masked(FIN | opcode, &data)];
            cases.push(case(
                &format!("9.{section}.{}", at + 1),
                &sent,
                vec![message(opcode, &data)],
            ));
        }
        let data = vec![byte; 4 * MEBIBYTE];
        for at in 0..9 {
            let sent = split(opcode, &data, 64 << (2 * at));
            cases.push(case(
                &format!("9.{}.{}", section + 2, at + 1),
                &sent,
                vec![message(opcode, &data)],
            ));
        }
        let data = vec![byte; MEBIBYTE];
        for at in 0..6 {
            let sent = [masked(FIN | opcode, &data)];
            let case = case(
                &format!("9.{}.{}", section + 4, at + 1),
                &sent,
                vec![message(opcode, &data)],
            );
            cases.push(case.chopped(64 << at));
        }
        for (at, length) in [0, 16, 64, 256, 1024, 4096].into_iter().enumerate() {
            let data = vec![byte; length];
            let sent = vec![masked(FIN | opcode, &data); 1000];
            let wanted = vec![message(opcode, &data); 1000];
            cases.push(case(
                &format!("9.{}.{}", section + 6, at + 1),
                &sent,
                wanted,
            ));
        }
    }
    cases
}
