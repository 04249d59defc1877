//! HTTP/2: that requests and answers are whole, and that what a client may cost is bounded.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use eagleray_proxy::{Limits, Options};
use eagleray_types::control::{Empty, proxy_command};
use eagleray_wire::{Flags, Kind, RequestHead};

use crate::conformance::answer_when_whole;
use crate::support::{
    PATIENCE, Proxy, Replica, answer_all,
    raw::{self, Raw},
    sender::Sender,
    target,
};

#[test]
fn a_request_reaches_user_code_as_one_of_http_1_would() {
    let replica = Replica::start("a", 10);
    let proxy = Proxy::serving(target("D", &[&replica]));
    let mut client = Raw::connect(proxy.http2);
    let mut connection = replica.accept();
    client.head(
        1,
        raw::END_STREAM,
        &[
            (":method", "GET"),
            (":scheme", "http"),
            (":path", "/a%2fb?x=1"),
            (":authority", "test:80"),
            ("cookie", "a=1"),
            ("te", "trailers"),
            ("cookie", "b=2"),
        ],
    );
    let request = connection.expect(Kind::Request);
    assert!(request.header.flags.contains(Flags::END));
    let (RequestHead::Http(head), body) = RequestHead::decode(&request.payload).unwrap() else {
        panic!("not http")
    };
    assert_eq!(
        (head.version, head.tls, body.len()),
        (20, crate::OVER_TLS, 0)
    );
    assert_eq!((head.path, head.query), (&b"/a%2fb"[..], &b"x=1"[..]));
    let mut fields: Vec<_> = head.headers.iter().collect();
    fields.sort_unstable();
    assert_eq!(
        fields,
        [
            (&b"cookie"[..], &b"a=1; b=2"[..]),
            (&b"host"[..], &b"test:80"[..])
        ]
    );
    assert!(connection.start(&request));
    connection.answer(&request, 200, &[(b"connection", b"close")], b"hello");
    assert_eq!(client.answer(1), (200, b"hello".to_vec()));
}

#[test]
fn many_streams_share_a_connection() {
    let replica = Replica::serving("a", 100, answer_all);
    let proxy = Proxy::serving(target("D", &[&replica]));
    let mut client = Raw::connect(proxy.http2);
    for round in 0..5 {
        let streams: Vec<u32> = (0..100)
            .map(|number| 1 + 2 * (round * 100 + number))
            .collect();
        for stream in &streams {
            client.get(*stream);
        }
        let mut over = 0;
        while over < streams.len() {
            let frame = client.next().expect("closed");
            assert!(
                matches!(frame.kind, raw::HEADERS | raw::DATA | raw::WINDOW_UPDATE),
                "{frame:?}"
            );
            over += usize::from(frame.is_end());
        }
        client.window(0, 1 << 16);
    }
}

fn options(limits: Limits) -> Options {
    Options {
        threads: 1.try_into().unwrap(),
        limits,
        ..Options::default()
    }
}

/// Waits until a counter shows this: the client may know before.
pub(crate) fn counted(proxy: &mut Proxy, name: &str, wanted: u64) {
    let until = Instant::now() + PATIENCE;
    loop {
        let counted = proxy.counter(name);
        if counted == wanted {
            return;
        }
        assert!(
            counted < wanted && Instant::now() < until,
            "{name} is {counted}, not {wanted}"
        );
        std::thread::yield_now();
    }
}

/// A proxy with these limits that serves one deployment, whose requests nobody answers.
fn silent(limits: Limits) -> (Proxy, Replica) {
    let replica = Replica::start("a", 1000);
    let mut proxy = Proxy::with(options(limits));
    proxy.snapshot(&[("/", target("D", &[&replica]))]);
    (proxy, replica)
}

#[test]
fn uploads_and_downloads_of_any_length_pass_under_flow_control() {
    let replica = Replica::serving("a", 100, |mut connection| {
        let request = connection.expect(Kind::Request);
        assert!(connection.start(&request));
        let body = connection.body(&request);
        connection.answer_long(&request, &body);
    });
    let proxy = Proxy::serving(target("D", &[&replica]));
    let mut sender = Sender::with_settings(proxy.http2, &[(4, 1_000_000)]);
    let body: Vec<u8> = (0..1_000_000_u32)
        .map(|number| b'a' + (number % 23) as u8)
        .collect();
    sender.raw.head(1, 0, raw::POST);
    sender.send_all(1, &body);
    let (status, answer) = sender.raw.answer(1);
    assert_eq!(status, 200);
    assert!(answer == body);
}

#[test]
fn a_stream_that_is_reset_or_whose_connection_ends_is_cancelled_at_the_replica() {
    let (proxy, replica) = silent(Limits::default());
    let mut client = Raw::connect(proxy.http2);
    let mut connection = replica.accept();
    for stream in [1, 3] {
        client.get(stream);
        let request = connection.expect(Kind::Request);
        assert!(connection.start(&request));
        if stream == 1 {
            client.frame(raw::RST_STREAM, 0, 1, &raw::CANCEL.to_be_bytes());
        } else {
            client.stream.shutdown(std::net::Shutdown::Both).unwrap();
        }
        let cancel = connection.expect(Kind::Cancel);
        assert_eq!(cancel.header.sequence, request.header.sequence);
        connection.respond(&request, Flags::END.with(Flags::DONE), b"");
    }
}

#[test]
fn an_answer_that_breaks_off_resets_its_stream_only() {
    let replica = Replica::start("a", 10);
    let proxy = Proxy::serving(target("D", &[&replica]));
    let mut client = Raw::connect(proxy.http2);
    let mut connection = replica.accept();
    client.get(1);
    let request = connection.expect(Kind::Request);
    assert!(connection.start(&request));
    connection.begin_answer(&request, 200, &[]);
    client.expect_on(1, raw::HEADERS);
    let flags = Flags::ERROR.with(Flags::END).with(Flags::DONE);
    connection.respond(&request, flags, b"");
    assert_eq!(client.expect(raw::RST_STREAM).stream, 1);
    client.get(3);
    let request = connection.expect(Kind::Request);
    assert!(connection.start(&request));
    connection.answer(&request, 200, &[], b"hello");
    assert_eq!(client.answer(3), (200, b"hello".to_vec()));
}

#[test]
fn drain_finishes_the_streams_that_are_open() {
    let (mut proxy, replica) = silent(Limits::default());
    let mut client = Raw::connect(proxy.http2);
    let mut connection = replica.accept();
    client.get(1);
    let request = connection.expect(Kind::Request);
    assert!(connection.start(&request));
    proxy.command(proxy_command::Body::Drain(Empty {}));
    assert_eq!(client.expect_goaway(), raw::NO_ERROR);
    let ping = client.expect(raw::PING);
    client.frame(raw::PING, raw::ACK, 0, &ping.payload);
    connection.answer(&request, 200, &[], b"hello");
    assert_eq!(client.goodbye_after(1), (Some(raw::NO_ERROR), true));
    proxy.join().unwrap();
}

#[test]
fn a_head_that_is_too_large_gets_a_431_and_costs_nobody_else() {
    let replica = Replica::serving("a", 100, answer_all);
    let mut proxy = Proxy::serving(target("D", &[&replica]));
    let crumbs: Vec<_> = [raw::GET, &[("cookie", "a=1"); 97]].concat();
    let big = "x".repeat(12_000);
    let long: Vec<_> = [raw::GET, &[("x", big.as_str()), ("y", big.as_str())]].concat();
    for fields in [crumbs, long] {
        let mut client = Raw::connect(proxy.http2);
        let block = raw::block(&fields);
        let (first, rest) = block.split_at(block.len().min(16_384));
        let over = if rest.is_empty() { raw::END_HEADERS } else { 0 };
        client.frame(raw::HEADERS, raw::END_STREAM | over, 1, first);
        if !rest.is_empty() {
            client.frame(raw::CONTINUATION, raw::END_HEADERS, 1, rest);
        }
        assert_eq!(client.expect_on(1, raw::HEADERS).status(), 431);
        client.get(3);
        loop {
            let frame = client.expect(raw::DATA);
            if frame.stream == 3 && frame.is_end() {
                break;
            }
        }
    }
    counted(&mut proxy, "heads_too_large", 2);
}

#[test]
fn an_answer_that_is_not_taken_is_reset_whatever_window_updates_come() {
    let replica = Replica::serving("a", 100, |mut connection| {
        while let Some(request) = connection.try_frame() {
            if request.header.kind == Kind::Request && connection.start(&request) {
                connection.answer(&request, 200, &[], &[b'x'; 10_000]);
            }
        }
    });
    let mut proxy = Proxy::with(options(Limits {
        h2_stall_s: Duration::from_millis(300),
        ..Limits::default()
    }));
    proxy.snapshot(&[("/", target("D", &[&replica]))]);
    let mut client = Raw::with_settings(proxy.http2, &[(4, 1)]);
    let mut drip = Raw::with_settings(proxy.http2, &[(4, 1)]);
    for number in 0..10 {
        client.get(1 + 2 * number);
        drip.get(1 + 2 * number);
    }
    let mut reset = HashSet::new();
    let mut dripped = HashSet::new();
    for drips in 0.. {
        if reset.len() == 10 && dripped.len() == 10 {
            break;
        }
        // Of the connection, which is no use, and of the streams, a byte at a time: less than counts as progress.
        if drips < 500 {
            client.window(0, 1);
        }
        for number in 0..10 {
            if drips < 500 && !dripped.contains(&(1 + 2 * number)) {
                drip.window(1 + 2 * number, 1);
            }
        }
        client.frame(raw::PING, 0, 0, b"a string");
        drip.frame(raw::PING, 0, 0, b"a string");
        for (client, reset) in [(&mut client, &mut reset), (&mut drip, &mut dripped)] {
            loop {
                let frame = client.next().expect("closed");
                match frame.kind {
                    raw::PING => break,
                    raw::RST_STREAM => {
                        assert_eq!(frame.code(), raw::CANCEL);
                        reset.insert(frame.stream);
                    }
                    raw::DATA if frame.is_end() => panic!("the whole answer went out"),
                    _ => {}
                }
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    counted(&mut proxy, "h2_streams_stalled", 20);
    assert_eq!(proxy.client().get("/").status, 200);
}

#[test]
fn streams_above_the_limit_are_refused_and_counted() {
    let (mut proxy, _replica) = silent(Limits {
        h2_streams: 3,
        ..Limits::default()
    });
    let mut client = Raw::connect(proxy.http2);
    for number in 0..5 {
        client.get(1 + 2 * number);
    }
    for stream in [7, 9] {
        let reset = client.expect(raw::RST_STREAM);
        assert_eq!((reset.stream, reset.code()), (stream, raw::REFUSED_STREAM));
    }
    counted(&mut proxy, "h2_streams_refused", 2);
}

/// Sends until the proxy has ended the connection; with which code it did.
fn flood(proxy: &Proxy, mut send: impl FnMut(&mut Raw, u32) -> bool) -> Option<u32> {
    let mut client = Raw::connect(proxy.http2);
    // What the proxy answers must be read, or it would not read either.
    let mut reader = client.reader();
    let goodbye = std::thread::spawn(move || reader.goodbye());
    let mut number = 0;
    while number < 2_000_000 && !goodbye.is_finished() && send(&mut client, number) {
        number += 1;
    }
    assert!(number < 2_000_000, "nobody ended it");
    goodbye.join().unwrap()
}

#[test]
fn whoever_floods_a_connection_loses_it_and_nobody_else_notices() {
    type Send = fn(&mut Raw, u32) -> bool;
    let floods: &[(&str, &str, Send)] = &[
        ("rapid reset", "h2_reset_floods", |client, number| {
            let stream = 1 + 2 * number;
            let mut bytes = raw::frame(
                raw::HEADERS,
                raw::END_HEADERS,
                stream,
                &raw::block(raw::POST),
            );
            bytes.extend(raw::frame(
                raw::RST_STREAM,
                0,
                stream,
                &raw::CANCEL.to_be_bytes(),
            ));
            client.bytes(&bytes)
        }),
        ("made you reset", "h2_reset_floods", |client, number| {
            let stream = 1 + 2 * number;
            let mut bytes = raw::frame(
                raw::HEADERS,
                raw::END_HEADERS,
                stream,
                &raw::block(raw::POST),
            );
            bytes.extend(raw::frame(
                raw::WINDOW_UPDATE,
                0,
                stream,
                &0x7fff_ffff_u32.to_be_bytes(),
            ));
            client.bytes(&bytes)
        }),
        ("PING", "h2_control_floods", |client, _| {
            client.frame(raw::PING, 0, 0, b"a string")
        }),
        ("SETTINGS", "h2_control_floods", |client, number| {
            client.frame(raw::SETTINGS, 0, 0, &raw::settings(&[(4, number)]))
        }),
        ("PRIORITY", "h2_control_floods", |client, number| {
            client.frame(raw::PRIORITY, 0, 1 + 2 * (number % 1000), &[0, 0, 0, 0, 7])
        }),
        ("WINDOW_UPDATE", "h2_control_floods", |client, _| {
            client.window(0, 1)
        }),
        ("unknown frames", "h2_control_floods", |client, _| {
            client.frame(0x42, 0, 0, b"")
        }),
        ("empty DATA", "", |client, number| {
            if number == 0 {
                client.head(1, 0, raw::POST);
            }
            client.frame(raw::DATA, 0, 1, b"")
        }),
        ("CONTINUATION", "", |client, number| {
            if number == 0 {
                client.frame(raw::HEADERS, raw::END_STREAM, 1, &raw::block(raw::GET));
            }
            client.frame(raw::CONTINUATION, 0, 1, &raw::block(&[("x", "y")]))
        }),
    ];
    let (mut proxy, _replica) = silent(Limits::default());
    for (name, counter, send) in floods {
        let before = if counter.is_empty() {
            0
        } else {
            proxy.counter(counter)
        };
        let code = flood(&proxy, send);
        // A client that is still sending may see a reset before the last words.
        assert!(
            code.is_none_or(|code| code == raw::ENHANCE_YOUR_CALM),
            "{name}: {code:?}"
        );
        if !counter.is_empty() {
            counted(&mut proxy, counter, before + 1);
        }
        assert_eq!(proxy.client().get("/-/healthz").status, 200, "{name}");
    }
    counted(&mut proxy, "panics", 0);
}

#[test]
fn a_client_that_resets_some_of_many_requests_keeps_its_connection() {
    let replica = Replica::serving("a", 1000, answer_when_whole);
    let proxy = Proxy::serving(target("D", &[&replica]));
    let mut client = Raw::connect(proxy.http2);
    for number in 0..400 {
        let stream = 1 + 4 * number;
        client.get(stream);
        assert_eq!(client.answer(stream).0, 200);
        if number % 2 == 0 {
            client.head(stream + 2, 0, raw::POST);
            client.frame(raw::RST_STREAM, 0, stream + 2, &raw::CANCEL.to_be_bytes());
        }
    }
}

#[test]
fn slow_and_idle_connections_are_closed() {
    let (proxy, _replica) = {
        let replica = Replica::start("a", 1000);
        let mut proxy = Proxy::with(Options {
            keep_alive: Duration::from_millis(200),
            ..options(Limits {
                header_read_s: Duration::from_millis(200),
                ..Limits::default()
            })
        });
        proxy.snapshot(&[("/", target("D", &[&replica]))]);
        (proxy, replica)
    };
    let mut idle = Raw::connect(proxy.http2);
    let mut part_of_preface = Raw::bare(proxy.http2);
    part_of_preface.bytes(&raw::PREFACE[..20]);
    let mut no_settings = Raw::bare(proxy.http2);
    no_settings.bytes(raw::PREFACE);
    let mut open_block = Raw::connect(proxy.http2);
    open_block.get(1);
    open_block.frame(raw::HEADERS, raw::END_STREAM, 3, &raw::block(raw::GET));
    let mut part_of_head = Raw::connect(proxy.http2);
    part_of_head.bytes(&raw::frame(raw::HEADERS, 5, 1, &raw::block(raw::GET))[..20]);
    assert_eq!(idle.goodbye(), Some(raw::NO_ERROR));
    for client in [&mut no_settings, &mut open_block, &mut part_of_head] {
        client.goodbye();
    }
    part_of_preface.close_whatever_comes();
}

#[test]
fn a_client_that_expects_a_word_before_its_body_gets_one() {
    let replica = Replica::serving("a", 1000, answer_when_whole);
    let proxy = Proxy::serving(target("D", &[&replica]));
    let mut client = Raw::connect(proxy.http2);
    let mut fields = raw::POST.to_vec();
    fields.push(("expect", "100-continue"));
    client.head(1, 0, &fields);
    assert_eq!(client.expect_on(1, raw::HEADERS).status(), 100);
    client.frame(raw::DATA, raw::END_STREAM, 1, b"body");
    assert_eq!(client.answer(1).0, 200);
    // Answered without it: nobody has asked for the body.
    let silent = Replica::start("b", 10);
    let other = Proxy::serving(target("E", &[&silent]));
    let mut connection = silent.accept();
    let mut early = Raw::connect(other.http2);
    early.head(1, 0, &fields);
    let request = connection.expect(Kind::Request);
    assert!(connection.start(&request));
    connection.answer(&request, 404, &[], b"no");
    assert_eq!(early.answer(1), (404, b"no".to_vec()));
    // Refused by its head: nobody wants the body.
    fields.retain(|field| field.0 != "expect");
    fields.push(("expect", "magic"));
    client.head(3, 0, &fields);
    assert_eq!(client.expect_on(3, raw::HEADERS).status(), 417);
}
