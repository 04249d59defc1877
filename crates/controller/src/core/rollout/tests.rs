//! Plans for small fleets, and every small update followed to its end.

use super::*;

fn fleet(target: Want, fallback: Option<usize>, members: &[(Version, Phase)]) -> Plan {
    let ids: Vec<String> = (0..members.len())
        .map(|order| format!("r{order}"))
        .collect();
    let members = members
        .iter()
        .enumerate()
        .map(|(order, &(version, phase))| Member {
            id: &ids[order],
            order: order as u64,
            version,
            phase,
            load: ReplicaLoad::default(),
        })
        .collect();
    let fallback = fallback.map(|count| Want {
        count,
        proven: true,
        starts_allowed: usize::MAX,
        surge: (count / 5).max(1),
    });
    plan(&Fleet {
        target: Some(target),
        fallback,
        old_limit: None,
        members,
    })
}

fn want(count: usize, proven: bool) -> Want {
    Want {
        count,
        proven,
        starts_allowed: usize::MAX,
        surge: (count / 5).max(1),
    }
}

// contract: 2/surge better: replacements always start first; max_surge_percent says how many at a time
// contract: 2/rolling-update better: replacements start first, rolling_update_percentage of the replicas at a time
#[test]
fn the_share_that_is_replaced_at_a_time_is_the_users() {
    // (replicas, rolling_update_percentage, max_surge_percent, at a time)
    let table = [
        (1, 0.0, 0, 1),
        (10, 0.0, 0, 2),
        (10, 0.2, 0, 2),
        (10, 0.05, 0, 1),
        (10, 0.59, 0, 5),
        (10, 1.0, 0, 10),
        (10, 0.2, 1, 1),
        (10, 0.2, 31, 4),
        (10, 0.2, 100, 10),
    ];
    for (num_replicas, rolling_update_percentage, max_surge_percent, expected) in table {
        let options = DeploymentOptions {
            rolling_update_percentage,
            max_surge_percent,
            ..Default::default()
        };
        assert_eq!(surge(&options, num_replicas), expected, "{options:?}");
    }
    let all = Want {
        surge: 3,
        ..want(3, false)
    };
    assert_eq!(fleet(all, Some(3), &[OLD, OLD, OLD]).start_target, 3);
}

/// Whom fewer replicas stop: of the last that are left, who would cost most to stop.
#[test]
fn fewer_replicas_stop_those_first_that_cost_least() {
    let load = |running, models| ReplicaLoad { running, models };
    let rows = [
        ("starting", Phase::Starting, load(0, 0)),
        ("idle, newer", Phase::Serving, load(0, 0)),
        ("idle", Phase::Serving, load(0, 0)),
        ("two", Phase::Serving, load(2, 0)),
        ("seven", Phase::Serving, load(7, 0)),
        ("model, one", Phase::Serving, load(1, 1)),
        ("model, three", Phase::Serving, load(3, 1)),
    ];
    let member = |(order, &(id, phase, load)): (usize, &(&'static str, Phase, ReplicaLoad))| {
        Member {
            id,
            // The first are the newest.
            order: 100 - order as u64,
            version: Version::Target,
            phase,
            load,
        }
    };
    for count in 0..rows.len() {
        let fleet = Fleet {
            target: Some(want(count, true)),
            fallback: None,
            old_limit: None,
            members: rows.iter().enumerate().map(member).collect(),
        };
        let expected: Vec<_> = rows.iter().map(|(id, ..)| (*id).to_owned()).collect();
        assert_eq!(plan(&fleet).stop, expected[..rows.len() - count]);
    }
}

const NEW: (Version, Phase) = (Version::Target, Phase::Serving);
const NEW_STARTING: (Version, Phase) = (Version::Target, Phase::Starting);
const OLD: (Version, Phase) = (Version::Fallback, Phase::Serving);

#[test]
fn a_first_deploy_starts_everything_at_once() {
    assert_eq!(fleet(want(5, false), None, &[]).start_target, 5);
}

#[test]
fn an_update_starts_before_it_stops() {
    let first = fleet(want(2, false), Some(2), &[OLD, OLD]);
    assert_eq!((first.start_target, first.stop), (1, vec![]));
    let waiting = fleet(want(2, false), Some(2), &[OLD, OLD, NEW_STARTING]);
    assert_eq!(waiting, Plan::default());
    let ready = fleet(want(2, true), Some(2), &[OLD, OLD, NEW]);
    assert_eq!(
        ready,
        Plan {
            start_target: 1,
            stop: vec!["r1".into()],
            ..Default::default()
        }
    );
}

#[test]
fn an_old_replica_that_dies_before_the_new_version_is_proven_comes_back() {
    let plan = fleet(want(2, false), Some(2), &[OLD, NEW_STARTING]);
    assert_eq!(
        plan,
        Plan {
            start_fallback: 1,
            ..Default::default()
        }
    );
}

#[test]
fn an_update_that_also_scales_down_does_not_get_stuck() {
    let plan = fleet(want(1, false), Some(3), &[OLD, OLD, OLD]);
    assert_eq!(
        plan,
        Plan {
            start_target: 1,
            ..Default::default()
        }
    );
    let plan = fleet(want(1, true), Some(3), &[OLD, OLD, OLD, NEW]);
    assert_eq!(plan.stop, ["r2", "r1", "r0"]);
}

#[test]
fn scaling_down_stops_what_does_not_serve_yet_and_then_the_newest() {
    let plan = fleet(want(1, true), None, &[NEW, NEW, NEW_STARTING]);
    assert_eq!(plan.stop, ["r2", "r1"]);
}

#[test]
fn a_replica_to_be_replaced_serves_until_its_replacement_does() {
    const SICK: (Version, Phase) = (Version::Target, Phase::Replaced);
    assert_eq!(
        fleet(want(1, true), None, &[SICK]),
        Plan {
            start_target: 1,
            ..Default::default()
        }
    );
    assert_eq!(
        fleet(want(1, true), None, &[SICK, NEW_STARTING]),
        Plan::default()
    );
    assert_eq!(fleet(want(1, true), None, &[SICK, NEW]).stop, ["r0"]);
}

/// A check that fails everywhere at once does not make a second fleet beside the first.
#[test]
fn replacements_of_many_start_no_more_at_a_time_than_the_surge() {
    const SICK: (Version, Phase) = (Version::Target, Phase::Replaced);
    let mut members = vec![SICK; 10];
    for _ in 0..100 {
        let step = fleet(want(10, true), None, &members);
        let stops = |order: usize| step.stop.contains(&format!("r{order}"));
        let kept = members
            .iter()
            .enumerate()
            .filter(|(order, _)| !stops(*order));
        members = kept.map(|(_, one)| *one).collect();
        members.extend(vec![NEW_STARTING; step.start_target]);
        assert!(members.len() <= 12, "{} run", members.len());
        let serve = members
            .iter()
            .filter(|one| one.1 != Phase::Starting)
            .count();
        assert!(serve >= 10, "{serve} serve");
        if step == Plan::default() {
            match members.iter_mut().find(|one| **one == NEW_STARTING) {
                Some(one) => *one = NEW,
                None => break,
            }
        }
    }
    assert_eq!(members, vec![NEW; 10]);
    // Those that are dead are not waited for.
    assert_eq!(fleet(want(10, true), None, &[SICK; 4]).start_target, 8);
}

#[test]
fn a_starting_replica_of_an_overtaken_update_is_stopped_and_a_serving_one_is_kept() {
    let overtaken = [
        OLD,
        (Version::Other, Phase::Serving),
        (Version::Other, Phase::Starting),
    ];
    let plan = fleet(want(2, false), Some(2), &overtaken);
    assert_eq!((plan.stop, plan.start_target), (vec!["r2".to_owned()], 1));
}

/// Every small fleet, followed to its end with healthy starts: it ends, at the target alone, and never serves
/// with fewer replicas than it should.
#[test]
fn every_update_ends_without_a_dip() {
    for (old, new) in (1..8).flat_map(|old| (1..8).map(move |new| (old, new))) {
        let mut members: Vec<(Version, Phase)> = vec![OLD; old];
        let floor = old.min(new);
        for _ in 0..100 {
            let proven = members.contains(&NEW);
            let step = fleet(want(new, proven), Some(old), &members);
            let mut kept = Vec::new();
            for (order, member) in members.iter().enumerate() {
                if !step.stop.contains(&format!("r{order}")) {
                    kept.push(*member);
                }
            }
            members = kept;
            let serving = members.iter().filter(|one| one.1 == Phase::Serving).count();
            assert!(serving >= floor, "{old} to {new}: {serving} serve");
            assert!(
                members.len() <= old.max(new) + want(new, proven).surge,
                "{old} to {new}: {} run",
                members.len()
            );
            members.extend(vec![NEW_STARTING; step.start_target]);
            members.extend(vec![OLD; step.start_fallback]);
            if step == Plan::default() {
                match members.iter_mut().find(|one| **one == NEW_STARTING) {
                    Some(one) => *one = NEW,
                    None => break,
                }
            }
        }
        assert_eq!(members, vec![NEW; new], "{old} to {new}");
    }
}
