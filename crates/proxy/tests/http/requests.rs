//! Requests that go well: what reaches user code, and what comes back.

use crate::support::{Client, Proxy, Replica, answer_all, target};
use eagleray_types::control::{TargetUpdate, proxy_event};
use eagleray_wire::{Flags, Kind, RequestHead};

fn echo(id: &str) -> Replica {
    Replica::serving(id, 100, answer_all)
}

#[test]
fn a_connection_carries_many_requests() {
    let replica = echo("a");
    let proxy = Proxy::serving(target("D", &[&replica]));
    let mut client = proxy.client();
    for round in 0..50 {
        let response = client.post(&format!("/a%2fb?x={round}"), b"hello");
        assert_eq!(response.status, 200, "{response:?}");
        assert_eq!(response.text(), format!("POST /a%2fb?x={round}  hello"));
        assert_eq!(
            response.header("content-length"),
            Some(response.body.len().to_string().as_str())
        );
        assert!(response.header("date").is_some());
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let replica = echo("a");
    let proxy = Proxy::serving(target("D", &[&replica]));
    let mut client = proxy.client();
    let all: Vec<String> = (0..20)
        .map(|number| format!("GET /{number} HTTP/1.1\r\nhost: test\r\n\r\n"))
        .collect();
    client.send(all.concat());
    for number in 0..20 {
        assert_eq!(client.response().text(), format!("GET /{number}?  "));
    }
}

#[test]
fn a_chunked_upload_reaches_user_code_whole() {
    let replica = echo("a");
    let proxy = Proxy::serving(target("D", &[&replica]));
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n");
    for _ in 0..3 {
        client.send("5\r\nhello\r\n");
    }
    client.send("0\r\n\r\n");
    assert_eq!(client.response().text(), "POST /?  hellohellohello");
    assert_eq!(client.get("/next").status, 200);
}

#[test]
fn large_bodies_stream_under_credit_both_ways() {
    let replica = Replica::serving("a", 100, |mut connection| {
        let request = connection.expect(Kind::Request);
        assert!(connection.start(&request));
        let body = connection.body(&request);
        connection.answer_long(&request, &body);
    });
    let proxy = Proxy::serving(target("D", &[&replica]));
    let body: Vec<u8> = (0..3_000_000_u32)
        .map(|number| b'a' + (number % 23) as u8)
        .collect();
    let response = proxy.client().post("/", &body);
    assert_eq!(response.status, 200);
    assert!(response.body == body);
}

#[test]
fn a_client_that_does_not_read_stops_its_replica() {
    let replica = Replica::start("a", 10);
    let proxy = Proxy::serving(target("D", &[&replica]));
    let mut client = proxy.client();
    let mut connection = replica.accept();
    client.send("GET /long HTTP/1.1\r\nhost: test\r\n\r\n");
    let request = connection.expect(Kind::Request);
    assert!(connection.start(&request));
    connection.begin_answer(&request, 200, &[]);
    // Sends until no credit comes any more: a small request on another connection is answered in the meantime, and
    // its frames come after any credit that was given.
    let (mut sent, mut credit) = (0, 64 * 1024_usize);
    let mut other = proxy.client();
    loop {
        while credit >= 50_000 {
            connection.respond(&request, Flags::NONE, &vec![b'x'; 50_000]);
            credit -= 50_000;
            sent += 50_000;
        }
        assert!(sent < 64 * 1024 * 1024, "credit without end");
        let before = credit;
        // Two round trips: the proxy has had its turn for what was sent.
        for _ in 0..2 {
            other.send("GET /short HTTP/1.1\r\nhost: test\r\n\r\n");
            let short = loop {
                let frame = connection.try_frame().unwrap();
                match frame.header.kind {
                    Kind::Credit => credit += frame.header.a as usize,
                    Kind::Request => break frame,
                    _ => {}
                }
            };
            assert!(connection.start(&short));
            connection.answer(&short, 200, &[], b"");
            assert_eq!(other.response().status, 200);
        }
        if credit == before {
            break;
        }
    }
    // It reads again, and everything arrives.
    let reader = std::thread::spawn(move || client.response());
    connection.respond(&request, Flags::END.with(Flags::DONE), b"");
    let response = reader.join().unwrap();
    assert_eq!((response.body.len(), response.cut), (sent, false));
}

#[test]
fn no_more_than_a_window_of_the_body_goes_without_credit() {
    let replica = Replica::start("a", 10);
    let proxy = Proxy::serving(target("D", &[&replica]));
    let mut client = proxy.client();
    let mut connection = replica.accept();
    client.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 200000\r\n\r\n");
    client.send(vec![b'x'; 200_000]);
    let request = connection.expect(Kind::Request);
    let mut received = RequestHead::decode(&request.payload).unwrap().1.len();
    while received < 64 * 1024 {
        received += connection.expect(Kind::Body).payload.len();
    }
    assert_eq!(received, 64 * 1024);
    // Were there more without credit, it would come before the answer to this.
    connection.send(&request, Kind::Credit, Flags::NONE, 1000, &[]);
    let more = connection.expect(Kind::Body);
    assert_eq!(more.payload.len(), 1000);
    assert!(!more.header.flags.contains(Flags::END));
}

#[test]
fn expect_continue_is_answered_before_the_body() {
    let replica = echo("a");
    let proxy = Proxy::serving(target("D", &[&replica]));
    let mut client = proxy.client();
    client
        .send("POST / HTTP/1.1\r\nhost: test\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n");
    assert_eq!(client.head().status, 100);
    client.send("hi");
    assert_eq!(client.response().text(), "POST /?  hi");
}

#[test]
fn a_head_request_has_the_length_and_no_body() {
    let replica = echo("a");
    let proxy = Proxy::serving(target("D", &[&replica]));
    let mut client = proxy.client();
    client.send("HEAD / HTTP/1.1\r\nhost: test\r\n\r\n");
    let response = client.response_to(true);
    assert_eq!(response.header("content-length"), Some("9"));
    assert_eq!(client.get("/").text(), "GET /?  ");
}

#[test]
fn a_streamed_answer_arrives_as_it_is_made() {
    let replica = Replica::start("a", 10);
    let proxy = Proxy::serving(target("D", &[&replica]));
    let mut client = proxy.client();
    let mut connection = replica.accept();
    client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    let request = connection.expect(Kind::Request);
    assert!(connection.start(&request));
    connection.begin_answer(&request, 200, &[]);
    assert_eq!(client.head().header("transfer-encoding"), Some("chunked"));
    for part in [&b"one"[..], b"two", b"three"] {
        connection.respond(&request, Flags::NONE, part);
        assert_eq!(client.chunk().unwrap(), part);
    }
    connection.respond(&request, Flags::END.with(Flags::DONE), b"");
    assert_eq!(client.chunk().unwrap(), b"");
}

#[test]
fn both_bodies_stream_at_the_same_time() {
    let replica = Replica::start("a", 10);
    let proxy = Proxy::serving(target("D", &[&replica]));
    let mut client = proxy.client();
    let mut connection = replica.accept();
    client.send("POST / HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n");
    let request = connection.expect(Kind::Request);
    assert!(connection.start(&request));
    connection.begin_answer(&request, 200, &[]);
    client.head();
    for part in ["alpha", "beta", "gamma"] {
        client.send(format!("{:x}\r\n{part}\r\n", part.len()));
        let heard = connection.expect(Kind::Body);
        assert_eq!(heard.payload, part);
        connection.respond(&request, Flags::NONE, &heard.payload);
        assert_eq!(client.chunk().unwrap(), part.as_bytes());
    }
    client.send("0\r\n\r\n");
    assert!(
        connection
            .expect(Kind::Body)
            .header
            .flags
            .contains(Flags::END)
    );
    connection.respond(&request, Flags::END.with(Flags::DONE), b"");
    assert_eq!(client.chunk().unwrap(), b"");
}

// contract: 10.3/request-id
#[test]
fn the_request_id_is_the_clients_or_a_fresh_one() {
    let replica = Replica::start("a", 10);
    let proxy = Proxy::serving(target("D", &[&replica]));
    let mut client = proxy.client();
    let mut connection = replica.accept();
    let mut exchange = |header: &str| {
        client.send(format!("GET / HTTP/1.1\r\nhost: test\r\n{header}\r\n"));
        let request = connection.expect(Kind::Request);
        let Ok((RequestHead::Http(head), _)) = RequestHead::decode(&request.payload) else {
            panic!()
        };
        let seen = String::from_utf8(head.request_id.to_vec()).unwrap();
        assert!(connection.start(&request));
        connection.answer(&request, 200, &[], b"");
        assert_eq!(
            client.response().header("x-request-id"),
            Some(seen.as_str())
        );
        seen
    };
    assert_eq!(exchange("X-Request-Id: my-id-1\r\n"), "my-id-1");
    let (first, second) = (exchange(""), exchange("x-request-id: two words\r\n"));
    assert_eq!((first.len(), second.len()), (36, 36));
    assert_ne!(first, second);
}

#[test]
fn headers_that_end_at_the_proxy_do_not_reach_user_code() {
    let replica = Replica::start("a", 10);
    let proxy = Proxy::serving(target("D", &[&replica]));
    let mut client = proxy.client();
    let mut connection = replica.accept();
    client.send(
        "GET / HTTP/1.1\r\nhost: test\r\nconnection: keep-alive, x-mine\r\nx-mine: 1\r\nte: trailers\r\n\
         under_score: 1\r\nserve_multiplexed_model_id: m\r\nx-other: 2\r\nx-other: 3\r\n\r\n",
    );
    let request = connection.expect(Kind::Request);
    let Ok((RequestHead::Http(head), _)) = RequestHead::decode(&request.payload) else {
        panic!()
    };
    let names: Vec<_> = head
        .headers
        .iter()
        .map(|(name, _)| std::str::from_utf8(name).unwrap())
        .collect();
    assert_eq!(
        names,
        ["host", "serve_multiplexed_model_id", "x-other", "x-other"]
    );
    assert_eq!(head.client.0, b"127.0.0.1");
    assert_eq!(head.server.1, proxy.own_address.port());
    assert_eq!(head.version, 11);
}

// contract: 10.2/routes
#[test]
fn applications_are_told_apart_by_prefix() {
    let (one, two) = (echo("one"), echo("two"));
    let mut proxy = Proxy::start();
    proxy.snapshot(&[
        ("/", target("One", &[&one])),
        ("/two", target("Two", &[&two])),
    ]);
    let mut client = proxy.client();
    assert_eq!(client.get("/twofold").text(), "GET /twofold?  ");
    assert_eq!(client.get("/two/x").text(), "GET /two/x? /two ");
    assert_eq!(
        client.get("/-/routes").text(),
        r#"{"/": "app", "/two": "app"}"#
    );
    proxy.snapshot(&[("/two", target("Two", &[&two]))]);
    assert_eq!(client.get("/twofold").status, 404);
    assert_eq!(client.get("/two").text(), "GET /two? /two ");
}

#[test]
fn health_is_good_from_the_first_snapshot_on() {
    let mut proxy = Proxy::start();
    let mut client = proxy.client();
    assert_eq!(client.get("/-/healthz").status, 503);
    assert_eq!(client.get("/").status, 503);
    proxy.snapshot(&[]);
    let response = client.get("/-/healthz");
    assert_eq!((response.status, response.text()), (200, "success"));
    assert_eq!(client.get("/-/routes").text(), "{}");
}

#[test]
fn an_update_after_a_gap_asks_for_a_snapshot() {
    let mut proxy = Proxy::start();
    let update = |number, snapshot| TargetUpdate {
        epoch: 3,
        number,
        snapshot,
        ..TargetUpdate::default()
    };
    assert!(matches!(
        proxy.update(&update(7, false)),
        proxy_event::Body::SnapshotWanted(_)
    ));
    assert!(matches!(
        proxy.update(&update(7, true)),
        proxy_event::Body::Applied(_)
    ));
    assert!(matches!(
        proxy.update(&update(8, false)),
        proxy_event::Body::Applied(_)
    ));
    assert!(matches!(
        proxy.update(&update(10, false)),
        proxy_event::Body::SnapshotWanted(_)
    ));
}

#[test]
fn several_threads_serve_the_same_targets() {
    let replica = echo("a");
    let mut proxy = Proxy::with(eagleray_proxy::Options {
        threads: 4.try_into().unwrap(),
        ..Default::default()
    });
    proxy.snapshot(&[("/", target("D", &[&replica]))]);
    let mut clients: Vec<Client> = (0..16).map(|_| proxy.client()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/").status, 200);
    }
}

#[test]
fn a_client_is_told_to_go_on_when_user_code_asks_for_the_body() {
    let replica = Replica::start("a", 10);
    let proxy = Proxy::serving(target("D", &[&replica]));
    let mut connection = replica.accept();
    let head = "POST / HTTP/1.1\r\nhost: test\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
    // It does not ask.
    let mut client = proxy.client();
    client.send(head);
    let request = connection.expect(Kind::Request);
    assert!(!request.header.flags.contains(Flags::END));
    assert!(connection.start(&request));
    connection.answer(&request, 403, &[], b"no");
    let response = client.response();
    assert_eq!((response.status, response.text()), (403, "no"));
    assert!(client.is_told_to_end && client.is_closed());
    // It does.
    let mut client = proxy.client();
    client.send(head);
    let request = connection.expect(Kind::Request);
    assert!(connection.start(&request));
    connection.send(&request, Kind::Credit, Flags::NONE, 1000, &[]);
    assert_eq!(client.head().status, 100);
    client.send("hello");
    assert_eq!(connection.body(&request), b"hello");
    connection.answer(&request, 200, &[], b"yes");
    assert_eq!(client.response().text(), "yes");
    assert!(!client.is_told_to_end);
}

#[test]
fn answers_without_content_have_no_length() {
    let replica = Replica::start("a", 10);
    let proxy = Proxy::serving(target("D", &[&replica]));
    let mut connection = replica.accept();
    let mut client = proxy.client();
    for method in ["HEAD", "GET"] {
        for status in [204, 304] {
            for fields in [&[][..], &[(&b"content-length"[..], &b"7"[..])]] {
                for is_streamed in [false, true] {
                    client.send(format!("{method} / HTTP/1.1\r\nhost: test\r\n\r\n"));
                    let request = connection.expect(Kind::Request);
                    assert!(connection.start(&request));
                    if is_streamed {
                        connection.begin_answer(&request, status, fields);
                        connection.respond(&request, Flags::END.with(Flags::DONE), b"");
                    } else {
                        connection.answer(&request, status, fields, b"");
                    }
                    let response = client.response_to(true);
                    assert_eq!(response.status, status);
                    assert_eq!(response.header("content-length"), None, "{response:?}");
                    assert_eq!(response.header("transfer-encoding"), None, "{response:?}");
                }
            }
        }
    }
}
