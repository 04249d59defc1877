//! Calls as a Python process makes them: a router on its thread, real sockets, a replica, and a controller that may be
//! silent.

mod control;
mod harness;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use eagleray_client::{Arguments, Completions, Content, Dispatched, Order, Outcome, Segment, Sent};
use eagleray_replica::{Body, Room};
use eagleray_types::Cancel;
use eagleray_wire::Flags;
use rustix::event::{PollFd, PollFlags, poll};

use harness::{BOUND, World, answer, body, code, item, key, order, outcome, ready, value};

#[test]
fn a_call_is_answered() {
    let world = World::new();
    let call = world.call(b"three");
    let request = world.replica.request();
    assert_eq!(body(&request), b"three");
    assert!(!call.is_ready());
    answer(&request, b"four");
    assert_eq!(value(&call), b"four");
}

#[test]
fn a_call_waits_for_news_of_its_deployment() {
    let mut world = World::untold();
    let call = world.call(b"early");
    let target = world.replica.target();
    world.controller.tell(&world.follower, vec![target]);
    let request = world.replica.request();
    answer(&request, b"done");
    assert_eq!(value(&call), b"done");
}

#[test]
fn an_exception_is_an_answer_that_says_so() {
    let world = World::new();
    let call = world.call(b"");
    let request = world.replica.request();
    let last = Flags::END.with(Flags::DONE).with(Flags::ERROR);
    request.start(500, []).expect("a head");
    request.send(b"pickled", last);
    match outcome(&call) {
        Outcome::Answer(Content::Bytes(bytes), true) => assert_eq!(&bytes[..], b"pickled"),
        other => panic!("an exception, not {other:?}"),
    }
}

/// Kind and content of each segment of an envelope.
fn segments(envelope: &[u8]) -> Vec<(u8, Vec<u8>)> {
    assert_eq!(envelope[0], 1, "an envelope");
    let count = u32::from_le_bytes(envelope[1..5].try_into().expect("four bytes")) as usize;
    let mut at = 5 + 9 * count;
    let mut found = Vec::new();
    for entry in envelope[5..at].chunks(9) {
        let length = u64::from_le_bytes(entry[1..].try_into().expect("eight bytes")) as usize;
        found.push((entry[0], envelope[at..at + length].to_vec()));
        at += length;
    }
    assert_eq!(at, envelope.len());
    found
}

#[test]
fn an_answer_that_is_an_argument_goes_on_as_it_came() {
    let world = World::new();
    let first = world.call(b"first");
    let second = world.order(
        Arguments::Segments(vec![
            (0, Segment::Content(Content::Bytes("mine".into()))),
            (1, Segment::Answer(Arc::clone(&first))),
        ]),
        false,
    );
    let request = world.replica.request();
    assert_eq!(
        body(&request),
        b"first",
        "the second waits for its argument"
    );
    answer(&request, b"answer of the first");
    let request = world.replica.request();
    assert_eq!(
        segments(&body(&request)),
        [(0, b"mine".to_vec()), (1, b"answer of the first".to_vec())]
    );
    answer(&request, b"");
    assert_eq!(value(&second), b"");
    assert_eq!(value(&first), b"answer of the first", "it is there too");
}

#[test]
fn a_call_whose_argument_failed_is_not_sent() {
    let world = World::new();
    let first = world.call(b"first");
    let second = world.order(
        Arguments::Segments(vec![(1, Segment::Answer(Arc::clone(&first)))]),
        false,
    );
    let request = world.replica.request();
    first.cancel();
    assert!(matches!(outcome(&second), Outcome::Upstream(0)));
    assert_eq!(code(&first), "Cancelled");
    drop(request);
    let after = world.call(b"after");
    let request = world.replica.request();
    assert_eq!(body(&request), b"after", "nothing came between");
    answer(&request, b"");
    value(&after);
}

#[test]
fn a_cancelled_call_ends_at_both_ends() {
    let world = World::new();
    let call = world.call(b"long");
    let request = world.replica.request();
    call.cancel();
    assert_eq!(code(&call), "Cancelled");
    let until = Instant::now() + BOUND;
    while !request.is_cancelled() {
        assert!(Instant::now() < until, "the replica does not hear of it");
        world.replica.rest();
    }
}

#[test]
fn items_are_not_asked_for_faster_than_they_are_taken() {
    let world = World::new();
    let call = world.order(Arguments::Whole(Content::Bytes("".into())), true);
    let request = world.replica.request();
    request.start(200, []).expect("a head");
    let piece = vec![7; 16 * 1024];
    let mut sent = 0;
    // Until neither the caller nor the credit takes more.
    while request.poll_writable() == Room::Yes && sent < 1_000 {
        item(&request, &piece);
        sent += 1;
        ready(&call);
    }
    assert!((4..1_000).contains(&sent), "{sent} items without a reader");
    let mut taken = 0;
    while taken < sent {
        ready(&call);
        let item = call.pop().expect("an item");
        assert!(matches!(item, Content::Bytes(bytes) if bytes == piece));
        taken += 1;
    }
    request.send(b"", Flags::END.with(Flags::DONE));
    ready(&call);
    assert!(matches!(call.outcome(), Some(Outcome::End)));
    assert!(call.pop().is_none());
}

#[test]
fn a_reserved_slot_runs_what_is_dispatched_later() {
    let world = World::new();
    let nothing = Arguments::Whole(Content::Bytes("".into()));
    let Sent {
        call, reservation, ..
    } = world
        .router
        .call(order("", nothing, false))
        .expect("a head can be made");
    let reservation = reservation.expect("a call without a method reserves");
    let request = world.replica.request();
    request.start(200, []).expect("a head");
    item(&request, b"who I am");
    ready(&call);
    assert!(matches!(call.pop(), Some(Content::Bytes(bytes)) if &bytes[..] == b"who I am"));
    reservation.dispatch(Dispatched {
        arguments: Arguments::Whole(Content::Bytes("late".into())),
        stream: false,
    });
    let mut body = Vec::new();
    let until = Instant::now() + BOUND;
    loop {
        assert!(Instant::now() < until, "the body does not end");
        match request.read() {
            Body::Data { bytes, more } => {
                body.extend_from_slice(&bytes);
                if !more {
                    break;
                }
            }
            Body::Pending => world.replica.rest(),
            Body::Last | Body::Disconnected => break,
        }
    }
    assert_eq!(body, b"late");
    item(&request, b"result");
    request.done();
    assert_eq!(value(&call), b"result");
}

#[test]
fn a_reservation_that_nobody_can_use_any_more_gives_its_slot_back() {
    let world = World::new();
    let nothing = Arguments::Whole(Content::Bytes("".into()));
    let Sent {
        call, reservation, ..
    } = world
        .router
        .call(order("", nothing, false))
        .expect("a head can be made");
    let request = world.replica.request();
    request.start(200, []).expect("a head");
    item(&request, b"who I am");
    ready(&call);
    assert!(call.outcome().is_none(), "it is kept for whoever has it");
    drop(reservation);
    let until = Instant::now() + BOUND;
    while !request.is_cancelled() {
        assert!(Instant::now() < until, "the replica does not hear of it");
        world.replica.rest();
    }
    assert_eq!(code(&call), "Cancelled");
}

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// A request that makes calls.
#[derive(Debug)]
struct Caller {
    deadline: Instant,
    calls: Mutex<Vec<Arc<dyn Cancel>>>,
}

impl eagleray_types::Caller for Caller {
    fn identity(&self) -> (String, String) {
        ("mine".to_owned(), "/route".to_owned())
    }

    fn traceparent(&self) -> String {
        TRACEPARENT.to_owned()
    }

    fn deadline_of_calls(&self) -> Option<Instant> {
        Some(self.deadline)
    }

    fn cancels(&self, call: &Arc<dyn Cancel>) {
        self.calls
            .lock()
            .expect("nobody panicked")
            .push(Arc::clone(call));
    }
}

#[test]
fn a_call_belongs_to_the_request_that_makes_it() {
    let world = World::new();
    let caller = Caller {
        deadline: Instant::now() + BOUND,
        calls: Mutex::default(),
    };
    let nothing = || Arguments::Whole(Content::Bytes("".into()));
    let sent = world
        .router
        .call(Order {
            caller: Some(&caller),
            ..order("predict", nothing(), false)
        })
        .expect("a head can be made");
    assert_eq!(sent.request_id, "mine");
    let request = world.replica.request();
    let head = request.head().expect("a head");
    assert_eq!(
        (head.request_id(), head.route(), head.traceparent()),
        (&b"mine"[..], &b"/route"[..], TRACEPARENT.as_bytes())
    );
    assert!(
        request.deadline().is_some(),
        "it is due when the caller's answer is"
    );
    let calls = std::mem::take(&mut *caller.calls.lock().expect("nobody panicked"));
    assert_eq!(calls.len(), 1);
    calls[0].cancel();
    assert_eq!(code(&sent.call), "Cancelled");
    let ids: Vec<_> = (0..2)
        .map(|_| {
            let order = order("predict", nothing(), false);
            let sent = world.router.call(order).expect("a head can be made");
            let request = world.replica.request();
            assert_eq!(request.head().expect("a head").route(), b"");
            assert!(request.deadline().is_none());
            answer(&request, b"");
            value(&sent.call);
            sent.request_id
        })
        .collect();
    assert_ne!(ids[0], ids[1], "nobody's calls have an id each");
}

#[test]
fn calls_of_a_turn_leave_together() {
    let world = World::new();
    let several = Arc::new(AtomicBool::new(true));
    let says = Arc::clone(&several);
    world
        .router
        .orders()
        .hold_in_batches(std::thread::current().id(), move || {
            says.load(Ordering::Relaxed)
        });
    let held = world.call(b"held");
    // One of another thread goes at once, and what is held goes before it.
    std::thread::scope(|scope| {
        let router = &world.router;
        scope.spawn(|| {
            let arguments = Arguments::Whole(Content::Bytes("other".into()));
            router.call(order("predict", arguments, false)).map(drop)
        });
    });
    assert_eq!(body(&world.replica.request()), b"held");
    let other = world.replica.request();
    assert_eq!(body(&other), b"other");

    let again = world.call(b"again");
    world.router.orders().release();
    let request = world.replica.request();
    assert_eq!(body(&request), b"again");
    answer(&request, b"");
    value(&again);

    several.store(false, Ordering::Relaxed);
    let alone = world.call(b"alone");
    let request = world.replica.request();
    assert_eq!(body(&request), b"alone");
    answer(&request, b"");
    value(&alone);
    assert!(!held.is_ready());
}

#[test]
fn a_loop_hears_of_many_calls_by_one_descriptor() {
    let world = World::new();
    let completions = Arc::new(Completions::new().expect("a descriptor"));
    let calls = [world.call(b"a"), world.call(b"b")];
    for (token, call) in (1..).zip(&calls) {
        assert!(call.notify(&completions, token));
    }
    assert_eq!(completions.drain(), [0_u64; 0]);
    for _ in &calls {
        answer(&world.replica.request(), b"");
    }
    let mut tokens = Vec::new();
    while tokens.len() < calls.len() {
        let mut watched = [PollFd::new(&*completions, PollFlags::IN)];
        let bound = rustix::time::Timespec::try_from(BOUND).expect("seconds");
        assert_eq!(poll(&mut watched, Some(&bound)), Ok(1), "nothing came");
        tokens.extend(completions.drain());
    }
    tokens.sort_unstable();
    assert_eq!(tokens, [1, 2]);
    assert!(
        !calls[0].notify(&completions, 3),
        "it is ready: the queue hears nothing"
    );
    assert_eq!(completions.drain(), [0_u64; 0]);
}

#[test]
fn calls_end_with_their_router() {
    let world = World::new();
    let call = world.call(b"");
    let request = world.replica.request();
    world.router.close();
    assert_eq!(code(&call), "Unavailable");
    assert_eq!(code(&world.call(b"late")), "Unavailable");
    drop(request);
}

#[test]
fn a_call_to_one_replica_says_when_that_is_gone() {
    let mut world = World::new();
    let ids = world.router.replicas(&key(), Instant::now() + BOUND);
    assert_eq!(ids.as_deref(), Some(&["replica".to_owned()][..]));
    let to = |replica_id| eagleray_client::Order {
        replica_id,
        ..order(
            "predict",
            Arguments::Whole(Content::Bytes("".into())),
            false,
        )
    };
    let call = world.router.call(to("replica")).expect("a head").call;
    answer(&world.replica.request(), b"mine");
    assert_eq!(value(&call), b"mine");
    let call = world.router.call(to("another")).expect("a head").call;
    assert_eq!(code(&call), "Unavailable");
    let (follower, empty) = (&world.follower, Vec::new());
    world.controller.tell(follower, empty);
    let until = Instant::now() + BOUND;
    while world.router.replicas(&key(), Instant::now()).is_some() {
        assert!(Instant::now() < until, "the targets do not arrive");
        std::thread::yield_now();
    }
}
