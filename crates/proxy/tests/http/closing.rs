//! RFC 9112, section 9: an answer says `connection: close` if the connection ends after it, and only then.

use bytes::BytesMut;
use eagleray_types::control::{Empty, proxy_command};
use eagleray_wire::{Flags, Frame, Kind, RequestHead, encode_response_head};

use crate::{
    limits,
    support::{Client, Connection, Proxy, Replica, Response, answer_all, raw, sync_target, target},
};

const MEBIBYTE: usize = 1024 * 1024;
/// What a replica is sent of a body before it asks, and what the router keeps for it beside that.
const WINDOW: usize = 64 * 1024;

fn upload(path: &str, length: usize) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: test\r\ncontent-length: {length}\r\n\r\n")
}

fn chunked(path: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n")
}

/// The proxy closes, and has said so.
#[track_caller]
fn assert_ends(client: &mut Client, response: &Response, status: u16) {
    assert_eq!(response.status, status, "{response:?}");
    assert_eq!(response.header("connection"), Some("close"), "{response:?}");
    assert!(client.is_closed());
}

/// The proxy has not said that it closes, and answers the next request.
#[track_caller]
fn assert_goes_on(client: &mut Client, response: &Response, status: u16) {
    assert_eq!(response.status, status, "{response:?}");
    assert_eq!(response.header("connection"), None, "{response:?}");
    let next = client.get("/-/healthz");
    assert_eq!((next.status, next.text()), (200, "success"));
    assert_eq!(next.header("connection"), None, "{next:?}");
}

/// A proxy that has applications at `/a` only.
fn with_route(replica: &Replica) -> Proxy {
    let mut proxy = Proxy::start();
    proxy.snapshot(&[("/a", target("D", &[replica]))]);
    proxy
}

/// A request that a replica has begun to work on.
fn begun(proxy: &Proxy, replica: &mut Connection, head: &str) -> (Client, Frame) {
    let mut client = proxy.client();
    client.send(head);
    let request = replica.expect(Kind::Request);
    assert!(replica.start(&request));
    (client, request)
}

#[test]
fn an_upload_without_a_route_is_told_that_the_connection_ends() {
    let replica = Replica::serving("a", 10, answer_all);
    let proxy = with_route(&replica);
    for head in [upload("/none", MEBIBYTE), chunked("/none")] {
        let mut client = proxy.client();
        client.send(head);
        let response = client.response();
        assert_ends(&mut client, &response, 404);
    }
}

#[test]
fn a_client_that_reads_only_after_its_refused_upload_still_gets_the_answer() {
    let replica = Replica::serving("a", 10, answer_all);
    let proxy = with_route(&replica);
    for _ in 0..20 {
        let mut client = proxy.client();
        client.send(upload("/none", 4 * MEBIBYTE));
        for piece in vec![b'x'; 4 * MEBIBYTE].chunks(64 * 1024) {
            client.send(piece);
        }
        let response = client.response();
        assert_ends(&mut client, &response, 404);
    }
}

#[test]
fn a_short_body_that_came_with_its_head_costs_no_connection() {
    let replica = Replica::serving("a", 10, answer_all);
    let proxy = with_route(&replica);
    let mut client = proxy.client();
    for _ in 0..3 {
        client.send(upload("/none", 5) + "hello");
        let response = client.response();
        assert_goes_on(&mut client, &response, 404);
    }
}

#[test]
fn an_expectation_that_is_refused_is_told_that_the_connection_ends() {
    let replica = Replica::serving("a", 10, answer_all);
    let mut proxy = Proxy::start();
    proxy.snapshot(&[("/a", sync_target("D", &[&replica], 1000))]);
    for (path, status) in [("/none", 404), ("/a", 413)] {
        let mut client = proxy.client();
        let head = upload(path, MEBIBYTE).replace("host:", "expect: 100-continue\r\nhost:");
        client.send(head);
        let response = client.response();
        assert_ends(&mut client, &response, status);
    }
}

#[test]
fn an_answer_before_the_end_of_an_upload_says_that_the_connection_ends() {
    let replica = Replica::start("a", 10);
    let proxy = Proxy::serving(target("D", &[&replica]));
    let mut connection = replica.accept();
    for head in [upload("/", MEBIBYTE), chunked("/")] {
        for status in [200, 401] {
            let (mut client, request) = begun(&proxy, &mut connection, &head);
            connection.answer(&request, status, &[], b"enough");
            let response = client.response();
            assert_eq!(response.text(), "enough");
            assert_ends(&mut client, &response, status);
        }
    }
}

#[test]
fn user_code_that_fails_before_the_end_of_an_upload_ends_the_connection() {
    let replica = Replica::start("a", 10);
    let proxy = Proxy::serving(target("D", &[&replica]));
    let mut connection = replica.accept();
    let (mut client, request) = begun(&proxy, &mut connection, &upload("/", MEBIBYTE));
    let flags = Flags::ERROR.with(Flags::END).with(Flags::DONE);
    connection.respond(&request, flags, b"");
    let response = client.response();
    assert_ends(&mut client, &response, 500);
}

#[test]
fn an_upload_that_runs_into_its_deadline_ends_the_connection() {
    let replica = Replica::serving("a", 10, answer_all);
    let proxy = Proxy::serving(sync_target("D", &[&replica], MEBIBYTE as u64));
    let mut client = proxy.client();
    let head = upload("/", 1000).replace("host:", "x-request-timeout-seconds: 0.1\r\nhost:");
    client.send(head + "a part");
    let response = client.response();
    assert_ends(&mut client, &response, 408);
}

#[test]
fn an_upload_that_finds_the_queue_full_ends_the_connection() {
    let mut full = target("D", &[]);
    full.max_queued_requests = 0;
    let proxy = Proxy::serving(full);
    let mut client = proxy.client();
    client.send(upload("/", MEBIBYTE));
    let response = client.response();
    assert_ends(&mut client, &response, 503);
    // One that was read whole costs no connection.
    let mut client = proxy.client();
    let response = client.post("/", b"hello");
    assert_goes_on(&mut client, &response, 503);
}

/// A request whose body is there and of which no more is read: one window of it is at the replica, one waits in the
/// router, one piece in hyper and the last one in the kernel.
fn unread(proxy: &Proxy, client: &mut Client, connection: &mut Connection) -> Frame {
    client.send(upload("/", 2 * WINDOW + 20));
    client.send([b'x'; WINDOW]);
    let request = connection.expect(Kind::Request);
    assert!(connection.start(&request));
    let mut received = RequestHead::decode(&request.payload).unwrap().1.len();
    while received < WINDOW {
        received += connection.expect(Kind::Body).payload.len();
    }
    let mut other = proxy.client();
    for piece in [&[b'x'; WINDOW][..], &[b'x'; 10], &[b'x'; 10]] {
        client.send(piece);
        // The one thread of the proxy has had its turn for that piece.
        for _ in 0..5 {
            assert_eq!(other.get("/-/healthz").status, 200);
        }
    }
    request
}

#[test]
fn an_upload_that_nobody_read_but_that_is_there_costs_no_connection() {
    let replica = Replica::start("a", 10);
    let proxy = Proxy::serving(target("D", &[&replica]));
    let mut connection = replica.accept();
    let mut client = proxy.client();
    for _ in 0..3 {
        let request = unread(&proxy, &mut client, &mut connection);
        connection.answer(&request, 200, &[], b"unread");
        let response = client.response();
        assert_eq!(response.text(), "unread");
        assert_goes_on(&mut client, &response, 200);
    }
}

#[test]
fn a_connection_that_goes_on_after_an_unread_body_may_be_idle_as_any() {
    let replica = Replica::start("a", 10);
    let mut proxy = limits::with(target("D", &[&replica]), &[("header_read_s", 0.2)]);
    let mut connection = replica.accept();
    let mut client = proxy.client();
    let request = unread(&proxy, &mut client, &mut connection);
    connection.answer(&request, 200, &[], b"unread");
    assert_eq!(client.response().status, 200);
    // Others are late with their heads, twice over: what was read of the body must not be taken for a head.
    for round in 1..=2 {
        let mut late = proxy.client();
        late.send("GET / HT");
        assert_eq!(late.response().status, 408);
        limits::wait_for(&mut proxy, "heads_timed_out", round);
    }
    assert_eq!(client.get("/-/healthz").text(), "success");
}

#[test]
fn a_streamed_answer_to_an_upload_that_user_code_no_longer_reads() {
    let replica = Replica::start("a", 10);
    let proxy = Proxy::serving(target("D", &[&replica]));
    let mut connection = replica.accept();
    // What is still read may be read to its end: the head promises nothing.
    let (mut client, request) = begun(&proxy, &mut connection, &upload("/", MEBIBYTE));
    connection.begin_answer(&request, 200, &[]);
    let head = client.head();
    assert_eq!((head.status, head.header("connection")), (200, None));
    connection.respond(&request, Flags::END.with(Flags::DONE), b"late");
    assert_eq!(client.chunk().unwrap(), b"late");
    assert_eq!(client.chunk().unwrap(), b"");
    assert!(client.is_closed());
    // One that has ended by the time of the head is no longer read.
    let (mut client, request) = begun(&proxy, &mut connection, &upload("/", MEBIBYTE));
    let mut answer = BytesMut::new();
    encode_response_head(&mut answer, 200, []).unwrap();
    connection.respond_at_once(
        &request,
        &[
            (Flags::HEAD, &answer),
            (Flags::END.with(Flags::DONE), b"whole"),
        ],
    );
    let response = client.response();
    assert_eq!(response.text(), "whole");
    assert_ends(&mut client, &response, 200);
    // And if it is read to its end, the connection goes on.
    let (mut client, request) = begun(&proxy, &mut connection, &chunked("/"));
    connection.begin_answer(&request, 200, &[]);
    client.send("5\r\nhello\r\n0\r\n\r\n");
    while !connection
        .expect(Kind::Body)
        .header
        .flags
        .contains(Flags::END)
    {}
    connection.respond(&request, Flags::END.with(Flags::DONE), b"");
    let response = client.response();
    assert_goes_on(&mut client, &response, 200);
}

#[test]
fn trailers_that_come_after_the_head_of_the_answer_end_the_connection_too() {
    let replica = Replica::start("a", 10);
    let proxy = Proxy::serving(target("D", &[&replica]));
    let mut connection = replica.accept();
    let (mut client, request) = begun(&proxy, &mut connection, &chunked("/"));
    connection.begin_answer(&request, 200, &[]);
    assert_eq!(client.head().header("connection"), None);
    client.send("5\r\nhello\r\n0\r\nx: y\r\n\r\n");
    while !connection
        .expect(Kind::Body)
        .header
        .flags
        .contains(Flags::END)
    {}
    connection.respond(&request, Flags::END.with(Flags::DONE), b"");
    assert_eq!(client.chunk().unwrap(), b"");
    client.send_all(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    assert!(client.is_closed());
}

#[test]
fn a_wish_to_close_is_echoed() {
    let replica = Replica::serving("a", 10, answer_all);
    let proxy = with_route(&replica);
    for (path, status) in [("/a", 200), ("/none", 404), ("/-/healthz", 200)] {
        for wish in ["close", "Close", "keep-alive, close"] {
            let mut client = proxy.client();
            client.send(format!(
                "GET {path} HTTP/1.1\r\nhost: test\r\nconnection: {wish}\r\n\r\n"
            ));
            let response = client.response();
            assert_ends(&mut client, &response, status);
        }
    }
}

#[test]
fn what_is_refused_by_its_syntax_says_that_the_connection_ends() {
    let replica = Replica::serving("a", 10, answer_all);
    let proxy = with_route(&replica);
    for (head, status) in [
        ("GET /a HTTP/1.1\r\nhost : test\r\n\r\n".to_owned(), 400),
        ("GET /a HTTP/1.1\r\n\r\n".to_owned(), 400),
        (
            format!(
                "GET /a HTTP/1.1\r\nhost: test\r\nx: {}\r\n\r\n",
                "y".repeat(70_000)
            ),
            431,
        ),
    ] {
        let mut client = proxy.client();
        client.send(head);
        let response = client.response();
        assert_ends(&mut client, &response, status);
    }
}

#[test]
fn a_drain_is_said_in_the_answer_that_is_the_last() {
    let replica = Replica::start("a", 10);
    let mut proxy = Proxy::serving(target("D", &[&replica]));
    let mut connection = replica.accept();
    let (mut client, request) = begun(
        &proxy,
        &mut connection,
        "GET / HTTP/1.1\r\nhost: test\r\n\r\n",
    );
    let mut idle = proxy.client();
    assert_eq!(idle.get("/-/healthz").status, 200);
    proxy.command(proxy_command::Body::Drain(Empty {}));
    assert!(idle.is_closed());
    connection.answer(&request, 200, &[], b"the last");
    let response = client.response();
    assert_ends(&mut client, &response, 200);
    proxy.join().unwrap();
}

/// `None`: the connection ends. That is what HTTP/1.0 does if nothing is said.
#[track_caller]
fn assert_old(client: &mut Client, response: &Response, connection: Option<&str>) {
    assert_eq!(response.header("connection"), connection, "{response:?}");
    assert_eq!(response.status, 200, "{response:?}");
    if connection == Some("keep-alive") {
        assert_eq!(client.get("/-/healthz").text(), "success");
    } else {
        assert!(client.is_closed());
    }
}

const OLD: &str = "POST / HTTP/1.0\r\nconnection: keep-alive\r\ncontent-length: ";

#[test]
fn http_1_0_is_promised_its_connection_only_if_it_goes_on() {
    let replica = Replica::start("a", 10);
    let proxy = Proxy::serving(target("D", &[&replica]));
    let mut connection = replica.accept();
    let cases = [
        ("GET / HTTP/1.0\r\n\r\n".to_owned(), None),
        (
            "GET / HTTP/1.0\r\nconnection: close\r\n\r\n".to_owned(),
            None,
        ),
        (
            "GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n".to_owned(),
            Some("keep-alive"),
        ),
        (format!("{OLD}5\r\n\r\nhello"), Some("keep-alive")),
        // Answered early.
        (format!("{OLD}{MEBIBYTE}\r\n\r\n"), None),
    ];
    for (head, expected) in cases {
        let (mut client, request) = begun(&proxy, &mut connection, &head);
        connection.answer(&request, 200, &[], b"whole");
        let response = client.response();
        assert_eq!(response.text(), "whole");
        assert_old(&mut client, &response, expected);
    }
}

#[test]
fn an_answer_of_http_1_0_that_only_the_end_of_the_connection_ends_does_not_promise_it() {
    let replica = Replica::start("a", 10);
    let proxy = Proxy::serving(target("D", &[&replica]));
    let mut connection = replica.accept();
    let head = "GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n";
    for (fields, expected) in [
        (&[][..], "close"),
        (&[(&b"content-length"[..], &b"4"[..])][..], "keep-alive"),
    ] {
        let (mut client, request) = begun(&proxy, &mut connection, head);
        connection.begin_answer(&request, 200, fields);
        connection.respond(&request, Flags::END.with(Flags::DONE), b"some");
        let response = client.response();
        assert_eq!(response.text(), "some");
        assert_old(&mut client, &response, Some(expected));
    }
}

#[test]
fn a_refusal_in_http_1_0_does_not_promise_the_connection_beside_its_end() {
    let replica = Replica::serving("a", 10, answer_all);
    let proxy = Proxy::serving(sync_target("D", &[&replica], 1000));
    let mut client = proxy.client();
    client.send(format!("{OLD}2000\r\n\r\n"));
    let response = client.response();
    assert_ends(&mut client, &response, 413);
}

#[test]
fn user_code_that_says_close_ends_the_connection_after_its_answer() {
    let replica = Replica::start("a", 10);
    let proxy = Proxy::serving(target("D", &[&replica]));
    let mut connection = replica.accept();
    for value in ["close", "Keep-Alive, Close"] {
        for is_streamed in [false, true] {
            let mut client = proxy.client();
            client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
            let request = connection.expect(Kind::Request);
            assert!(connection.start(&request));
            let fields = [(&b"connection"[..], value.as_bytes())];
            if is_streamed {
                connection.begin_answer(&request, 200, &fields);
                connection.respond(&request, Flags::END.with(Flags::DONE), b"bye");
            } else {
                connection.answer(&request, 200, &fields, b"bye");
            }
            let response = client.response();
            assert_eq!(response.text(), "bye");
            assert_ends(&mut client, &response, 200);
        }
    }
    // Of a connection of many streams it is not user code's to say.
    let mut client = raw::Raw::connect(proxy.http2);
    for stream in [1, 3] {
        client.get(stream);
        let request = connection.expect(Kind::Request);
        assert!(connection.start(&request));
        connection.answer(&request, 200, &[(b"connection", b"close")], b"hello");
        assert_eq!(client.expect_on(stream, raw::HEADERS).kind, raw::HEADERS);
        assert_eq!(client.expect_on(stream, raw::DATA).payload, b"hello");
    }
}
