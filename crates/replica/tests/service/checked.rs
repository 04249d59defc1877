//! Answers to HTTP that user code gives: what breaks them is an error, and nothing of it is sent.

use eagleray_replica::{BadAnswer, Room};
use eagleray_wire::{Flags, Kind, ResponsePayload};

use crate::harness::{Replica, Router};

type Field = (&'static [u8], &'static [u8]);

/// Status and body of an answer that is read to its end.
fn answer(router: &mut Router) -> (u16, Vec<u8>) {
    let mut status = 0;
    let mut body = Vec::new();
    loop {
        let frame = router.frame(Kind::Response);
        let parsed = ResponsePayload::decode(frame.header.flags, &frame.payload).unwrap();
        status = parsed.head.map_or(status, |head| head.status);
        body.extend_from_slice(&parsed.data(&frame.payload));
        if frame.header.flags.contains(Flags::DONE) {
            return (status, body);
        }
    }
}

#[test]
fn a_body_in_parts_keeps_what_its_length_promised() {
    let replica = Replica::start(10);
    let mut router = replica.router();
    router.get();
    let request = replica.request();
    assert!(request.claim());
    let length: [Field; 1] = [(b"content-length", b"5")];
    assert_eq!(request.begin_answer(200, length), Ok(Room::Yes));
    assert_eq!(request.answer_part(b"123", false), Ok(Room::Yes));
    let wrong = |bytes| Err(BadAnswer::Length { promised: 2, bytes });
    assert_eq!(request.answer_part(b"456", false), wrong(3), "too long");
    assert_eq!(request.answer_part(b"4", true), wrong(1), "too short");
    assert_eq!(request.answer_part(b"45", true), Ok(Room::Yes));
    request.done();
    assert_eq!(answer(&mut router), (200, b"12345".to_vec()));
}

#[test]
fn a_whole_body_is_as_long_as_it_says() {
    let replica = Replica::start(10);
    let mut router = replica.router();
    router.get();
    let request = replica.request();
    assert!(request.claim());
    let length: [Field; 2] = [(b"content-length", b"5"), (b"content-length", b"5")];
    for body in [&b"1234"[..], b"123456", b""] {
        assert!(matches!(
            request.answer(200, length, body, true),
            Err(BadAnswer::Length { promised: 5, .. })
        ));
    }
    assert!(!request.has_answered(), "another answer may be tried");
    request.answer(200, length, b"12345", true).unwrap();
    assert_eq!(answer(&mut router), (200, b"12345".to_vec()));
}

#[test]
fn a_body_where_there_is_none_is_left_out() {
    let replica = Replica::start(10);
    let mut router = replica.router();
    let length: [Field; 1] = [(b"content-length", b"7")];
    for status in [200, 204, 304] {
        for whole in [true, false] {
            let name = if status == 200 {
                router.head()
            } else {
                router.get()
            };
            let request = replica.request();
            assert!(request.claim());
            if whole {
                request.answer(status, length, b"not 7", true).unwrap();
            } else {
                request.begin_answer(status, length).unwrap();
                request.answer_part(b"not", false).unwrap();
                request.answer_part(b" 7", true).unwrap();
                request.done();
            }
            assert_eq!(answer(&mut router), (status, vec![]), "{name:?}");
        }
    }
}

#[test]
fn what_would_break_the_framing_never_leaves() {
    let replica = Replica::start(10);
    let mut router = replica.router();
    router.get();
    let request = replica.request();
    assert!(request.claim());
    let bad: [&[Field]; 9] = [
        &[(b"", b"v")],
        &[(b"a name", b"v")],
        &[(b"Upper", b"v")],
        &[(b"name:", b"v")],
        &[(b"name", b"v\r\nset-cookie: a")],
        &[(b"name", b"\x00")],
        &[(b"content-length", b"+5")],
        &[(b"content-length", b"")],
        &[(b"content-length", b"5"), (b"content-length", b"6")],
    ];
    for fields in bad {
        let fields = || fields.iter().copied();
        assert!(
            request.answer(200, fields(), b"", true).is_err()
                && request.begin_answer(200, fields()).is_err()
                && request.accept_websocket(fields()).is_err(),
            "{:?}",
            fields().collect::<Vec<_>>()
        );
    }
    for status in [0, 99, 100, 101, 199, 1000, u16::MAX] {
        assert_eq!(
            request.answer(status, [], b"", true),
            Err(BadAnswer::Status(status))
        );
    }
    assert!(!request.has_answered());
    let good: [Field; 2] = [(b"x-a!#$", b"\ttab and \xff"), (b"content-length", b"2")];
    request.answer(999, good, b"ok", true).unwrap();
    assert_eq!(answer(&mut router), (999, b"ok".to_vec()));
}
