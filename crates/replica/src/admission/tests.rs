use eagleray_wire::Kind;

use super::*;

const A: ConnectionKey = ConnectionKey(0);
const B: ConnectionKey = ConnectionKey(1);

fn micros(micros: u64) -> Duration {
    Duration::from_micros(micros)
}

fn queue(waiting: u32, wait: u64) -> Queue {
    Queue {
        waiting,
        oldest_wait: micros(wait),
        number: 1,
    }
}

const EMPTY: Queue = Queue::EMPTY;

/// Routers A and B, and `taken` slots of `limit` in use by A.
fn admission(limit: u32, taken: u32) -> (Admission, Instant) {
    let now = Instant::now();
    let mut admission = Admission::new(limit);
    admission.connected(now, A);
    admission.connected(now, B);
    for _ in 0..taken {
        assert_eq!(admission.on_request(now, A, false, EMPTY), Verdict::Accept);
    }
    (admission, now)
}

fn sent(admission: &mut Admission) -> Vec<(ConnectionKey, Kind)> {
    std::iter::from_fn(|| admission.poll_transmit())
        .map(|(key, header)| (key, header.kind))
        .collect()
}

#[test]
fn a_request_past_the_limit_is_rejected_with_what_is_taken() {
    let (mut admission, now) = admission(2, 2);
    assert_eq!(admission.on_request(now, B, false, EMPTY), Verdict::Reject);
    let header = admission.reject(3, 9);
    assert_eq!(
        (header.kind, header.slot, header.sequence),
        (Kind::Reject, 3, 9)
    );
    assert_eq!((header.b, header.c), (2, 2));
}

#[test]
fn a_freed_slot_goes_to_the_longest_wait() {
    let (mut admission, now) = admission(1, 1);
    admission.on_wait(now, A, queue(1, 10));
    admission.on_wait(now, B, queue(1, 500));
    assert_eq!(sent(&mut admission), []);
    assert!(
        !admission.finished(now, A),
        "the grant is B's, so none rides on A's DONE"
    );
    assert_eq!(sent(&mut admission), [(B, Kind::Grant)]);
    assert_eq!(
        (admission.ongoing(), admission.occupied(), admission.free()),
        (0, 1, 0)
    );
    assert_eq!(
        admission.on_request(now, A, false, EMPTY),
        Verdict::Reject,
        "the slot is kept for B"
    );
    assert_eq!(admission.on_request(now, B, true, EMPTY), Verdict::Accept);
}

#[test]
fn a_grant_rides_on_done_to_the_same_router() {
    let (mut admission, now) = admission(1, 1);
    admission.on_wait(now, A, queue(1, 10));
    assert!(admission.finished(now, A));
    assert_eq!(sent(&mut admission), []);
    assert_eq!(admission.grants(A), 1);
}

#[test]
fn a_wait_beside_free_slots_is_granted_at_once_up_to_its_count() {
    let (mut admission, now) = admission(5, 1);
    admission.on_wait(now, B, queue(2, 10));
    assert_eq!(sent(&mut admission), [(B, Kind::Grant); 2]);
    assert_eq!(admission.free(), 2, "the rest is offered, not kept");
}

#[test]
fn a_request_carries_a_fresh_count() {
    let (mut admission, now) = admission(3, 0);
    admission.on_wait(now, B, queue(1, 10));
    assert_eq!(sent(&mut admission), [(B, Kind::Grant)]);
    assert_eq!(
        admission.on_request(now, B, true, queue(2, 5)),
        Verdict::Accept
    );
    assert_eq!(sent(&mut admission), [(B, Kind::Grant); 2]);
}

#[test]
fn a_slot_that_falls_free_is_granted_past_the_count_and_comes_back() {
    let (mut admission, now) = admission(2, 2);
    admission.on_wait(now, B, queue(1, 10));
    admission.finished(now, A);
    admission.finished(now, A);
    assert_eq!(
        sent(&mut admission),
        [(B, Kind::Grant); 2],
        "its count may be old"
    );
    assert_eq!(admission.on_request(now, B, true, EMPTY), Verdict::Accept);
    admission.on_unwait(now, B);
    admission.on_return(now, B, EMPTY);
    assert_eq!(sent(&mut admission), []);
    assert_eq!((admission.ongoing(), admission.free()), (1, 1));
}

#[test]
fn what_one_returns_goes_to_the_next_and_not_to_it_again() {
    let (mut admission, now) = admission(1, 1);
    admission.on_wait(now, A, queue(1, 900));
    admission.on_wait(now, B, queue(1, 10));
    assert!(admission.finished(now, A));
    admission.on_return(now, A, EMPTY);
    assert_eq!(sent(&mut admission), [(B, Kind::Grant)]);
    admission.on_return(now, B, EMPTY);
    assert_eq!(sent(&mut admission), [], "nobody has anything for it");
    admission.on_return(now, B, EMPTY);
    assert_eq!(admission.free(), 1, "a RETURN without a grant is nothing");
}

#[test]
fn a_grant_ends_after_five_milliseconds_and_a_silent_router_gets_no_other() {
    let (mut admission, now) = admission(1, 1);
    admission.on_wait(now, A, queue(1, 900));
    admission.on_wait(now, B, queue(1, 10));
    assert!(admission.finished(now, A));
    assert_eq!(admission.poll_timeout(), Some(now + GRANT_TIME));
    admission.on_timeout(now + micros(4_999));
    assert_eq!(sent(&mut admission), []);
    admission.on_timeout(now + GRANT_TIME);
    assert_eq!(sent(&mut admission), [(B, Kind::Grant)]);
    let later = now + GRANT_TIME * 2;
    admission.on_timeout(later);
    assert_eq!(sent(&mut admission), [], "neither has answered");
    assert_eq!(admission.poll_timeout(), None);
    // A comes late with its grant: it is taken if there is room, and A counts again.
    assert_eq!(
        admission.on_request(later, A, true, queue(1, 50)),
        Verdict::Accept
    );
    assert!(admission.finished(later, A));
}

#[test]
fn a_router_that_leaves_gives_its_grants_to_the_others() {
    let (mut admission, now) = admission(2, 2);
    admission.on_wait(now, B, queue(2, 900));
    admission.on_wait(now, A, queue(1, 10));
    admission.finished(now, A);
    assert_eq!(sent(&mut admission), [(B, Kind::Grant)]);
    admission.disconnected(now, B);
    assert_eq!(sent(&mut admission), [(A, Kind::Grant)]);
    // Its place is another's now; a timer of the old grant does not touch it.
    admission.connected(now, B);
    admission.on_wait(now, B, queue(1, 5));
    admission.dropped(now);
    assert_eq!(sent(&mut admission), [(B, Kind::Grant)]);
    assert_eq!(admission.occupied(), 2);
}

#[test]
fn a_replica_that_drains_takes_nothing_and_says_so() {
    let (mut admission, now) = admission(3, 1);
    admission.on_wait(now, B, queue(1, 10));
    admission.drain(now);
    assert_eq!(sent(&mut admission), [(A, Kind::Gone), (B, Kind::Gone)]);
    assert_eq!(
        admission.on_request(now, B, true, EMPTY),
        Verdict::Reject,
        "its grant ended with GONE"
    );
    admission.on_wait(now, B, queue(1, 10));
    admission.finished(now, A);
    admission.connected(now, ConnectionKey(2));
    assert_eq!(sent(&mut admission), [(ConnectionKey(2), Kind::Gone)]);
    assert_eq!((admission.occupied(), admission.poll_timeout()), (0, None));
}

#[test]
fn a_lower_limit_holds_once_enough_has_finished_and_a_higher_one_at_once() {
    let (mut admission, now) = admission(3, 3);
    admission.on_wait(now, B, queue(4, 10));
    admission.set_limit(now, 1);
    admission.finished(now, A);
    admission.finished(now, A);
    assert_eq!(sent(&mut admission), []);
    assert_eq!((admission.ongoing(), admission.free()), (1, 0));
    admission.set_limit(now, 4);
    assert_eq!(sent(&mut admission), [(B, Kind::Grant); 3]);
    assert_eq!(admission.free(), 0);
}

#[test]
fn a_soft_grant_is_lent_to_a_request_that_is_here_and_a_firm_one_is_not() {
    let (mut admission, now) = admission(2, 1);
    admission.on_wait(now, B, queue(1, 10));
    let grant = admission.poll_transmit();
    assert_eq!(
        grant.map(|(to, header)| (to, header.sequence)),
        Some((B, 1)),
        "soft"
    );
    assert_eq!(
        admission.on_request(now, A, false, EMPTY),
        Verdict::Accept,
        "lent"
    );
    assert_eq!(
        admission.on_request(now, B, true, queue(1, 20)),
        Verdict::Reject,
        "B comes too late"
    );
    assert!(!admission.finished(now, A));
    let grant = admission.poll_transmit();
    assert_eq!(
        grant.map(|(to, header)| (to, header.sequence)),
        Some((B, 0)),
        "firm"
    );
    assert_eq!(admission.on_request(now, A, false, EMPTY), Verdict::Reject);
    assert_eq!(admission.on_request(now, B, true, EMPTY), Verdict::Accept);
}

#[test]
fn unwait_ends_soft_grants_without_an_answer() {
    let (mut admission, now) = admission(4, 1);
    admission.on_wait(now, B, queue(2, 10));
    admission.on_wait(now, A, queue(3, 5));
    assert_eq!(admission.free(), 0);
    sent(&mut admission);
    admission.on_unwait(now, B);
    assert_eq!(sent(&mut admission), [(A, Kind::Grant); 2]);
    assert_eq!((admission.grants(A), admission.grants(B)), (3, 0));
    // A fresh WAIT ends those of the last one, and says what is needed now.
    admission.on_wait(
        now,
        A,
        Queue {
            number: 2,
            ..queue(1, 5)
        },
    );
    assert_eq!(
        admission.grants(A),
        3,
        "its count is covered, and nobody else wants the rest"
    );
    assert_eq!(admission.occupied(), 4);
}
