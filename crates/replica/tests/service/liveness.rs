//! What routers and the node hear of a loop that does not turn, and of requests that nobody waits for.

use std::{io::Read, sync::Arc, time::Duration};

use bytes::BytesMut;
use eagleray_replica::Event;
use eagleray_types::{
    Caller, Cancel,
    control::{Condition, ReplicaEvent, replica_event},
};
use eagleray_wire::{Claims, Decoder, Flags, Kind};
use prost::Message;

use crate::harness::{Replica, serving};

/// The next that the node hears.
fn condition(replica: &Replica) -> Condition {
    let control = &replica.control;
    control
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut buffer = BytesMut::new();
    loop {
        if let Some(frame) = Decoder::control().decode(&mut buffer).unwrap() {
            match ReplicaEvent::decode(frame.payload).unwrap().body {
                Some(replica_event::Body::Condition(condition)) => return condition,
                other => panic!("{other:?}"),
            }
        }
        let mut bytes = [0; 1];
        (&*control).read_exact(&mut bytes).unwrap();
        buffer.extend_from_slice(&bytes);
    }
}

#[test]
fn a_loop_that_does_not_turn_is_reported_and_reported_again_when_it_turns() {
    let replica = Replica::start(10);
    let mut router = replica.router();
    let name = router.get();
    let frame = router.frame(Kind::Hung);
    assert!(frame.header.a >= 1_000, "{:?}", frame.header);
    let said = condition(&replica);
    assert!(said.hung_milliseconds >= 1_000);
    assert_eq!(said.stacks, "here");
    // A router that comes meanwhile is told.
    assert!(replica.router().frame(Kind::Hung).header.a >= 1_000);
    let request = replica.request();
    replica.handle.turned();
    assert_eq!(router.frame(Kind::Hung).header.a, 0);
    let said = condition(&replica);
    assert_eq!((said.hung_milliseconds, said.stacks.as_str()), (0, ""));
    assert!(request.claim());
    request.respond(200, [], b"", true).unwrap();
    router.done(name);
}

#[test]
fn while_it_reconfigures_routers_prefer_others_and_nothing_is_hung() {
    let replica = Replica::start(10);
    let mut router = replica.router();
    replica.handle.set_exempt(true);
    replica.handle.set_avoided(true);
    assert_eq!(router.frame(Kind::Hung).header.a, 1, "at once");
    router.get();
    let turns = router.page.turns();
    while router.page.turns() < turns + 8 {
        std::thread::yield_now();
    }
    assert!(router.page.exempt());
    let mut later = replica.router();
    assert!(later.page.exempt());
    assert_eq!(later.frame(Kind::Hung).header.a, 1);
    assert!(router.try_read().is_none(), "no word of hanging");
    replica.handle.set_exempt(false);
    assert!(!router.page.exempt());
    replica.handle.set_avoided(false);
    assert_eq!(router.frame(Kind::Hung).header.a, 0);
    // From now on it may be hung: a request waits.
    assert!(router.frame(Kind::Hung).header.a >= 1_000);
    replica.handle.set_avoided(true);
    assert!(router.frame(Kind::Hung).header.a >= 1_000);
    replica.handle.turned();
    assert_eq!(
        router.frame(Kind::Hung).header.a,
        1,
        "it turns, and still reconfigures"
    );
}

#[test]
fn requests_that_run_for_nobody_are_counted_until_they_end() {
    let replica = Replica::serving(eagleray_replica::Serving {
        sync_http: true,
        ..serving()
    });
    let mut router = replica.router();
    let name = router.get();
    assert!(matches!(replica.event(), Event::ThreadWanted));
    assert!(replica.handle.pool().join());
    let eagleray_replica::Next::Run { request, .. } = replica.handle.pool().next(false) else {
        panic!("nothing to run");
    };
    router.send(Kind::Cancel, name, Flags::NONE, 0, &[]);
    assert_eq!(condition(&replica).abandoned_requests, 1);
    assert_eq!(replica.handle.ongoing(), 1, "it keeps its slot");
    request.respond(200, [], b"", true).unwrap();
    router.done(name);
    assert_eq!(condition(&replica).abandoned_requests, 0);
    assert_eq!(replica.handle.ongoing(), 0);
}

#[derive(Debug, Default)]
struct Call(std::sync::atomic::AtomicBool);

impl Cancel for Call {
    fn cancel(&self) {
        self.0.store(true, std::sync::atomic::Ordering::SeqCst);
    }
}

impl Call {
    fn cancelled(&self) -> bool {
        self.0.load(std::sync::atomic::Ordering::SeqCst)
    }
}

#[test]
fn calls_end_with_the_request_that_makes_them_and_not_with_one_that_is_answered() {
    let replica = Replica::start(10);
    let mut router = replica.router();
    let name = router.get();
    let request = replica.request();
    assert!(request.claim());
    let (early, late) = (Arc::new(Call::default()), Arc::new(Call::default()));
    request.cancels(&(Arc::clone(&early) as Arc<dyn Cancel>));
    router.send(Kind::Cancel, name, Flags::NONE, 0, &[]);
    assert!(matches!(replica.event(), Event::Cancelled(_)));
    assert!(early.cancelled());
    request.cancels(&(Arc::clone(&late) as Arc<dyn Cancel>));
    assert!(late.cancelled(), "at once");
    request.done();
    router.done(name);

    let name = router.get();
    let request = replica.request();
    assert!(request.claim());
    request.respond(200, [], b"", false).unwrap();
    let call = Arc::new(Call::default());
    request.cancels(&(Arc::clone(&call) as Arc<dyn Cancel>));
    router.send(Kind::Cancel, name, Flags::NONE, 0, &[]);
    request.done();
    while !router
        .frame(Kind::Response)
        .header
        .flags
        .contains(Flags::DONE)
    {}
    assert!(!call.cancelled() && !request.is_cancelled());
}
