//! What a client may not do, as tables: what it sends, and what it is told.

use eagleray_wire::{Flags, Kind};

use super::{start, wait_for};
use crate::support::{
    Replica, answer_all, target,
    websocket::{HANDSHAKE, Socket, masked},
};

#[test]
fn handshakes_that_break_a_rule_are_refused() {
    let replica = Replica::serving("a", 10, answer_all);
    let proxy = crate::support::Proxy::serving(target("D", &[&replica]));
    let good = "GET / HTTP/1.1\nhost: t\nconnection: upgrade\nupgrade: websocket\nsec-websocket-version: 13\n\
                sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\n";
    let without = |field: &str| {
        good.lines()
            .filter(|line| !line.starts_with(field))
            .fold(String::new(), |text, line| text + line + "\n")
    };
    for (rule, head, status) in [
        ("another method", good.replace("GET", "POST"), 400),
        ("a body", format!("{good}content-length: 1\n"), 400),
        (
            "a chunked body",
            format!("{good}transfer-encoding: chunked\n"),
            400,
        ),
        ("no Connection", without("connection"), 400),
        (
            "Connection names another",
            good.replace("connection: upgrade", "connection: close"),
            400,
        ),
        ("no version", without("sec-websocket-version"), 426),
        ("another version", good.replace("13", "8"), 426),
        (
            "two versions",
            format!("{good}sec-websocket-version: 13\n"),
            426,
        ),
        ("no key", without("sec-websocket-key"), 400),
        (
            "a short key",
            good.replace("dGhlIHNhbXBsZSBub25jZQ==", "AAAA"),
            400,
        ),
        (
            "a long key",
            good.replace("dGhlIHNhbXBsZSBub25jZQ==", &"A".repeat(1000)),
            400,
        ),
        (
            "two keys",
            format!("{good}sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\n"),
            400,
        ),
        ("HTTP/1.0", good.replace("HTTP/1.1", "HTTP/1.0"), 200),
        (
            "another protocol",
            good.replace("websocket\n", "h2c\n"),
            200,
        ),
    ] {
        let mut client = proxy.client();
        client.send(head.replace('\n', "\r\n") + "\r\n");
        let response = client.response();
        assert_eq!(response.status, status, "{rule}: {response:?}");
        if status == 426 {
            assert_eq!(response.header("sec-websocket-version"), Some("13"));
        }
        if status != 200 {
            assert!(response.text().starts_with(&status.to_string()), "{rule}");
            assert!(client.is_closed(), "{rule}");
        }
    }
}

/// A frame that is not masked.
fn bare(first: u8, payload: &[u8]) -> Vec<u8> {
    [&[first, payload.len() as u8], payload].concat()
}

/// A masked header that says this length.
fn header(first: u8, second: u8, length: &[u8]) -> Vec<u8> {
    [&[first, 0x80 | second], length, &[0; 4]].concat()
}

/// The rule, what the client sends, the code it is told.
type Case = (&'static str, Vec<Vec<u8>>, u16);

/// Masks, reserved bits and opcodes, and what follows what.
fn framing() -> Vec<Case> {
    vec![
        ("text without a mask", vec![bare(0x81, b"a")], 1002),
        ("a ping without a mask", vec![bare(0x89, b"")], 1002),
        ("reserved bit 1", vec![masked(0xc1, b"a")], 1002),
        ("reserved bit 2", vec![masked(0xa1, b"a")], 1002),
        ("reserved bit 3", vec![masked(0x91, b"a")], 1002),
        ("a reserved bit in a ping", vec![masked(0xc9, b"a")], 1002),
        ("opcode 3", vec![masked(0x83, b"a")], 1002),
        ("opcode 7", vec![masked(0x87, b"a")], 1002),
        ("opcode 11", vec![masked(0x8b, b"a")], 1002),
        ("opcode 15", vec![masked(0x8f, b"a")], 1002),
        ("a ping in pieces", vec![masked(0x09, b"a")], 1002),
        ("a close in pieces", vec![masked(0x08, b"")], 1002),
        ("a ping of 126 bytes", vec![masked(0x89, &[0; 126])], 1002),
        ("a pong of 64 KiB", vec![masked(0x8a, &[0; 65536])], 1002),
        ("a continuation of nothing", vec![masked(0x80, b"a")], 1002),
        (
            "a continuation after a whole message",
            vec![masked(0x81, b"a"), masked(0x80, b"a")],
            1002,
        ),
        (
            "a message in a message",
            vec![masked(0x01, b"a"), masked(0x81, b"a")],
            1002,
        ),
    ]
}

/// Lengths that are not written as they must be, or that are too long.
fn lengths() -> Vec<Case> {
    vec![
        (
            "a length of 5 in two bytes",
            vec![header(0x82, 126, &[0, 5])],
            1002,
        ),
        (
            "a length of 65535 in eight bytes",
            vec![header(0x82, 127, &65535_u64.to_be_bytes())],
            1002,
        ),
        (
            "a length with its top bit",
            vec![header(0x82, 127, &[0xff; 8])],
            1002,
        ),
        (
            "a message over the limit",
            vec![header(0x82, 127, &16_777_217_u64.to_be_bytes())],
            1009,
        ),
        (
            "a length near the largest",
            vec![header(0x82, 127, &(u64::MAX >> 1).to_be_bytes())],
            1009,
        ),
        (
            "pieces over the limit",
            vec![
                masked(0x02, b"a"),
                header(0x80, 127, &16_777_216_u64.to_be_bytes()),
            ],
            1009,
        ),
    ]
}

/// Text that is no UTF-8, and closing frames.
fn text_and_codes() -> Vec<Case> {
    vec![
        ("text that is no UTF-8", vec![masked(0x81, b"a\xff")], 1007),
        ("half a character", vec![masked(0x81, b"a\xe2\x82")], 1007),
        ("a surrogate", vec![masked(0x81, b"\xed\xa0\x80")], 1007),
        (
            "an overlong character over two pieces",
            vec![masked(0x01, b"\xc0"), masked(0x80, b"\x80")],
            1007,
        ),
        (
            "a wrong character over three pieces",
            vec![
                masked(0x01, b"\xe2"),
                masked(0x00, b"\x82"),
                masked(0x00, b"a"),
            ],
            1007,
        ),
        ("half a closing code", vec![masked(0x88, b"\x03")], 1002),
        (
            "closing code 999",
            vec![masked(0x88, &999_u16.to_be_bytes())],
            1002,
        ),
        (
            "closing code 1004",
            vec![masked(0x88, &1004_u16.to_be_bytes())],
            1002,
        ),
        (
            "closing code 1005",
            vec![masked(0x88, &1005_u16.to_be_bytes())],
            1002,
        ),
        (
            "closing code 1006",
            vec![masked(0x88, &1006_u16.to_be_bytes())],
            1002,
        ),
        (
            "closing code 1015",
            vec![masked(0x88, &1015_u16.to_be_bytes())],
            1002,
        ),
        (
            "closing code 2999",
            vec![masked(0x88, &2999_u16.to_be_bytes())],
            1002,
        ),
        (
            "closing code 5000",
            vec![masked(0x88, &5000_u16.to_be_bytes())],
            1002,
        ),
        (
            "a closing reason that is no UTF-8",
            vec![masked(0x88, b"\x03\xe8\xff")],
            1007,
        ),
    ]
}

#[test]
fn frames_that_break_a_rule_close_with_its_code() {
    let replica = Replica::start("a", 10);
    let (mut proxy, mut connection) = start(&replica);
    let cases = [framing(), lengths(), text_and_codes()].concat();
    let number = cases.len() as u64;
    for (rule, frames, code) in cases {
        let (mut socket, request) = Socket::open(&proxy, &mut connection, "", &[]);
        for frame in frames {
            socket.client.send(frame);
        }
        assert_eq!(socket.close().0, code, "{rule}");
        // What else it sends is thrown away, and user code is told.
        socket.client.send(masked(0x81, b"more"));
        let told = loop {
            match connection.message(&request) {
                Ok(_) => {}
                Err((told, _)) => break told,
            }
        };
        assert_eq!(told, code, "{rule}");
        drop(socket);
        connection.expect(Kind::Cancel);
        connection.respond(&request, Flags::END.with(Flags::DONE), b"");
    }
    let counted = proxy.counter("websocket_errors") + proxy.counter("websocket_messages_too_long");
    assert_eq!(counted, number);
    assert_eq!(proxy.counter("websocket_messages_too_long"), 3);
    assert_eq!(proxy.counter("panics"), 0);
    wait_for(&mut proxy, "websockets_open", 0);
}

#[test]
fn a_handshake_may_follow_other_requests_on_a_connection() {
    let replica = Replica::start("a", 10);
    let (proxy, mut connection) = start(&replica);
    let mut client = proxy.client();
    client.send(format!(
        "GET /first HTTP/1.1\r\nhost: t\r\n\r\n{HANDSHAKE}\r\n"
    ));
    let first = connection.expect(Kind::Request);
    assert!(connection.start(&first));
    connection.answer(&first, 200, &[], &[b'x'; 200_000]);
    let request = connection.expect(Kind::Request);
    assert!(connection.start(&request));
    connection.begin_answer(&request, 101, &[]);
    connection.send_message(&request, true, b"hello");
    assert_eq!(client.response().body.len(), 200_000);
    assert_eq!(client.head().status, 101);
    let mut socket = Socket { client };
    assert_eq!(socket.frame(), Some((0x81, b"hello".to_vec())));
}
