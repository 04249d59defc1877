//! HELLO, claims, the limit and grants.

use std::io::Read;

use eagleray_replica::Event;
use eagleray_wire::{Flags, Header, Kind, PROTOCOL_VERSION, ResponsePayload, SlotState};

use crate::harness::{Name, Replica, write};

#[test]
fn hello_brings_the_limit_and_a_page_with_room() {
    let replica = Replica::start(100);
    let router = replica.router();
    assert_eq!(
        (router.hello.a, router.hello.b, router.hello.c),
        (PROTOCOL_VERSION, 200, 100)
    );
    assert_eq!(Replica::start(1).router().hello.b, 64);
}

#[test]
fn another_version_is_told_ours_and_refused() {
    let replica = Replica::start(1);
    let mut stream = replica.connect();
    let mut header = Header::new(Kind::Hello, 0, 0);
    header.a = PROTOCOL_VERSION + 1;
    write(&stream, header, &[]);
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert_eq!(answer[20..24], PROTOCOL_VERSION.to_le_bytes());
    assert!(matches!(replica.event(), Event::Problem(text) if text.contains("version")));
}

#[test]
fn a_request_is_claimed_and_answered_in_one_frame() {
    let replica = Replica::start(10);
    let mut router = replica.router();
    let name = router.get();
    let request = replica.request();
    assert_eq!(router.state(name), SlotState::Queued);
    assert!(request.claim());
    assert_eq!(router.state(name), SlotState::Started);
    assert!(!request.claim(), "once");
    let headers: [(&[u8], &[u8]); 1] = [(b"content-type", b"text/plain")];
    request.respond(201, headers, b"answer", true).unwrap();
    let frame = router.done(name);
    assert_eq!(
        frame.header.flags,
        Flags::HEAD.with(Flags::END).with(Flags::DONE)
    );
    assert_eq!(frame.header.b, 0, "nothing is ongoing");
    let payload = ResponsePayload::decode(frame.header.flags, &frame.payload).unwrap();
    assert_eq!(payload.head.unwrap().status, 201);
    assert_eq!(payload.data(&frame.payload), &b"answer"[..]);
    request.done();
    request.send(b"too late", Flags::NONE);
    let next = router.get();
    assert!(replica.request().claim());
    assert_ne!(next, name);
}

#[test]
fn the_limit_holds_over_all_routers() {
    let replica = Replica::start(2);
    let (mut first, mut second) = (replica.router(), replica.router());
    first.get();
    let one = replica.request();
    second.get();
    let two = replica.request();
    let rejected = second.get();
    let frame = second.frame(Kind::Reject);
    assert_eq!(
        (frame.header.slot, frame.header.sequence),
        (rejected.slot, rejected.sequence)
    );
    assert!(one.claim() && two.claim());
    one.respond(200, [], b"", true).unwrap();
    first.frame(Kind::Response);
    let name = second.get();
    let request = replica.request();
    assert!(request.claim());
    request.respond(200, [], b"", true).unwrap();
    second.done(name);
}

#[test]
fn a_freed_slot_goes_to_who_waits() {
    let replica = Replica::start(1);
    let (mut busy, mut waiting) = (replica.router(), replica.router());
    let name = busy.get();
    let request = replica.request();
    assert!(request.claim());
    waiting.send(
        Kind::Wait,
        Name {
            slot: 0,
            sequence: 0,
        },
        Flags::NONE,
        1,
        &[],
    );
    // A frame after WAIT that has an answer: WAIT was read.
    waiting.get();
    waiting.frame(Kind::Reject);
    request.respond(200, [], b"", true).unwrap();
    assert!(!busy.done(name).header.flags.contains(Flags::GRANT));
    waiting.frame(Kind::Grant);
    let name = waiting.http(Flags::END.with(Flags::GRANT), b"");
    let request = replica.request();
    assert!(request.claim());
    // It has not said UNWAIT, so the slot may be offered to it again meanwhile.
    request.respond(200, [], b"", true).unwrap();
    waiting.done_after_grants(name);
}

#[test]
fn a_grant_that_nobody_uses_ends_by_itself() {
    let replica = Replica::start(1);
    let (mut busy, mut waiting) = (replica.router(), replica.router());
    let name = busy.get();
    let request = replica.request();
    assert!(request.claim());
    waiting.send(
        Kind::Wait,
        Name {
            slot: 0,
            sequence: 0,
        },
        Flags::NONE,
        1,
        &[],
    );
    waiting.get();
    waiting.frame(Kind::Reject);
    request.respond(200, [], b"", true).unwrap();
    busy.done(name);
    waiting.frame(Kind::Grant);
    // Rejected while the slot is kept, accepted once the grant is over: a bounded number of tries of one round trip.
    for _ in 0..1_000_000 {
        busy.get();
        let rejected = loop {
            if let Some(request) = replica.handle.next_request() {
                assert!(request.claim());
                return;
            }
            if let Some(frame) = busy.try_read() {
                break frame;
            }
        };
        assert_eq!(rejected.header.kind, Kind::Reject);
    }
    panic!("the grant never ended");
}

#[test]
fn a_router_that_breaks_the_protocol_loses_its_connection_only() {
    let replica = Replica::start(10);
    let mut good = replica.router();
    let mut junk = replica.router();
    junk.send_request(Flags::END, b"\xff\xff\xff\xff");
    assert_eq!(junk.read(), None);
    let mut wrong = replica.router();
    wrong.send(
        Kind::Response,
        Name {
            slot: 0,
            sequence: 1,
        },
        Flags::NONE,
        0,
        &[],
    );
    assert_eq!(wrong.read(), None);
    let mut outside = replica.router();
    let name = Name {
        slot: 1 << 19,
        sequence: 1,
    };
    outside.send(
        Kind::Request,
        name,
        Flags::END,
        0,
        &crate::harness::http_head(),
    );
    assert_eq!(outside.read(), None);
    let name = good.get();
    let request = replica.request();
    assert!(request.claim());
    request.respond(200, [], b"", true).unwrap();
    good.done(name);
    assert_eq!(replica.handle.ongoing(), 0);
}
