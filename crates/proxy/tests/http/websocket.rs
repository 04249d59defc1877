//! WebSocket: the handshake, messages both ways, and every way in which it ends.

mod autobahn;
mod compression;
mod hostile;
mod packing;
mod pressure;

use std::time::{Duration, Instant};

use eagleray_proxy::{Limits, Options};
use eagleray_types::control::{Empty, proxy_command};
use eagleray_wire::{Flags, Kind, RequestHead};

use crate::support::{
    Connection, PATIENCE, Proxy, Replica, target,
    websocket::{BINARY, CLOSE, HANDSHAKE, PING, PONG, Socket, TEXT},
};

fn with_limits(replica: &Replica, limits: &[(&str, f64)]) -> (Proxy, Connection) {
    let mut options = Options {
        threads: 1.try_into().unwrap(),
        limits: Limits::default(),
        ..Options::default()
    };
    options.limits.set(limits.iter().copied()).unwrap();
    let mut proxy = Proxy::with(options);
    proxy.snapshot(&[("/", target("D", &[replica]))]);
    (proxy, replica.accept())
}

fn start(replica: &Replica) -> (Proxy, Connection) {
    with_limits(replica, &[])
}

fn wait_for(proxy: &mut Proxy, counter: &str, wanted: u64) {
    let since = Instant::now();
    while proxy.counter(counter) != wanted {
        assert!(since.elapsed() < PATIENCE, "{counter} never was {wanted}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn messages_go_both_ways_with_their_kind_and_their_ends() {
    let replica = Replica::start("a", 10);
    let (mut proxy, mut connection) = start(&replica);
    let (mut socket, request) = Socket::open(&proxy, &mut connection, "", &[]);
    let long: Vec<u8> = (0..300_000_u32).map(|number| number as u8).collect();
    for (is_text, data) in [
        (true, "grüße".as_bytes()),
        (false, b"\0\xff"),
        (true, b""),
        (false, b""),
        (false, &long),
    ] {
        socket.send(if is_text { TEXT } else { BINARY }, data);
        let message = connection.message(&request).unwrap();
        assert_eq!(message, (is_text, data.to_vec()));
    }
    for (first, data) in [(TEXT, "grüße".as_bytes()), (BINARY, b"\0\xff"), (TEXT, b"")] {
        connection.send_message(&request, first == TEXT, data);
        assert_eq!(socket.frame(), Some((first, data.to_vec())));
    }
    assert_eq!(proxy.counter("websockets_open"), 1);
    assert_eq!(proxy.counter("websockets_accepted"), 1);
}

#[test]
fn a_message_of_the_replica_in_pieces_is_one_message() {
    let replica = Replica::start("a", 10);
    let (proxy, mut connection) = start(&replica);
    let (mut socket, request) = Socket::open(&proxy, &mut connection, "", &[]);
    connection.respond(&request, Flags::TEXT, b"one ");
    connection.respond(&request, Flags::TEXT, b"two ");
    connection.send_message(&request, true, b"three");
    let mut text = Vec::new();
    let mut firsts = Vec::new();
    while text.len() < 13 {
        let (first, data) = socket.frame().unwrap();
        firsts.push(first);
        text.extend(data);
    }
    assert_eq!(text, b"one two three");
    assert_eq!(firsts, [0x01, 0x00, 0x80]);
}

#[test]
fn fragments_with_pings_between_them_are_one_message() {
    let replica = Replica::start("a", 10);
    let (proxy, mut connection) = start(&replica);
    let (mut socket, request) = Socket::open(&proxy, &mut connection, "", &[]);
    let euro = "€".as_bytes();
    socket.send(0x01, &euro[..1]);
    socket.send(PING, b"still there?");
    socket.send(0x00, &euro[1..2]);
    socket.send(0x80, &euro[2..]);
    assert_eq!(socket.frame(), Some((PONG, b"still there?".to_vec())));
    assert_eq!(connection.message(&request), Ok((true, euro.to_vec())));
}

#[test]
fn the_head_names_the_websocket_and_the_answer_its_subprotocol() {
    let replica = Replica::start("a", 10);
    let (proxy, mut connection) = start(&replica);
    let mut client = proxy.client();
    client.send(format!(
        "{HANDSHAKE}sec-websocket-protocol: soap, chat\r\nsec-websocket-extensions: x-mine\r\n\r\n"
    ));
    let request = connection.expect(Kind::Request);
    assert!(connection.start(&request));
    let Ok((RequestHead::Http(head), _)) = RequestHead::decode(&request.payload) else {
        panic!("not http")
    };
    assert_eq!(
        (head.path, head.query, head.method),
        (&b"/chat"[..], &b"a=b"[..], &b"GET"[..])
    );
    let named = |wanted: &[u8]| head.headers.iter().any(|(name, _)| name == wanted);
    assert!(named(b"sec-websocket-protocol") && named(b"upgrade") && named(b"connection"));
    connection.begin_answer(
        &request,
        101,
        &[
            (b"sec-websocket-protocol", b"chat"),
            (b"x-mine", b"1"),
            (b"sec-websocket-extensions", b"x-mine"),
            (b"content-length", b"5"),
        ],
    );
    let response = client.head();
    assert_eq!(response.status, 101);
    for (name, value) in [
        ("upgrade", Some("websocket")),
        ("connection", Some("upgrade")),
        ("sec-websocket-protocol", Some("chat")),
        ("x-mine", Some("1")),
        ("sec-websocket-extensions", None),
        ("content-length", None),
    ] {
        assert_eq!(response.header(name), value, "{name}");
    }
    assert!(response.header("x-request-id").is_some());
}

#[test]
fn a_subprotocol_that_was_not_offered_is_500() {
    let replica = Replica::start("a", 10);
    let (proxy, mut connection) = start(&replica);
    for offered in ["", "sec-websocket-protocol: soap\r\n"] {
        let mut client = proxy.client();
        client.send(format!("{HANDSHAKE}{offered}\r\n"));
        let request = connection.expect(Kind::Request);
        assert!(connection.start(&request));
        connection.begin_answer(&request, 101, &[(b"sec-websocket-protocol", b"chat")]);
        assert_eq!(client.response().status, 500);
        connection.expect(Kind::Cancel);
        connection.respond(&request, Flags::END.with(Flags::DONE), b"");
    }
}

#[test]
fn an_answer_that_does_not_accept_is_passed_on_and_the_connection_goes_on() {
    let replica = Replica::start("a", 10);
    let (proxy, mut connection) = start(&replica);
    let mut client = proxy.client();
    for status in [403, 401, 200] {
        // What comes behind the request is not looked at before user code accepts.
        client.send(format!("{HANDSHAKE}\r\n"));
        let request = connection.expect(Kind::Request);
        assert!(connection.start(&request));
        connection.answer(&request, status, &[(b"x-why", b"no")], b"not you");
        let response = client.response();
        assert_eq!((response.status, response.text()), (status, "not you"));
        assert_eq!(response.header("x-why"), Some("no"));
    }
}

#[test]
fn frames_that_come_before_the_answer_wait_for_it() {
    let replica = Replica::start("a", 10);
    let (proxy, mut connection) = start(&replica);
    let mut client = proxy.client();
    let early = crate::support::websocket::masked(TEXT, b"early");
    client.send([format!("{HANDSHAKE}\r\n").as_bytes(), &early].concat());
    let request = connection.expect(Kind::Request);
    assert!(connection.start(&request));
    connection.begin_answer(&request, 101, &[]);
    assert_eq!(client.head().status, 101);
    assert_eq!(connection.message(&request), Ok((true, b"early".to_vec())));
}

#[test]
fn a_client_that_leaves_before_the_answer_cancels() {
    let replica = Replica::start("a", 10);
    let (proxy, mut connection) = start(&replica);
    let mut client = proxy.client();
    client.send(format!("{HANDSHAKE}\r\n"));
    let request = connection.expect(Kind::Request);
    assert!(connection.start(&request));
    drop(client);
    let cancel = connection.expect(Kind::Cancel);
    assert_eq!(cancel.header.sequence, request.header.sequence);
}

#[test]
fn a_client_that_closes_is_answered_and_user_code_is_told() {
    let replica = Replica::start("a", 10);
    let (mut proxy, mut connection) = start(&replica);
    for (payload, code, reason) in [
        (&b"\x03\xe8bye"[..], 1000, "bye"),
        (b"\x0f\xa1", 4001, ""),
        (b"", 1005, ""),
    ] {
        let (mut socket, request) = Socket::open(&proxy, &mut connection, "", &[]);
        socket.send(TEXT, b"last words");
        socket.send(CLOSE, payload);
        assert_eq!(socket.close(), (code, reason.to_owned()));
        assert_eq!(socket.frame(), None);
        assert_eq!(
            connection.message(&request),
            Ok((true, b"last words".to_vec()))
        );
        assert_eq!(connection.message(&request), Err((code, reason.to_owned())));
        // It hears of the end by its message, and the slot is its own until it returns.
        connection.expect(Kind::Cancel);
        connection.respond(&request, Flags::END.with(Flags::DONE), b"");
    }
    wait_for(&mut proxy, "websockets_open", 0);
}

#[test]
fn a_client_that_is_gone_is_1006() {
    let replica = Replica::start("a", 10);
    let (proxy, mut connection) = start(&replica);
    let (mut socket, request) = Socket::open(&proxy, &mut connection, "", &[]);
    socket.send(TEXT, b"last words");
    drop(socket);
    assert_eq!(
        connection.message(&request),
        Ok((true, b"last words".to_vec()))
    );
    assert_eq!(connection.message(&request), Err((1006, String::new())));
}

#[test]
fn user_code_closes_and_the_client_has_the_last_word() {
    let replica = Replica::start("a", 10);
    let (mut proxy, mut connection) = start(&replica);
    for (code, shown) in [(1000, 1000), (4321, 4321), (1006, 1005)] {
        let (mut socket, request) = Socket::open(&proxy, &mut connection, "", &[]);
        connection.send_message(&request, true, b"first");
        connection.close(&request, code, "enough");
        connection.respond(&request, Flags::DONE, b"");
        assert_eq!(socket.frame(), Some((TEXT, b"first".to_vec())));
        assert_eq!(socket.close().0, shown);
        socket.send(TEXT, b"too late");
        socket.send(CLOSE, b"\x03\xe8");
        assert_eq!(socket.frame(), None);
    }
    wait_for(&mut proxy, "websockets_open", 0);
}

#[test]
fn a_client_that_does_not_answer_the_close_is_cut() {
    let replica = Replica::start("a", 10);
    let (mut proxy, mut connection) = start(&replica);
    let (mut socket, request) = Socket::open(&proxy, &mut connection, "", &[]);
    connection.close(&request, 1000, "");
    connection.respond(&request, Flags::DONE, b"");
    assert_eq!(socket.close().0, 1000);
    assert_eq!(socket.frame(), None);
    wait_for(&mut proxy, "websockets_open", 0);
}

#[test]
fn code_that_fails_and_a_replica_that_dies_are_1011() {
    let replica = Replica::start("a", 10);
    let (proxy, mut connection) = start(&replica);
    let (mut socket, request) = Socket::open(&proxy, &mut connection, "", &[]);
    let (mut other, _request) = Socket::open(&proxy, &mut connection, "", &[]);
    connection.respond(
        &request,
        Flags::END.with(Flags::DONE).with(Flags::ERROR),
        b"",
    );
    assert_eq!(
        socket.close(),
        (1011, "the code of the deployment failed".to_owned())
    );
    replica.die();
    assert_eq!(other.close(), (1011, "the replica died".to_owned()));
}

#[test]
fn a_proxy_that_drains_says_1012_and_ends() {
    let replica = Replica::start("a", 10);
    let (mut proxy, mut connection) = start(&replica);
    let (mut socket, request) = Socket::open(&proxy, &mut connection, "", &[]);
    proxy.command(proxy_command::Body::Drain(Empty {}));
    assert_eq!(socket.close().0, 1012);
    assert_eq!(connection.message(&request).unwrap_err().0, 1012);
    socket.send(CLOSE, b"\x03\xf4");
    proxy.join().unwrap();
}

#[test]
fn the_time_limit_of_a_request_ends_with_its_acceptance() {
    let replica = Replica::start("a", 10);
    let (proxy, mut connection) = start(&replica);
    let limit = "x-request-timeout-seconds: 0.3\r\n";
    let (mut socket, request) = Socket::open(&proxy, &mut connection, limit, &[]);
    // Another with the same limit is not accepted, and says when the limit has passed.
    let mut late = proxy.client();
    late.send(format!("{HANDSHAKE}{limit}\r\n"));
    assert_eq!(late.response().status, 408);
    connection.send_message(&request, true, b"still here");
    assert_eq!(socket.frame(), Some((TEXT, b"still here".to_vec())));
}

#[test]
fn a_silent_client_is_pinged_and_one_that_does_not_answer_is_cut() {
    let replica = Replica::start("a", 10);
    let limits = [
        ("websocket_ping_s", 0.1),
        ("websocket_pong_s", 0.4),
        ("header_read_s", 0.1),
    ];
    let (mut proxy, mut connection) = with_limits(&replica, &limits);
    let (mut socket, request) = Socket::open(&proxy, &mut connection, "", &[]);
    for _ in 0..3 {
        assert_eq!(socket.frame(), Some((PING, Vec::new())));
        socket.send(PONG, b"");
    }
    assert_eq!(socket.frame(), Some((PING, Vec::new())));
    assert_eq!(socket.frame(), None);
    assert_eq!(connection.message(&request), Err((1006, String::new())));
    assert_eq!(proxy.counter("websockets_silent"), 1);
}
