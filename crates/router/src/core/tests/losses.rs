//! Cancellation, deadlines, death, stopped and draining replicas.

use super::*;

#[test]
fn cancelling_what_waits_sends_nothing_and_what_has_not_started_takes_its_word() {
    let mut bench = Bench::new(1, 1);
    let sent = bench.submit(ONCE);
    let (_, header) = bench.one();
    let waiting = bench.submit(ONCE);
    bench.core.cancel(bench.now, waiting);
    assert_eq!(bench.kinds(), [], "nor the WAIT that was not yet polled");
    bench.core.cancel(bench.now, sent);
    bench.core.cancel(bench.now, sent);
    assert_eq!(bench.kinds(), [(0, Kind::Cancel)]);
    assert!(!bench.start(0, header));
    assert_eq!(
        bench.outcomes(),
        [
            Event::Cancelled { request: waiting },
            Event::Cancelled { request: sent }
        ]
    );
    // The replica's DONE finds nothing, also when the word is in use again.
    let next = bench.submit(ONCE);
    let (_, reused) = bench.one();
    assert_eq!(reused.slot, header.slot);
    assert_eq!(
        bench.response(0, header, Flags::END.with(Flags::DONE), 1),
        None
    );
    assert_eq!(bench.outcomes(), []);
    bench.answer(0, reused);
    assert_eq!(bench.outcomes(), [Event::Finished { request: next }]);
}

#[test]
fn cancelling_what_has_started_keeps_the_slot_until_done() {
    let mut bench = Bench::new(1, 1);
    let request = bench.submit(ONCE);
    let (_, header) = bench.one();
    assert!(bench.start(0, header));
    bench.core.cancel(bench.now, request);
    assert_eq!(bench.outcomes(), [Event::Cancelled { request }]);
    assert_eq!(bench.kinds(), [(0, Kind::Cancel)]);
    assert_eq!(
        (bench.core.live_requests(), bench.core.words_in_use()),
        (0, 1)
    );
    bench.submit(ONCE);
    assert_eq!(bench.kinds(), [(0, Kind::Wait)]);
    assert_eq!(bench.response(0, header, Flags::HEAD, 1), None);
    assert_eq!(
        bench.response(0, header, Flags::END.with(Flags::DONE), 0),
        None
    );
    assert_eq!(
        bench.core.words_in_use(),
        0,
        "the replica grants what it freed"
    );
}

#[test]
fn a_request_whose_answer_is_whole_is_not_cancelled() {
    let mut bench = Bench::new(1, 1);
    let deadline = Some(bench.now + Duration::from_secs(1));
    let request = bench.submit(Submit { deadline, ..ONCE });
    let (_, header) = bench.one();
    assert!(bench.start(0, header));
    bench.response(0, header, Flags::HEAD.with(Flags::END), 1);
    bench.core.cancel(bench.now, request);
    bench.connections[0].1.turn();
    bench.pass(Duration::from_secs(2));
    assert_eq!(bench.kinds(), []);
    assert_eq!(bench.outcomes(), []);
    bench.die(0);
    assert_eq!(bench.outcomes(), [Event::Finished { request }]);
}

#[test]
fn a_deadline_ends_what_waits_and_what_runs() {
    let mut bench = Bench::new(1, 1);
    let in_millis = |bench: &Bench, millis| Some(bench.now + Duration::from_millis(millis));
    let running = bench.submit(Submit {
        deadline: in_millis(&bench, 20),
        ..ONCE
    });
    let (_, header) = bench.one();
    assert_eq!(header.c, 20);
    assert!(bench.start(0, header));
    let waiting = bench.submit(Submit {
        deadline: in_millis(&bench, 10),
        ..ONCE
    });
    bench.kinds();
    assert_eq!(bench.core.poll_timeout(), in_millis(&bench, 10));
    bench.pass(Duration::from_millis(10));
    assert_eq!(
        bench.outcomes(),
        [failed(waiting, ErrorCode::DeadlineExceeded)]
    );
    assert_eq!(bench.kinds(), [(0, Kind::Unwait)]);
    bench.pass(Duration::from_millis(10));
    assert_eq!(
        bench.outcomes(),
        [failed(running, ErrorCode::DeadlineExceeded)]
    );
    assert_eq!(bench.kinds(), [(0, Kind::Cancel)]);
    let late = Submit {
        deadline: Some(bench.now),
        ..ONCE
    };
    assert_eq!(
        bench.core.submit(bench.now, &bench.key, late),
        Err(Refused::DeadlineExceeded)
    );
}

#[test]
fn when_a_replica_dies_what_was_queued_moves_at_its_age_beside_every_limit() {
    let limits = Arc::new(Limits::with_max_queued_bytes(1_000));
    let mut bench = Bench::unconnected(limits);
    bench.target(3, &["r0"], |target| target.max_queued_requests = 1);
    bench.connect(0, 3);
    let moved: Vec<_> = (0..3).map(|_| bench.submit(ONCE)).collect();
    let waiting = bench.submit(ONCE);
    bench.sent();
    bench.die(0);
    assert_eq!(bench.outcomes(), []);
    bench.target(4, &["r1"], |target| target.max_queued_requests = 1);
    bench.connect(1, 4);
    let order: Vec<_> = bench
        .sent()
        .into_iter()
        .filter_map(|(_, _, request)| request)
        .collect();
    assert_eq!(order, [moved[0], moved[1], moved[2], waiting]);
}

#[test]
fn what_had_started_is_repeated_only_if_that_is_safe_and_nothing_had_come() {
    let mut bench = Bench::new(1, 4);
    let (once, safe, begun, ended) = (
        bench.submit(ONCE),
        bench.submit(SAFE),
        bench.submit(SAFE),
        bench.submit(ONCE),
    );
    let kept = bench.submit(SAFE);
    let sent = bench.sent();
    for (_, header, _) in sent
        .iter()
        .filter(|(_, header, _)| header.kind == Kind::Request)
    {
        assert!(bench.start(0, *header));
    }
    bench.response(0, sent[2].1, Flags::HEAD, 4);
    bench.response(0, sent[3].1, Flags::HEAD.with(Flags::END), 4);
    bench.die(0);
    let outcomes = bench.outcomes();
    assert_eq!(outcomes.len(), 3);
    assert!(outcomes.contains(&failed(once, ErrorCode::ReplicaDied)));
    let code = ErrorCode::ReplicaDied;
    assert!(outcomes.contains(&Event::Failed {
        request: begun,
        code,
        reason: Arc::default(),
        begun: true
    }));
    assert!(outcomes.contains(&Event::Finished { request: ended }));
    bench.target(4, &["r1"], |_| ());
    bench.connect(1, 4);
    let order: Vec<_> = bench
        .sent()
        .into_iter()
        .filter_map(|(_, _, request)| request)
        .collect();
    assert_eq!(order, [safe, kept]);
}

#[test]
fn a_request_that_two_replicas_died_with_is_not_tried_on_a_third() {
    let mut bench = Bench::new(1, 1);
    let request = bench.submit(SAFE);
    for attempt in 0..2 {
        assert_eq!(bench.outcomes(), []);
        let sent = bench.sent();
        assert!(bench.start(attempt, sent[0].1));
        bench.die(attempt);
        bench.pass(Duration::from_secs(1));
        bench.connect_last();
    }
    assert_eq!(bench.outcomes(), [failed(request, ErrorCode::ReplicaDied)]);
    assert_eq!(bench.kinds(), []);
}

#[test]
fn a_request_whose_body_is_not_kept_is_not_repeated() {
    let mut bench = Bench::new(1, 1);
    let request = bench.submit(SAFE);
    let (_, header) = bench.one();
    assert!(bench.start(0, header));
    bench.core.forbid_repeat(request);
    bench.die(0);
    assert_eq!(bench.outcomes(), [failed(request, ErrorCode::ReplicaDied)]);
}

#[test]
fn a_broken_connection_is_made_again_under_a_new_key() {
    let mut bench = Bench::new(1, 1);
    let old = bench.connections[0].0;
    bench.die(0);
    assert_eq!(bench.connections.len(), 1);
    bench.pass(Duration::from_millis(20));
    assert_eq!(bench.connections.len(), 2);
    assert_ne!(bench.connections[1].0, old);
    bench.die(0);
    bench.grant(0, 1);
    bench.connect(1, 1);
    bench.submit(ONCE);
    assert_eq!(bench.one().0, 1);
}

#[test]
fn a_stopped_replica_loses_what_it_has_not_started_until_it_turns_again() {
    let mut bench = Bench::new(2, 1);
    bench.submit(ONCE);
    bench.submit(ONCE);
    let sent = bench.sent();
    let stopped = sent[0].0;
    let other = sent[1].0;
    let request = sent[0].2;
    for _ in 0..5 {
        bench.connections[other].1.turn();
        bench.pass(Duration::from_millis(250));
    }
    let kinds = bench.kinds();
    assert!(kinds.contains(&(stopped, Kind::Cancel)), "{kinds:?}");
    assert!(
        kinds.contains(&(other, Kind::Wait)) && !kinds.contains(&(stopped, Kind::Wait)),
        "{kinds:?}"
    );
    assert_eq!(bench.outcomes(), []);
    bench.connections[stopped].1.turn();
    bench.connections[other].1.turn();
    bench.pass(Duration::from_millis(50));
    let sent = bench.sent();
    assert!(
        sent.iter()
            .any(|(at, _, what)| *at == stopped && *what == request),
        "{sent:?}"
    );
}

#[test]
fn a_replica_that_is_exempt_is_not_taken_for_stopped() {
    let mut bench = Bench::new(2, 1);
    bench.submit(ONCE);
    let (at, _) = bench.one();
    bench.connections[at].1.0.2.set(true);
    for _ in 0..20 {
        bench.pass(Duration::from_millis(250));
    }
    assert_eq!(bench.kinds(), []);
    bench.connections[at].1.0.2.set(false);
    for _ in 0..5 {
        bench.pass(Duration::from_millis(250));
    }
    assert!(bench.kinds().contains(&(at, Kind::Cancel)));
}

#[test]
fn a_hung_replica_gets_nothing_new_and_keeps_only_what_it_has_started_while_another_turns() {
    let mut bench = Bench::new(2, 5);
    for _ in 0..4 {
        bench.submit(ONCE);
    }
    let sent = bench.sent();
    let hung = sent[0].0;
    let there: Vec<_> = sent.iter().filter(|(at, ..)| *at == hung).collect();
    let (started, queued) = (there[0], there[1]);
    assert!(bench.start(hung, started.1));
    bench.hung(hung, 1_500);
    let frames = bench.sent();
    let cancels: Vec<_> = frames
        .iter()
        .filter(|(_, header, _)| header.kind == Kind::Cancel)
        .map(|(at, header, _)| (*at, header.slot))
        .collect();
    assert_eq!(cancels, [(hung, queued.1.slot)]);
    let moved: Vec<_> = frames
        .iter()
        .filter(|(_, header, _)| header.kind == Kind::Request)
        .map(|(at, _, request)| (*at, *request))
        .collect();
    assert_eq!(moved, [(1 - hung, queued.2)], "the other word was started");
    for _ in 0..4 {
        bench.submit(ONCE);
    }
    let sent = bench.sent();
    assert!(sent.iter().all(|(at, ..)| *at != hung), "{sent:?}");
    bench.answer(hung, started.1);
    assert_eq!(bench.outcomes().len(), 1, "what it had started it finishes");
    bench.hung(hung, 0);
    let sent = bench.sent();
    assert!(
        sent.iter()
            .any(|(at, header, _)| *at == hung && header.kind == Kind::Request),
        "it takes requests again: {sent:?}"
    );
}

#[test]
fn the_only_replica_gets_requests_although_it_hangs() {
    let mut bench = Bench::new(1, 2);
    bench.submit(ONCE);
    bench.one();
    bench.hung(0, 1_500);
    assert_eq!(bench.kinds(), [], "it keeps what it has");
    bench.submit(ONCE);
    assert_eq!(bench.one().0, 0);
    bench.submit(ONCE);
    assert_eq!(bench.kinds(), [(0, Kind::Wait)]);
    bench.grant(0, 2);
    assert_eq!(bench.kinds(), [(0, Kind::Request), (0, Kind::Unwait)]);
    assert_eq!(bench.outcomes(), []);
}

#[test]
fn what_waits_at_a_hung_replica_moves_when_another_comes_and_back_when_that_dies() {
    let mut bench = Bench::unconnected(Arc::default());
    bench.target(5, &["r0", "r1"], |_| ());
    bench.connect(0, 5);
    let request = bench.submit(ONCE);
    assert_eq!(bench.one().0, 0);
    bench.hung(0, 1_500);
    assert_eq!(bench.kinds(), []);
    bench.connect(1, 5);
    let requests = |frames: Vec<(usize, Header, Option<RequestKey>)>| -> Vec<_> {
        let requests = frames.into_iter().filter(|(.., request)| request.is_some());
        requests.map(|(at, _, request)| (at, request)).collect()
    };
    assert_eq!(requests(bench.sent()), [(1, Some(request))]);
    bench.die(1);
    assert_eq!(requests(bench.sent()), [(0, Some(request))]);
    assert_eq!(bench.outcomes(), []);
}

#[test]
fn a_grant_of_a_hung_replica_is_given_back() {
    let mut bench = Bench::new(2, 1);
    for _ in 0..3 {
        bench.submit(ONCE);
    }
    bench.sent();
    bench.hung(0, 1_500);
    bench.sent();
    bench.grant(0, 1);
    assert_eq!(bench.kinds(), [(0, Kind::Return)]);
}

#[test]
fn a_replica_that_drains_gets_nothing_new_and_finishes_what_it_has() {
    let mut bench = Bench::new(2, 5);
    let request = bench.submit(ONCE);
    let (at, header) = bench.one();
    bench.frame(at, Header::new(Kind::Gone, 0, 0));
    for _ in 0..5 {
        bench.submit(ONCE);
    }
    assert!(bench.sent().iter().all(|(to, ..)| *to != at));
    let ids = ["r0", "r1"];
    bench.target(5, &[ids[1 - at]], |_| ());
    assert_eq!(bench.closed, []);
    bench.answer(at, header);
    assert_eq!(bench.outcomes(), [Event::Finished { request }]);
    assert_eq!(bench.closed, [bench.connections[at].0]);
}

#[test]
fn what_a_draining_replica_rejects_may_go_anywhere_at_once() {
    let mut bench = Bench::new(2, 1);
    let request = bench.submit(ONCE);
    let (at, header) = bench.one();
    bench.frame(at, Header::new(Kind::Gone, 0, 0));
    bench.reject(at, header, 0);
    let sent = bench.sent();
    assert_eq!((sent[0].0, sent[0].2), (1 - at, Some(request)));
}

impl Bench {
    fn hung(&mut self, at: usize, milliseconds: u32) {
        let mut header = Header::new(Kind::Hung, 0, 0);
        header.a = milliseconds;
        self.frame(at, header);
    }

    fn connect_last(&mut self) {
        self.connect(self.connections.len() - 1, 1);
    }
}

#[test]
fn while_the_node_ends_what_has_no_replica_fails_at_once_and_the_rest_is_served() {
    let mut bench = Bench::new(1, 1);
    let running = bench.submit(SAFE);
    let (_, header) = bench.one();
    assert!(bench.start(0, header));
    let waiting = bench.submit(SAFE);
    bench.core.drain(bench.now);
    assert_eq!(
        bench.outcomes(),
        [],
        "the replica is busy, and will be free"
    );
    bench.sent();
    bench.frame(0, Header::new(Kind::Gone, 0, 0));
    assert_eq!(bench.outcomes(), [failed(waiting, ErrorCode::Draining)]);
    let late = bench.submit(SAFE);
    assert_eq!(bench.outcomes(), [failed(late, ErrorCode::Draining)]);
    bench.answer(0, header);
    assert_eq!(bench.outcomes(), [Event::Finished { request: running }]);
}
