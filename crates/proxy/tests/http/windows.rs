//! How far clients of HTTP/2 may send ahead of user code, and what becomes of bodies that nobody wants.

use std::{
    io::Read,
    net::SocketAddr,
    time::{Duration, Instant},
};

use eagleray_proxy::{Limits, Options};
use eagleray_wire::{Flags, Frame, Kind};

use crate::support::{Connection, PATIENCE, Proxy, Replica, raw, sender::Sender, target};

const MEGABYTE: usize = 1 << 20;

fn with_length(length: usize) -> Vec<(&'static str, String)> {
    let mut fields: Vec<_> = raw::POST
        .iter()
        .map(|(name, value)| (*name, (*value).to_owned()))
        .collect();
    fields.push(("content-length", length.to_string()));
    fields
}

fn begin(sender: &mut Sender, stream: u32, length: Option<usize>) {
    let fields = length.map_or_else(|| with_length(0)[..4].to_vec(), with_length);
    let fields: Vec<_> = fields
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    sender.raw.head(stream, 0, &fields);
}

fn begun(connection: &mut Connection) -> Frame {
    let request = connection.expect(Kind::Request);
    assert!(connection.start(&request));
    request
}

/// Reads bodies as they come and answers each when it has ended, but those that `refuse` turns down at once.
fn reading(mut connection: Connection) {
    let mut open = std::collections::HashMap::new();
    while let Some(frame) = connection.try_frame() {
        let key = (frame.header.slot, frame.header.sequence);
        match frame.header.kind {
            Kind::Request if connection.start(&frame) => {
                open.insert(key, frame.clone());
            }
            Kind::Cancel if open.remove(&key).is_some() => {
                connection.respond(&frame, Flags::END.with(Flags::DONE), b"");
            }
            _ => {}
        }
        if let Some(request) = open.get(&key) {
            let request = request.clone();
            if frame.header.flags.contains(Flags::END) {
                open.remove(&key);
                connection.answer(&request, 200, &[], b"read");
            } else {
                let length = frame.payload.len() as u32;
                connection.send(&request, Kind::Credit, Flags::NONE, length.max(1), &[]);
            }
        }
    }
}

/// Waits until the connection has so much room for a stream, while it sends nothing.
fn wait_for_room(sender: &mut Sender, stream: u32, wanted: usize) {
    while sender.room_of(stream) < wanted {
        sender.next();
    }
}

fn options(limits: Limits) -> Options {
    Options {
        threads: 1.try_into().unwrap(),
        limits,
        ..Options::default()
    }
}

#[test]
fn a_client_that_is_far_away_sends_all_that_is_left_after_one_burst() {
    let replica = Replica::serving("a", 10, reading);
    let mut proxy = Proxy::serving(target("D", &[&replica]));
    let body = vec![b'x'; 10 * MEGABYTE];
    let mut sender = Sender::connect(proxy.http2);
    begin(&mut sender, 1, Some(body.len()));
    let mut sent = 0;
    while sent < 65_535 {
        sent += sender.send(1, &body[sent..65_535], false);
    }
    wait_for_room(&mut sender, 1, body.len() - sent);
    assert!(proxy.counter("h2_window_bytes_open") > 8 * MEGABYTE as u64);
    sender.send_all(1, &body[sent..]);
    assert_eq!(sender.raw.answer(1), (200, b"read".to_vec()));
    // It grew for this body, not for good.
    let until = Instant::now() + PATIENCE;
    while proxy.counter("h2_window_bytes_open") > 0 {
        assert!(Instant::now() < until);
        std::thread::yield_now();
    }
}

#[test]
fn a_body_of_unknown_length_has_a_wider_window_too() {
    let replica = Replica::serving("a", 10, reading);
    let proxy = Proxy::serving(target("D", &[&replica]));
    let mut sender = Sender::connect(proxy.http2);
    begin(&mut sender, 1, None);
    while sender.sent < 65_535 {
        sender.send(1, &[b'x'; 16_384], false);
    }
    wait_for_room(&mut sender, 1, 4 * MEGABYTE);
}

#[test]
fn bodies_that_nobody_reads_stop_no_other_of_their_connection() {
    // So little in all that windows cannot widen for what is unread, or enough for that.
    let cases = [
        (1_048_576.0, 0.0, 8),
        (1_048_576.0, 268_435_456.0, 50),
        (65_535.0, 268_435_456.0, 3),
    ];
    for (own, total, unread) in cases {
        let replica = Replica::start("a", 1000);
        let mut limits = Limits::default();
        limits
            .set([
                ("h2_connection_window_bytes", own),
                ("h2_windows_bytes", total),
            ])
            .unwrap();
        let mut proxy = Proxy::with(options(limits));
        proxy.snapshot(&[("/", target("D", &[&replica]))]);
        let mut connection = replica.accept();
        let mut sender = Sender::connect(proxy.http2);
        let mut stalled = Vec::new();
        for number in 0..unread {
            let stream = 1 + 2 * number;
            begin(&mut sender, stream, None);
            stalled.push(begun(&mut connection));
            sender.fill(stream);
        }
        let stream = 1 + 2 * unread;
        begin(&mut sender, stream, None);
        let request = begun(&mut connection);
        let reader = std::thread::spawn(move || {
            let body = connection.body(&request);
            connection.answer(&request, 200, &[], b"read");
            (body.len(), connection)
        });
        sender.send_all(stream, &vec![b'x'; 2 * MEGABYTE]);
        assert_eq!(reader.join().unwrap().0, 2 * MEGABYTE);
        assert_eq!(sender.raw.answer(stream), (200, b"read".to_vec()));
        drop(stalled);
    }
}

#[test]
fn a_body_that_fills_the_window_last_stops_no_other_either() {
    let replica = Replica::start("a", 1000);
    let proxy = Proxy::serving(target("D", &[&replica]));
    let mut connection = replica.accept();
    let mut sender = Sender::connect(proxy.http2);
    for stream in [1, 3] {
        begin(&mut sender, stream, None);
        begun(&mut connection);
    }
    // Nothing is sent after it, not even a question, that could make the proxy look again.
    for _ in 0..20 {
        while sender.send(1, &[b'x'; 16_384], false) > 0 {}
        wait_for_room(&mut sender, 3, 32 * 1024);
    }
    assert!(sender.room_of(3) > 0);
}

#[test]
fn windows_that_grew_and_stalled_stay_within_their_total() {
    const TOTAL: u64 = 8 * MEGABYTE as u64;
    let replica = Replica::start("a", 1000);
    let mut limits = Limits::default();
    limits.set([("h2_windows_bytes", TOTAL as f64)]).unwrap();
    let own = limits.h2_connection_window_bytes.cast_signed();
    let mut proxy = Proxy::with(options(limits));
    proxy.snapshot(&[("/", target("D", &[&replica]))]);
    let mut connection = replica.accept();
    let mut senders = Vec::new();
    for _ in 0..40 {
        let mut sender = Sender::connect(proxy.http2);
        begin(&mut sender, 1, Some(64 * MEGABYTE));
        while sender.sent < 65_535 {
            sender.send(1, &[b'x'; 16_384], false);
        }
        let request = begun(&mut connection);
        // Read, until the window has grown if it does; then never again.
        connection.send(&request, Kind::Credit, Flags::NONE, 1 << 20, &[]);
        // The first grows by an eighth of all, later ones by less and less.
        let first = if senders.is_empty() {
            MEGABYTE
        } else {
            128 * 1024
        };
        wait_for_room(&mut sender, 1, first);
        senders.push(sender);
    }
    // Nobody reads any more, and all send what they may.
    let mut beyond = 0;
    for sender in &mut senders {
        sender.fill(1);
        // 1 MiB and the first 64 KiB went on to the replica, or wait in the router.
        beyond += (sender.sent - own - 3 * (1 << 19)).max(0);
    }
    let taken = proxy.counter("h2_window_bytes_open");
    assert!(taken <= TOTAL, "{taken}");
    assert!(beyond as u64 <= TOTAL, "{beyond}");
    assert!(taken >= TOTAL / 8, "nothing grew: {taken}");
    drop(senders);
    let until = Instant::now() + PATIENCE;
    while proxy.counter("h2_window_bytes_open") > 0 {
        assert!(Instant::now() < until);
        std::thread::yield_now();
    }
}

/// Answers everything at once, and reads nothing.
fn refusing(mut connection: Connection) {
    while let Some(frame) = connection.try_frame() {
        if frame.header.kind == Kind::Request && connection.start(&frame) {
            connection.answer(&frame, 403, &[], b"no");
        }
    }
}

#[test]
fn an_upload_that_is_answered_early_may_end_and_its_connection_goes_on() {
    let replica = Replica::serving("a", 1000, refusing);
    let proxy = Proxy::serving(target("D", &[&replica]));
    let mut sender = Sender::connect(proxy.http2);
    for number in 0..60 {
        let stream = 1 + 2 * number;
        let since = Instant::now();
        begin(&mut sender, stream, Some(MEGABYTE));
        sender.send_all(stream, &vec![b'x'; MEGABYTE]);
        let is_answered = |frame: &raw::RawFrame| frame.stream == stream && frame.kind == raw::DATA;
        while !sender.seen.iter().any(is_answered) {
            sender.next();
        }
        sender.hear();
        // Where two seconds pass in between it is reset, and that is right.
        assert!(!sender.is_reset(stream) || since.elapsed() > Duration::from_secs(1));
    }
    // All credit is back.
    wait_for_room(&mut sender, 999, 128 * 1024);
}

#[test]
fn credit_of_uploads_that_are_reset_after_an_early_answer_comes_back() {
    let replica = Replica::serving("a", 1000, refusing);
    let proxy = Proxy::serving(target("D", &[&replica]));
    let mut sender = Sender::connect(proxy.http2);
    // Nobody ends these, so they are listened to for a while, and then reset.
    for number in 0..90 {
        begin(&mut sender, 1 + 2 * number, None);
        sender.send(1 + 2 * number, &[b'x'; 1_000], false);
    }
    let mut reset = Vec::new();
    while reset.len() < 90 {
        let frame = sender.next();
        if frame.kind == raw::RST_STREAM {
            assert_eq!(frame.code(), raw::NO_ERROR);
            reset.push(frame.stream);
        }
    }
    // What was on its way, of all of them: no fault of the client.
    for stream in reset {
        for _ in 0..5 {
            sender.send(stream, &[b'x'; 1_000], false);
        }
    }
    wait_for_room(&mut sender, 999, 128 * 1024);
    begin(&mut sender, 999, Some(2 * MEGABYTE));
    sender.send_all(999, &vec![b'x'; 2 * MEGABYTE]);
}

#[test]
fn a_connection_that_ends_while_a_body_is_drained_leaves_nothing() {
    let replica = Replica::serving("a", 1000, refusing);
    let mut proxy = Proxy::serving(target("D", &[&replica]));
    let address: SocketAddr = proxy.http2;
    for _ in 0..10 {
        let mut sender = Sender::connect(address);
        begin(&mut sender, 1, Some(64 * MEGABYTE));
        while sender.sent < 65_535 {
            sender.send(1, &[b'x'; 16_384], false);
        }
        while !sender.next().is_end() {}
        sender
            .raw
            .stream
            .shutdown(std::net::Shutdown::Both)
            .unwrap();
        let mut rest = Vec::new();
        sender.raw.stream.read_to_end(&mut rest).ok();
    }
    let until = Instant::now() + PATIENCE;
    while proxy.counter("connections_open") > 0 {
        assert!(Instant::now() < until);
        std::thread::sleep(Duration::from_millis(1));
    }
}
