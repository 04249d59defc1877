//! Bodies of many long frames, whole and in order, whatever pieces the sockets make of them.

use std::{
    sync::mpsc::channel,
    time::{Duration, Instant},
};

use eagleray_replica::{Body, Room};
use eagleray_wire::{Flags, Kind};

use super::harness::Replica;

const BOUND: Duration = Duration::from_secs(60);
const ALL: usize = 8 << 20;
/// A BODY frame of the router, and a piece of user code.
const PIECE: usize = 64 * 1024;

fn bytes(length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| (at * 31 / 7 + at / PIECE) as u8)
        .collect()
}

#[test]
fn an_upload_comes_whole_and_its_window_grows_once_much_was_read() {
    // Few frames fill the window, or more than the I/O thread reads in one go.
    for piece in [PIECE, 17_000] {
        upload(piece);
    }
}

fn upload(piece: usize) {
    let replica = Replica::start(10);
    let mut router = replica.router();
    let name = router.http(Flags::NONE, b"");
    let request = replica.request();
    assert!(request.claim());
    let (sender, sent) = channel();
    let writing = std::thread::spawn(move || {
        let data = bytes(ALL);
        let (mut credit, mut at, mut widest) = (PIECE, 0, 0);
        while at < data.len() {
            while credit < piece {
                let header = router.frame(Kind::Credit).header;
                credit += header.a as usize;
                widest = widest.max(credit);
            }
            let end = data.len().min(at + piece);
            router.send(Kind::Body, name, Flags::NONE, 0, &data[at..end]);
            credit -= end - at;
            at = end;
        }
        router.send(Kind::Body, name, Flags::END, 0, b"");
        sender.send(widest).unwrap();
        router
    });
    let mut got = Vec::new();
    let until = Instant::now() + BOUND;
    loop {
        assert!(Instant::now() < until);
        match request.read() {
            Body::Data { bytes, more } => {
                got.extend_from_slice(&bytes);
                if !more {
                    break;
                }
            }
            Body::Last => break,
            Body::Pending => drop(replica.event()),
            Body::Disconnected => panic!("the connection ended"),
        }
    }
    assert!(got == bytes(ALL));
    assert!(sent.recv_timeout(BOUND).unwrap() >= 3 * PIECE);
    drop(writing.join().unwrap());
}

#[test]
fn an_answer_that_its_router_reads_late_comes_whole() {
    let replica = Replica::start(10);
    let mut router = replica.router();
    let name = router.get();
    let request = replica.request();
    assert!(request.claim());
    request.start(200, []).unwrap();
    router.send(Kind::Credit, name, Flags::NONE, ALL as u32, b"");
    let data = bytes(ALL);
    let until = Instant::now() + BOUND;
    // Much more than the socket holds, before anything is read.
    for piece in data.chunks(PIECE) {
        while request.poll_writable() == Room::Wait {
            assert!(Instant::now() < until);
            drop(replica.event());
        }
        request.send(piece, Flags::NONE);
    }
    request.send(b"", Flags::END.with(Flags::DONE));
    let mut got = Vec::new();
    loop {
        let frame = router.read().unwrap();
        if frame.header.kind != Kind::Response {
            continue;
        }
        if !frame.header.flags.contains(Flags::HEAD) {
            got.extend_from_slice(&frame.payload);
        }
        if frame.header.flags.contains(Flags::DONE) {
            break;
        }
    }
    assert!(got == data);
}
