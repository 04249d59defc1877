//! Answers to calls: what each flag says is said by a method.

use eagleray_replica::{Payload, Room};
use eagleray_wire::{Flags, Kind};

use crate::harness::{Name, Replica, Router};

/// Flags and data of the next frame of an answer that has no head.
fn next(router: &mut Router, name: Name) -> (Flags, Vec<u8>) {
    let frame = router.frame(Kind::Response);
    assert_eq!(frame.header.sequence, name.sequence);
    (frame.header.flags, frame.payload.to_vec())
}

#[test]
fn a_value_ends_its_call_and_says_whether_it_is_an_error() {
    let replica = Replica::start(1);
    let mut router = replica.router();
    for is_error in [false, true] {
        let name = router.call("predict", Flags::END, b"");
        let request = replica.request();
        assert!(request.is_call() && request.claim());
        request.answer_value(Payload::Bytes(b"pickled"), is_error);
        let (flags, data) = next(&mut router, name);
        assert!(flags.contains(Flags::END.with(Flags::DONE)));
        assert_eq!(flags.contains(Flags::ERROR), is_error);
        assert_eq!(data, b"pickled");
        assert_eq!(replica.handle.ongoing(), 0);
    }
}

#[test]
fn items_end_or_break_off() {
    let replica = Replica::start(1);
    let mut router = replica.router();
    for breaks_off in [false, true] {
        let name = router.call("stream", Flags::END, b"");
        let request = replica.request();
        assert!(request.claim());
        assert_eq!(request.send_item(Payload::Bytes(b"one")), Room::Yes);
        let (flags, data) = next(&mut router, name);
        assert!(flags.contains(Flags::END_OF_MESSAGE) && !flags.contains(Flags::END));
        assert_eq!(data, b"one");
        if breaks_off {
            request.abort();
        } else {
            request.end_items();
        }
        let (flags, data) = next(&mut router, name);
        assert!(flags.contains(Flags::END.with(Flags::DONE)) && data.is_empty());
        assert_eq!(flags.contains(Flags::ERROR), breaks_off);
        assert_eq!(request.send_item(Payload::Bytes(b"late")), Room::Gone);
    }
}
