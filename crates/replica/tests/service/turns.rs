//! What the event loop takes in one turn.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use eagleray_replica::{Event, Request, Wake, Work};
use eagleray_wire::{Flags, Kind};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::harness::{BOUND, Replica};

fn eventually(what: &str, condition: impl Fn() -> bool) {
    let until = Instant::now() + BOUND;
    while !condition() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn is_readable(wake: &Wake) -> bool {
    let now = Timespec::default();
    poll(&mut [PollFd::new(wake, PollFlags::IN)], Some(&now)).unwrap() > 0
}

/// Requests of one turn, and how many events came before each.
fn turn(replica: &Replica, wake: &Wake) -> Vec<(usize, Arc<Request>)> {
    let mut events = 0;
    let mut requests = Vec::new();
    let taken = replica
        .handle
        .turn(wake, |work| {
            match work {
                Work::Event(_) => events += 1,
                Work::Request(request) => requests.push((events, request)),
            }
            Ok::<_, ()>(())
        })
        .unwrap();
    assert_eq!(taken, requests.len());
    requests
}

#[test]
fn a_turn_takes_so_many_and_the_loop_comes_back_for_the_rest() {
    let replica = Replica::start(200);
    let mut router = replica.router();
    let names: Vec<_> = (0..100).map(|_| router.get()).collect();
    eventually("all have come", || replica.handle.ongoing() == 100);
    let wake = Wake::new().unwrap();
    wake.wake();
    let mut requests = Vec::new();
    while requests.len() < 100 {
        assert!(is_readable(&wake), "there is more");
        let taken = turn(&replica, &wake);
        assert!(
            (1..=64).contains(&taken.len()),
            "{} in one turn",
            taken.len()
        );
        requests.extend(taken);
    }
    assert!(turn(&replica, &wake).is_empty());
    assert!(!is_readable(&wake), "the loop may sleep");
    for ((_, request), name) in requests.into_iter().zip(names) {
        assert!(request.claim());
        request.answer(200, [], b"", true).unwrap();
        router.done(name);
    }
}

#[test]
fn events_come_first_and_what_fails_leaves_the_rest() {
    let replica = Replica::start(10);
    let mut router = replica.router();
    let first = router.get();
    let running = replica.request();
    assert!(running.claim());
    router.get();
    router.get();
    router.send(Kind::Cancel, first, Flags::NONE, 0, &[]);
    eventually("the first is cancelled", || running.is_cancelled());
    let wake = Wake::new().unwrap();
    wake.wake();
    let failed = replica.handle.turn(&wake, |work| match work {
        Work::Event(Event::Cancelled(serial)) if serial == running.serial() => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert!(
        failed.unwrap_err().starts_with("Request"),
        "the first after the event"
    );
    assert!(is_readable(&wake), "the other one waits still");
    assert_eq!(turn(&replica, &wake).len(), 1);
}
