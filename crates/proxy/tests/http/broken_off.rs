//! Answers that break off: what was made of them is at the client before the break, whatever of it was still on its way,
//! and the break is one that the client sees.

use std::{io::Write, time::Duration};

use bytes::BytesMut;
use eagleray_wire::{Flags, Frame, Kind, encode_response_head};

use crate::support::{
    Client, Connection, Proxy, Replica,
    raw::{self, Raw},
    target,
};

const GET: &str = "GET / HTTP/1.1\r\nhost: test\r\n\r\n";
const ROUNDS: usize = 30;
const INTERNAL_ERROR: u32 = 2;

/// A replica's connection, and the proxy before it.
fn start() -> (Replica, Proxy) {
    let replica = Replica::start("a", 10);
    let proxy = Proxy::serving(target("D", &[&replica]));
    (replica, proxy)
}

fn begun(connection: &mut Connection) -> Frame {
    let request = connection.expect(Kind::Request);
    assert!(connection.start(&request));
    request
}

fn broken() -> Flags {
    Flags::END.with(Flags::DONE).with(Flags::ERROR)
}

/// The head, three pieces and the break, so close together that the proxy learns of all of them at once.
fn break_off_at_once(connection: &mut Connection, request: &Frame, fields: &[(&[u8], &[u8])]) {
    let mut head = BytesMut::new();
    encode_response_head(&mut head, 200, fields.iter().copied()).unwrap();
    connection.respond_at_once(
        request,
        &[
            (Flags::HEAD, &head),
            (Flags::NONE, b"one "),
            (Flags::NONE, b"two "),
            (Flags::NONE, b"three"),
            (broken(), b""),
        ],
    );
}

/// Sends so many pieces as there is credit for them, and then breaks off.
fn break_off_after(connection: &mut Connection, request: &Frame, pieces: usize) {
    let mut credit = 64 * 1024;
    for number in 0..pieces {
        while credit < PIECE {
            credit += connection.expect(Kind::Credit).header.a as usize;
        }
        credit -= PIECE;
        connection.respond(request, Flags::NONE, &[number as u8; PIECE]);
    }
    connection.respond(request, broken(), b"");
}

const PIECE: usize = 10_000;

fn all(pieces: usize) -> Vec<u8> {
    (0..pieces)
        .flat_map(|number| [number as u8; PIECE])
        .collect()
}

#[test]
fn over_http1_all_that_was_made_comes_first() {
    let (replica, proxy) = start();
    let mut connection = replica.accept();
    for _ in 0..ROUNDS {
        let mut client = proxy.client();
        client.send(GET);
        let request = begun(&mut connection);
        break_off_at_once(&mut connection, &request, &[]);
        let response = client.response();
        assert_eq!((response.status, response.text()), (200, "one two three"));
        assert!(response.cut && client.is_closed());
    }
}

#[test]
fn an_answer_shorter_than_it_promised_comes_as_far_as_it_goes() {
    let (replica, proxy) = start();
    let mut connection = replica.accept();
    for _ in 0..ROUNDS {
        let mut client = proxy.client();
        client.send(GET);
        let request = begun(&mut connection);
        break_off_at_once(&mut connection, &request, &[(b"content-length", b"1000")]);
        let response = client.response();
        assert_eq!((response.status, response.text()), (200, "one two three"));
        assert!(response.cut && client.is_closed());
    }
}

#[test]
fn over_http_1_0_all_that_was_made_comes() {
    let (replica, proxy) = start();
    let mut connection = replica.accept();
    let mut client = proxy.client();
    client.send("GET / HTTP/1.0\r\n\r\n");
    let request = begun(&mut connection);
    break_off_at_once(&mut connection, &request, &[]);
    assert_eq!(client.response().text(), "one two three");
}

#[test]
fn what_waits_for_a_slow_client_comes_before_the_break() {
    const PIECES: usize = 300;
    let (replica, proxy) = start();
    let mut client = proxy.client();
    client.send(GET);
    let mut connection = replica.accept();
    let request = begun(&mut connection);
    connection.begin_answer(&request, 200, &[]);
    let replica = std::thread::spawn(move || {
        break_off_after(&mut connection, &request, PIECES);
        connection
    });
    assert_eq!(client.head().status, 200);
    let mut body = Vec::new();
    while let Some(chunk) = client.chunk() {
        assert!(!chunk.is_empty(), "it ended as if it were whole");
        body.extend(chunk);
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(body == all(PIECES), "{} bytes", body.len());
    replica.join().unwrap();
}

#[test]
fn a_client_that_is_still_sending_its_body_gets_what_was_made() {
    let (replica, proxy) = start();
    let mut connection = replica.accept();
    for _ in 0..ROUNDS {
        let mut client = proxy.client();
        client.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 3000000\r\n\r\n");
        client.send([b'x'; 1000]);
        let request = begun(&mut connection);
        break_off_at_once(&mut connection, &request, &[]);
        client.stream.write_all(&[b'x'; 500_000]).unwrap();
        let response = client.response();
        assert_eq!((response.status, response.text()), (200, "one two three"));
        assert!(response.cut);
    }
}

/// Reads a stream's answer up to its reset; head and body.
fn until_reset(client: &mut Raw, stream: u32) -> (u16, Vec<u8>) {
    let head = client.expect_on(stream, raw::HEADERS);
    let mut body = Vec::new();
    loop {
        let frame = client.next().expect("the connection ended");
        if frame.stream != stream {
            continue;
        }
        match frame.kind {
            raw::DATA => {
                assert!(!frame.is_end(), "it ended as if it were whole");
                body.extend(&frame.payload);
                if !frame.payload.is_empty() {
                    client.window(0, frame.payload.len() as u32);
                    client.window(stream, frame.payload.len() as u32);
                }
            }
            raw::RST_STREAM => {
                assert_eq!(frame.code(), INTERNAL_ERROR);
                return (head.status(), body);
            }
            kind => panic!("a frame of kind {kind}"),
        }
    }
}

#[test]
fn over_http2_all_that_was_made_comes_before_the_reset() {
    let (replica, proxy) = start();
    let mut client = Raw::connect(proxy.http2);
    let mut connection = replica.accept();
    for round in 0..ROUNDS {
        let stream = 1 + 2 * round as u32;
        client.get(stream);
        let request = begun(&mut connection);
        break_off_at_once(&mut connection, &request, &[]);
        assert_eq!(
            until_reset(&mut client, stream),
            (200, b"one two three".to_vec())
        );
    }
}

#[test]
fn over_http2_what_waits_for_the_window_comes_before_the_reset() {
    const PIECES: usize = 30;
    let (replica, proxy) = start();
    let mut client = Raw::with_settings(proxy.http2, &[(4, 1000)]);
    client.get(1);
    let mut connection = replica.accept();
    let request = begun(&mut connection);
    connection.begin_answer(&request, 200, &[]);
    let replica = std::thread::spawn(move || {
        break_off_after(&mut connection, &request, PIECES);
        connection
    });
    let (status, body) = until_reset(&mut client, 1);
    assert_eq!(status, 200);
    assert!(body == all(PIECES), "{} bytes", body.len());
    // The connection goes on.
    let mut connection = replica.join().unwrap();
    client.get(3);
    let request = begun(&mut connection);
    connection.answer(&request, 200, &[], b"next");
    assert_eq!(client.answer(3).1, b"next");
}

#[test]
fn over_http2_a_client_that_resets_what_broke_off_costs_nobody_else() {
    let (replica, proxy) = start();
    let mut client = Raw::connect(proxy.http2);
    let mut connection = replica.accept();
    for round in 0..ROUNDS as u32 {
        let (broken, whole) = (1 + 4 * round, 3 + 4 * round);
        client.get(broken);
        let request = begun(&mut connection);
        break_off_at_once(&mut connection, &request, &[]);
        client.frame(raw::RST_STREAM, 0, broken, &raw::CANCEL.to_be_bytes());
        client.get(whole);
        let request = begun(&mut connection);
        connection.answer(&request, 200, &[], b"whole");
        assert_eq!(client.answer(whole).1, b"whole");
    }
}

/// Its first bytes, before anything else of it is made.
#[test]
fn a_replica_that_dies_takes_nothing_back() {
    for _ in 0..ROUNDS {
        let (replica, proxy) = start();
        let mut client: Client = proxy.client();
        client.send(GET);
        let mut connection = replica.accept();
        let request = begun(&mut connection);
        connection.begin_answer(&request, 200, &[]);
        connection.respond(&request, Flags::NONE, b"as far as this");
        replica.die();
        let response = client.response();
        assert_eq!((response.status, response.text()), (200, "as far as this"));
        assert!(response.cut);
    }
}
