//! A side that is slow stops the other one, at a bounded cost.

use std::{
    io::{ErrorKind, Write},
    sync::mpsc::channel,
    time::Duration,
};

use eagleray_wire::{Flags, Frame, Kind, MESSAGE_COST};

use super::start;
use crate::support::{
    Connection, Replica,
    websocket::{BINARY, CLOSE, PING, PONG, Socket, TEXT, close_of, masked},
};

/// Writes until nothing more is taken; the bytes that were.
fn fill(socket: &mut Socket, bytes: &[u8]) -> usize {
    // Long enough that a proxy with room would have read.
    let short = Duration::from_millis(300);
    socket.client.stream.set_write_timeout(Some(short)).unwrap();
    let mut written = 0;
    loop {
        match socket.client.stream.write(&bytes[written % bytes.len()..]) {
            Ok(length) => written += length,
            Err(error) => {
                assert!(matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut
                ));
                return written;
            }
        }
    }
}

/// What the kernel keeps for a loopback connection at most, both ends together.
const KERNEL: usize = 16 * 1024 * 1024;

#[test]
fn a_replica_that_does_not_read_stops_the_client() {
    let replica = Replica::start("a", 10);
    let (proxy, mut connection) = start(&replica);
    for payload in [&[7_u8; 1000][..], b""] {
        let (mut socket, request) = Socket::open(&proxy, &mut connection, "", &[]);
        let message = masked(BINARY, payload);
        let written = fill(&mut socket, &message.repeat(1000));
        assert!(written < KERNEL, "{written}");
        // What came to the replica is what it gave credit for, and one message's own cost.
        let mut cost = 0;
        connection
            .stream
            .set_read_timeout(Some(Duration::from_millis(300)))
            .unwrap();
        while let Some(frame) = connection.try_frame() {
            if frame.header.kind == Kind::Body {
                cost += frame.header.flags.cost(frame.payload.len());
            }
        }
        connection
            .stream
            .set_read_timeout(Some(crate::support::PATIENCE))
            .unwrap();
        let first_credit = 64 * 1024;
        assert!(
            (first_credit - 1100..first_credit + MESSAGE_COST).contains(&cost),
            "{cost}"
        );
        // With more credit it goes on where it stopped.
        connection.send(&request, Kind::Credit, Flags::NONE, 64 * 1024, &[]);
        connection.expect(Kind::Body);
        drop(socket);
        connection.send(&request, Kind::Credit, Flags::NONE, u32::MAX / 2, &[]);
        while !connection
            .expect(Kind::Body)
            .header
            .flags
            .contains(Flags::END)
        {}
        connection.respond(&request, Flags::END.with(Flags::DONE), b"");
    }
}

#[test]
fn a_client_that_does_not_read_gets_no_more_than_the_credit_and_loses_nothing() {
    let replica = Replica::start("a", 10);
    let (proxy, mut connection) = start(&replica);
    let (mut socket, request) = Socket::open(&proxy, &mut connection, "", &[]);
    let sent = send_until_stopped(&mut connection, &request);
    assert!(sent * DATA.len() < KERNEL, "{sent}");
    for _ in 0..sent {
        assert_eq!(socket.frame(), Some((BINARY, DATA.to_vec())));
    }
}

const DATA: [u8; 10_000] = [9; 10_000];

/// Sends messages until no credit has come for a while; how many.
fn send_until_stopped(connection: &mut Connection, request: &Frame) -> usize {
    let mut credit = 64 * 1024;
    let mut sent = 0;
    let cost = Flags::END_OF_MESSAGE.cost(DATA.len());
    let short = Duration::from_millis(300);
    connection.stream.set_read_timeout(Some(short)).unwrap();
    loop {
        while credit >= cost {
            connection.send_message(request, false, &DATA);
            credit -= cost;
            sent += 1;
        }
        match connection.try_frame() {
            Some(frame) if frame.header.kind == Kind::Credit => credit += frame.header.a as usize,
            Some(_) => {}
            None => break,
        }
    }
    let patience = Some(crate::support::PATIENCE);
    connection.stream.set_read_timeout(patience).unwrap();
    sent
}

#[test]
fn an_application_that_waits_to_send_goes_on_when_its_client_has_left() {
    let replica = Replica::start("a", 10);
    let (proxy, mut connection) = start(&replica);
    let (mut socket, request) = Socket::open(&proxy, &mut connection, "", &[]);
    // It does not read either, so that its client's end cannot be told yet.
    fill(&mut socket, &masked(BINARY, &[7; 1000]).repeat(1000));
    send_until_stopped(&mut connection, &request);
    drop(socket);
    connection.expect(Kind::Credit);
    connection.send(&request, Kind::Credit, Flags::NONE, u32::MAX / 2, &[]);
    let last = loop {
        let frame = connection.expect(Kind::Body);
        if frame.header.flags.contains(Flags::END) {
            break frame.payload;
        }
    };
    assert_eq!(&last[..], &1006_u16.to_be_bytes());
}

#[test]
fn pings_that_nobody_reads_the_answers_of_cost_nothing_and_the_last_is_answered() {
    let replica = Replica::start("a", 10);
    let (proxy, mut connection) = start(&replica);
    let (mut socket, request) = Socket::open(&proxy, &mut connection, "", &[]);
    // Many in a write: 50,000 segments of ten bytes overrun small buffers of the kernel, which then lets them wait for
    // its own timers, twice as long each time.
    let numbers: Vec<u32> = (0..50_000).collect();
    for some in numbers.chunks(500) {
        let pings = some
            .iter()
            .map(|number| masked(PING, &number.to_be_bytes()));
        socket.client.send(pings.collect::<Vec<_>>().concat());
    }
    socket.send(TEXT, b"done");
    assert_eq!(connection.message(&request), Ok((true, b"done".to_vec())));
    let mut answered = 0;
    loop {
        let (first, payload) = socket.frame().unwrap();
        assert_eq!(first, PONG);
        answered += 1;
        if payload == 49_999_u32.to_be_bytes() {
            break;
        }
    }
    assert!(answered <= 50_000);
}

/// A message of so many bytes, as there is credit for it.
fn send_long(connection: &mut Connection, request: &Frame, length: usize) {
    let mut credit = 64 * 1024;
    let mut sent = 0;
    while sent < length {
        let part = (length - sent).min(10_000);
        let flags = if sent + part < length {
            Flags::NONE
        } else {
            Flags::END_OF_MESSAGE
        };
        while credit < flags.cost(part) {
            credit += connection.expect(Kind::Credit).header.a as usize;
        }
        credit -= flags.cost(part);
        connection.respond(request, flags, &vec![sent as u8; part]);
        sent += part;
    }
}

#[test]
fn a_client_that_reads_slower_than_is_sent_gets_every_byte_and_the_code_of_the_end() {
    // The last takes longer than a client has for its own closing frame.
    for (length, pause_ms) in [(100_000, 1), (300_000, 1), (1_000_000, 1), (3_000_000, 10)] {
        // With the end right behind it, and with nothing behind it until it has come whole.
        for is_awaited in [false, true] {
            let replica = Replica::start("a", 10);
            let (proxy, mut connection) = start(&replica);
            let (mut socket, request) = Socket::open(&proxy, &mut connection, "", &[]);
            let (tell, told) = channel();
            let sender = std::thread::spawn(move || {
                send_long(&mut connection, &request, length);
                if is_awaited {
                    told.recv_timeout(crate::support::PATIENCE).unwrap();
                }
                connection.close(&request, 4001, "that was all");
                connection
            });
            let mut received = 0;
            let end = loop {
                let (first, payload) = socket.frame().expect("cut");
                if first == CLOSE {
                    break close_of(&payload);
                }
                received += payload.len();
                if received == length {
                    tell.send(()).ok();
                }
                std::thread::sleep(Duration::from_millis(pause_ms));
            };
            assert_eq!(received, length);
            assert_eq!(end, (4001, "that was all".to_owned()));
            sender.join().unwrap();
        }
    }
}
