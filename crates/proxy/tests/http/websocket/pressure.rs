//! A side that is slow stops the other one, at a bounded cost.

use std::io::{ErrorKind, Write};

use eagleray_wire::{Flags, Kind, MESSAGE_COST};

use super::start;
use crate::support::{
    Replica,
    websocket::{BINARY, PING, PONG, Socket, TEXT, masked},
};

/// Writes until nothing more is taken; the bytes that were.
fn fill(socket: &mut Socket, bytes: &[u8]) -> usize {
    // Long enough that a proxy with room would have read.
    let short = std::time::Duration::from_millis(300);
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
            .set_read_timeout(Some(std::time::Duration::from_millis(300)))
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
    let mut credit = 64 * 1024_i64;
    let mut sent = 0_u32;
    let data = [9; 10_000];
    let cost = i64::try_from(Flags::END_OF_MESSAGE.cost(data.len())).unwrap();
    connection
        .stream
        .set_read_timeout(Some(std::time::Duration::from_millis(300)))
        .unwrap();
    // Until no credit has come for a while.
    loop {
        while credit >= cost {
            connection.send_message(&request, false, &data);
            credit -= cost;
            sent += 1;
        }
        match connection.try_frame() {
            Some(frame) if frame.header.kind == Kind::Credit => credit += i64::from(frame.header.a),
            Some(_) => {}
            None => break,
        }
    }
    assert!((sent as usize) * data.len() < KERNEL, "{sent}");
    for _ in 0..sent {
        assert_eq!(socket.frame(), Some((BINARY, data.to_vec())));
    }
}

#[test]
fn pings_that_nobody_reads_the_answers_of_cost_nothing_and_the_last_is_answered() {
    let replica = Replica::start("a", 10);
    let (proxy, mut connection) = start(&replica);
    let (mut socket, request) = Socket::open(&proxy, &mut connection, "", &[]);
    for number in 0..50_000_u32 {
        socket.send(PING, &number.to_be_bytes());
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
