//! WebSockets: whole messages for user code, under credit, and an end that is told and not enforced.

use std::sync::Arc;

use eagleray_replica::{Event, Message, Request, Room, Serving};
use eagleray_wire::{Flags, Kind, MESSAGE_COST, ResponsePayload};

use crate::harness::{Name, Replica, Router, serving};

const WINDOW: usize = (64 + 96) * 1024;
const TEXT_END: Flags = Flags::TEXT.with(Flags::END_OF_MESSAGE);

fn open(replica: &Replica, router: &mut Router) -> (Name, Arc<Request>) {
    let name = router.websocket();
    let request = replica.request();
    assert!(request.is_websocket() && request.claim());
    assert_eq!(router.frame(Kind::Credit).header.a, 96 * 1024);
    assert_eq!(request.accept_websocket([]).unwrap(), Room::Yes);
    let frame = router.frame(Kind::Response);
    let payload = ResponsePayload::decode(frame.header.flags, &frame.payload).unwrap();
    assert_eq!(payload.head.unwrap().status, 101);
    (name, request)
}

fn text(data: &str) -> Message {
    Message::Text(data.to_owned().into())
}

fn closed(code: u16, reason: &'static str) -> Message {
    Message::Closed {
        code,
        reason: reason.into(),
    }
}

/// The next message, waiting for it as the loop does.
fn next(replica: &Replica, request: &Request) -> Message {
    loop {
        match request.read_message() {
            Message::Pending => assert!(matches!(replica.event(), Event::Ready(_))),
            message => return message,
        }
    }
}

#[test]
fn pieces_become_messages_and_messages_go_out_whole() {
    let replica = Replica::start(10);
    let mut router = replica.router();
    let (name, request) = open(&replica, &mut router);
    for (flags, data) in [
        (Flags::TEXT, &b"one "[..]),
        (Flags::TEXT, b"two "),
        (TEXT_END, b"three"),
        (Flags::END_OF_MESSAGE, b"\xff"),
        (TEXT_END, b""),
    ] {
        router.send(Kind::Body, name, flags, 0, data);
    }
    assert_eq!(next(&replica, &request), text("one two three"));
    assert_eq!(
        next(&replica, &request),
        Message::Binary(b"\xff".as_slice().into())
    );
    assert_eq!(next(&replica, &request), text(""));
    assert_eq!(request.read_message(), Message::Pending);
    request.send_message(b"hello", true);
    request.send_message(b"", false);
    let frame = router.frame(Kind::Response);
    assert_eq!(
        (frame.header.flags, &frame.payload[..]),
        (TEXT_END, &b"hello"[..])
    );
    let frame = router.frame(Kind::Response);
    assert_eq!(
        (frame.header.flags, &frame.payload[..]),
        (Flags::END_OF_MESSAGE, &b""[..])
    );
}

#[test]
fn a_message_longer_than_the_window_comes_while_it_is_waited_for_and_not_before() {
    let replica = Replica::start(10);
    let mut router = replica.router();
    let (name, request) = open(&replica, &mut router);
    let total = 1_000_000;
    let mut sent = 0;
    let mut credit = WINDOW;
    let chunk = vec![5; 16 * 1024];
    let mut send = |router: &mut Router, credit: &mut usize| {
        while *credit >= chunk.len() && sent < total {
            let length = chunk.len().min(total - sent);
            sent += length;
            *credit -= length;
            let flags = if sent == total {
                Flags::END_OF_MESSAGE
            } else {
                Flags::NONE
            };
            router.send(Kind::Body, name, flags, 0, &chunk[..length]);
        }
        sent == total
    };
    assert!(!send(&mut router, &mut credit));
    // Something that is answered after the bodies were taken in: no credit came before it.
    let other = router.get();
    let second = replica.request();
    assert!(second.claim());
    second.respond(200, [], b"", true).unwrap();
    router.done(other);
    assert_eq!(request.read_message(), Message::Pending);
    while !send(&mut router, &mut credit) {
        credit += router.frame(Kind::Credit).header.a as usize;
    }
    let Message::Binary(data) = next(&replica, &request) else {
        panic!("no message")
    };
    assert_eq!(data.len(), total);
    // All of it comes back, but for what is less than a step.
    assert_eq!(request.read_message(), Message::Pending);
    let step = 32 * 1024;
    while credit + step + MESSAGE_COST < WINDOW {
        credit += router.frame(Kind::Credit).header.a as usize;
    }
}

#[test]
fn empty_messages_use_up_credit_and_more_of_them_end_the_connection() {
    let replica = Replica::start(10);
    let mut router = replica.router();
    let (name, request) = open(&replica, &mut router);
    for _ in 0..WINDOW / MESSAGE_COST {
        router.send(Kind::Body, name, TEXT_END, 0, b"");
    }
    assert_eq!(next(&replica, &request), text(""));
    for _ in 0..2 {
        router.send(Kind::Body, name, TEXT_END, 0, b"");
    }
    while router.read().is_some() {}
    // What had come is still handed out, then the end.
    for _ in 1..WINDOW / MESSAGE_COST {
        assert_eq!(next(&replica, &request), text(""));
    }
    request.done();
}

#[test]
fn messages_that_exceed_the_credit_wait_and_keep_their_ends() {
    let replica = Replica::start(10);
    let mut router = replica.router();
    let (name, request) = open(&replica, &mut router);
    let long = vec![b'x'; 100_000];
    assert_eq!(request.send_message(&long, true), Room::Wait);
    let first = router.frame(Kind::Response);
    assert_eq!(
        (first.header.flags, first.payload.len()),
        (Flags::TEXT, 64 * 1024)
    );
    router.send(Kind::Credit, name, Flags::NONE, 64 * 1024, &[]);
    let rest = router.frame(Kind::Response);
    assert_eq!(
        (rest.header.flags, rest.payload.len()),
        (TEXT_END, 100_000 - 64 * 1024)
    );
    assert!(matches!(replica.event(), Event::Ready(_)));
    let mut messages = 0;
    while request.send_message(b"", false) == Room::Yes {
        messages += 1;
    }
    assert!(messages < 64 * 1024 / MESSAGE_COST);
}

#[test]
fn the_client_s_end_is_a_message_after_those_before_it() {
    let replica = Replica::start(10);
    let mut router = replica.router();
    for (last, wanted) in [
        (&b"\x03\xe8bye"[..], closed(1000, "bye")),
        (b"", closed(1005, "")),
    ] {
        let (name, request) = open(&replica, &mut router);
        router.send(Kind::Body, name, TEXT_END, 0, b"a");
        router.send(Kind::Body, name, Flags::END, 0, last);
        router.send(Kind::Cancel, name, Flags::NONE, 0, &[]);
        assert_eq!(next(&replica, &request), text("a"));
        assert_eq!(next(&replica, &request), wanted);
        assert_eq!(next(&replica, &request), wanted);
        assert!(!request.is_cancelled());
        request.done();
        router.done(name);
    }
    assert_eq!(replica.handle.ongoing(), 0);
}

#[test]
fn cancellation_and_the_router_s_death_are_1006_and_leave_user_code_running() {
    let replica = Replica::start(10);
    let mut router = replica.router();
    let (name, request) = open(&replica, &mut router);
    let (_, other) = open(&replica, &mut router);
    assert_eq!(request.read_message(), Message::Pending);
    router.send(Kind::Cancel, name, Flags::NONE, 0, &[]);
    assert_eq!(next(&replica, &request), closed(1006, ""));
    assert_eq!(request.send_message(b"a", true), Room::Gone);
    drop(router);
    assert_eq!(next(&replica, &other), closed(1006, ""));
    assert!(!request.is_cancelled() && !other.is_cancelled());
    // The slots are theirs until they return.
    assert_eq!(replica.handle.ongoing(), 2);
    request.done();
    other.done();
    assert_eq!(replica.handle.ongoing(), 0);
}

#[test]
fn before_acceptance_cancellation_is_cancellation() {
    let replica = Replica::start(10);
    let mut router = replica.router();
    let name = router.websocket();
    let request = replica.request();
    assert!(request.claim());
    router.send(Kind::Cancel, name, Flags::NONE, 0, &[]);
    assert!(matches!(replica.event(), Event::Cancelled(_)));
    assert!(request.is_cancelled());
    request.done();
}

#[test]
fn user_code_closes_once_and_returns_later() {
    let replica = Replica::start(10);
    let mut router = replica.router();
    let (name, request) = open(&replica, &mut router);
    request.close_websocket(1000, b"bye");
    let frame = router.frame(Kind::Response);
    assert_eq!(
        (frame.header.flags, &frame.payload[..]),
        (Flags::END, &b"\x03\xe8bye"[..])
    );
    assert_eq!(request.send_message(b"late", true), Room::Gone);
    assert_eq!(replica.handle.ongoing(), 1);
    request.done();
    assert!(router.done(name).payload.is_empty());
}

#[test]
fn code_that_ends_without_a_close_is_an_error() {
    let replica = Replica::start(10);
    let mut router = replica.router();
    let (name, request) = open(&replica, &mut router);
    request.done();
    let frame = router.done(name);
    assert!(frame.header.flags.contains(Flags::END.with(Flags::ERROR)));
}

#[test]
fn a_deployment_without_websockets_refuses_them_by_itself() {
    let replica = Replica::serving(Serving {
        websockets: false,
        sync_http: true,
        ..serving()
    });
    let mut router = replica.router();
    let name = router.websocket();
    let frame = loop {
        let frame = router.read().unwrap();
        if frame.header.kind == Kind::Response {
            break frame;
        }
    };
    let payload = ResponsePayload::decode(frame.header.flags, &frame.payload).unwrap();
    assert_eq!(payload.head.unwrap().status, 403);
    assert!(frame.header.flags.contains(Flags::END.with(Flags::DONE)));
    assert_eq!(frame.header.sequence, name.sequence);
    assert!(replica.handle.next_request().is_none());
}
