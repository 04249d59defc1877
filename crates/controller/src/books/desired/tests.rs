//! Changes in any order, and what the checkpoint makes of them.

use eagleray_types::control::{ApplicationSpec, DeploymentSpec, RevisionRecord};

use super::*;
use crate::{
    books::history::Record,
    store::checkpoint::{Loaded, Verdict},
};

fn revision(application: &str, version: u32) -> Arc<Revision> {
    Arc::new(Revision::new(ApplicationSpec {
        name: application.into(),
        revision: version.to_string(),
        deployments: vec![DeploymentSpec {
            name: "d".into(),
            ..Default::default()
        }],
        ..Default::default()
    }))
}

fn deploy(desired: &Desired, application: &str, version: u32) -> Change {
    let history = desired.history(application);
    let record = RevisionRecord {
        application: application.into(),
        number: history.map_or(1, History::next_number),
        deployed_at_s: f64::from(version),
        ..Default::default()
    };
    Change::Deploy {
        revision: revision(application, version),
        entry: Arc::new(Entry::new(record)),
    }
}

fn any_change(desired: &Desired, random: &mut fastrand::Rng) -> Change {
    let application = ["a", "b", "c"][random.usize(..3)].to_owned();
    let deployment = DeploymentKey::new(application.as_str(), "d");
    let version = random.u32(..20);
    let wall_time_s = f64::from(version);
    match random.u8(..16) {
        0 => Change::Delete {
            application,
            wall_time_s,
        },
        1 => Change::DeleteAll { wall_time_s },
        2 => Change::Dismiss { deployment },
        3 | 4 => Change::Serve {
            revision: revision(&application, version),
            deployment,
        },
        5 => Change::Route {
            route: random.bool().then(|| Route {
                prefix: format!("/{version}"),
                ingress: deployment,
            }),
            application,
        },
        6 => Change::Forget { application },
        7 | 8 => Change::Settle {
            application,
            number: u64::from(version),
            outcome: Outcome {
                verdict: Verdict::Failed.into(),
                ..Outcome::default()
            },
        },
        9 => Change::RollBack {
            revision: revision(&application, version),
            application,
        },
        _ => deploy(desired, &application, version),
    }
}

fn loaded(desired: &Desired) -> Loaded {
    let revisions = desired.revisions();
    let entries = desired.entries();
    Loaded {
        epoch: 1,
        root: desired.root(),
        revisions: revisions
            .map(|one| (one.blob.clone(), one.spec.clone()))
            .collect(),
        records: entries
            .map(|one| (one.blob.clone(), one.record.clone()))
            .collect(),
    }
}

/// Whatever changes came, in whatever order: the checkpoint gives back what was in force.
#[test]
fn what_is_saved_is_what_is_in_force() {
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..50 {
        let mut desired = Desired::default();
        for _ in 0..60 {
            let change = any_change(&desired, &mut random);
            let before = desired.clone();
            let changed = desired.apply(&change);
            assert!(changed || !matches!(change, Change::Deploy { .. }));
            assert!(changed || desired == before, "{change:?}");
            assert_eq!(Desired::restore(&loaded(&desired)), desired, "{change:?}");
        }
    }
}

#[test]
fn fifty_deploys_are_kept_and_their_numbers_go_on() {
    let mut desired = Desired::default();
    for version in 0..60 {
        desired.apply(&deploy(&desired, "a", version));
    }
    desired.apply(&deploy(&desired, "a", 7));
    let plan = desired.plan("a").unwrap();
    let numbers: Vec<u64> = plan.history.newest_first().map(Record::number).collect();
    assert_eq!(numbers, (12..=61).rev().collect::<Vec<u64>>());
    assert_eq!(plan.target.spec.revision, "7");
    assert_eq!(
        plan.revisions().count(),
        50,
        "the seventh had been forgotten"
    );
}

#[test]
fn a_deleted_application_keeps_its_history_and_goes_on_with_it() {
    let mut desired = Desired::default();
    desired.apply(&deploy(&desired, "a", 1));
    desired.apply(&deploy(&desired, "a", 2));
    let application = "a".to_owned();
    desired.apply(&Change::Delete {
        application,
        wall_time_s: 5.0,
    });
    assert!(desired.plan("a").is_none());
    let verdicts = |desired: &Desired| -> Vec<Verdict> {
        let history = desired.history("a").unwrap();
        history
            .oldest_first()
            .map(|one| one.outcome.verdict())
            .collect()
    };
    assert_eq!(verdicts(&desired), [Verdict::Superseded, Verdict::Deleted]);
    desired.apply(&deploy(&desired, "a", 1));
    let plan = desired.plan("a").unwrap();
    assert_eq!(plan.history.last().unwrap().number(), 3);
    assert_eq!(plan.target.spec.revision, "1");
    assert_eq!(verdicts(&desired)[2], Verdict::Deploying);
}

#[test]
fn a_hundred_deleted_applications_are_kept() {
    let mut desired = Desired::default();
    for number in 0..105 {
        let application = format!("a{number}");
        desired.apply(&deploy(&desired, &application, 1));
        let wall_time_s = f64::from(number);
        desired.apply(&Change::Delete {
            application,
            wall_time_s,
        });
    }
    assert_eq!(desired.deleted().count(), DELETED_KEPT);
    assert!(desired.history("a4").is_none() && desired.history("a5").is_some());
}

/// The journal of the checkpoint has its room from the start, for a root of this size.
#[test]
fn the_full_histories_of_twenty_applications_are_a_small_root() {
    use prost::Message as _;
    let mut desired = Desired::default();
    for number in 0..20 {
        let application = format!("application-{number}");
        for version in 0..60 {
            desired.apply(&deploy(&desired, &application, version));
            let outcome = Outcome {
                verdict: Verdict::Running.into(),
                ended_at_s: 1e9,
                ..Outcome::default()
            };
            desired.apply(&Change::Settle {
                application: application.clone(),
                number: u64::from(version) + 1,
                outcome,
            });
        }
    }
    let bytes = desired.root().encoded_len();
    assert!((100_000..200 * 1024).contains(&bytes), "{bytes}");
}
