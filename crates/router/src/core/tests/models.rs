//! Multiplexed models: who gets a request that names one, and how long it waits for that.

use eagleray_wire::ModelKey;

use super::{super::models::PATIENCE, *};

fn model(id: &str) -> ModelKey {
    ModelKey::of(id.as_bytes()).expect("an id")
}

fn of(id: &str) -> Submit {
    Submit {
        model: Some(model(id)),
        ..ONCE
    }
}

impl Bench {
    fn models(&mut self, at: usize, ids: &[&str]) {
        let models = ids.iter().map(|id| model(id)).collect();
        self.core
            .on_models(self.now, self.connections[at].0, models);
        self.events();
    }

    /// Submits, and says where it went; `None`: it waits.
    pub(super) fn place(&mut self, submit: Submit) -> Option<(usize, Header)> {
        self.submit(submit);
        let mut sent = self.sent();
        sent.retain(|(_, header, _)| header.kind == Kind::Request);
        assert!(sent.len() <= 1, "{sent:?}");
        sent.pop().map(|(at, header, _)| (at, header))
    }

    /// Where a request for this model goes.
    fn goes(&mut self, id: &str) -> Option<(usize, Header)> {
        self.place(of(id))
    }
}

#[test]
fn a_request_goes_to_the_replica_that_holds_its_model() {
    let mut bench = Bench::new(3, 10);
    for (at, id) in ["a", "b", "c"].iter().enumerate() {
        bench.models(at, &[id, "everywhere"]);
    }
    for _ in 0..5 {
        for (at, id) in ["a", "b", "c"].iter().enumerate() {
            let (went, header) = bench.goes(id).expect("there is room");
            assert_eq!(went, at);
            bench.answer(went, header);
        }
    }
    // Of several holders the least loaded.
    let mut loads = [0; 3];
    for _ in 0..9 {
        loads[bench.goes("everywhere").expect("room").0] += 1;
    }
    assert_eq!(loads, [3, 3, 3]);
}

#[test]
fn what_nobody_holds_goes_to_the_replica_with_the_fewest_models() {
    let mut bench = Bench::new(3, 10);
    bench.models(0, &["a", "b"]);
    bench.models(1, &["c"]);
    bench.models(2, &["d", "e", "f"]);
    let (first, _) = bench.goes("new").expect("room");
    assert_eq!(first, 1);
    // The next for it follow, before the replica has said that it loads it.
    for _ in 0..4 {
        assert_eq!(bench.goes("new").expect("room").0, 1);
    }
    // Another new one counts it.
    let (at, _) = bench.goes("newer").expect("room");
    assert!(at == 0 || at == 1);
    bench.models(0, &[]);
    assert_eq!(bench.goes("newest").expect("room").0, 0);
}

#[test]
fn without_a_word_of_models_an_id_means_nothing() {
    let mut bench = Bench::new(2, 10);
    let mut loads = [0; 2];
    for _ in 0..10 {
        loads[bench.goes("a").expect("room").0] += 1;
    }
    assert_eq!(loads, [5, 5]);
}

#[test]
fn a_request_waits_for_a_full_holder_that_works_for_us() {
    let mut bench = Bench::new(2, 1);
    bench.models(0, &["a"]);
    bench.models(1, &[]);
    let (at, header) = bench.goes("a").expect("room");
    assert_eq!(at, 0);
    // The other one has room, and is not asked: nobody hears of the queue.
    bench.submit(of("a"));
    assert_eq!(bench.kinds(), []);
    assert_eq!(bench.core.queued(&bench.key), 1);
    // Requests without a model, or for another one, pass.
    let (other, done) = bench.goes("b").expect("room");
    assert_eq!(other, 1);
    bench.answer(other, done);
    bench.answer(at, header);
    let (at, _) = bench.one();
    assert_eq!(at, 0);
    assert_eq!(bench.core.queued(&bench.key), 0);
}

#[test]
fn patience_ends_and_the_request_goes_where_there_is_room() {
    let mut bench = Bench::new(2, 1);
    bench.models(0, &["a"]);
    bench.models(1, &[]);
    bench.goes("a").expect("room");
    bench.submit(of("a"));
    bench.pass(PATIENCE.saturating_sub(Duration::from_millis(1)));
    assert_eq!(bench.kinds(), []);
    assert!(
        bench
            .core
            .poll_timeout()
            .is_some_and(|at| at <= bench.now + Duration::from_millis(1))
    );
    bench.pass(Duration::from_millis(1));
    assert_eq!(bench.one().0, 1);
    // From now on the second is a holder as well.
    assert_eq!(bench.core.queued(&bench.key), 0);
}

#[test]
fn with_no_room_anywhere_it_joins_the_queue_and_leaves_on_a_grant() {
    let mut bench = Bench::new(2, 1);
    bench.models(0, &["a"]);
    bench.models(1, &["b"]);
    bench.goes("a").expect("room");
    bench.goes("b").expect("room");
    bench.submit(of("a"));
    bench.pass(PATIENCE);
    let kinds = bench.kinds();
    assert_eq!(kinds.len(), 2);
    assert!(
        kinds.iter().all(|(_, kind)| *kind == Kind::Wait),
        "{kinds:?}"
    );
    bench.grant(1, 1);
    let sent = bench.sent();
    assert!(
        sent.iter()
            .any(|(at, header, _)| *at == 1 && header.kind == Kind::Request),
        "{sent:?}"
    );
}

#[test]
fn a_holder_that_dies_or_forgets_holds_nobody() {
    let mut bench = Bench::new(2, 1);
    bench.models(0, &["a"]);
    bench.models(1, &[]);
    let (_, running) = bench.goes("a").expect("room");
    assert!(bench.start(0, running));
    bench.submit(of("a"));
    assert_eq!(bench.kinds(), []);
    bench.die(0);
    assert_eq!(bench.one().0, 1);
}

#[test]
fn bound_requests_are_cancelled_time_out_and_count_for_the_queue() {
    let mut bench = Bench::new(2, 1);
    let ids = ["r0", "r1"];
    bench.target(1, &ids, |target| target.max_queued_requests = 2);
    bench.models(0, &["a"]);
    bench.models(1, &[]);
    bench.goes("a").expect("room");
    let first = bench.submit(of("a"));
    let deadline = Some(bench.now + Duration::from_millis(10));
    let second = bench.submit(Submit {
        deadline,
        ..of("a")
    });
    let third = bench.core.submit(bench.now, &bench.key, of("a"));
    assert_eq!(third, Err(Refused::BackPressure));
    bench.core.cancel(bench.now, first);
    bench.pass(Duration::from_millis(10));
    assert_eq!(
        bench.outcomes(),
        [
            Event::Cancelled { request: first },
            failed(second, ErrorCode::DeadlineExceeded)
        ]
    );
    // With the deployment gone, what is bound fails.
    let last = bench.submit(of("a"));
    bench.core.remove(bench.now, &bench.key.clone());
    assert_eq!(bench.outcomes(), [failed(last, ErrorCode::Unavailable)]);
    bench.pass(PATIENCE);
    assert_eq!(
        bench.core.poll_timeout().filter(|at| *at <= bench.now),
        None
    );
}

/// What is sent: requests run, and replicas know who waits.
fn note(bench: &mut Bench, running: &mut Vec<(usize, Header)>, waits: &mut [bool; 3]) {
    for (at, header, _) in bench.sent() {
        match header.kind {
            Kind::Request => running.push((at, header)),
            Kind::Wait => waits[at] = true,
            Kind::Unwait => waits[at] = false,
            _ => {}
        }
    }
}

/// Replicas with a cache of two models each, random requests, answers, evictions, deaths: each request has one outcome,
/// and none is bound for longer than its patience.
#[test]
fn any_order_of_events_ends_every_request_once() {
    for seed in 0..200 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut bench = Bench::new(3, 2);
        let ids = ["a", "b", "c", "d", "e"];
        for at in 0..3 {
            bench.models(at, &[]);
        }
        let mut running: Vec<(usize, Header)> = Vec::new();
        let mut waits = [false; 3];
        let mut live = 0;
        let mut over = 0;
        for _ in 0..300 {
            match random.u32(0..10) {
                0..4 => {
                    let id = ids[random.usize(..ids.len())];
                    let submit = if random.bool() { of(id) } else { ONCE };
                    bench.submit(submit);
                    live += 1;
                }
                4..8 if !running.is_empty() => {
                    let (at, header) = running.swap_remove(random.usize(..running.len()));
                    bench.answer(at, header);
                }
                8 => {
                    let at = random.usize(0..3);
                    let first = random.usize(..ids.len() - 1);
                    bench.models(at, &ids[first..first + random.usize(0..=2)]);
                }
                _ => bench.pass(Duration::from_millis(random.u64(1..60))),
            }
            note(&mut bench, &mut running, &mut waits);
            over += bench.outcomes().len();
            let waiting = bench.core.queued(&bench.key);
            assert!(live >= over + waiting, "seed {seed}");
        }
        // Everything ends: replicas answer, patience passes, and who waits is granted what is free.
        for _ in 0..1_000 {
            bench.pass(PATIENCE);
            for (at, header) in std::mem::take(&mut running) {
                bench.answer(at, header);
            }
            for at in (0..3).filter(|at| waits[*at]) {
                bench.grant(at, 1);
            }
            note(&mut bench, &mut running, &mut waits);
            over += bench.outcomes().len();
            if over == live && running.is_empty() {
                break;
            }
        }
        assert_eq!((over, bench.core.live_requests()), (live, 0), "seed {seed}");
        assert_eq!(bench.core.words_in_use(), 0);
    }
}
