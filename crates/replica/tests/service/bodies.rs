//! Bodies on their way in, and requests for the pool.

use std::{sync::Arc, time::Duration};

use eagleray_replica::{Body, Event, Next, Request, Serving};
use eagleray_wire::{Flags, Kind, ResponsePayload, SlotState};

use crate::harness::{Replica, Router, serving};

const FIRST: usize = 64 * 1024;

fn sync_replica() -> Replica {
    Replica::serving(Serving {
        sync_http: true,
        ..serving()
    })
}

fn from_pool(replica: &Replica) -> Arc<Request> {
    replica.handle.pool().join();
    let mut woken = false;
    loop {
        match replica.handle.pool().next(woken) {
            Next::Run { request, .. } => return request,
            Next::Rest => replica.handle.pool().wait(),
            Next::Closed => panic!("closed"),
        }
        woken = true;
    }
}

fn status(router: &mut Router) -> u16 {
    let frame = router.frame(Kind::Response);
    ResponsePayload::decode(frame.header.flags, &frame.payload)
        .unwrap()
        .head
        .unwrap()
        .status
}

#[test]
fn credit_comes_with_the_claim_and_with_reading() {
    let replica = Replica::start(10);
    let mut router = replica.router();
    let name = router.http(Flags::NONE, &vec![1; FIRST]);
    let request = replica.request();
    assert!(request.claim());
    let window = router.frame(Kind::Credit).header.a;
    assert!(window as usize >= FIRST);
    let Body::Data { bytes, more: true } = request.read() else {
        panic!("the first bytes")
    };
    assert_eq!(bytes.len(), FIRST);
    assert!(
        router.frame(Kind::Credit).header.a as usize >= FIRST,
        "what was read may come again"
    );
    assert_eq!(request.read(), Body::Pending);
    router.send(Kind::Body, name, Flags::END, 0, b"last");
    assert!(matches!(replica.event(), Event::Ready(serial) if serial == request.serial()));
    assert_eq!(
        request.read(),
        Body::Data {
            bytes: b"last"[..].into(),
            more: false
        }
    );
    assert_eq!(
        request.read(),
        Body::Pending,
        "what comes now is only the client's end"
    );
}

#[test]
fn more_body_than_credit_ends_the_connection() {
    let replica = Replica::start(10);
    let mut router = replica.router();
    let name = router.http(Flags::NONE, &vec![1; FIRST]);
    router.send(Kind::Body, name, Flags::END, 0, b"x");
    assert_eq!(router.read(), None);
}

#[test]
fn sync_requests_wait_for_their_body_and_never_pass_the_loop() {
    let replica = sync_replica();
    let mut router = replica.router();
    let name = router.http(Flags::NONE, b"one ");
    router.send(Kind::Body, name, Flags::END, 0, b"two");
    let request = from_pool(&replica);
    assert_eq!(router.state(name), SlotState::Started);
    assert_eq!(request.take_body().unwrap(), &b"one two"[..]);
    assert!(replica.handle.next_request().is_none());
    request.respond(200, [], b"", true).unwrap();
    router.done(name);
}

#[test]
fn calls_of_sync_methods_go_to_the_pool_others_to_the_loop() {
    let replica = Replica::start(10);
    let mut router = replica.router();
    router.call("sync", Flags::END, b"s");
    router.call("other", Flags::END, b"o");
    assert_eq!(from_pool(&replica).take_body().unwrap(), &b"s"[..]);
    assert_eq!(replica.request().take_body().unwrap(), &b"o"[..]);
}

#[test]
fn a_long_sync_body_is_claimed_when_it_needs_credit() {
    let replica = sync_replica();
    let mut router = replica.router();
    let name = router.http(Flags::NONE, &vec![1; FIRST]);
    let credit = router.frame(Kind::Credit).header.a;
    assert_eq!(router.state(name), SlotState::Started);
    router.send(Kind::Body, name, Flags::END, 0, &vec![2; credit as usize]);
    let request = from_pool(&replica);
    assert_eq!(request.take_body().unwrap().len(), FIRST + credit as usize);
    request.respond(200, [], b"", true).unwrap();
    while !router.read().unwrap().header.flags.contains(Flags::DONE) {}
}

#[test]
fn a_sync_body_beyond_the_limit_is_413_and_the_slot_is_free() {
    let replica = Replica::serving(Serving {
        sync_http: true,
        max_body_bytes: 10,
        max_ongoing_requests: 1,
        ..serving()
    });
    let mut router = replica.router();
    for flags in [Flags::NONE, Flags::END] {
        router.http(flags, b"twelve bytes");
        assert_eq!(status(&mut router), 413);
    }
    assert_eq!(replica.handle.ongoing(), 0);
}

#[test]
fn a_sync_body_that_is_given_up_frees_its_slot() {
    let replica = sync_replica();
    let mut router = replica.router();
    let unclaimed = router.http(Flags::NONE, b"a");
    router.send(Kind::Cancel, unclaimed, Flags::NONE, 0, &[]);
    router.done(unclaimed);
    let claimed = router.http(Flags::NONE, &vec![1; FIRST]);
    router.frame(Kind::Credit);
    router.send(Kind::Cancel, claimed, Flags::NONE, 0, &[]);
    router.done(claimed);
    assert_eq!(replica.handle.ongoing(), 0);
}

#[test]
fn a_thread_waits_for_room_and_for_the_end_of_the_wait() {
    let replica = sync_replica();
    let mut router = replica.router();
    let name = router.get();
    let request = from_pool(&replica);
    request.start(200, []).unwrap();
    request.send(&vec![1; 400_000], Flags::NONE);
    assert!(!request.wait_writable(Duration::from_millis(1)));
    router.send(Kind::Cancel, name, Flags::NONE, 0, &[]);
    while !request.wait_writable(Duration::from_secs(1)) {}
    assert!(request.is_cancelled());
}

#[test]
fn a_body_of_which_nothing_has_come_is_asked_for_by_its_first_reader() {
    let replica = Replica::start(10);
    let mut router = replica.router();
    // Answered without being read: no credit, which would ask the client for it.
    router.http(Flags::NONE, b"");
    let request = replica.request();
    assert!(request.claim());
    request.respond(403, [], b"no", true).unwrap();
    loop {
        let header = router.read().unwrap().header;
        assert_ne!(header.kind, Kind::Credit);
        if header.flags.contains(Flags::DONE) {
            break;
        }
    }
    let name = router.http(Flags::NONE, b"");
    let request = replica.request();
    assert!(request.claim());
    assert_eq!(request.read(), Body::Pending);
    let credit = router.frame(Kind::Credit).header.a as usize;
    assert!(credit >= FIRST);
    // Asked for once, and then as ever: what is beyond the first credit may come.
    assert_eq!(request.read(), Body::Pending);
    router.send(Kind::Body, name, Flags::END, 0, &vec![1; FIRST + credit]);
    assert!(matches!(replica.event(), Event::Ready(serial) if serial == request.serial()));
    let Body::Data { bytes, more: false } = request.read() else {
        panic!("the whole body")
    };
    assert_eq!(bytes.len(), FIRST + credit);
}
