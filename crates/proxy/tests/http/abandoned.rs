//! Requests that go on when their client has left, because they asked for it.

use std::{net::TcpStream, time::Instant};

use eagleray_types::control::{Empty, proxy_command};
use eagleray_wire::{Flags, Frame, Kind, RequestHead};

use crate::{
    limits::{wait_for, with},
    support::{
        Client, Connection, PATIENCE, Proxy, Replica,
        raw::{self, Raw},
        target,
    },
};

const OPEN: &str = "requests_abandoned_open";
const LENGTH: usize = 1_000_000;

fn ask(client: &mut Client, value: &str) {
    client.send(format!(
        "GET / HTTP/1.1\r\nhost: test\r\nx-request-disconnect-disabled: {value}\r\n\r\n"
    ));
}

fn begun(connection: &mut Connection) -> Frame {
    let request = connection.expect(Kind::Request);
    assert!(connection.start(&request));
    request
}

// contract: 10.3/disconnect
#[test]
fn a_request_that_asks_for_it_outlives_its_client() {
    let replica = Replica::start("a", 10);
    let mut proxy = Proxy::serving(target("D", &[&replica]));
    let mut connection = replica.accept();
    // Before its answer, and in the middle of it. What the replica says afterwards finds a reader.
    for has_begun in [false, true] {
        let mut client = proxy.client();
        ask(&mut client, "?1");
        let request = begun(&mut connection);
        if has_begun {
            connection.begin_answer(&request, 200, &[]);
            client.head();
        }
        drop(client);
        wait_for(&mut proxy, OPEN, 1);
        if has_begun {
            connection.continue_long(&request, &[b'x'; LENGTH]);
        } else {
            connection.answer_long(&request, &[b'x'; LENGTH]);
        }
        wait_for(&mut proxy, OPEN, 0);
    }
    // Nothing was cancelled meanwhile, and without the header a request is.
    for value in ["?0", "1", "true"] {
        let mut client = proxy.client();
        ask(&mut client, value);
        let request = begun(&mut connection);
        drop(client);
        connection.expect(Kind::Cancel);
        connection.respond(&request, Flags::END.with(Flags::DONE), b"");
    }
    assert_eq!(proxy.counter("requests_abandoned_cancelled"), 0);
}

#[test]
fn one_more_than_may_outlive_their_clients_is_cancelled() {
    let replica = Replica::start("a", 10);
    let mut proxy = with(target("D", &[&replica]), &[("abandoned_requests", 1.0)]);
    let mut connection = replica.accept();
    let mut first = proxy.client();
    ask(&mut first, "?1");
    let kept = begun(&mut connection);
    drop(first);
    wait_for(&mut proxy, OPEN, 1);
    let mut second = proxy.client();
    ask(&mut second, "?1");
    let request = begun(&mut connection);
    drop(second);
    let cancel = connection.expect(Kind::Cancel);
    assert_eq!(cancel.header.sequence, request.header.sequence);
    wait_for(&mut proxy, "requests_abandoned_cancelled", 1);
    connection.answer(&kept, 200, &[], b"done");
    wait_for(&mut proxy, OPEN, 0);
}

#[test]
fn a_request_whose_body_has_not_come_ends_with_its_client() {
    let replica = Replica::start("a", 10);
    let proxy = Proxy::serving(target("D", &[&replica]));
    let mut connection = replica.accept();
    let mut client = proxy.client();
    client.send(
        "POST / HTTP/1.1\r\nhost: test\r\nx-request-disconnect-disabled: ?1\r\ncontent-length: 300000\r\n\r\n",
    );
    client.send(vec![b'x'; 100_000]);
    let request = begun(&mut connection);
    drop(client);
    let cancel = connection.expect(Kind::Cancel);
    assert_eq!(cancel.header.sequence, request.header.sequence);
}

#[test]
fn a_drain_waits_for_requests_that_outlive_their_clients() {
    let replica = Replica::start("a", 10);
    let mut proxy = Proxy::serving(target("D", &[&replica]));
    let mut connection = replica.accept();
    let mut client = proxy.client();
    ask(&mut client, "?1");
    let request = begun(&mut connection);
    drop(client);
    wait_for(&mut proxy, OPEN, 1);
    proxy.command(proxy_command::Body::Drain(Empty {}));
    // Until it has closed its listener, or somebody else has the port.
    let since = Instant::now();
    while since.elapsed() < PATIENCE && TcpStream::connect(proxy.own_address).is_ok() {
        std::thread::yield_now();
    }
    connection.answer_long(&request, &[b'x'; LENGTH]);
    proxy.join().unwrap();
}

/// Leaves a request that asks to go on; `kept` do so then.
fn leave(proxy: &mut Proxy, kept: u64) {
    let mut client = proxy.client();
    ask(&mut client, "?1");
    drop(client);
    wait_for(proxy, OPEN, kept);
}

#[test]
fn requests_that_nobody_waits_for_go_after_those_that_somebody_waits_for() {
    let replica = Replica::start("a", 1);
    let mut proxy = with(target("D", &[&replica]), &[]);
    let mut connection = replica.accept();
    let mut first = proxy.client();
    first.send("GET /first HTTP/1.1\r\nhost: test\r\n\r\n");
    let mut running = begun(&mut connection);
    for number in 1..=3 {
        leave(&mut proxy, number);
    }
    let mut honest = proxy.client();
    honest.send("GET /honest HTTP/1.1\r\nhost: test\r\n\r\n");
    // Its turn comes when the proxy has taken it.
    assert_eq!(proxy.client().get("/-/healthz").status, 200);
    let mut paths = Vec::new();
    for _ in 0..4 {
        connection.answer_with(&running, Flags::GRANT, 200, &[], b"done");
        running = begun(&mut connection);
        let (RequestHead::Http(head), _) = RequestHead::decode(&running.payload).unwrap() else {
            panic!("not http")
        };
        paths.push(String::from_utf8(head.path.to_vec()).unwrap());
    }
    assert_eq!(paths, ["/honest", "/", "/", "/"]);
}

#[test]
fn they_are_bounded_for_a_deployment_and_for_a_connection() {
    let (one, two) = (Replica::start("a", 100), Replica::start("b", 100));
    let mut proxy = with(
        target("D", &[&one]),
        &[
            ("abandoned_requests_per_deployment", 3.0),
            ("abandoned_requests_per_connection", 2.0),
        ],
    );
    proxy.snapshot(&[("/", target("D", &[&one])), ("/e", target("E", &[&two]))]);
    let mut connection = one.accept();
    for number in 1..=3 {
        leave(&mut proxy, number);
    }
    let mut client = proxy.client();
    ask(&mut client, "?1");
    drop(client);
    wait_for(&mut proxy, "requests_abandoned_cancelled", 1);
    assert_eq!(proxy.counter(OPEN), 3);
    // Another deployment has its own, and a connection of many requests keeps two.
    let mut client = Raw::connect(proxy.http2);
    for number in 0..3 {
        let mut fields = raw::GET.to_vec();
        fields[2] = (":path", "/e");
        fields.push(("x-request-disconnect-disabled", "?1"));
        client.head(1 + 2 * number, raw::END_STREAM, &fields);
        client.frame(
            raw::RST_STREAM,
            0,
            1 + 2 * number,
            &raw::CANCEL.to_be_bytes(),
        );
    }
    wait_for(&mut proxy, "requests_abandoned_cancelled", 2);
    assert_eq!(proxy.counter(OPEN), 5);
    // Room comes back.
    for _ in 0..3 {
        let request = begun(&mut connection);
        connection.answer(&request, 200, &[], b"done");
    }
    wait_for(&mut proxy, OPEN, 2);
    leave(&mut proxy, 3);
}
