//! Answers on their way out: credit, DONE apart from END, batches.

use std::time::Duration;

use eagleray_replica::{Event, Room};
use eagleray_wire::{Claims, Flags, Kind};

use crate::harness::{Name, Replica, Router};

/// Data bytes until the router has nothing more to read without giving credit, or DONE.
fn take(router: &mut Router, name: Name, mut until: usize) -> (usize, Flags) {
    let mut taken = 0;
    loop {
        let frame = router.frame(Kind::Response);
        assert_eq!(frame.header.sequence, name.sequence);
        let head = if frame.header.flags.contains(Flags::HEAD) {
            4
        } else {
            0
        };
        taken += frame.payload.len() - head;
        until = until.saturating_sub(frame.payload.len() - head);
        if until == 0 {
            return (taken, frame.header.flags);
        }
    }
}

#[test]
fn a_long_answer_goes_out_as_the_router_takes_it() {
    let replica = Replica::start(10);
    let mut router = replica.router();
    let name = router.get();
    let request = replica.request();
    assert!(request.claim());
    assert_eq!(
        request.respond(200, [], &vec![7; 1_000_000], true).unwrap(),
        Room::Wait
    );
    let (first, flags) = take(&mut router, name, 64 * 1024);
    assert_eq!(first, 64 * 1024);
    assert!(!flags.contains(Flags::DONE));
    drop(request);
    router.send(Kind::Credit, name, Flags::NONE, 1_000_000, &[]);
    let (rest, flags) = take(&mut router, name, 1_000_000 - first);
    assert_eq!(first + rest, 1_000_000);
    assert!(flags.contains(Flags::END.with(Flags::DONE)));
    assert_eq!(replica.handle.ongoing(), 0);
}

#[test]
fn a_stream_is_told_to_wait_and_when_to_go_on() {
    let replica = Replica::start(10);
    let mut router = replica.router();
    let name = router.get();
    let request = replica.request();
    assert!(request.claim());
    assert_eq!(request.start(200, []).unwrap(), Room::Yes);
    assert_eq!(request.send(&vec![1; 64 * 1024], Flags::NONE), Room::Wait);
    take(&mut router, name, 64 * 1024);
    router.send(Kind::Credit, name, Flags::NONE, 10, &[]);
    assert!(matches!(replica.event(), Event::Ready(serial) if serial == request.serial()));
    assert_eq!(request.poll_writable(), Room::Yes);
    request.send(b"end", Flags::END);
    assert_eq!(
        replica.handle.ongoing(),
        1,
        "the answer ended, the slot is not free"
    );
    let frame = router.frame(Kind::Response);
    assert_eq!(frame.header.flags, Flags::END);
    request.done();
    assert_eq!(router.done(name).header.flags, Flags::DONE);
}

#[test]
fn an_answer_that_user_code_left_unfinished_says_so() {
    let replica = Replica::start(10);
    let mut router = replica.router();
    let name = router.get();
    let request = replica.request();
    assert!(request.claim());
    request.start(200, []).unwrap();
    router.frame(Kind::Response);
    request.done();
    assert!(
        router
            .done(name)
            .header
            .flags
            .contains(Flags::END.with(Flags::ERROR))
    );
}

#[test]
fn answers_of_a_batch_all_arrive_without_a_flush() {
    let replica = Replica::start(100);
    let mut router = replica.router();
    for round in 0..50 {
        router.get();
        router.get();
        let requests = [replica.request(), replica.request()];
        // For few the I/O thread goes on sleeping, for many it wakes to look after them.
        replica
            .handle
            .begin_batch(if round % 2 == 0 { 2 } else { 100 });
        for request in requests {
            assert!(request.claim());
            request.respond(200, [], b"ok", true).unwrap();
        }
        router.frame(Kind::Response);
        router.frame(Kind::Response);
    }
}

#[test]
fn a_piece_of_a_stream_never_waits_for_company() {
    let replica = Replica::start(100);
    let mut router = replica.router();
    for _ in 0..50 {
        let names = [router.get(), router.get()];
        let requests = [replica.request(), replica.request()];
        replica.handle.begin_batch(2);
        for request in &requests {
            assert!(request.claim());
            request.start(200, []).unwrap();
            let head = router.try_read().expect("the head, at once");
            assert_eq!(head.header.flags, Flags::HEAD);
            for piece in [b"one", b"two"] {
                assert_eq!(request.send(piece, Flags::NONE), Room::Yes);
                let frame = router
                    .try_read()
                    .expect("it is with the router before the next is made");
                assert_eq!(frame.payload, &piece[..]);
            }
        }
        for request in requests {
            request.send(&[], Flags::END.with(Flags::DONE));
        }
        replica.handle.flush();
        for name in names {
            router.done(name);
        }
    }
}

#[test]
fn pieces_that_the_router_does_not_read_wait_and_none_is_lost() {
    let replica = Replica::start(10);
    let mut router = replica.router();
    let name = router.get();
    router.send(Kind::Credit, name, Flags::NONE, 64 << 20, &[]);
    let request = replica.request();
    assert!(request.claim());
    request.start(200, []).unwrap();
    // More than the socket holds, and user code is not kept waiting: there is credit.
    let pieces: Vec<Vec<u8>> = (0..2000_u32)
        .map(|number| number.to_be_bytes().repeat(1024))
        .collect();
    for piece in &pieces {
        assert_eq!(request.send(piece, Flags::NONE), Room::Yes);
    }
    request.send(&[], Flags::END.with(Flags::DONE));
    assert_eq!(router.frame(Kind::Response).header.flags, Flags::HEAD);
    for piece in &pieces {
        let frame = router.frame(Kind::Response);
        assert_eq!(frame.payload, piece);
    }
    router.done(name);
}

#[test]
fn a_router_that_does_not_read_holds_up_nobody_else() {
    let replica = Replica::start(100);
    let (mut deaf, mut other) = (replica.router(), replica.router());
    for _ in 0..20 {
        deaf.get();
        let request = replica.request();
        assert!(request.claim());
        request.respond(200, [], &vec![1; 250_000], true).unwrap();
    }
    let name = other.get();
    let request = replica.request();
    assert!(request.claim());
    request.respond(200, [], b"ok", true).unwrap();
    other.done(name);
    let mut taken = 0;
    while taken < 20 {
        taken += u32::from(
            deaf.frame(Kind::Response)
                .header
                .flags
                .contains(Flags::DONE),
        );
    }
}

#[test]
fn turns_are_counted_while_there_is_work() {
    let replica = Replica::start(10);
    let mut router = replica.router();
    router.get();
    assert!(replica.request().claim());
    let before = router.page.turns();
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while router.page.turns() < before + 2 {
        assert!(
            std::time::Instant::now() < end,
            "the I/O thread does not turn"
        );
        std::thread::yield_now();
    }
}

#[test]
fn a_long_answer_whose_client_leaves_frees_its_slot() {
    let replica = Replica::start(10);
    let mut router = replica.router();
    let name = router.get();
    let request = replica.request();
    assert!(request.claim());
    request.respond(200, [], &vec![7; 1_000_000], true).unwrap();
    take(&mut router, name, 64 * 1024);
    router.send(Kind::Cancel, name, Flags::NONE, 0, &[]);
    router.done(name);
    assert_eq!(replica.handle.ongoing(), 0);
}
