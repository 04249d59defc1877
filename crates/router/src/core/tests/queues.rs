//! Choice, queue, grants, bounds.

use super::*;

#[test]
fn a_request_goes_at_once_to_a_replica_with_room_and_its_word_is_queued_first() {
    let mut bench = Bench::new(1, 2);
    let request = bench.submit(ONCE);
    let (_, page) = bench.connections[0].clone();
    assert_eq!(
        page.read(0),
        (1, SlotState::Queued),
        "before the frame is even polled"
    );
    let (_, header) = bench.one();
    assert_eq!(
        (header.slot, header.sequence, header.a, header.c),
        (0, 1, 0, NO_DEADLINE)
    );
    assert_eq!(
        bench.core.location(request),
        Some((bench.connections[0].0, 0, 1))
    );
    assert_eq!(
        bench.response(0, header, Flags::HEAD.with(Flags::END), 1),
        Some(request)
    );
    assert_eq!(bench.outcomes(), [], "background tasks may still run");
    assert_eq!(bench.response(0, header, Flags::DONE, 0), Some(request));
    assert_eq!(bench.outcomes(), [Event::Finished { request }]);
    assert_eq!(
        (bench.core.live_requests(), bench.core.words_in_use()),
        (0, 0)
    );
}

#[test]
fn a_full_replica_gets_one_wait_and_its_grant_is_spent_on_the_oldest() {
    let mut bench = Bench::new(1, 1);
    bench.submit(ONCE);
    let (_, first) = bench.one();
    let (second, third) = (bench.submit(ONCE), bench.submit(ONCE));
    bench.now += Duration::from_micros(70);
    let sent = bench.sent();
    assert_eq!(sent.len(), 1);
    assert_eq!(
        (sent[0].1.kind, sent[0].1.a, sent[0].1.b),
        (Kind::Wait, 2, 70)
    );
    bench.response(
        0,
        first,
        Flags::HEAD
            .with(Flags::END)
            .with(Flags::DONE)
            .with(Flags::GRANT),
        1,
    );
    let sent = bench.sent();
    assert_eq!(sent.len(), 1);
    let (_, header, request) = sent[0];
    assert_eq!(
        (request, header.flags, header.a),
        (Some(second), Flags::GRANT, 1)
    );
    bench.response(
        0,
        header,
        Flags::HEAD
            .with(Flags::END)
            .with(Flags::DONE)
            .with(Flags::GRANT),
        1,
    );
    let sent = bench.sent();
    assert_eq!(sent[0].2, Some(third));
    assert_eq!(sent[0].1.a, 0);
    assert_eq!(sent[1].1.kind, Kind::Unwait);
    assert_eq!(sent.len(), 2);
}

#[test]
fn a_grant_that_nobody_needs_is_returned() {
    let mut bench = Bench::new(1, 1);
    bench.grant(0, 1);
    assert_eq!(bench.kinds(), [(0, Kind::Return)]);
    assert_eq!(bench.outcomes(), []);
}

#[test]
fn a_rejected_request_tries_elsewhere_and_then_leaves_on_a_grant_only() {
    let mut bench = Bench::new(4, 1);
    let first = bench.submit(ONCE);
    let mut tried = Vec::new();
    for _ in 0..MAX_TRIES {
        let (at, header) = bench.one();
        bench.reject(at, header, 1);
        tried.push(at);
    }
    let mut kinds = bench.kinds();
    kinds.sort_unstable_by_key(|(at, _)| *at);
    let wait = |at| (at, Kind::Wait);
    assert_eq!(
        kinds,
        [wait(0), wait(1), wait(2), wait(3)],
        "though one seems to have room"
    );
    tried.sort_unstable();
    tried.dedup();
    assert_eq!(tried.len(), 3, "never the same twice");
    let second = bench.submit(ONCE);
    assert_eq!(bench.kinds(), []);
    bench.grant(tried[0], 1);
    let sent = bench.sent();
    assert_eq!((sent[0].2, sent[0].1.a), (Some(first), 1), "at its age");
    bench.grant(tried[1], 1);
    assert_eq!(bench.sent()[0].2, Some(second));
}

#[test]
fn a_soft_grant_of_an_earlier_wait_is_not_answered() {
    let mut bench = Bench::new(1, 1);
    bench.submit(ONCE);
    let (_, header) = bench.one();
    bench.submit(ONCE);
    let wait = bench.sent()[0].1;
    assert_eq!((wait.kind, wait.sequence), (Kind::Wait, 1));
    bench.answer(0, header);
    assert_eq!(bench.kinds(), []);
    let mut grant = Header::new(Kind::Grant, 0, wait.sequence);
    grant.b = 1;
    bench.frame(0, grant);
    let sent = bench.sent();
    assert_eq!(
        (sent[0].1.kind, sent[1].1.kind),
        (Kind::Request, Kind::Unwait)
    );
    bench.frame(0, grant);
    assert_eq!(bench.kinds(), [], "UNWAIT ended it");
    bench.submit(ONCE);
    assert_eq!(bench.sent()[0].1.sequence, 2);
    bench.frame(0, grant);
    assert_eq!(bench.kinds(), [], "and the new WAIT asks for another");
    grant.sequence = 2;
    bench.frame(0, grant);
    assert_eq!(bench.sent()[0].1.kind, Kind::Request);
}

#[test]
fn a_grant_that_offers_more_room_empties_the_queue() {
    let mut bench = Bench::new(1, 4);
    // The others have filled it, as it says.
    bench.submit(ONCE);
    let (_, header) = bench.one();
    bench.response(0, header, Flags::HEAD.with(Flags::END).with(Flags::DONE), 4);
    for _ in 0..3 {
        bench.submit(ONCE);
    }
    assert_eq!(bench.kinds(), [(0, Kind::Wait)]);
    bench.grant(0, 1);
    let sent = bench.sent();
    assert_eq!(
        sent.iter()
            .filter(|(_, header, _)| header.kind == Kind::Request)
            .count(),
        3
    );
    assert!(
        sent.iter().all(|(_, header, _)| header.a == 0),
        "what it says is as of now"
    );
}

#[test]
fn the_less_loaded_of_two_is_chosen() {
    let mut bench = Bench::new(2, 100);
    for _ in 0..100 {
        bench.submit(ONCE);
    }
    let sent = bench.sent();
    assert_eq!(sent.iter().filter(|(at, ..)| *at == 0).count(), 50);
}

#[test]
fn of_forty_candidates_thirty_two_get_a_wait_each_once() {
    let mut bench = Bench::new(40, 1);
    for _ in 0..40 {
        bench.submit(ONCE);
    }
    assert_eq!(bench.sent().len(), 40);
    for _ in 0..3 {
        bench.submit(ONCE);
    }
    let mut kinds = bench.kinds();
    kinds.sort_unstable_by_key(|(at, _)| *at);
    kinds.dedup();
    assert_eq!(kinds.len(), MAX_WAITS);
    assert!(kinds.iter().all(|(_, kind)| *kind == Kind::Wait));
}

#[test]
fn requests_wait_for_a_deployment_without_replicas_and_leave_when_one_connects() {
    let mut bench = Bench::unconnected(Arc::default());
    bench.target(1, &[], |_| ());
    let request = bench.submit(ONCE);
    assert_eq!(bench.kinds(), []);
    bench.target(1, &["r0"], |_| ());
    bench.connect(0, 1);
    assert_eq!(bench.sent()[0].2, Some(request));
}

#[test]
fn the_queue_is_bounded_in_number_over_all_routers_of_a_process() {
    let limits = Arc::new(Limits::new());
    let mut benches = [
        Bench::unconnected(Arc::clone(&limits)),
        Bench::unconnected(limits),
    ];
    for bench in &mut benches {
        bench.target(1, &[], |target| target.max_queued_requests = 3);
    }
    let [one, two] = &mut benches;
    let first = one.submit(ONCE);
    one.submit(ONCE);
    two.submit(ONCE);
    assert_eq!(
        two.core.submit(two.now, &two.key, ONCE),
        Err(Refused::BackPressure)
    );
    // Somebody is told, although the deployment does not scale: once of each.
    assert!(two.core.has_news_of_loads() && !one.core.has_news_of_loads());
    assert_eq!(two.core.take_marked(), std::slice::from_ref(&two.key));
    assert_eq!(two.core.take_refused(&two.key), 1);
    assert_eq!(two.core.take_refused(&two.key), 0);
    one.core.cancel(one.now, first);
    assert_eq!(one.outcomes(), [Event::Cancelled { request: first }]);
    two.submit(ONCE);
    assert!(!two.core.has_news_of_loads());
}

#[test]
fn a_rejected_request_that_never_was_in_the_queue_meets_its_bound() {
    let mut bench = Bench::new(2, 1);
    bench.target(1, &["r0", "r1"], |target| target.max_queued_requests = 1);
    let requests = [bench.submit(ONCE), bench.submit(ONCE)];
    let sent = bench.sent();
    bench.reject(sent[0].0, sent[0].1, 1);
    bench.reject(sent[1].0, sent[1].1, 1);
    assert_eq!(
        bench.outcomes(),
        [failed(requests[1], ErrorCode::BackPressure)]
    );
}

#[test]
fn the_queue_is_bounded_in_bytes() {
    let limits = Arc::new(Limits::with_max_queued_bytes(10_000));
    let mut bench = Bench::unconnected(Arc::clone(&limits));
    bench.target(1, &[], |_| ());
    let big = Submit {
        buffered_bytes: 6_000,
        ..ONCE
    };
    let request = bench.submit(big);
    assert_eq!(
        bench.core.submit(bench.now, &bench.key, big),
        Err(Refused::Overloaded)
    );
    bench.core.cancel(bench.now, request);
    assert_eq!(limits.queued_bytes(), 0);
    bench.submit(big);
}

#[test]
fn a_failed_deployment_answers_at_once_and_so_does_one_that_is_gone() {
    let mut bench = Bench::unconnected(Arc::default());
    bench.target(1, &[], |_| ());
    let request = bench.submit(ONCE);
    bench.target(1, &[], |target| target.unavailable = "it raised".to_owned());
    assert_eq!(bench.outcomes(), [unavailable(request, "it raised")]);
    assert_eq!(
        bench.core.submit(bench.now, &bench.key, ONCE),
        Err(Refused::Unavailable)
    );
    assert_eq!(
        bench.core.unavailable(&bench.key).map(AsRef::as_ref),
        Some("it raised")
    );
    bench.target(1, &[], |_| ());
    let request = bench.submit(ONCE);
    bench.core.remove(bench.now, &bench.key.clone());
    assert_eq!(bench.outcomes(), [failed(request, ErrorCode::Unavailable)]);
    assert_eq!(
        bench.core.submit(bench.now, &bench.key, ONCE),
        Err(Refused::UnknownDeployment)
    );
    assert_eq!(bench.core.deployments(), []);
}

#[test]
fn never_more_requests_are_out_than_there_are_words() {
    let mut bench = Bench::new(1, 1_000);
    for _ in 0..70 {
        bench.submit(ONCE);
    }
    let sent = bench.sent();
    assert_eq!(
        sent.iter()
            .filter(|(_, header, _)| header.kind == Kind::Request)
            .count(),
        64
    );
    assert_eq!(bench.core.queued(&bench.key), 6);
    bench.grant(0, 65);
    assert_eq!(bench.kinds(), [(0, Kind::Return)], "it has no word for it");
}

#[test]
fn a_request_that_nobody_waits_for_goes_behind_all_that_somebody_waits_for() {
    let mut bench = Bench::new(1, 1);
    bench.target(1, &["r0"], |target| target.max_queued_requests = 2);
    bench.submit(ONCE);
    let (_, mut header) = bench.one();
    let (deferred, other) = (bench.submit(ONCE), bench.submit(ONCE));
    for key in [deferred, other] {
        bench.core.defer(key);
        bench.core.defer(key);
    }
    // They leave their places in the queue to others.
    let (second, third) = (bench.submit(ONCE), bench.submit(ONCE));
    let refused = bench.core.submit(bench.now, &bench.key.clone(), ONCE);
    assert_eq!(refused, Err(Refused::BackPressure));
    for expected in [second, third, deferred, other] {
        let flags = Flags::HEAD.with(Flags::END).with(Flags::DONE);
        bench.response(0, header, flags.with(Flags::GRANT), 1);
        let sent = bench.sent();
        let (_, next, request) = *sent
            .iter()
            .find(|(_, header, _)| header.kind == Kind::Request)
            .unwrap();
        assert_eq!(request, Some(expected));
        header = next;
    }
    // One that comes back is behind the others still.
    let late = bench.submit(ONCE);
    bench.response(
        0,
        header,
        Flags::HEAD
            .with(Flags::END)
            .with(Flags::DONE)
            .with(Flags::GRANT),
        1,
    );
    assert!(
        bench
            .sent()
            .iter()
            .any(|(_, _, request)| *request == Some(late))
    );
    assert_eq!(bench.outcomes().len(), 5);
}
