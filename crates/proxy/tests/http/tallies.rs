//! Requests are counted by how they ended while their application is marked, and never otherwise.

use std::time::{Duration, Instant};

use eagleray_types::control::{Mark, Tally, TargetUpdate};
use eagleray_wire::{Flags, Kind};

use crate::support::{
    PATIENCE, Proxy, Replica, answer_all,
    raw::{self, Raw},
    target,
    websocket::{CLOSE, Socket},
};

impl Proxy {
    /// From now on requests count under this number; 0: they do not.
    fn mark(&mut self, mark: u64) {
        self.number += 1;
        let applied = self.update(&TargetUpdate {
            epoch: 1,
            number: self.number,
            marks: vec![Mark {
                application: "app".to_owned(),
                mark,
            }],
            ..TargetUpdate::default()
        });
        assert!(format!("{applied:?}").starts_with("Applied"), "{applied:?}");
    }

    /// Answered, failed, left and still running of a mark, as the proxy has said it last.
    fn counts(&self, mark: u64) -> (u64, u64, u64, u64) {
        let tally: Tally = self
            .tallied
            .iter()
            .rev()
            .find(|tally| tally.mark == mark)
            .cloned()
            .unwrap_or_default();
        let ended = tally.answered + tally.failed + tally.left;
        (
            tally.answered,
            tally.failed,
            tally.left,
            tally.began - ended,
        )
    }

    /// Waits for the proxy to say so by itself.
    fn expect_counts(&mut self, mark: u64, expected: (u64, u64, u64, u64)) {
        let since = Instant::now();
        while self.counts(mark) != expected {
            assert!(
                since.elapsed() < PATIENCE,
                "{:?} never was {expected:?}",
                self.counts(mark)
            );
            // Answering this, it sends what it has to say before.
            self.counter("panics");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n")
}

#[test]
fn what_comes_before_a_mark_and_after_it_is_not_counted() {
    let replica = Replica::serving("a", 10, answer_all);
    let mut proxy = Proxy::serving(target("D", &[&replica]));
    let mut client = proxy.client();
    assert_eq!(client.get("/").status, 200);
    proxy.mark(3);
    for _ in 0..5 {
        assert_eq!(client.get("/").status, 200);
    }
    proxy.mark(0);
    assert_eq!(client.get("/").status, 200);
    proxy.expect_counts(3, (5, 0, 0, 0));
    let marks: Vec<u64> = proxy.tallied.iter().map(|tally| tally.mark).collect();
    assert!(marks.iter().all(|mark| *mark == 3), "{marks:?}");
}

#[test]
fn a_controller_that_begins_anew_is_told_what_was_counted_before() {
    let replica = Replica::serving("a", 10, answer_all);
    let mut proxy = Proxy::serving(target("D", &[&replica]));
    let mut client = proxy.client();
    proxy.mark(3);
    assert_eq!(client.get("/").status, 200);
    proxy.expect_counts(3, (1, 0, 0, 0));
    // The controller before is gone, with what it was told.
    proxy.tallied.clear();
    proxy.update(&TargetUpdate {
        epoch: 2,
        number: 1,
        snapshot: true,
        marks: vec![Mark {
            application: "app".to_owned(),
            mark: 3,
        }],
        ..TargetUpdate::default()
    });
    assert_eq!(proxy.counts(3), (1, 0, 0, 0));
}

#[test]
fn a_request_counts_where_it_began_and_runs_until_it_ends() {
    let replica = Replica::start("a", 10);
    let mut proxy = Proxy::serving(target("D", &[&replica]));
    let mut connection = replica.accept();
    proxy.mark(1);
    let mut client = proxy.client();
    client.send(get("/"));
    let request = connection.expect(Kind::Request);
    assert!(connection.start(&request));
    proxy.mark(2);
    assert_eq!(
        proxy.counts(1),
        (0, 0, 0, 1),
        "with the mark's end it is told"
    );
    connection.answer(&request, 200, &[], b"late");
    assert_eq!(client.response().text(), "late");
    proxy.expect_counts(1, (1, 0, 0, 0));
    assert_eq!(proxy.counts(2), (0, 0, 0, 0));
}

#[test]
fn errors_and_answers_that_break_off_have_failed() {
    let replica = Replica::start("a", 10);
    let mut proxy = Proxy::serving(target("D", &[&replica]));
    let mut connection = replica.accept();
    proxy.mark(1);
    // User code raises.
    let mut client = proxy.client();
    client.send(get("/"));
    let request = connection.expect(Kind::Request);
    assert!(connection.start(&request));
    connection.respond(
        &request,
        Flags::ERROR.with(Flags::END).with(Flags::DONE),
        b"",
    );
    assert_eq!(client.response().status, 500);
    proxy.expect_counts(1, (0, 1, 0, 0));
    // One that user code answers so by itself has failed, too; any other status is an answer.
    for status in [404, 503] {
        client.send(get("/"));
        let request = connection.expect(Kind::Request);
        assert!(connection.start(&request));
        connection.answer(&request, status, &[], b"mine");
        assert_eq!(client.response().status, status);
    }
    proxy.expect_counts(1, (1, 2, 0, 0));
    // The replica dies before the answer of one that must not be repeated, and in the middle of that of another.
    client.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 0\r\n\r\n");
    let request = connection.expect(Kind::Request);
    assert!(connection.start(&request));
    let mut other = proxy.client();
    other.send(get("/"));
    let second = connection.expect(Kind::Request);
    assert!(connection.start(&second));
    connection.begin_answer(&second, 200, &[]);
    other.head();
    replica.die();
    assert_eq!(client.response().status, 502);
    assert!(other.chunk().is_none(), "it breaks off");
    proxy.expect_counts(1, (1, 4, 0, 0));
}

#[test]
fn what_a_client_gives_up_or_may_not_send_is_its_own() {
    let replica = Replica::start("a", 10);
    let mut proxy = Proxy::serving(target("D", &[&replica]));
    let mut connection = replica.accept();
    proxy.mark(1);
    // It leaves before the answer, then in the middle of one.
    for begins in [false, true] {
        let mut client = proxy.client();
        client.send(get("/"));
        let request = connection.expect(Kind::Request);
        assert!(connection.start(&request));
        if begins {
            connection.begin_answer(&request, 200, &[]);
            client.head();
        }
        drop(client);
        connection.expect(Kind::Cancel);
        connection.respond(&request, Flags::END.with(Flags::DONE), b"");
    }
    proxy.expect_counts(1, (0, 0, 2, 0));
}

#[test]
fn requests_of_http_2_are_counted_as_those_of_http_1() {
    let replica = Replica::start("a", 10);
    let mut proxy = Proxy::serving(target("D", &[&replica]));
    proxy.mark(1);
    let mut client = Raw::connect(proxy.http2);
    let mut connection = replica.accept();
    let fields = [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "test:80"),
    ];
    for stream in [1, 3, 5] {
        client.head(stream, raw::END_STREAM, &fields);
        let request = connection.expect(Kind::Request);
        assert!(connection.start(&request));
        match stream {
            1 => {
                connection.answer(&request, 200, &[], b"hello");
                assert_eq!(client.answer(1), (200, b"hello".to_vec()));
            }
            3 => {
                // In pieces.
                connection.begin_answer(&request, 200, &[]);
                connection.respond(&request, Flags::NONE, b"hel");
                connection.respond(&request, Flags::END.with(Flags::DONE), b"lo");
                assert_eq!(client.answer(3), (200, b"hello".to_vec()));
            }
            _ => {
                drop(client);
                connection.expect(Kind::Cancel);
                break;
            }
        }
    }
    proxy.expect_counts(1, (2, 0, 1, 0));
}

#[test]
fn a_websocket_is_one_request_that_ends_when_it_is_closed() {
    let replica = Replica::start("a", 10);
    let mut proxy = Proxy::serving(target("D", &[&replica]));
    let mut connection = replica.accept();
    proxy.mark(1);
    let (mut closed, _) = Socket::open(&proxy, &mut connection, "", &[]);
    let (dropped, _) = Socket::open(&proxy, &mut connection, "", &[]);
    let (mut broken, _) = Socket::open(&proxy, &mut connection, "", &[]);
    proxy.expect_counts(1, (0, 0, 0, 3));
    closed.send(CLOSE, &1000_u16.to_be_bytes());
    closed.close();
    drop(closed);
    drop(dropped);
    proxy.expect_counts(1, (1, 0, 1, 1));
    replica.die();
    broken.close();
    drop(broken);
    proxy.expect_counts(1, (1, 1, 1, 0));
}
