use serde_json::{Value, json};

use super::*;

/// A deploy whose second deployment is on its way.
pub(super) fn rolling() -> (Status, Vec<Watched>) {
    let replica = |state: &str, revision: u64| json!({"replica_id": "old", "state": state, "revision_number": revision});
    let mut replicas: Vec<Value> = (0..8).map(|_| replica("RUNNING", 14)).collect();
    replicas.extend((0..5).map(|_| replica("RUNNING", 15)));
    replicas.push(json!({"replica_id": "q3kd91", "state": "STARTING", "message": "imports torch"}));
    let gate = json!({"name": "Gate", "status": "HEALTHY", "replica_states": {"RUNNING": 4}, "target_replicas": 4});
    let rank =
        json!({"name": "Rank", "status": "UPDATING", "replicas": replicas, "target_replicas": 8});
    let status = status(&json!({
        "name": "shop", "status": "DEPLOYING", "deployments": [gate, rank],
        "deploy": {"deploy": 7, "state": "rolling", "number": 15, "from": 14},
    }));
    let mut watched = Watched::new("shop", Goal::Deploy(7));
    watched.look(&status);
    (status, vec![watched])
}

fn status(application: &Value) -> Status {
    let status = json!({"node": {"name": "default"}, "applications": [application]});
    serde_json::from_value(status).expect("as the node says it")
}

fn deploy(deploy: &Value) -> Status {
    status(&json!({"name": "shop", "status": "DEPLOYING", "deploy": deploy}))
}

#[test]
fn the_stage_is_that_of_the_deploy_that_is_meant() {
    for (says, stage) in [
        (
            json!({"deploy": 6, "state": "done", "number": 14}),
            Stage::Taken,
        ),
        (
            json!({"deploy": 0, "state": "done", "number": 14}),
            Stage::Taken,
        ),
        (json!({"deploy": 7, "state": "building"}), Stage::Building),
        (
            json!({"deploy": 7, "state": "rolling", "number": 15}),
            Stage::Rolling,
        ),
        (
            json!({"deploy": 7, "state": "done", "number": 15}),
            Stage::Up,
        ),
        (json!({"deploy": 7, "state": "failed"}), Stage::NotBuilt),
        (
            json!({"deploy": 7, "state": "rolled_back", "number": 15}),
            Stage::RolledBack,
        ),
        (json!({"deploy": 8, "state": "building"}), Stage::Superseded),
    ] {
        let mut watched = Watched::new("shop", Goal::Deploy(7));
        watched.look(&deploy(&says));
        assert_eq!(watched.stage, stage, "{says}");
    }
}

#[test]
fn a_rollback_is_known_by_its_revision() {
    let mut watched = Watched::new("shop", Goal::Revision(16));
    watched.look(&deploy(
        &json!({"deploy": 7, "state": "done", "number": 15}),
    ));
    assert_eq!(watched.stage, Stage::Taken);
    watched.look(&deploy(
        &json!({"deploy": 0, "state": "done", "number": 16}),
    ));
    assert_eq!(watched.stage, Stage::Up);
}

#[test]
fn a_script_that_deploys_over_it_or_a_deletion_supersedes_it() {
    let building = deploy(&json!({"deploy": 7, "state": "building"}));
    let mut watched = Watched::new("shop", Goal::Deploy(7));
    watched.look(&building);
    watched.look(&deploy(
        &json!({"deploy": 0, "state": "rolling", "number": 16}),
    ));
    assert_eq!(watched.stage, Stage::Superseded);
    let mut watched = Watched::new("shop", Goal::Deploy(7));
    watched.look(&building);
    watched.look(&status(&json!({"name": "other"})));
    assert_eq!(watched.stage, Stage::Superseded);
}

#[test]
fn an_end_stays_what_it_is() {
    let mut watched = Watched::new("shop", Goal::Deploy(7));
    watched.look(&deploy(
        &json!({"deploy": 7, "state": "done", "number": 15}),
    ));
    watched.look(&deploy(&json!({"deploy": 8, "state": "building"})));
    assert_eq!(watched.stage, Stage::Up);
}

#[test]
fn replicas_of_the_revision_before_are_not_ready_for_this_one() {
    let replica =
        |number: u64| json!({"replica_id": "a", "state": "RUNNING", "revision_number": number});
    let rank = json!({
        "name": "Rank", "status": "UPDATING", "target_replicas": 2, "replicas": [replica(14), replica(14), replica(15)],
    });
    let status = status(&json!({
        "name": "shop", "status": "DEPLOYING", "deployments": [rank],
        "deploy": {"deploy": 7, "state": "rolling", "number": 15, "from": 14},
    }));
    let mut watched = Watched::new("shop", Goal::Deploy(7));
    watched.look(&status);
    assert_eq!(Row::of(&watched, &status).deployments[0].ready, 1);
}

#[test]
fn only_what_was_up_before_is_unchanged() {
    let up = |state: &str| {
        let mut status = deploy(&json!({"deploy": 6, "state": state, "number": 14}));
        status.applications[0].revision_number = Some(14);
        before(&status)
    };
    let deploy: Deploy =
        serde_json::from_value(json!({"deploy": 7, "state": "done", "number": 14}))
            .expect("as the node says it");
    assert!(is_unchanged(&up("done"), "shop", &deploy));
    assert!(!is_unchanged(&up("rolling"), "shop", &deploy));
    assert!(!is_unchanged(&up("done"), "other", &deploy));
}

#[test]
fn whoever_stops_waiting_is_told_what_was_up_before() {
    let names = ["shop".to_owned()];
    assert!(!last_words(&names, &Before::new()).contains("rollback"));
    let words = last_words(&names, &Before::from([("shop".to_owned(), 14)]));
    assert!(words.ends_with("undo it: eagleray rollback shop r14\n"));
}
