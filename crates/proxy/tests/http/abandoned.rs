//! Requests that go on when their client has left, because they asked for it.

use std::{net::TcpStream, time::Instant};

use eagleray_types::control::{Empty, proxy_command};
use eagleray_wire::{Flags, Frame, Kind};

use crate::{
    limits::{wait_for, with},
    support::{Client, Connection, PATIENCE, Proxy, Replica, target},
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
