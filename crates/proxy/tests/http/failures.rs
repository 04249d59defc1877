//! Requests that do not go well, each with exactly one clear outcome.

use std::time::{Duration, Instant};

use crate::support::{Client, PATIENCE, Proxy, Replica, answer_all, sync_target, target};
use eagleray_logs::Writer;
use eagleray_proxy::{Limits, Options};
use eagleray_types::control::{Empty, proxy_command};
use eagleray_wire::{Flags, Kind};

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n")
}

fn with_timeout(seconds: &str) -> String {
    format!("GET / HTTP/1.1\r\nhost: test\r\nx-request-timeout-seconds: {seconds}\r\n\r\n")
}

// contract: 10.2/404
#[test]
fn a_path_without_an_application_is_404_and_says_where_to_look() {
    let replica = Replica::start("a", 10);
    let mut proxy = Proxy::start();
    proxy.snapshot(&[("/a", target("D", &[&replica]))]);
    let response = proxy.client().get("/b?x=1");
    assert_eq!(response.status, 404);
    assert!(
        response.text().contains("'/b'") && response.text().contains("/-/routes"),
        "{}",
        response.text()
    );
    assert!(response.header("x-request-id").is_some());
}

// contract: 10.2/499
#[test]
fn a_client_that_leaves_cancels_its_request() {
    let replica = Replica::start("a", 10);
    let proxy = Proxy::serving(target("D", &[&replica]));
    let mut connection = replica.accept();
    // Before the answer.
    let mut client = proxy.client();
    client.send(get("/"));
    let request = connection.expect(Kind::Request);
    assert!(connection.start(&request));
    drop(client);
    let cancel = connection.expect(Kind::Cancel);
    assert_eq!(
        (cancel.header.slot, cancel.header.sequence),
        (request.header.slot, request.header.sequence)
    );
    connection.respond(&request, Flags::END.with(Flags::DONE), b"");
    // In the middle of it.
    let mut client = proxy.client();
    client.send(get("/"));
    let request = connection.expect(Kind::Request);
    assert!(connection.start(&request));
    connection.begin_answer(&request, 200, &[]);
    client.head();
    drop(client);
    let cancel = connection.expect(Kind::Cancel);
    assert_eq!(cancel.header.sequence, request.header.sequence);
}

#[test]
fn a_request_that_had_not_started_moves_when_its_replica_dies() {
    let (first, second) = (Replica::start("a", 10), Replica::start("b", 10));
    let mut proxy = Proxy::serving(target("D", &[&first]));
    let mut client = proxy.client();
    let mut connection = first.accept();
    client.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 5\r\n\r\nhello");
    connection.expect(Kind::Request);
    proxy.snapshot(&[("/", target("D", &[&first, &second]))]);
    let mut other = second.accept();
    first.die();
    let request = other.expect(Kind::Request);
    assert!(other.start(&request));
    assert_eq!(other.body(&request), b"hello");
    other.answer(&request, 200, &[], b"moved");
    assert_eq!(client.response().text(), "moved");
}

#[test]
fn a_started_post_is_answered_by_502_and_not_repeated() {
    let (first, second) = (Replica::start("a", 10), Replica::start("b", 10));
    let mut proxy = Proxy::serving(target("D", &[&first]));
    let mut client = proxy.client();
    let mut connection = first.accept();
    client.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 5\r\n\r\nhello");
    let request = connection.expect(Kind::Request);
    assert!(connection.start(&request));
    proxy.snapshot(&[("/", target("D", &[&first, &second]))]);
    let mut other = second.accept();
    first.die();
    let response = client.response();
    assert_eq!(response.status, 502);
    assert!(
        response.text().contains("took effect"),
        "{}",
        response.text()
    );
    // The next request is the first that the other replica sees.
    client.send(get("/next"));
    let request = other.expect(Kind::Request);
    assert_eq!(request.header.sequence, 1);
    assert!(other.start(&request));
    other.answer(&request, 200, &[], b"");
    assert_eq!(client.response().status, 200);
}

#[test]
fn a_started_get_is_repeated_elsewhere() {
    let (first, second) = (Replica::start("a", 10), Replica::start("b", 10));
    let mut proxy = Proxy::serving(target("D", &[&first]));
    let mut client = proxy.client();
    let mut connection = first.accept();
    client.send(get("/"));
    let request = connection.expect(Kind::Request);
    assert!(connection.start(&request));
    proxy.snapshot(&[("/", target("D", &[&first, &second]))]);
    let mut other = second.accept();
    first.die();
    let request = other.expect(Kind::Request);
    assert!(other.start(&request));
    other.answer(&request, 200, &[], b"again");
    assert_eq!(client.response().text(), "again");
}

// contract: 10.2/broken-off
#[test]
fn an_answer_that_breaks_off_cuts_the_connection() {
    let replica = Replica::start("a", 10);
    let proxy = Proxy::serving(target("D", &[&replica]));
    let mut connection = replica.accept();
    let mut client = proxy.client();
    client.send(get("/"));
    let request = connection.expect(Kind::Request);
    assert!(connection.start(&request));
    connection.begin_answer(&request, 200, &[]);
    connection.respond(&request, Flags::NONE, b"half");
    assert_eq!(client.head().status, 200);
    assert_eq!(client.chunk().unwrap(), b"half");
    connection.respond(
        &request,
        Flags::END.with(Flags::DONE).with(Flags::ERROR),
        b"",
    );
    assert_eq!(client.chunk(), None);
}

// contract: 10.2/500
#[test]
fn user_code_that_fails_is_one_500_without_its_words() {
    let replica = Replica::start("a", 10);
    let proxy = Proxy::serving(target("D", &[&replica]));
    let mut connection = replica.accept();
    let mut client = proxy.client();
    client.send(get("/"));
    let request = connection.expect(Kind::Request);
    assert!(connection.start(&request));
    connection.respond(
        &request,
        Flags::END.with(Flags::DONE).with(Flags::ERROR),
        b"secret traceback",
    );
    let response = client.response();
    assert_eq!(response.status, 500);
    assert!(!response.text().contains("secret"), "{}", response.text());
    assert_eq!(client.get("/-/healthz").status, 200);
}

#[test]
fn a_header_that_would_split_the_response_is_one_500() {
    let replica = Replica::start("a", 10);
    let proxy = Proxy::serving(target("D", &[&replica]));
    let mut connection = replica.accept();
    let mut client = proxy.client();
    client.send(get("/"));
    let request = connection.expect(Kind::Request);
    assert!(connection.start(&request));
    connection.answer(&request, 200, &[(b"x-a", b"1\r\nx-evil: 1")], b"");
    let response = client.response();
    assert_eq!((response.status, response.header("x-evil")), (500, None));
}

// contract: 10.2/408
// contract: 10.3/timeout
#[test]
fn a_request_past_its_time_limit_is_408() {
    let replica = Replica::start("a", 10);
    let proxy = Proxy::serving(target("D", &[&replica]));
    let mut connection = replica.accept();
    let mut client = proxy.client();
    client.send(with_timeout("0.05"));
    let request = connection.expect(Kind::Request);
    assert!(request.header.c <= 50);
    assert!(connection.start(&request));
    let response = client.response();
    assert_eq!(response.status, 408);
    assert!(
        response.text().contains("request_timeout_s"),
        "{}",
        response.text()
    );
    connection.expect(Kind::Cancel);
}

#[test]
fn a_time_limit_covers_the_whole_answer() {
    let replica = Replica::start("a", 10);
    let proxy = Proxy::serving(target("D", &[&replica]));
    let mut connection = replica.accept();
    let mut client = proxy.client();
    client.send(with_timeout("0.2"));
    let request = connection.expect(Kind::Request);
    assert!(connection.start(&request));
    connection.begin_answer(&request, 200, &[]);
    assert_eq!(client.head().status, 200);
    assert_eq!(client.chunk(), None);
}

#[test]
fn a_time_limit_covers_a_body_that_does_not_come() {
    let replica = Replica::start("a", 10);
    let proxy = Proxy::serving(target("D", &[&replica]));
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nhost: test\r\nx-request-timeout-seconds: 0.05\r\ncontent-length: 5\r\n\r\nhe");
    assert_eq!(client.response().status, 408);
}

// contract: 10.2/queue
#[test]
fn a_full_queue_is_answered_as_the_deployment_says() {
    let replica = Replica::start("a", 1);
    let mut deployment = target("D", &[&replica]);
    deployment.max_queued_requests = 0;
    deployment.backpressure_status = 429;
    deployment.retry_after_seconds = 7;
    let proxy = Proxy::serving(deployment);
    let mut connection = replica.accept();
    let mut first = proxy.client();
    first.send(get("/"));
    let request = connection.expect(Kind::Request);
    assert!(connection.start(&request));
    let response = proxy.client().get("/");
    assert_eq!(
        (response.status, response.header("retry-after")),
        (429, Some("7")),
        "{}",
        response.text()
    );
    connection.answer(&request, 200, &[], b"");
    assert_eq!(first.response().status, 200);
}

// contract: 10.2/unavailable
#[test]
fn a_failed_deployment_says_why() {
    let mut deployment = target("D", &[]);
    deployment.unavailable = "its constructor raised ValueError".to_owned();
    let proxy = Proxy::serving(deployment);
    let response = proxy.client().get("/");
    assert_eq!(response.status, 503);
    assert!(
        response.text().contains("ValueError"),
        "{}",
        response.text()
    );
}

#[test]
fn a_body_longer_than_a_sync_deployment_takes_is_413() {
    let replica = Replica::serving("a", 10, answer_all);
    let proxy = Proxy::serving(sync_target("D", &[&replica], 1000));
    let mut client = proxy.client();
    assert_eq!(client.post("/", &[b'x'; 1000]).status, 200);
    client.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 1001\r\n\r\n");
    let response = client.response();
    assert_eq!(response.status, 413);
    let text = response.text();
    assert!(text.contains("the 1000 bytes that"), "{text}");
    assert!(text.contains("in an async method"), "{text}");
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n3e9\r\n");
    client.send(vec![b'x'; 1001]);
    client.send("\r\n0\r\n\r\n");
    assert_eq!(client.response().status, 413);
}

#[test]
fn a_sync_deployment_sees_nothing_of_a_request_before_its_whole_body() {
    let replica = Replica::start("a", 10);
    let proxy = Proxy::serving(sync_target("D", &[&replica], 1_000_000));
    let mut connection = replica.accept();
    let mut slow = proxy.client();
    slow.send(
        "POST /slow HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
    );
    let mut quick = proxy.client();
    quick.send(get("/quick"));
    let request = connection.expect(Kind::Request);
    assert!(request.payload.windows(6).any(|window| window == b"/quick"));
    slow.send("0\r\n\r\n");
    let request = connection.expect(Kind::Request);
    assert!(request.header.flags.contains(Flags::END));
    assert!(request.payload.ends_with(b"hello"));
}

#[test]
fn malformed_requests_are_refused_and_their_connection_closed() {
    let replica = Replica::serving("a", 10, answer_all);
    let proxy = Proxy::serving(target("D", &[&replica]));
    for (bytes, status) in [
        ("nonsense\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a\r\nbad header\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost : a\r\n\r\n", 400),
        ("GET /../etc HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        (
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n",
            400,
        ),
        (
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
            400,
        ),
        (
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\n",
            400,
        ),
        (
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
            400,
        ),
        ("TRACE / HTTP/1.1\r\nhost: a\r\n\r\n", 405),
        (
            "POST / HTTP/1.1\r\nhost: a\r\nexpect: magic\r\ncontent-length: 1\r\n\r\n",
            417,
        ),
    ] {
        let mut client = proxy.client();
        client.send(bytes);
        assert_eq!(client.response().status, status, "{bytes:?}");
        assert!(client.is_closed(), "{bytes:?}");
    }
    let mut client = proxy.client();
    client.send(format!(
        "GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n",
        "a".repeat(70 * 1024)
    ));
    assert_eq!(client.response().status, 431);
    assert_eq!(proxy.client().get("/").status, 200);
}

#[test]
fn slow_heads_and_idle_connections_are_closed() {
    let options = Options {
        threads: 1.try_into().unwrap(),
        limits: Limits {
            header_read_s: Duration::from_millis(100),
            ..Limits::default()
        },
        keep_alive: Duration::from_millis(200),
        ..Options::default()
    };
    let proxy = Proxy::with(options);
    let since = Instant::now();
    let (mut slow, mut idle) = (proxy.client(), proxy.client());
    slow.send("GET / HTTP/1.1\r\n");
    assert_eq!(slow.response().status, 408);
    assert!(slow.is_closed());
    assert!(since.elapsed() >= Duration::from_millis(100));
    assert!(idle.is_closed());
    assert!(since.elapsed() >= Duration::from_millis(200));
}

#[test]
fn a_request_in_progress_is_no_idle_connection() {
    let options = Options {
        threads: 1.try_into().unwrap(),
        limits: Limits {
            header_read_s: Duration::from_millis(20),
            ..Limits::default()
        },
        keep_alive: Duration::from_millis(20),
        ..Options::default()
    };
    let replica = Replica::start("a", 10);
    let mut proxy = Proxy::with(options);
    proxy.snapshot(&[("/", target("D", &[&replica]))]);
    let mut connection = replica.accept();
    let (mut busy, mut idle) = (proxy.client(), proxy.client());
    busy.send(get("/"));
    let request = connection.expect(Kind::Request);
    assert!(idle.is_closed());
    assert!(proxy.client().is_closed());
    assert!(connection.start(&request));
    connection.answer(&request, 200, &[], b"");
    assert_eq!(busy.response().status, 200);
}

// contract: 10.2/drain
#[test]
fn drain_finishes_requests_already_taken_and_then_ends() {
    let replica = Replica::start("a", 10);
    let mut proxy = Proxy::serving(target("D", &[&replica]));
    let mut connection = replica.accept();
    let (mut busy, mut idle) = (proxy.client(), proxy.client());
    assert_eq!(idle.get("/-/healthz").status, 200);
    busy.send(get("/"));
    let request = connection.expect(Kind::Request);
    assert!(connection.start(&request));
    proxy.command(proxy_command::Body::Drain(Empty {}));
    assert!(idle.is_closed());
    connection.answer(&request, 200, &[], b"last");
    let response = busy.response();
    assert_eq!(
        (response.text(), response.header("connection")),
        ("last", Some("close"))
    );
    proxy.join().unwrap();
}

#[test]
fn requests_wait_for_the_first_replica() {
    let mut proxy = Proxy::start();
    proxy.snapshot(&[("/", target("D", &[]))]);
    let mut client = proxy.client();
    client.send(get("/"));
    assert_eq!(proxy.client().get("/-/healthz").status, 200);
    let replica = Replica::serving("a", 10, answer_all);
    proxy.snapshot(&[("/", target("D", &[&replica]))]);
    assert_eq!(client.response().status, 200);
}

// contract: 10.2/unlogged
#[test]
fn every_request_leaves_one_line_in_the_access_log() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let logs = Writer::start(eagleray_logs::Limits::default()).unwrap();
    let options = Options {
        threads: 2.try_into().unwrap(),
        access_log: Some(logs.open(&path)),
        ..Options::default()
    };
    let replica = Replica::serving("a", 10, answer_all);
    let quiet = Replica::serving("b", 10, answer_all);
    let mut silent = target("Quiet", &[&quiet]);
    silent.access_log = false;
    let mut proxy = Proxy::with(options);
    proxy.snapshot(&[("/a", target("D", &[&replica])), ("/quiet", silent)]);
    let mut client = proxy.client();
    client.send("GET /a/x HTTP/1.1\r\nhost: test\r\nx-request-id: id-1\r\n\r\n");
    assert_eq!(client.response().status, 200);
    assert_eq!(client.get("/quiet").status, 200);
    assert_eq!(client.get("/-/healthz").status, 200);
    assert_eq!(client.get("/other").status, 404);
    let lines = wait_for_lines(&path, 2);
    assert!(
        lines[0].contains("[id-1] GET /a 200 ") && lines[0].ends_with("ms"),
        "{lines:?}"
    );
    assert!(lines[1].contains(" GET - 404 "), "{lines:?}");
    drop(client);
    drop(proxy);
    logs.flush(Duration::from_secs(20));
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 2);
}

fn wait_for_lines(path: &std::path::Path, count: usize) -> Vec<String> {
    let since = Instant::now();
    loop {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        if text.lines().count() >= count {
            return text.lines().map(str::to_owned).collect();
        }
        assert!(since.elapsed() < PATIENCE, "only {text:?}");
        std::thread::yield_now();
    }
}

#[test]
fn a_replica_that_breaks_the_protocol_loses_its_connection_only() {
    let replica = Replica::start("a", 10);
    let proxy = Proxy::serving(target("D", &[&replica]));
    let mut connection = replica.accept();
    let mut client: Client = proxy.client();
    client.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 0\r\n\r\n");
    let request = connection.expect(Kind::Request);
    assert!(connection.start(&request));
    connection.send(&request, Kind::Wait, Flags::NONE, 0, b"");
    assert_eq!(client.response().status, 502);
    // The router comes back by itself, as the targets still list the replica.
    let mut connection = replica.accept();
    client.send(get("/"));
    let request = connection.expect(Kind::Request);
    assert!(connection.start(&request));
    connection.answer(&request, 200, &[], b"");
    assert_eq!(client.response().status, 200);
}
