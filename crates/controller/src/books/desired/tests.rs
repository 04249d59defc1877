//! Changes in any order, and what the checkpoint makes of them.

use eagleray_types::control::{ApplicationSpec, DeploymentSpec};

use super::*;

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

fn deploy(application: &str, version: u32) -> Change {
    Change::Deploy {
        revision: revision(application, version),
        wall_time_s: f64::from(version),
    }
}

fn any_change(random: &mut fastrand::Rng) -> Change {
    let application = ["a", "b", "c"][random.usize(..3)].to_owned();
    let deployment = DeploymentKey::new(application.as_str(), "d");
    let version = random.u32(..20);
    match random.u8(..12) {
        0 => Change::Delete { application },
        1 => Change::DeleteAll,
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
        _ => deploy(&application, version),
    }
}

fn loaded(desired: &Desired) -> Loaded {
    let plans = desired.plans.values();
    let revisions = plans.flat_map(|plan| plan.history().chain(plan.serving.values()));
    Loaded {
        epoch: 1,
        root: desired.root(),
        revisions: revisions
            .map(|one| (one.blob.clone(), one.spec.clone()))
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
            let change = any_change(&mut random);
            let before = desired.clone();
            let changed = desired.apply(&change);
            assert!(changed || !matches!(change, Change::Deploy { .. }));
            assert!(changed || desired == before, "{change:?}");
            assert_eq!(Desired::restore(&loaded(&desired)), desired, "{change:?}");
        }
    }
}

#[test]
fn ten_revisions_are_kept_and_one_that_comes_back_is_the_newest() {
    let mut desired = Desired::default();
    for version in 0..15 {
        desired.apply(&deploy("a", version));
    }
    desired.apply(&deploy("a", 7));
    let plan = desired.plan("a").unwrap();
    let history: Vec<&str> = plan
        .history()
        .map(|one| one.spec.revision.as_str())
        .collect();
    assert_eq!(
        history,
        ["7", "14", "13", "12", "11", "10", "9", "8", "6", "5"]
    );
}
