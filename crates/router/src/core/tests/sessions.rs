//! Sessions: who gets their requests, and when somebody else does.

use eagleray_wire::{ModelKey, SessionKey};

use super::*;

const SESSIONS: usize = 400;

fn of(session: usize) -> Submit {
    Submit {
        session: SessionKey::of(format!("session-{session}").as_bytes()),
        ..ONCE
    }
}

impl Bench {
    /// Which replica answers a request of each session.
    fn homes(&mut self) -> Vec<usize> {
        (0..SESSIONS)
            .map(|session| {
                let (at, header) = self.place(of(session)).expect("there is room");
                self.answer(at, header);
                at
            })
            .collect()
    }
}

#[test]
fn a_session_has_one_replica_and_sessions_are_spread() {
    let mut bench = Bench::new(4, 10);
    let homes = bench.homes();
    for _ in 0..3 {
        assert_eq!(bench.homes(), homes);
    }
    for replica in 0..4 {
        let own = homes.iter().filter(|home| **home == replica).count();
        assert!((70..130).contains(&own), "{replica} has {own}");
    }
}

#[test]
fn routers_agree_in_whatever_order_they_heard_of_the_replicas() {
    let homes = Bench::new(4, 10).homes();
    let mut other = Bench::unconnected(Arc::default());
    other.target(10, &["r3", "r1", "r0", "r2"], |_| ());
    other.connect_all(10);
    let order = [3, 1, 0, 2];
    let others: Vec<usize> = other.homes().into_iter().map(|at| order[at]).collect();
    assert_eq!(others, homes);
}

#[test]
fn a_replica_that_goes_moves_its_own_sessions_only_and_they_come_back_with_it() {
    let mut bench = Bench::new(4, 10);
    let before = bench.homes();
    bench.target(10, &["r0", "r1", "r3"], |_| ());
    let meanwhile = bench.homes();
    for (old, new) in before.iter().zip(&meanwhile) {
        assert!(*new != 2 && (old == new || *old == 2), "{old} to {new}");
    }
    let took = |replica| {
        before
            .iter()
            .zip(&meanwhile)
            .any(|(old, new)| *old == 2 && *new == replica)
    };
    assert!([0, 1, 3].into_iter().all(took), "all take of them");
    bench.target(10, &["r0", "r1", "r2", "r3"], |_| ());
    bench.connect(4, 10);
    let after = bench.homes();
    let home = |at: usize| if at == 4 { 2 } else { at };
    assert_eq!(after.into_iter().map(home).collect::<Vec<_>>(), before);
}

#[test]
fn a_session_whose_replica_is_full_goes_to_the_same_second_one_and_home_again() {
    let mut bench = Bench::new(3, 2);
    let went: Vec<_> = (0..6)
        .map(|_| bench.place(of(7)).expect("there is room"))
        .collect();
    let places: Vec<usize> = went.iter().map(|(at, _)| *at).collect();
    assert_eq!(
        (places[0], places[2], places[4]),
        (places[1], places[3], places[5])
    );
    assert!(places[0] != places[2] && places[2] != places[4] && places[0] != places[4]);
    // With all full it waits for whoever is free first.
    assert!(bench.place(of(7)).is_none());
    let (second, header) = went[2];
    bench.answer(second, header);
    bench.grant(second, 2);
    let sent = bench.kinds();
    assert!(sent.contains(&(second, Kind::Request)), "{sent:?}");
    let (home, header) = went[0];
    bench.answer(home, header);
    assert_eq!(bench.place(of(7)).expect("there is room").0, home);
}

#[test]
fn a_model_comes_before_a_session() {
    let mut bench = Bench::new(3, 10);
    let model = ModelKey::of(b"m").expect("an id");
    let home = bench.place(of(1)).expect("room").0;
    let holder = (home + 1) % 3;
    bench
        .core
        .on_models(bench.now, bench.connections[holder].0, vec![model]);
    let submit = Submit {
        model: Some(model),
        ..of(1)
    };
    assert_eq!(bench.place(submit).expect("room").0, holder);
}
