//! What there is to do of a deployment is said of those that scale, and every change of it is news once.

use eagleray_types::control::{Load, ReplicaLoad};

use super::*;

/// As [`Bench::new`], of a deployment that scales.
fn scaling(replicas: &[&str], limit: u32) -> Bench {
    let mut bench = Bench::unconnected(Arc::default());
    bench.target(limit, replicas, |target| target.scales = true);
    bench.connect_all(limit);
    assert_eq!(bench.news(), [bench.key.clone()], "it scales from now on");
    bench
}

impl Bench {
    fn news(&mut self) -> Vec<DeploymentKey> {
        let has_news = self.core.has_news_of_loads();
        let news = self.core.take_marked();
        assert_eq!(has_news, !news.is_empty());
        news
    }

    fn load(&self) -> (u32, u32) {
        let load = self.core.load(&self.key);
        (load.queued, load.running)
    }
}

#[test]
fn nothing_is_said_of_a_deployment_that_does_not_scale() {
    let mut bench = Bench::new(1, 1);
    bench.submit(ONCE);
    bench.submit(ONCE);
    assert!(bench.news().is_empty());
    assert_eq!(bench.load(), (0, 0));
    assert!(bench.core.scaling().is_empty());
    // From here on it does, and what there is already is news.
    bench.target(1, &["r0"], |target| target.scales = true);
    assert_eq!(bench.news(), [bench.key.clone()]);
    assert_eq!(bench.load(), (1, 1));
    assert_eq!(bench.core.scaling(), [bench.key.clone()]);
    bench.target(1, &["r0"], |_| ());
    assert_eq!(bench.news().len(), 1, "that there is nothing is news too");
    assert_eq!(bench.load(), (0, 0));
}

#[test]
fn every_change_is_news_once() {
    let mut bench = scaling(&["r0"], 1);
    bench.submit(ONCE);
    let (at, first) = bench.one();
    bench.submit(ONCE);
    let waits = bench.submit(ONCE);
    assert_eq!(bench.news().len(), 1, "three changes, told of together");
    assert_eq!(bench.load(), (2, 1));
    assert!(bench.news().is_empty());
    bench.core.cancel(bench.now, waits);
    assert_eq!(bench.news().len(), 1);
    assert_eq!(bench.load(), (1, 1));
    assert!(bench.start(at, first));
    // The answer is whole, and a background task keeps the slot.
    bench.response(at, first, Flags::HEAD.with(Flags::END), 1);
    assert!(bench.news().is_empty());
    assert_eq!(bench.load(), (1, 1));
    bench.response(at, first, Flags::DONE.with(Flags::GRANT), 0);
    assert_eq!(bench.news().len(), 1);
    assert_eq!(bench.load(), (0, 1), "the next has the slot");
    bench.die(at);
    assert_eq!(bench.news().len(), 1);
    assert_eq!(bench.load(), (1, 0), "it had not begun, and waits again");
}

#[test]
fn what_runs_for_nobody_still_runs() {
    let mut bench = scaling(&["r0"], 4);
    let request = bench.submit(ONCE);
    let (at, header) = bench.one();
    assert!(bench.start(at, header));
    bench.core.cancel(bench.now, request);
    assert_eq!(bench.load(), (0, 1));
    bench.news();
    bench.response(at, header, Flags::DONE, 0);
    assert_eq!((bench.news().len(), bench.load()), (1, (0, 0)));
}

#[test]
fn replicas_are_named_that_it_would_cost_something_to_stop() {
    let mut bench = scaling(&["r0", "r1", "r2"], 4);
    bench.submit(ONCE);
    let (at, _) = bench.one();
    let holder = (at + 1) % 3;
    let model = eagleray_wire::ModelKey::of(b"m").expect("a name");
    let connection = bench.connections[holder].0;
    bench.core.on_models(bench.now, connection, vec![model]);
    let mut named = bench.core.load(&bench.key).replicas;
    named.sort_by_key(|one| one.running);
    let named: Vec<_> = named
        .into_iter()
        .map(|one| {
            let ReplicaLoad {
                replica_id,
                running,
                models,
            } = one;
            (replica_id, running, models)
        })
        .collect();
    assert_eq!(
        named,
        [(format!("r{holder}"), 0, 1), (format!("r{at}"), 1, 0)]
    );
    assert_eq!(bench.news().len(), 1);
}

#[test]
fn without_replicas_requests_wait_and_are_counted_until_the_first_is_there() {
    let mut bench = scaling(&[], 0);
    bench.submit(ONCE);
    bench.submit(ONCE);
    assert_eq!((bench.news().len(), bench.load()), (1, (2, 0)));
    bench.target(4, &["r0"], |target| target.scales = true);
    bench.connect_all(4);
    assert_eq!(bench.sent().len(), 2, "the first replica gets them");
    assert_eq!((bench.news().len(), bench.load()), (1, (0, 2)));
    assert!(bench.outcomes().is_empty());
}

#[test]
fn when_starting_is_given_up_those_that_wait_are_told_why() {
    let mut bench = scaling(&[], 0);
    let waits = bench.submit(ONCE);
    bench.news();
    bench.target(4, &[], |target| {
        target.scales = true;
        target.unavailable = "it cannot be".to_owned();
    });
    assert_eq!(bench.outcomes(), [unavailable(waits, "it cannot be")]);
    assert_eq!((bench.news().len(), bench.load()), (1, (0, 0)));
    let refused = bench.core.submit(bench.now, &bench.key, ONCE);
    assert_eq!(refused, Err(Refused::Unavailable));
    // It is tried again: the next one waits.
    bench.target(4, &[], |target| target.scales = true);
    bench.submit(ONCE);
    assert_eq!(bench.load(), (1, 0));
}

#[test]
fn what_is_removed_counts_until_it_has_ended_and_under_its_name() {
    let mut bench = scaling(&["r0"], 4);
    bench.submit(ONCE);
    let (at, header) = bench.one();
    assert!(bench.start(at, header));
    let key = bench.key.clone();
    bench.core.remove(bench.now, &key);
    bench.target(4, &["r1"], |target| target.scales = true);
    bench.connect(1, 4);
    bench.submit(ONCE);
    assert_eq!(bench.load(), (0, 2), "the old one's is not over");
    bench.news();
    bench.answer(at, header);
    assert_eq!((bench.news(), bench.load()), (vec![key.clone()], (0, 1)));
    bench.core.remove(bench.now, &key);
    let expected = Load {
        running: 1,
        ..bench.core.load(&key)
    };
    assert_eq!(bench.core.load(&key), expected);
}
