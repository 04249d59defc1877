//! Clients that end their sending half after their request, as `nc -N` does: they get their answer, if it comes in time.

use std::{io::Read, net::Shutdown, time::Duration};

use eagleray_wire::{Flags, Frame, Kind};

use crate::{
    limits::with,
    support::{
        Client, Connection, Proxy, Replica,
        raw::{self, Raw},
        target,
    },
};

const GET: &str = "GET / HTTP/1.1\r\nhost: test\r\n\r\n";

fn start(limits: &[(&str, f64)]) -> (Replica, Proxy) {
    let replica = Replica::start("a", 10);
    let mut limits = limits.to_vec();
    if limits.is_empty() {
        // Longer than any test waits for an answer.
        limits.extend([("half_close_s", 3600.0), ("half_close_within_s", 3600.0)]);
    }
    let proxy = with(target("D", &[&replica]), &limits);
    (replica, proxy)
}

fn begun(connection: &mut Connection) -> Frame {
    let request = connection.expect(Kind::Request);
    assert!(connection.start(&request));
    request
}

/// Waits until the proxy has seen whatever was sent to it before.
fn seen(proxy: &Proxy) {
    for _ in 0..3 {
        assert_eq!(proxy.client().get("/-/healthz").status, 200);
    }
}

fn half_closed(proxy: &Proxy, request: &str) -> Client {
    let mut client = proxy.client();
    client.send(request);
    client.stream.shutdown(Shutdown::Write).unwrap();
    client
}

#[test]
fn each_request_before_the_end_is_answered() {
    let (replica, proxy) = start(&[]);
    let mut connection = replica.accept();
    let upload = "POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 5\r\n\r\nhello";
    for (sent, requests) in [
        (GET.to_owned(), 1),
        (upload.to_owned(), 1),
        (format!("{GET}{upload}{GET}"), 3),
    ] {
        let mut client = half_closed(&proxy, &sent);
        for _ in 0..requests {
            let request = begun(&mut connection);
            seen(&proxy);
            connection.answer(&request, 200, &[], b"the answer");
            let response = client.response();
            assert_eq!((response.status, response.text()), (200, "the answer"));
        }
        assert!(client.is_closed());
    }
}

#[test]
fn an_answer_that_is_made_as_it_goes_comes_whole() {
    const PIECES: usize = 100;
    // The longer ones leave something over that TLS holds back for a turn.
    for length in [10_000, 64 * 1024] {
        let (replica, proxy) = start(&[]);
        let mut connection = replica.accept();
        let mut client = half_closed(&proxy, GET);
        let request = begun(&mut connection);
        connection.begin_answer(&request, 200, &[]);
        assert_eq!(client.head().status, 200);
        seen(&proxy);
        let replica = std::thread::spawn(move || {
            let mut credit = 64 * 1024;
            for _ in 0..PIECES {
                while credit < length {
                    credit += connection.expect(Kind::Credit).header.a as usize;
                }
                credit -= length;
                connection.respond(&request, Flags::NONE, &vec![b'x'; length]);
            }
            connection.respond(&request, Flags::END.with(Flags::DONE), b"");
            connection
        });
        let mut received = 0;
        loop {
            let chunk = client.chunk().expect("cut");
            if chunk.is_empty() {
                break;
            }
            received += chunk.len();
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(received, PIECES * length);
        assert!(client.is_closed());
        replica.join().unwrap();
    }
}

#[test]
fn over_http2_each_stream_is_answered() {
    let (replica, proxy) = start(&[]);
    let mut connection = replica.accept();
    for length in [10, 60_000] {
        let mut client = Raw::connect(proxy.http2);
        client.get(1);
        client.get(3);
        client.stream.shutdown(Shutdown::Write).unwrap();
        let requests = [begun(&mut connection), begun(&mut connection)];
        seen(&proxy);
        let body = vec![b'x'; length / 2];
        for request in &requests {
            connection.answer(request, 200, &[], &body);
        }
        let (mut whole, mut received) = (0, 0);
        while let Some(frame) = client.next() {
            if frame.kind == raw::DATA {
                received += frame.payload.len();
                whole += usize::from(frame.is_end());
            }
        }
        assert_eq!((whole, received), (2, length));
    }
}

#[test]
fn who_waits_for_too_long_has_left() {
    for limit in [0.0, 0.2] {
        let (replica, proxy) = start(&[("half_close_s", limit), ("half_close_within_s", 3600.0)]);
        let mut connection = replica.accept();
        let mut client = half_closed(&proxy, GET);
        // It may be taken back before it begins.
        let request = connection.expect(Kind::Request);
        connection.start(&request);
        let cancel = connection.expect(Kind::Cancel);
        assert_eq!(cancel.header.sequence, request.header.sequence);
        assert!(client.is_closed());
    }
}

#[test]
fn who_ends_long_after_the_request_has_left() {
    let (replica, proxy) = start(&[("half_close_s", 3600.0), ("half_close_within_s", 0.0)]);
    let mut connection = replica.accept();
    let mut client = proxy.client();
    client.send(GET);
    let request = begun(&mut connection);
    client.stream.shutdown(Shutdown::Write).unwrap();
    let cancel = connection.expect(Kind::Cancel);
    assert_eq!(cancel.header.sequence, request.header.sequence);
    assert!(client.is_closed());
}

#[test]
fn a_body_that_ends_too_early_is_no_request() {
    let (replica, proxy) = start(&[]);
    let mut connection = replica.accept();
    let head = "POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 10\r\n\r\nhell";
    let mut client = half_closed(&proxy, head);
    let mut answer = String::new();
    client.stream.read_to_string(&mut answer).unwrap();
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 400"),
        "{answer}"
    );
    // The first that the replica hears of is another.
    let _other = half_closed(&proxy, GET);
    assert!(!begun(&mut connection).payload.ends_with(b"hell"));
}

#[test]
fn who_has_left_is_noticed_when_something_is_sent() {
    let (replica, proxy) = start(&[]);
    let mut connection = replica.accept();
    let mut client = proxy.client();
    client.send(GET);
    let request = begun(&mut connection);
    connection.begin_answer(&request, 200, &[]);
    client.head();
    drop(client);
    seen(&proxy);
    connection
        .stream
        .set_read_timeout(Some(Duration::from_millis(10)))
        .unwrap();
    // Long before the limit: its kernel says so.
    let mut sent = 0;
    while connection
        .try_frame()
        .is_none_or(|frame| frame.header.kind != Kind::Cancel)
    {
        sent += 1;
        assert!(sent < 200, "nobody noticed");
        connection.respond(&request, Flags::NONE, b"x");
    }
}
