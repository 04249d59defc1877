//! Requests that wait in the replica for a slot.

use std::time::{Duration, Instant};

use eagleray_wire::{Flags, Frame, Kind, SlotState};

use super::harness::{Name, Replica, Router};

/// Requests that come together: few, so that a slow and busy machine finishes as many in a millisecond.
const TOGETHER: usize = 6;
const BOUND: Duration = Duration::from_secs(60);

/// Answers requests that come together, at once, until so many wait that none of these is rejected any more.
fn speed_up(replica: &Replica, router: &mut Router) {
    let until = Instant::now() + BOUND;
    loop {
        assert!(Instant::now() < until, "nothing was taken ahead");
        let names: Vec<Name> = (0..TOGETHER).map(|_| router.get()).collect();
        let mut rejected = 0;
        let mut done = 0;
        while done + rejected < names.len() {
            replica.handle.turned();
            while let Some(request) = replica.handle.next_request() {
                if request.claim() {
                    request.respond(200, [], b"", true).unwrap();
                }
            }
            replica.handle.flush();
            while let Some(frame) = router.try_read() {
                rejected += usize::from(frame.header.kind == Kind::Reject);
                done += usize::from(frame.header.flags.contains(Flags::DONE));
            }
        }
        if rejected == 0 {
            return;
        }
    }
}

/// The next frame, but for HUNG: on a slow machine nobody looks at the queues for a second.
fn next(router: &mut Router) -> Frame {
    loop {
        let frame = router.read().expect("a frame, not the end");
        if frame.header.kind != Kind::Hung {
            return frame;
        }
    }
}

#[test]
fn more_are_taken_than_there_are_slots_and_never_more_run() {
    let replica = Replica::start(2);
    let mut router = replica.router();
    speed_up(&replica, &mut router);
    let until = Instant::now() + BOUND;
    loop {
        assert!(Instant::now() < until);
        let names: Vec<Name> = (0..TOGETHER).map(|_| router.get()).collect();
        let (one, two) = (replica.request(), replica.request());
        assert!(one.claim() && two.claim());
        assert!(
            replica.handle.next_request().is_none(),
            "there are two slots"
        );
        assert_eq!(replica.handle.ongoing(), 2);
        one.respond(200, [], b"", true).unwrap();
        two.respond(200, [], b"", true).unwrap();
        let mut over = 0;
        let mut rejected = 0;
        while over + rejected < names.len() {
            replica.handle.turned();
            while let Some(request) = replica.handle.next_request() {
                assert!(request.claim());
                assert!(replica.handle.ongoing() <= 2);
                request.respond(200, [], b"", true).unwrap();
            }
            replica.handle.flush();
            while let Some(frame) = router.try_read() {
                rejected += usize::from(frame.header.kind == Kind::Reject);
                over += usize::from(frame.header.flags.contains(Flags::DONE));
            }
        }
        if rejected == 0 {
            break;
        }
    }
    assert_eq!(replica.handle.ongoing(), 0);
}

#[test]
fn what_waits_behind_slow_requests_goes_back_unclaimed() {
    let replica = Replica::start(1);
    let mut router = replica.router();
    speed_up(&replica, &mut router);
    let slow = router.get();
    let request = replica.request();
    assert!(request.claim());
    // Few or many of these wait for the slot, as fast as this machine was; all of them are the router's again.
    let names: Vec<Name> = (0..TOGETHER).map(|_| router.get()).collect();
    for _ in &names {
        assert_eq!(next(&mut router).header.kind, Kind::Reject);
    }
    assert!(replica.handle.next_request().is_none());
    assert!(
        names
            .iter()
            .all(|name| router.state(*name) == SlotState::Queued)
    );
    request.respond(200, [], b"", true).unwrap();
    assert_eq!(next(&mut router).header.sequence, slow.sequence);
    let name = router.get();
    let request = replica.request();
    assert!(request.claim());
    request.respond(200, [], b"", true).unwrap();
    assert_eq!(next(&mut router).header.sequence, name.sequence);
}

#[test]
fn what_waits_can_be_cancelled_and_ends_with_its_router() {
    let replica = Replica::start(1);
    let mut router = replica.router();
    speed_up(&replica, &mut router);
    router.get();
    let request = replica.request();
    assert!(request.claim());
    let name = router.get();
    // As a router does: it takes the word, then says so.
    eagleray_wire::Claims::take(&router.page, name.slot, name.sequence);
    router.send(Kind::Cancel, name, Flags::NONE, 0, &[]);
    router.get();
    drop(router);
    let mut other = replica.router();
    let until = Instant::now() + BOUND;
    while !request.is_cancelled() {
        assert!(Instant::now() < until);
        std::thread::yield_now();
    }
    request.done();
    let name = other.get();
    let request = replica.request();
    assert!(request.claim());
    request.respond(200, [], b"", true).unwrap();
    assert_eq!(next(&mut other).header.sequence, name.sequence);
    assert_eq!(replica.handle.ongoing(), 0);
}
