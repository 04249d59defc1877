//! Values that go and come in regions.

use std::{sync::Arc, time::Instant};

use bytes::{Bytes, BytesMut};
use eagleray_router::service::{Handle, Options, Outgoing, Value};
use eagleray_wire::{
    Flags, Frame, Kind, RequestHead,
    region::{Arrival, Attached, Attachment, Held, Named, Pool, Received, Release, encode_named},
};
use parking_lot::Mutex;

use super::{Replica, call_head_with, key, with_replica_and};

const LENGTH: usize = 300_000;

#[derive(Debug, Default)]
struct Recorder(Mutex<Vec<(u64, bool)>>);

impl Release for Recorder {
    fn release(&self, number: u64, reusable: bool) {
        self.0.lock().push((number, reusable));
    }
}

impl Replica {
    /// What a request brings in regions.
    fn take(&self, request: &Frame, recorder: &Arc<Recorder>) -> Vec<Arrival> {
        let (head, _) = RequestHead::decode(&request.payload).expect("a head");
        let RequestHead::Call(call) = head else {
            panic!("it is a call");
        };
        let release: Arc<dyn Release> = recorder.clone();
        let channel = self.channel.as_ref().expect("the router wants one");
        channel
            .take(call.attachments.iter(), &release, &Held::new(|| ()))
            .expect("the router keeps the rules")
    }

    /// Answers the next request, and waits for the release of a region; in whichever order they come.
    fn answer_and_await_release(&mut self, number: u64) {
        let (mut released, mut answered) = (false, false);
        while !(released && answered) {
            let frame = self.frame(Kind::Release);
            match frame.header.kind {
                Kind::Release => {
                    assert_eq!((frame.header.sequence, frame.header.a), (number, 1));
                    released = true;
                }
                Kind::Request => {
                    let flags = Flags::END.with(Flags::DONE);
                    self.send(&frame, Kind::Response, flags, 0, b"x");
                    answered = true;
                }
                _ => {}
            }
        }
    }

    /// Answers with a value in a region.
    fn answer(&mut self, request: &Frame, value: &Attached) {
        let channel = self.channel.as_ref().expect("the router wants one");
        channel
            .lend(std::slice::from_ref(value))
            .expect("it is sent");
        let mut table = BytesMut::new();
        encode_named(&mut table, [value.named()]);
        self.send(
            request,
            Kind::Response,
            // Whoever waits meanwhile has said WAIT, and sends on a grant only.
            Flags::END.with(Flags::DONE).with(Flags::GRANT),
            1,
            &table,
        );
    }
}

fn attached(pool: &Arc<Pool>, value: &[u8]) -> Attached {
    Attached {
        number: pool.number(),
        attachment: Attachment::Lent(pool.lend(&[value]).expect("there is credit")),
    }
}

fn outgoing(attached: Attached) -> Outgoing {
    let head = call_head_with(&[attached.named()]);
    Outgoing {
        attached: vec![attached],
        ..Outgoing::whole(head, Bytes::from_static(b"body"))
    }
}

async fn ask(handle: &Handle, request: Outgoing) -> Value {
    let call = handle.submit(Instant::now(), &key(), request);
    let call = call.expect("it is taken");
    call.collect().await.expect("it is answered")
}

fn regions() -> Options {
    Options {
        regions: Some(Held::new(|| ())),
        ..Options::default()
    }
}

fn bytes_of(received: &Arc<Received>) -> usize {
    received.map().expect("it can be mapped").len()
}

#[test]
fn an_argument_is_lent_once_more_after_a_reject_and_its_memory_used_again() {
    let serve = |mut replica: Replica| {
        let recorder = Arc::new(Recorder::default());
        let rejected = replica.expect(Kind::Request);
        drop(replica.take(&rejected, &recorder));
        replica.send(&rejected, Kind::Reject, Flags::NONE, 0, b"");
        for _ in 0..2 {
            let (request, body) = replica.request();
            assert_eq!(body, b"body");
            let arrivals = replica.take(&request, &recorder);
            assert!(matches!(&arrivals[..], [Arrival::Region(one)] if bytes_of(one) == LENGTH));
            drop(arrivals);
            for (number, reusable) in recorder.0.lock().drain(..) {
                let mut frame = request.clone();
                (frame.header.slot, frame.header.sequence) = (0, number);
                replica.send(&frame, Kind::Release, Flags::NONE, reusable.into(), b"");
            }
            replica.send(
                &request,
                Kind::Response,
                Flags::END.with(Flags::DONE),
                0,
                b"x",
            );
        }
    };
    with_replica_and(regions(), serve, |handle| async move {
        let pool = Pool::new(|| ());
        ask(&handle, outgoing(attached(&pool, &vec![1; LENGTH]))).await;
        assert!(pool.poll_timeout().is_some(), "it came back");
        ask(&handle, outgoing(attached(&pool, &vec![2; LENGTH]))).await;
    });
}

#[test]
fn an_argument_for_a_replica_without_a_channel_follows_the_body() {
    let serve = |mut replica: Replica| {
        let (request, body) = replica.request();
        let (head, _) = RequestHead::decode(&request.payload).expect("a head");
        let RequestHead::Call(call) = head else {
            panic!("it is a call");
        };
        let named: Vec<_> = call.attachments.iter().collect();
        let length = LENGTH as u64;
        assert_eq!(named, [Named { number: 0, length }]);
        assert_eq!(body.len(), 4 + LENGTH);
        assert!(body[4..].iter().all(|byte| *byte == 1));
        replica.send(
            &request,
            Kind::Response,
            Flags::END.with(Flags::DONE),
            0,
            b"x",
        );
    };
    with_replica_and(Options::default(), serve, |handle| async move {
        let pool = Pool::new(|| ());
        ask(&handle, outgoing(attached(&pool, &vec![1; LENGTH]))).await;
        assert!(pool.poll_timeout().is_some(), "it is not lent any more");
    });
}

#[test]
fn a_result_is_released_by_whichever_thread_drops_it() {
    let serve = |mut replica: Replica| {
        let pool = Pool::new(|| ());
        let (request, _) = replica.request();
        let value = attached(&pool, &vec![3; LENGTH]);
        replica.answer(&request, &value);
        replica.answer_and_await_release(value.number);
    };
    with_replica_and(regions(), serve, |handle| async move {
        let pool = Pool::new(|| ());
        let value = ask(&handle, outgoing(attached(&pool, b"x"))).await;
        let [Attachment::Received(received)] = &value.attachments[..] else {
            panic!("{value:?} came in no region");
        };
        assert_eq!(bytes_of(received), LENGTH);
        let dropped = tokio::task::spawn_blocking(move || drop(value));
        dropped.await.expect("it is dropped");
        ask(&handle, outgoing(attached(&pool, b"x"))).await;
    });
}

#[test]
fn a_result_that_nobody_waits_for_is_released() {
    let (begun, has_begun) = tokio::sync::oneshot::channel();
    let serve = move |mut replica: Replica| {
        let pool = Pool::new(|| ());
        let (request, _) = replica.request();
        begun.send(()).expect("the caller waits for it");
        replica.expect(Kind::Cancel);
        let value = attached(&pool, &vec![3; LENGTH]);
        replica.answer(&request, &value);
        replica.answer_and_await_release(value.number);
    };
    with_replica_and(regions(), serve, |handle| async move {
        let pool = Pool::new(|| ());
        let first = outgoing(attached(&pool, b"x"));
        let call = handle.submit(Instant::now(), &key(), first);
        let call = call.expect("it is taken");
        has_begun.await.expect("the replica begins");
        drop(call);
        ask(&handle, outgoing(attached(&pool, b"x"))).await;
    });
}

#[test]
fn a_replica_that_names_what_did_not_come_loses_its_connection() {
    let serve = |mut replica: Replica| {
        let (request, _) = replica.request();
        let mut table = BytesMut::new();
        encode_named(
            &mut table,
            [Named {
                number: 9,
                length: 1,
            }],
        );
        replica.send(
            &request,
            Kind::Response,
            Flags::END.with(Flags::DONE),
            1,
            &table,
        );
        let mut rest = Vec::new();
        std::io::Read::read_to_end(&mut replica.stream, &mut rest).ok();
    };
    with_replica_and(regions(), serve, |handle| async move {
        let pool = Pool::new(|| ());
        let call = handle.submit(Instant::now(), &key(), outgoing(attached(&pool, b"x")));
        let failure = call.expect("it is taken").collect().await.unwrap_err();
        assert_eq!(failure.code, eagleray_types::ErrorCode::Internal);
    });
}
