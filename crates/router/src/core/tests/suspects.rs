//! Requests that were running in a replica that died.

use super::*;
use crate::core::probation::PROBATION;

type Sent = Vec<(usize, Header, Option<RequestKey>)>;

/// A bench of three replicas with room for four each. The requests that are given run in the first, which then dies;
/// the positions and requests of what is sent next.
fn after_a_death(submits: &[Submit]) -> (Bench, Vec<RequestKey>, Vec<(usize, Header, RequestKey)>) {
    let mut bench = Bench::unconnected(Arc::default());
    bench.target(4, &["r0", "r1", "r2"], |_| ());
    bench.connect(0, 4);
    let requests: Vec<_> = submits.iter().map(|submit| bench.submit(*submit)).collect();
    for (at, header, request) in bench.sent() {
        assert!(request.is_none() || bench.start(at, header));
    }
    bench.connect(1, 4);
    bench.connect(2, 4);
    bench.die(0);
    let sent = requests_of(bench.sent());
    (bench, requests, sent)
}

fn requests_of(sent: Sent) -> Vec<(usize, Header, RequestKey)> {
    let request = |(at, header, request): (usize, Header, Option<RequestKey>)| {
        request.map(|request| (at, header, request))
    };
    sent.into_iter().filter_map(request).collect()
}

#[test]
fn the_neighbours_of_a_deadly_request_do_not_share_its_second_replica() {
    let (mut bench, requests, sent) = after_a_death(&[SAFE; 4]);
    assert_eq!(sent.len(), 2, "one to each replica: {sent:?}");
    assert_ne!(sent[0].0, sent[1].0);
    assert_eq!((sent[0].2, sent[1].2), (requests[0], requests[1]));
    let (at, header, deadly) = sent[0];
    assert!(bench.start(at, header));
    bench.die(at);
    assert_eq!(
        bench.outcomes(),
        [failed(deadly, ErrorCode::ReplicaDied)],
        "nobody else was there"
    );
    // The other replica answers, and takes the next.
    let (at, header, _) = sent[1];
    bench.answer(at, header);
    let next = requests_of(bench.sent());
    assert_eq!(next.len(), 1);
    assert_eq!((next[0].0, next[0].2), (at, requests[2]));
    bench.answer(at, next[0].1);
    assert_eq!(requests_of(bench.sent())[0].2, requests[3]);
}

#[test]
fn a_suspect_that_runs_long_keeps_the_others_only_for_its_probation() {
    let (mut bench, requests, sent) = after_a_death(&[SAFE; 4]);
    for (at, header, _) in &sent {
        assert!(bench.start(*at, *header));
        bench.connections[*at].1.turn();
    }
    bench.pass(PROBATION * 9 / 10);
    assert_eq!(requests_of(bench.sent()), []);
    assert_eq!(bench.core.queued(&bench.key), 2);
    bench.pass(PROBATION / 10);
    let next: Vec<_> = requests_of(bench.sent())
        .into_iter()
        .map(|(_, _, request)| request)
        .collect();
    assert_eq!(next, [requests[2], requests[3]]);
}

#[test]
fn an_innocent_request_does_not_wait_for_a_probation() {
    let (mut bench, requests, _) = after_a_death(&[SAFE; 4]);
    let innocent = bench.submit(SAFE);
    assert_eq!(requests_of(bench.sent())[0].2, innocent);
    bench.core.cancel(bench.now, requests[3]);
    assert_eq!(
        bench.outcomes(),
        [Event::Cancelled {
            request: requests[3]
        }]
    );
    assert_eq!(bench.core.queued(&bench.key), 1);
}

/// A bench of three replicas of two slots each. The first died with two requests: one was sent to the second, where there
/// is room, and one is held, since the third is full with requests of others. What was sent since.
fn one_held() -> (Bench, RequestKey, Sent) {
    let mut bench = Bench::unconnected(Arc::default());
    bench.target(2, &["r0", "r1", "r2"], |_| ());
    bench.connect(2, 2);
    bench.submit(SAFE);
    let (at, header) = bench.one();
    bench.response(
        at,
        header,
        Flags::HEAD.with(Flags::END).with(Flags::DONE),
        2,
    );
    bench.connect(0, 2);
    let requests: Vec<_> = (0..2).map(|_| bench.submit(SAFE)).collect();
    for (at, header, _) in bench.sent() {
        assert!(bench.start(at, header));
    }
    bench.connect(1, 2);
    bench.die(0);
    bench.outcomes();
    let sent = bench.sent();
    (bench, requests[1], sent)
}

#[test]
fn a_held_request_leaves_on_a_grant_of_a_replica_without_a_suspect() {
    let (mut bench, held, sent) = one_held();
    let kinds: Vec<_> = sent.iter().map(|one| (one.0, one.1.kind)).collect();
    assert_eq!(kinds, [(1, Kind::Request), (2, Kind::Wait)]);
    assert_eq!(sent[1].1.a, 1, "the one that is held");
    bench.grant(2, 2);
    let sent = bench.sent();
    assert_eq!(sent.len(), 2, "{sent:?}");
    assert_eq!((sent[0].0, sent[0].2), (2, Some(held)));
    assert!(sent[0].1.flags.contains(Flags::GRANT));
    assert_eq!((sent[1].0, sent[1].1.kind), (2, Kind::Unwait));
}

#[test]
fn a_held_request_does_not_pass_an_older_one_that_nobody_suspects() {
    let mut bench = Bench::unconnected(Arc::default());
    bench.target(2, &["r0", "r1"], |_| ());
    bench.connect(0, 2);
    let requests: Vec<_> = (0..2).map(|_| bench.submit(SAFE)).collect();
    // The younger one is started, the older one is not.
    let (at, header, _) = bench.sent()[1];
    assert!(bench.start(at, header));
    bench.connect(1, 2);
    bench.die(0);
    let sent = requests_of(bench.sent());
    let order: Vec<_> = sent.iter().map(|(_, _, request)| *request).collect();
    assert_eq!(order, requests);
}

#[test]
fn a_replica_hears_only_of_requests_that_may_go_there() {
    let (mut bench, ..) = one_held();
    // The second slot of r1 goes to one that nobody suspects; the next finds no room.
    bench.submit(SAFE);
    bench.one();
    let last = bench.submit(SAFE);
    let said = |one: (usize, Header, Option<RequestKey>)| (one.0, one.1.kind, one.1.a);
    let sent: Vec<_> = bench.sent().into_iter().map(said).collect();
    assert_eq!(sent, [(1, Kind::Wait, 1)], "r2 has a WAIT");
    bench.core.cancel(bench.now, last);
    // No room anywhere: the suspect is in the queue now, from which it may leave for either.
    assert_eq!(bench.sent(), []);
}

#[test]
fn suspects_without_room_anywhere_wait_in_the_queue_and_leave_one_by_one() {
    let mut bench = Bench::unconnected(Arc::default());
    bench.target(3, &["r0"], |_| ());
    bench.connect(0, 3);
    let requests: Vec<_> = (0..3).map(|_| bench.submit(SAFE)).collect();
    for (at, header, request) in bench.sent() {
        assert!(request.is_none() || bench.start(at, header));
    }
    bench.die(0);
    assert_eq!(bench.core.queued(&bench.key), 3);
    bench.target(3, &["r1"], |_| ());
    bench.connect(1, 3);
    let mut left = Vec::new();
    for _ in 0..3 {
        let sent = requests_of(bench.sent());
        assert_eq!(sent.len(), 1, "{sent:?}");
        left.push(sent[0].2);
        bench.answer(1, sent[0].1);
    }
    assert_eq!(left, requests);
    assert_eq!(bench.core.queued(&bench.key), 0);
}

#[test]
fn held_requests_end_with_their_deployment_and_at_their_deadline() {
    let soon = Submit {
        deadline: Some(Instant::now() + Duration::from_secs(5)),
        ..SAFE
    };
    let (mut bench, requests, _) = after_a_death(&[SAFE, SAFE, soon, SAFE]);
    bench.now += Duration::from_millis(1);
    bench.target(4, &["r1", "r2"], |target| {
        "it failed".clone_into(&mut target.unavailable);
    });
    assert_eq!(
        bench.outcomes(),
        [
            unavailable(requests[2], "it failed"),
            unavailable(requests[3], "it failed")
        ]
    );
}

#[test]
fn a_request_that_never_had_a_replica_fails_at_its_deadline_as_one_that_may_be_sent_again() {
    let mut bench = Bench::unconnected(Arc::default());
    bench.target(1, &["r0"], |_| ());
    let deadline = Some(bench.now + Duration::from_secs(1));
    let request = bench.submit(Submit { deadline, ..ONCE });
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.outcomes(), [failed(request, ErrorCode::NoReplica)]);
    assert!(ErrorCode::NoReplica.retryable());
}
