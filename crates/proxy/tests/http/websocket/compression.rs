//! Compression: what is agreed to, what is compressed, and what a client may not do with it.

use std::time::Duration;

use eagleray_wire::{Flags, Kind, MESSAGE_COST};

use super::{
    packing::{PACKED, Packer, frames},
    start, wait_for, with_limits,
};
use crate::support::{
    Connection, Proxy, Replica,
    websocket::{BINARY, CLOSE, HANDSHAKE, PING, PONG, Socket, TEXT, close_of, masked},
};

const OFFER: &str = "sec-websocket-extensions: permessage-deflate\r\n";

fn open(proxy: &Proxy, connection: &mut Connection) -> (Socket, eagleray_wire::Frame) {
    Socket::open(proxy, connection, OFFER, &[])
}

/// Text that becomes much shorter.
fn words(length: usize) -> Vec<u8> {
    b"one two three four "
        .iter()
        .copied()
        .cycle()
        .take(length)
        .collect()
}

fn noise(length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(length as u64);
    (0..length).map(|_| random.u8(..)).collect()
}

#[test]
fn the_answer_names_what_was_offered_and_user_code_has_no_say() {
    let replica = Replica::start("a", 10);
    let (proxy, mut connection) = start(&replica);
    for (offer, wanted) in [
        (OFFER.to_owned(), Some("permessage-deflate")),
        (String::new(), None),
        ("sec-websocket-extensions: x-other\r\n".to_owned(), None),
        (
            "sec-websocket-extensions: permessage-deflate; client_max_window_bits, x-other\r\n"
                .to_owned(),
            Some("permessage-deflate"),
        ),
    ] {
        let mut client = proxy.client();
        client.send(format!("{HANDSHAKE}{offer}\r\n"));
        let request = connection.expect(Kind::Request);
        assert!(connection.start(&request));
        let fields: &[(&[u8], &[u8])] = &[(b"sec-websocket-extensions", b"x-mine")];
        connection.begin_answer(&request, 101, fields);
        let response = client.head();
        assert_eq!(response.status, 101);
        let agreed: Vec<_> = response
            .headers
            .iter()
            .filter(|(name, _)| name == "sec-websocket-extensions")
            .map(|(_, value)| value.as_str())
            .collect();
        assert_eq!(agreed, Vec::from_iter(wanted), "{offer}");
    }
}

#[test]
fn a_proxy_that_is_told_to_compresses_nothing() {
    let replica = Replica::start("a", 10);
    let (proxy, mut connection) = with_limits(&replica, &[("websocket_compress_bytes", 0.0)]);
    let mut client = proxy.client();
    client.send(format!("{HANDSHAKE}{OFFER}\r\n"));
    let request = connection.expect(Kind::Request);
    assert!(connection.start(&request));
    connection.begin_answer(&request, 101, &[]);
    assert_eq!(client.head().header("sec-websocket-extensions"), None);
}

#[test]
fn what_is_long_enough_and_becomes_shorter_is_compressed() {
    let replica = Replica::start("a", 10);
    let (proxy, mut connection) = start(&replica);
    let (mut socket, request) = open(&proxy, &mut connection);
    let mut packer = Packer::new(false);
    for (data, is_packed) in [
        (words(0), false),
        (words(1023), false),
        (words(1024), true),
        (noise(1024), false),
        (words(40_000), true),
        (words(1024), true),
    ] {
        connection.send_message(&request, true, &data);
        let mut message = Vec::new();
        let mut firsts = Vec::new();
        while firsts.last().is_none_or(|first| first & 0x80 == 0) {
            let (first, payload) = socket.frame().unwrap();
            firsts.push(first);
            message.extend(payload);
        }
        let length = message.len();
        // The first frame says it, and only that.
        assert_eq!(firsts[0] & !0x80, if is_packed { 1 | PACKED } else { 1 });
        assert!(firsts[1..].iter().all(|first| matches!(first, 0 | 0x80)));
        if is_packed {
            assert!(length < data.len() / 4, "{length}");
            message = packer.unpack(&message);
        }
        assert_eq!(message, data);
    }
}

#[test]
fn a_message_of_the_replica_in_pieces_is_compressed_as_one() {
    let replica = Replica::start("a", 10);
    let (proxy, mut connection) = start(&replica);
    let (mut socket, request) = open(&proxy, &mut connection);
    let data = [words(9000), noise(30), words(10)].concat();
    connection.respond(&request, Flags::TEXT, b"");
    connection.respond(&request, Flags::TEXT, &data[..9000]);
    connection.respond(&request, Flags::TEXT, &data[9000..]);
    connection.send_message(&request, true, b"");
    let mut packed = Vec::new();
    loop {
        let (first, payload) = socket.frame().unwrap();
        assert_eq!(first & PACKED != 0, packed.is_empty());
        packed.extend(payload);
        if first & 0x80 != 0 {
            break;
        }
    }
    assert_eq!(Packer::new(false).unpack(&packed), data);
    // Not one of the pieces decides alone: nothing of what is short was sent before.
    connection.send_message(&request, false, b"short");
    assert_eq!(socket.frame(), Some((BINARY, b"short".to_vec())));
}

#[test]
fn compressed_and_plain_messages_take_turns_with_pings_between_their_frames() {
    let replica = Replica::start("a", 10);
    let (proxy, mut connection) = start(&replica);
    let (mut socket, request) = open(&proxy, &mut connection);
    let mut packer = Packer::new(false);
    let euro = "€ ".repeat(2000);
    for length in [0, 1, 7, 4096] {
        let packed = packer.pack(euro.as_bytes());
        let all = frames(1, &packed, length);
        // A ping behind the first frame.
        let first = 6 + if length == 0 {
            packed.len()
        } else {
            length.min(packed.len())
        };
        socket.client.send(&all[..first]);
        socket.send(PING, b"?");
        socket.client.send(&all[first..]);
        socket.send(TEXT, b"plain");
        if length == 1 || length == 7 {
            assert_eq!(socket.frame(), Some((PONG, b"?".to_vec())));
        }
        let message = connection.message(&request);
        assert_eq!(message, Ok((true, euro.clone().into_bytes())), "{length}");
        assert_eq!(connection.message(&request), Ok((true, b"plain".to_vec())));
    }
}

#[test]
fn bytes_of_a_message_that_have_come_are_handed_on_while_the_last_are_awaited() {
    let replica = Replica::start("a", 10);
    let (proxy, mut connection) = start(&replica);
    let (mut socket, request) = open(&proxy, &mut connection);
    let data = noise(20_000);
    let frame = frames(2, &Packer::new(false).pack(&data), 0);
    let (most, last) = frame.split_at(frame.len() - 1);
    socket.client.send(most);
    let mut came = Vec::new();
    while came.len() < 19_000 {
        let frame = connection.expect(Kind::Body);
        assert!(!frame.header.flags.contains(Flags::END_OF_MESSAGE));
        came.extend_from_slice(&frame.payload);
    }
    socket.client.send(last);
    let (_, rest) = connection.message(&request).unwrap();
    came.extend(rest);
    assert_eq!(came, data);
}

/// The rule, what the client sends, the code it is told.
fn hostile() -> Vec<(&'static str, Vec<Vec<u8>>, u16)> {
    let packed = Packer::new(false).pack(&words(3000));
    let noise = Packer::new(false).pack(&noise(3000));
    let text = Packer::new(false).pack(b"\xff\xff");
    let half = Packer::new(false).pack("a€".as_bytes().split_last().unwrap().1);
    let refers = {
        let mut packer = Packer::new(false);
        packer.pack(&words(3000));
        packer.pack(&words(3000))
    };
    let all = |opcode: u8, packed: &[u8]| vec![frames(opcode, packed, 0)];
    vec![
        ("a compressed ping", vec![masked(PING | PACKED, b"")], 1002),
        ("a compressed pong", vec![masked(PONG | PACKED, b"")], 1002),
        (
            "a compressed close",
            vec![masked(CLOSE | PACKED, b"\x03\xe8")],
            1002,
        ),
        (
            "the bit in a continuation",
            vec![
                masked(1 | PACKED, &packed[..9]),
                masked(0x80 | PACKED, &packed[9..]),
            ],
            1002,
        ),
        (
            "the bit in a continuation of a plain message",
            vec![masked(1, b"a"), masked(0x80 | PACKED, b"b")],
            1002,
        ),
        (
            "another bit beside it",
            vec![masked(0x82 | PACKED | 0x20, &packed)],
            1002,
        ),
        (
            "another bit instead",
            vec![masked(0x82 | 0x10, &packed)],
            1002,
        ),
        (
            "an opcode that is not",
            vec![masked(0x83 | PACKED, &packed)],
            1002,
        ),
        ("text that is not compressed", all(1, b"Hello, world"), 1007),
        (
            "a block of a kind that is not",
            all(2, &[0x07, 1, 2, 3]),
            1007,
        ),
        (
            "a stored block that lies",
            all(2, &[0, 5, 0, 0, 0, 1, 2, 3]),
            1007,
        ),
        (
            "a message that is cut short",
            all(2, &packed[..packed.len() / 2]),
            1007,
        ),
        ("noise that is cut short", all(2, &noise[..1000]), 1007),
        (
            "one that lacks its last byte",
            all(2, &noise[..noise.len() - 1]),
            1007,
        ),
        ("a reference to nothing", all(2, &refers), 1007),
        ("text that is no UTF-8", all(1, &text), 1007),
        ("half a character", all(1, &half), 1007),
    ]
}

#[test]
fn compressed_frames_that_break_a_rule_close_with_its_code() {
    let replica = Replica::start("a", 10);
    let (mut proxy, mut connection) = start(&replica);
    let cases = hostile();
    let number = cases.len() as u64;
    for (rule, frames, code) in cases {
        let (mut socket, request) = open(&proxy, &mut connection);
        for frame in frames {
            socket.client.send(frame);
        }
        assert_eq!(socket.close().0, code, "{rule}");
        let told = loop {
            match connection.message(&request) {
                Ok(_) => {}
                Err((told, _)) => break told,
            }
        };
        assert_eq!(told, code, "{rule}");
        connection.respond(&request, Flags::END.with(Flags::DONE), b"");
    }
    wait_for(&mut proxy, "websocket_errors", number);
}

/// Zeros, a thousand times as many as bytes that are sent.
fn bomb(bytes: usize) -> Vec<u8> {
    let packed = Packer::new(false).pack(&vec![0; bytes]);
    assert!(packed.len() < bytes / 500);
    packed
}

#[test]
fn a_bomb_is_1009_when_it_has_given_as_much_as_a_message_may_have() {
    let replica = Replica::start("a", 10);
    let limit = 100_000;
    let limits = [("websocket_message_bytes", f64::from(limit))];
    let (mut proxy, mut connection) = with_limits(&replica, &limits);
    let whole = bomb(64 * 1024 * 1024);
    // Blocks that hold nothing give nothing, and may not go on for ever either.
    let empty = [0, 0, 0, 0xff, 0xff].repeat(60_000);
    let exactly = bomb(limit as usize + 1);
    let bombs = [
        (&whole, 0),
        (&whole, 1000),
        (&empty, 0),
        (&empty, 125),
        (&exactly, 0),
    ];
    for (packed, length) in bombs {
        let (mut socket, request) = open(&proxy, &mut connection);
        let mut stream = socket.client.stream.try_clone().unwrap();
        let sent = frames(2, packed, length);
        // The proxy need not take all of it.
        let sender = std::thread::spawn(move || std::io::Write::write_all(&mut stream, &sent));
        let mut given = 0;
        loop {
            let frame = connection.expect(Kind::Body);
            let flags = frame.header.flags;
            if flags.contains(Flags::END) {
                assert_eq!(close_of(&frame.payload).0, 1009);
                break;
            }
            given += frame.payload.len();
            let cost = flags.cost(frame.payload.len()) as u32;
            connection.send(&request, Kind::Credit, Flags::NONE, cost, &[]);
        }
        assert!(given <= limit as usize, "{given}");
        assert_eq!(socket.close().0, 1009);
        drop(socket);
        sender.join().unwrap().ok();
        connection.respond(&request, Flags::END.with(Flags::DONE), b"");
    }
    wait_for(&mut proxy, "websocket_messages_too_long", 5);
    // One that is as long as it may be is none.
    let (mut socket, request) = open(&proxy, &mut connection);
    socket.client.send(frames(2, &bomb(limit as usize), 0));
    assert_eq!(
        connection.message(&request),
        Ok((false, vec![0; limit as usize]))
    );
}

#[test]
fn credit_is_of_what_comes_out_so_a_replica_that_does_not_read_stops_a_bomb() {
    let replica = Replica::start("a", 10);
    let (proxy, mut connection) = start(&replica);
    let (mut socket, request) = open(&proxy, &mut connection);
    let data = vec![0; 8 * 1024 * 1024];
    socket
        .client
        .send(frames(2, &Packer::new(false).pack(&data), 0));
    let short = Duration::from_millis(300);
    connection.stream.set_read_timeout(Some(short)).unwrap();
    let mut cost = 0;
    while let Some(frame) = connection.try_frame() {
        if frame.header.kind == Kind::Body {
            cost += frame.header.flags.cost(frame.payload.len());
        }
    }
    let patience = Some(crate::support::PATIENCE);
    connection.stream.set_read_timeout(patience).unwrap();
    assert!(
        (32 * 1024..64 * 1024 + MESSAGE_COST).contains(&cost),
        "{cost}"
    );
    // Its pings are answered when there is room again, and nothing is lost.
    socket.send(PING, b"after");
    connection.send(&request, Kind::Credit, Flags::NONE, 1 << 30, &[]);
    let mut length = cost;
    loop {
        let frame = connection.expect(Kind::Body);
        length += frame.payload.len();
        if frame.header.flags.contains(Flags::END_OF_MESSAGE) {
            break;
        }
    }
    assert_eq!(length, data.len());
    assert_eq!(socket.frame(), Some((PONG, b"after".to_vec())));
}

#[test]
fn messages_that_nobody_wants_any_more_are_not_inflated_and_do_not_keep_the_end_from_coming() {
    let replica = Replica::start("a", 10);
    let (mut proxy, mut connection) = start(&replica);
    let (mut socket, request) = open(&proxy, &mut connection);
    // In the middle of a message user code closes.
    let packed = bomb(8 * 1024 * 1024);
    let all = frames(2, &packed, 4096);
    socket.client.send(&all[..3000]);
    connection.close(&request, 4000, "enough");
    connection.respond(&request, Flags::DONE, b"");
    assert_eq!(socket.close().0, 4000);
    socket.client.send(&all[3000..]);
    // Garbage would be an error if it were looked at.
    socket.client.send(frames(1, b"garbage", 0));
    socket.send(CLOSE, b"\x0f\xa0");
    assert_eq!(socket.frame(), None);
    wait_for(&mut proxy, "websockets_open", 0);
    assert_eq!(proxy.counter("websocket_errors"), 0);
}

#[test]
fn more_slow_clients_than_compressors_get_their_messages_as_they_are() {
    let replica = Replica::start("a", 100);
    let (proxy, mut connection) = start(&replica);
    // Each is in the middle of a message, and holds what compresses it.
    let mut slow: Vec<_> = (0..20).map(|_| open(&proxy, &mut connection)).collect();
    for (_, request) in &slow {
        connection.respond(request, Flags::TEXT, &words(2000));
    }
    let (mut socket, request) = open(&proxy, &mut connection);
    connection.send_message(&request, true, &words(5000));
    assert_eq!(socket.frame(), Some((TEXT, words(5000))));
    for (socket, request) in &mut slow {
        connection.send_message(request, true, &words(100));
        let (mut message, mut is_packed) = (Vec::new(), false);
        loop {
            let (first, payload) = socket.frame().unwrap();
            is_packed |= first & PACKED != 0;
            message.extend(payload);
            if first & 0x80 != 0 {
                break;
            }
        }
        if is_packed {
            message = Packer::new(false).unpack(&message);
        }
        assert_eq!(message, [words(2000), words(100)].concat());
    }
    connection.send_message(&request, true, &words(5000));
    assert_eq!(socket.frame().unwrap().0, TEXT | PACKED);
}
