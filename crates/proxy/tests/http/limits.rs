//! Limits that a client runs into: what it is answered, what is counted, and that others do not notice.

use std::{
    io::{Read, Write},
    time::{Duration, Instant},
};

use eagleray_proxy::{Limits, Options};
use eagleray_types::control::DeploymentTarget;
use eagleray_wire::{Flags, Kind, RequestHead};

use crate::support::{
    Client, Connection, PATIENCE, Proxy, Replica, answer_all,
    raw::{self, Raw},
    sync_target, target,
};

pub(crate) fn with(target: DeploymentTarget, limits: &[(&str, f64)]) -> Proxy {
    let mut options = Options {
        threads: 1.try_into().unwrap(),
        limits: Limits::default(),
        ..Options::default()
    };
    options.limits.set(limits.iter().copied()).unwrap();
    let mut proxy = Proxy::with(options);
    proxy.snapshot(&[("/", target)]);
    proxy
}

pub(crate) fn wait_for(proxy: &mut Proxy, counter: &str, wanted: u64) {
    let since = Instant::now();
    while proxy.counter(counter) != wanted {
        assert!(
            since.elapsed() < PATIENCE,
            "{counter} is {}",
            proxy.counter(counter)
        );
        std::thread::yield_now();
    }
}

const CHUNKED: &str = "POST / HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n";

#[test]
fn a_body_that_stops_or_drips_is_408_and_the_end_of_its_connection() {
    let replica = Replica::serving("a", 10, answer_all);
    let deployment = sync_target("D", &[&replica], 1_000_000);
    let mut proxy = with(
        deployment,
        &[("body_idle_s", 0.2), ("body_bytes_per_s", 10_000.0)],
    );
    let mut silent = proxy.client();
    silent.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 10\r\n\r\nhalf");
    let mut dripping = proxy.client();
    dripping.send(CHUNKED);
    let drip = std::thread::spawn({
        let mut stream = dripping.stream.try_clone().unwrap();
        // Until the proxy has had enough: never silent for as long as it may be.
        move || {
            while stream.write_all(b"1\r\nx\r\n").is_ok() {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    });
    for client in [&mut silent, &mut dripping] {
        let response = client.response();
        assert_eq!(
            (response.status, response.header("connection")),
            (408, Some("close"))
        );
        assert!(
            response.text().contains("body_idle_s"),
            "{}",
            response.text()
        );
        assert!(client.is_closed());
    }
    drop(dripping);
    drip.join().unwrap();
    assert_eq!(proxy.counter("bodies_timed_out"), 2);
    assert_eq!(proxy.client().post("/", b"quick").status, 200);
}

#[test]
fn a_client_is_not_late_while_the_replica_takes_no_more_of_its_body() {
    let replica = Replica::start("a", 10);
    let mut proxy = with(target("D", &[&replica]), &[("body_idle_s", 0.1)]);
    let mut connection = replica.accept();
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 300000\r\n\r\n");
    client.send(vec![b'x'; 300_000]);
    let request = connection.expect(Kind::Request);
    assert!(connection.start(&request));
    let mut received = RequestHead::decode(&request.payload).unwrap().1.len();
    while received < 64 * 1024 {
        received += connection.expect(Kind::Body).payload.len();
    }
    // Slow heads and silent bodies of others are over twice meanwhile.
    for round in 1..=3 {
        let mut other = proxy.client();
        other.send(CHUNKED);
        connection.expect(Kind::Request);
        connection.expect(Kind::Cancel);
        assert_eq!(other.response().status, 408);
        wait_for(&mut proxy, "bodies_timed_out", round);
    }
    while received < 300_000 {
        connection.send(&request, Kind::Credit, Flags::NONE, 64 * 1024, &[]);
        received += connection.expect(Kind::Body).payload.len();
    }
    connection.answer(&request, 200, &[], b"all of it");
    assert_eq!(client.response().text(), "all of it");
}

#[test]
fn a_reader_that_takes_nothing_of_its_answer_is_cut_and_its_request_cancelled() {
    let replica = Replica::start("a", 10);
    let mut proxy = with(target("D", &[&replica]), &[("answer_idle_s", 0.2)]);
    let mut connection = replica.accept();
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    let request = connection.expect(Kind::Request);
    assert!(connection.start(&request));
    connection.begin_answer(&request, 200, &[]);
    // Until the credit is spent: what was taken is in the buffers of two sockets.
    let mut credit = 64 * 1024;
    let cancelled = loop {
        while credit >= 32 * 1024 {
            connection.respond(&request, Flags::NONE, &[b'x'; 32 * 1024]);
            credit -= 32 * 1024;
        }
        let frame = connection.try_frame().unwrap();
        match frame.header.kind {
            Kind::Credit => credit += frame.header.a as usize,
            Kind::Cancel => break frame,
            _ => {}
        }
    };
    assert_eq!(cancelled.header.sequence, request.header.sequence);
    assert_eq!(proxy.counter("slow_readers"), 1);
    let mut rest = Vec::new();
    // The part that was on its way, then the end: a reset, or a body that is cut.
    client.stream.read_to_end(&mut rest).ok();
    assert!(!rest.ends_with(b"0\r\n\r\n"));
}

/// Answers each request with as many bytes as its path says, all at once.
fn whole_answers(mut connection: Connection) {
    while let Some(request) = connection.try_frame() {
        if request.header.kind != Kind::Request || !connection.start(&request) {
            continue;
        }
        let Ok((RequestHead::Http(head), _)) = RequestHead::decode(&request.payload) else {
            panic!("not http")
        };
        let length = std::str::from_utf8(&head.path[1..]).unwrap();
        connection.answer(&request, 200, &[], &vec![b'x'; length.parse().unwrap()]);
    }
}

/// From what any socket swallows to what none does.
const LENGTHS: [usize; 12] = [
    10_000, 60_000, 100_000, 150_000, 200_000, 250_000, 300_000, 400_000, 500_000, 600_000,
    800_000, 1_000_000,
];

/// A proxy whose clients may be idle for so long between requests, and so long in the middle of an answer.
fn impatient(replica: &Replica, keep_alive: Duration, answer_idle: Duration) -> Proxy {
    let mut proxy = Proxy::with(Options {
        threads: 1.try_into().unwrap(),
        keep_alive,
        limits: Limits {
            answer_idle_s: answer_idle,
            ..Limits::default()
        },
        ..Options::default()
    });
    proxy.snapshot(&[("/", target("D", &[replica]))]);
    proxy
}

#[test]
fn whoever_never_reads_is_cut_whatever_the_length_of_its_answer() {
    let replica = Replica::serving("a", 100, whole_answers);
    let limit = Duration::from_millis(300);
    let mut proxy = impatient(&replica, limit, limit);
    let mut held = Vec::new();
    for length in LENGTHS {
        let mut client = proxy.client();
        client.send(format!("GET /{length} HTTP/1.1\r\nhost: test\r\n\r\n"));
        held.push(client.stream);
        // With a window that bounds nothing.
        let mut client = Raw::with_settings(proxy.http2, &[(4, 1 << 30)]);
        client.window(0, 1 << 30);
        let path = format!("/{length}");
        let fields = [raw::GET[0], raw::GET[1], (":path", &path), raw::GET[3]];
        client.head(1, raw::END_STREAM, &fields);
        held.push(client.stream);
    }
    wait_for(&mut proxy, "connections_open", 0);
    assert!(proxy.counter("slow_readers") > 0);
}

#[test]
fn an_answer_that_is_still_going_out_is_no_idle_connection() {
    let replica = Replica::serving("a", 100, whole_answers);
    let idle = Duration::from_millis(100);
    let mut proxy = impatient(&replica, idle, PATIENCE);
    let mut clients: Vec<(Client, usize)> = LENGTHS
        .map(|length| {
            let mut client = proxy.client();
            client.send(format!("GET /{length} HTTP/1.1\r\nhost: test\r\n\r\n"));
            (client, length)
        })
        .into();
    // Some answers fit into the sockets: their connections are idle, and end.
    let since = Instant::now();
    while proxy.counter("connections_idle") == 0 {
        assert!(since.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(1));
    }
    for (client, length) in &mut clients {
        let response = client.response();
        assert_eq!((response.body.len(), response.cut), (*length, false));
    }
}

#[test]
fn connections_above_a_cap_are_closed_at_once() {
    for (limit, counter) in [
        ("connections", "connections_refused"),
        (
            "connections_per_loopback_source",
            "connections_refused_per_source",
        ),
    ] {
        let replica = Replica::serving("a", 10, answer_all);
        let mut proxy = with(target("D", &[&replica]), &[(limit, 3.0)]);
        let mut taken: Vec<Client> = (0..3).map(|_| proxy.client()).collect();
        for client in &mut taken {
            assert_eq!(client.get("/").status, 200);
        }
        for _ in 0..5 {
            assert!(proxy.client().is_closed());
        }
        assert_eq!(proxy.counter(counter), 5);
        assert_eq!(proxy.counter("connections_open"), 3);
        assert_eq!(taken[1].get("/").status, 200);
        drop(taken);
        wait_for(&mut proxy, "connections_open", 0);
        assert_eq!(proxy.client().get("/").status, 200);
    }
}

#[test]
fn without_memory_requests_are_refused_and_then_connections() {
    let replica = Replica::serving("a", 10, answer_all);
    let marks = |shed, refuse| {
        [
            ("memory_bytes", 1.0),
            ("memory_drain_percent", 0.0),
            ("memory_shed_percent", shed),
            ("memory_refuse_percent", refuse),
        ]
    };
    let mut proxy = with(target("D", &[&replica]), &marks(1.0, 0.0));
    let since = Instant::now();
    // From the first look at the memory on.
    let refused = loop {
        let response = proxy.client().get("/");
        if response.status != 200 {
            break response;
        }
        assert!(since.elapsed() < PATIENCE);
    };
    assert_eq!(
        (
            refused.status,
            refused.header("retry-after"),
            refused.header("connection")
        ),
        (503, Some("1"), Some("close"))
    );
    assert_eq!(proxy.client().get("/-/healthz").status, 503);
    assert_eq!(proxy.counter("requests_refused_memory"), 1);

    let mut proxy = with(target("D", &[&replica]), &marks(0.0, 1.0));
    let since = Instant::now();
    while proxy.counter("connections_refused_memory") == 0 {
        drop(proxy.client());
        assert!(since.elapsed() < PATIENCE);
    }
    assert!(proxy.client().is_closed());
}

#[test]
fn requests_that_wait_hold_no_more_than_they_may() {
    let mut proxy = with(
        sync_target("D", &[], 1_000_000),
        &[("queued_bytes", 65_536.0)],
    );
    let mut refused = 0;
    // Bodies that came, in requests that wait for a replica; then bodies that are waited for.
    for sent in [30_000, 25_000] {
        let mut clients: Vec<Client> = (0..3).map(|_| proxy.client()).collect();
        for client in &mut clients {
            client.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 30000\r\n\r\n");
            client.send(vec![b'x'; sent]);
        }
        refused += 1;
        wait_for(&mut proxy, "requests_refused_queued_bytes", refused);
        let mut answers = Vec::new();
        let since = Instant::now();
        while answers.is_empty() {
            assert!(since.elapsed() < PATIENCE);
            for client in &mut clients {
                client.stream.set_nonblocking(true).unwrap();
                let came = client.stream.peek(&mut [0]).is_ok();
                client.stream.set_nonblocking(false).unwrap();
                if came {
                    answers.push(client.response());
                }
            }
        }
        assert_eq!(answers.len(), 1, "{answers:?}");
        assert_eq!(
            (answers[0].status, answers[0].header("retry-after")),
            (503, Some("1"))
        );
        assert!(
            answers[0].text().contains("as much memory"),
            "{}",
            answers[0].text()
        );
        drop(clients);
        wait_for(&mut proxy, "connections_open", 0);
    }
    // What they held was given back.
    let replica = Replica::serving("a", 10, answer_all);
    proxy.snapshot(&[("/", sync_target("D", &[&replica], 1_000_000))]);
    assert_eq!(proxy.client().post("/", &[b'x'; 60_000]).status, 200);
}

#[test]
fn a_client_that_sends_all_of_a_refused_body_still_reads_why() {
    let replica = Replica::serving("a", 10, answer_all);
    let mut proxy = with(sync_target("D", &[&replica], 1000), &[]);
    for _ in 0..20 {
        let mut client = proxy.client();
        client.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 1000000\r\n\r\n");
        client.send(vec![b'x'; 1_000_000]);
        let response = client.response();
        assert_eq!(
            (response.status, response.header("connection")),
            (413, Some("close"))
        );
        assert!(client.is_closed());
    }
    assert_eq!(proxy.counter("bodies_too_large"), 20);
}

#[test]
fn many_small_chunks_cost_no_more_than_their_bytes() {
    let replica = Replica::serving("a", 10, answer_all);
    let mut proxy = with(
        sync_target("D", &[&replica], 1_000_000),
        &[("queued_bytes", 262_144.0)],
    );
    let mut client = proxy.client();
    client.send(CHUNKED);
    let part = "1\r\nx\r\n".repeat(1000);
    for _ in 0..100 {
        client.send(&part);
    }
    client.send("0\r\n\r\n");
    let response = client.response();
    assert_eq!(
        (response.status, response.body.len()),
        (200, 100_000 + "POST /?  ".len())
    );
    assert_eq!(proxy.counter("requests_refused_queued_bytes"), 0);
}
