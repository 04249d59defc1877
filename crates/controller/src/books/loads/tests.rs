use super::*;

const NOW: Duration = Duration::from_secs(7);

fn said(router: &str, whole: bool, loads: &[(&str, u32, u32)]) -> control::Loads {
    let load = |(deployment, queued, running): &(&str, u32, u32)| control::Load {
        application: "a".to_owned(),
        deployment: (*deployment).to_owned(),
        queued: *queued,
        running: *running,
        replicas: Vec::new(),
        refused: 0,
    };
    control::Loads {
        router: router.to_owned(),
        whole,
        gone: false,
        loads: loads.iter().map(load).collect(),
    }
}

fn gone(router: &str) -> control::Loads {
    control::Loads {
        router: router.to_owned(),
        gone: true,
        ..control::Loads::default()
    }
}

fn key(deployment: &str) -> DeploymentKey {
    DeploymentKey::new("a", deployment)
}

fn load(loads: &Loads, deployment: &str) -> (u64, u64) {
    let Load { queued, running } = loads.of(&key(deployment));
    (queued, running)
}

#[test]
fn the_newest_word_of_each_router_counts_and_a_whole_one_is_all_that_it_has() {
    let mut loads = Loads::default();
    loads.hear(&said("proxy 1/0", true, &[("d", 1, 2)]), Speaker::Node, NOW);
    loads.hear(
        &said("proxy 1/1", true, &[("d", 10, 20)]),
        Speaker::Node,
        NOW,
    );
    loads.hear(
        &said("handles 2/x", true, &[("d", 100, 200), ("e", 0, 1)]),
        Speaker::Connection(5),
        NOW,
    );
    assert_eq!(load(&loads, "d"), (111, 222));
    let changed = loads.hear(
        &said("proxy 1/0", false, &[("e", 4, 0)]),
        Speaker::Node,
        NOW,
    );
    assert_eq!(changed, [key("e")]);
    assert_eq!((load(&loads, "d"), load(&loads, "e")), ((111, 222), (4, 1)));
    let changed = loads.hear(&said("proxy 1/0", true, &[("e", 5, 0)]), Speaker::Node, NOW);
    assert_eq!(changed, [key("d"), key("e")]);
    assert_eq!((load(&loads, "d"), load(&loads, "e")), ((110, 220), (5, 1)));
}

#[test]
fn what_is_gone_counts_no_more() {
    let mut loads = Loads::default();
    for router in ["proxy 1/0", "proxy 1/1", "proxy 10/0", "proxy 1"] {
        loads.hear(&said(router, true, &[("d", 0, 1)]), Speaker::Node, NOW);
    }
    assert_eq!(loads.hear(&gone("proxy 1"), Speaker::Node, NOW), [key("d")]);
    assert_eq!(load(&loads, "d"), (0, 1));
    let handles = said("handles 2/x", true, &[("d", 3, 0)]);
    loads.hear(&handles, Speaker::Connection(5), NOW);
    // It has connected again before the end of its old connection was seen.
    loads.hear(&handles, Speaker::Connection(6), NOW);
    assert!(loads.on_connection_gone(5).is_empty());
    assert_eq!(load(&loads, "d"), (3, 1));
    assert_eq!(loads.on_connection_gone(6), [key("d")]);
    loads.hear(&gone("proxy 10"), Speaker::Node, NOW);
    assert_eq!(load(&loads, "d"), (0, 0));
    assert!(loads.totals.is_empty() && loads.routers.is_empty());
}

#[test]
fn a_load_is_whole_when_everybody_had_the_time_to_say_it() {
    let mut loads = Loads::default();
    assert!(!loads.is_whole(NOW * 100));
    loads.on_listed(NOW);
    loads.on_listed(NOW * 2);
    assert!(!loads.is_whole(NOW * 100), "no proxy has said anything");
    loads.on_applied();
    assert!(!loads.is_whole(NOW + RECONNECTED / 2));
    assert!(loads.is_whole(NOW + RECONNECTED));
}

#[test]
fn routers_without_end_do_not_fill_the_memory() {
    let mut loads = Loads::default();
    for number in 0..2 * MOST_ROUTERS {
        let router = format!("handles {number}");
        loads.hear(&said(&router, true, &[("d", 0, 1)]), Speaker::Node, NOW);
    }
    let long = "x".repeat(MOST_NAME_BYTES + 1);
    loads.hear(&said(&long, true, &[("d", 0, 1)]), Speaker::Node, NOW);
    assert_eq!(load(&loads, "d"), (0, MOST_ROUTERS as u64));
    assert_eq!(loads.routers_of(&key("d")).count(), MOST_ROUTERS);
}

#[test]
fn what_replicas_have_is_added_up() {
    let mut loads = Loads::default();
    let with = |router: &str, running, models| {
        let mut loads = said(router, true, &[("d", 0, running)]);
        loads.loads[0].replicas = vec![control::ReplicaLoad {
            replica_id: "r1".to_owned(),
            running,
            models,
        }];
        loads
    };
    loads.hear(&with("proxy 1/0", 2, 1), Speaker::Node, NOW);
    loads.hear(&with("proxy 1/1", 3, 2), Speaker::Node, NOW);
    let expected = ReplicaLoad {
        running: 5,
        models: 2,
    };
    assert_eq!(
        loads.replicas_of(&key("d")),
        BTreeMap::from([("r1", expected)])
    );
    assert!(loads.replicas_of(&key("e")).is_empty());
}

/// Whatever is said in whatever order, a total is the sum of the last words of those who are there.
#[test]
fn totals_are_the_sum_of_the_last_words() {
    let mut random = fastrand::Rng::with_seed(3);
    let (mut loads, mut model) = (
        Loads::default(),
        BTreeMap::<String, BTreeMap<&str, (u32, u32)>>::new(),
    );
    for _ in 0..5_000 {
        let number = random.u64(0..4);
        let router = format!("handles {number}");
        if random.u32(0..10) == 0 {
            loads.on_connection_gone(number);
            model.remove(&router);
            continue;
        }
        let whole = random.bool();
        let mut named: Vec<(&str, u32, u32)> = Vec::new();
        for deployment in ["d", "e", "f"] {
            if random.bool() {
                named.push((deployment, random.u32(0..3), random.u32(0..3)));
            }
        }
        loads.hear(
            &said(&router, whole, &named),
            Speaker::Connection(number),
            NOW,
        );
        let known = model.entry(router).or_default();
        if whole {
            known.clear();
        }
        known.extend(
            named
                .iter()
                .map(|(name, queued, running)| (*name, (*queued, *running))),
        );
        for deployment in ["d", "e", "f"] {
            let words = model.values().filter_map(|known| known.get(deployment));
            let expected = words.fold((0, 0), |sum, one| {
                (sum.0 + u64::from(one.0), sum.1 + u64::from(one.1))
            });
            assert_eq!(load(&loads, deployment), expected);
        }
    }
}
