//! Values that come and go in regions, and those that cannot.

use std::sync::Arc;

use bytes::Bytes;
use eagleray_replica::{Event, Room};
use eagleray_wire::{
    Attachments, Flags, Kind,
    region::{Arrival, Attached, Attachment, Held, Named, Pool, Received, Release, assemble},
};
use parking_lot::Mutex;

use crate::harness::{Name, Replica, Router};

const LENGTH: usize = 300_000;

#[derive(Debug, Default)]
struct Recorder(Mutex<Vec<(u64, bool)>>);

impl Release for Recorder {
    fn release(&self, number: u64, reusable: bool) {
        self.0.lock().push((number, reusable));
    }
}

fn attached(pool: &Arc<Pool>, value: &[u8]) -> Attached {
    Attached {
        number: pool.number(),
        attachment: Attachment::Lent(pool.lend(&[value]).unwrap()),
    }
}

/// Lends a value with a call.
fn call(router: &mut Router, method: &str, attached: &Attached) -> Name {
    let channel = router.channel.as_ref().unwrap();
    channel.lend(std::slice::from_ref(attached)).unwrap();
    router.call_with(method, Flags::END, b"body", &[attached.named()])
}

fn received(attachment: &Attachment) -> &Arc<Received> {
    match attachment {
        Attachment::Received(received) => received,
        other => panic!("{other:?} came in no region"),
    }
}

fn bytes_of(received: &Arc<Received>) -> usize {
    received.map().unwrap().len()
}

/// The RELEASE of a region, after answers.
fn released(router: &mut Router) -> (u64, u32) {
    loop {
        let frame = router.read().expect("a frame, not the end");
        if frame.header.kind == Kind::Release {
            return (frame.header.sequence, frame.header.a);
        }
    }
}

#[test]
fn a_channel_comes_with_hello_if_the_router_wants_one() {
    let replica = Replica::start(10);
    assert!(replica.caller().channel.is_some());
    assert!(replica.router().channel.is_none());
}

#[test]
fn an_argument_in_a_region_is_released_when_it_is_dropped() {
    for method in ["async", "sync"] {
        let replica = Replica::start(10);
        let pool = Pool::new(|| ());
        let mut router = replica.caller();
        let value = attached(&pool, &vec![1; LENGTH]);
        let name = call(&mut router, method, &value);
        let request = if method == "sync" {
            loop {
                if let eagleray_replica::Next::Run { request, .. } =
                    replica.handle.pool().next(false)
                {
                    break request;
                }
                std::thread::yield_now();
            }
        } else {
            let request = replica.request();
            assert!(request.claim());
            request
        };
        let (body, attachments) = request.take_value().unwrap();
        assert_eq!(&body[..], b"body");
        assert_eq!(bytes_of(received(&attachments[0])), LENGTH);
        drop(attachments);
        assert_eq!(released(&mut router), (value.number, 1));
        request.send(b"", Flags::END.with(Flags::DONE));
        router.done(name);
    }
}

#[test]
fn a_call_that_is_cancelled_before_it_starts_releases_what_came_with_it() {
    let replica = Replica::start(10);
    let pool = Pool::new(|| ());
    let mut router = replica.caller();
    let value = attached(&pool, &vec![1; LENGTH]);
    let name = call(&mut router, "async", &value);
    let request = replica.request();
    router.send(Kind::Cancel, name, Flags::NONE, 0, b"");
    assert_eq!(released(&mut router), (value.number, 1));
    assert!(!request.claim());
}

#[test]
fn a_call_that_is_rejected_releases_what_came_with_it() {
    let replica = Replica::start(1);
    let pool = Pool::new(|| ());
    let mut router = replica.caller();
    router.call("async", Flags::END, b"");
    let value = attached(&pool, &vec![1; LENGTH]);
    call(&mut router, "async", &value);
    let mut kinds = [router.read().unwrap(), router.read().unwrap()].map(|frame| frame.header.kind);
    kinds.sort_by_key(|kind| *kind as u8);
    assert_eq!(kinds, [Kind::Reject, Kind::Release]);
}

#[test]
fn a_router_that_goes_leaves_the_value_to_user_code() {
    let replica = Replica::start(10);
    let pool = Pool::new(|| ());
    let mut router = replica.caller();
    let value = attached(&pool, &vec![1; LENGTH]);
    call(&mut router, "async", &value);
    let request = replica.request();
    assert!(request.claim());
    let (_, attachments) = request.take_value().unwrap();
    drop((router, value, pool));
    assert!(matches!(replica.event(), Event::Cancelled(_)));
    assert_eq!(bytes_of(received(&attachments[0])), LENGTH);
}

#[test]
fn a_call_that_names_what_did_not_come_ends_the_connection() {
    let replica = Replica::start(10);
    let named = Named {
        number: 7,
        length: 1,
    };
    for mut router in [replica.caller(), replica.router()] {
        router.call_with("async", Flags::END, b"", &[named]);
        assert!(matches!(replica.event(), Event::Problem(text) if text.contains("descriptor")));
        assert!(router.read().is_none());
    }
}

#[test]
fn a_value_that_follows_the_body_is_cut_off_it() {
    let replica = Replica::start(10);
    let mut router = replica.router();
    let named = Named {
        number: 0,
        length: 5,
    };
    router.call_with("async", Flags::END, b"bodyvalue", &[named]);
    let request = replica.request();
    assert!(request.claim());
    let (body, attachments) = request.take_value().unwrap();
    assert_eq!(&body[..], b"body");
    assert!(matches!(&attachments[..], [Attachment::Data(data)] if data == &b"value"[..]));
}

/// What an answer brought: the attachments of its first frame, and all its data.
fn answer(router: &mut Router, release: &Arc<dyn Release>) -> (Bytes, Vec<Arrival>) {
    let frame = router.frame(Kind::Response);
    let (table, data) = Attachments::split(frame.header.a as usize, &frame.payload).unwrap();
    let arrivals = match &router.channel {
        Some(channel) => channel
            .take(table.iter(), release, &Held::new(|| ()))
            .unwrap(),
        None => eagleray_wire::region::without_channel(table.iter()).unwrap(),
    };
    let mut all = data.to_vec();
    let mut last = frame.header;
    while !last.flags.contains(Flags::END) {
        let name = Name {
            slot: last.slot,
            sequence: last.sequence,
        };
        router.send(Kind::Credit, name, Flags::NONE, 1 << 20, b"");
        let frame = router.frame(Kind::Response);
        all.extend_from_slice(&frame.payload);
        last = frame.header;
    }
    (all.into(), arrivals)
}

#[test]
fn a_result_goes_in_a_region_and_its_memory_is_used_again() {
    let replica = Replica::start(10);
    let mut router = replica.caller();
    let recorder = Arc::new(Recorder::default());
    let release: Arc<dyn Release> = recorder.clone();
    for _ in 0..2 {
        router.call("async", Flags::END, b"");
        let request = replica.request();
        assert!(request.claim());
        let lent = request.lend(&[&vec![3; LENGTH]]).unwrap();
        let flags = Flags::END.with(Flags::DONE);
        assert_eq!(
            request.send_attached(Attachment::Lent(lent), flags),
            Room::Gone
        );
        let (data, mut arrivals) = answer(&mut router, &release);
        assert!(data.is_empty());
        let Some(Arrival::Region(received)) = arrivals.pop() else {
            panic!("it came in no region");
        };
        assert_eq!(bytes_of(&received), LENGTH);
        drop(received);
        let (number, reusable) = recorder.0.lock().pop().unwrap();
        assert!(reusable);
        let name = Name {
            slot: 0,
            sequence: number,
        };
        router.send(Kind::Release, name, Flags::NONE, 1, b"");
    }
}

#[test]
fn a_result_for_a_router_without_a_channel_follows_as_data() {
    let replica = Replica::start(10);
    let mut router = replica.router();
    let pool = Pool::new(|| ());
    router.call("async", Flags::END, b"");
    let request = replica.request();
    assert!(request.claim());
    assert!(request.lend(&[&vec![3; LENGTH]]).is_none());
    let lent = pool.lend(&[&vec![3; LENGTH]]).unwrap();
    request.send_attached(Attachment::Lent(lent), Flags::END.with(Flags::DONE));
    let release: Arc<dyn Release> = Arc::new(Recorder::default());
    let (data, arrivals) = answer(&mut router, &release);
    let (body, attachments) = assemble(data, arrivals).unwrap();
    assert!(body.is_empty());
    assert_eq!(attachments[0].length(), LENGTH as u64);
}

#[test]
fn items_in_regions_wait_for_credit_and_what_is_never_sent_is_never_lent() {
    let replica = Replica::start(10);
    let mut router = replica.caller();
    let name = router.call("async", Flags::END, b"");
    let request = replica.request();
    assert!(request.claim());
    let mut sent = 0;
    loop {
        let lent = request.lend(&[&vec![3; LENGTH]]).unwrap();
        if request.send_attached(Attachment::Lent(lent), Flags::END_OF_MESSAGE) != Room::Yes {
            break;
        }
        sent += 1;
    }
    // A fourth would cost a little more than is left of 64 KiB.
    assert_eq!(sent, 3);
    let lent = request.lend(&[&vec![3; LENGTH]]).unwrap();
    request.send_attached(Attachment::Lent(lent), Flags::END_OF_MESSAGE);
    router.send(Kind::Cancel, name, Flags::NONE, 0, b"");
    assert!(matches!(replica.event(), Event::Cancelled(_)));
    let recorder = Arc::new(Recorder::default());
    let release: Arc<dyn Release> = recorder.clone();
    for _ in 0..sent {
        let frame = router.frame(Kind::Response);
        let (table, _) = Attachments::split(1, &frame.payload).unwrap();
        let channel = router.channel.as_ref().unwrap();
        drop(
            channel
                .take(table.iter(), &release, &Held::new(|| ()))
                .unwrap(),
        );
    }
    assert_eq!(recorder.0.lock().len(), sent);
    request.done();
    router.done(name);
}
