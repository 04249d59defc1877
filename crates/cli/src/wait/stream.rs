//! For programs: JSON on standard output, one object a line, and nothing else there.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};

use super::{
    Before, Show,
    rows::Row,
    stage::{Stage, Watched},
};
use crate::{
    answers::{Deploy, Failure, PlannedDeployment, Status},
    output::say,
};

#[derive(Debug, Default)]
pub(super) struct Stream {
    known: BTreeMap<String, Value>,
}

impl Show for Stream {
    fn rows(&mut self, rows: &[Row<'_>], waited: Duration, _away: Option<&str>) {
        for row in rows {
            let deployments = row.deployments.iter();
            let deployments: Vec<Value> = deployments
                .map(|part| json!({"name": part.name, "ready": part.ready, "wanted": part.wanted, "why": part.why}))
                .collect();
            let state = json!({
                "event": "state", "application": row.name, "state": row.stage.word(),
                "revision": row.deploy.and_then(|deploy| deploy.number), "deployments": deployments,
            });
            if self.known.get(row.name) == Some(&state) {
                continue;
            }
            self.known.insert(row.name.to_owned(), state.clone());
            let mut line = state;
            if let Some(line) = line.as_object_mut() {
                line.insert("seconds".to_owned(), json!(waited.as_secs_f64()));
            }
            say(&line.to_string());
        }
    }
}

/// How each has ended.
pub(super) fn results(watched: &[Watched], status: &Status, before: &Before) {
    for one in watched {
        let application = status
            .applications
            .iter()
            .find(|application| application.name == one.name);
        let deploy = application.and_then(|application| application.deploy.as_ref());
        // Of a later deploy this one has neither receipt nor failure.
        let deploy = deploy.filter(|_| one.stage != Stage::Superseded);
        say(&result(one, deploy, before).to_string());
    }
}

fn result(one: &Watched, deploy: Option<&Deploy>, before: &Before) -> Value {
    json!({
        "event": "result",
        "application": one.name,
        "result": one.stage.word(),
        "unchanged": one.stage == Stage::Up
            && deploy.is_some_and(|deploy| super::is_unchanged(before, &one.name, deploy)),
        "revision": deploy.and_then(|deploy| deploy.number),
        "before": deploy.and_then(|deploy| deploy.from),
        "receipt": deploy.and_then(|deploy| deploy.receipt.as_ref()).map(|receipt| json!({
            "began_at_s": receipt.began_at_s,
            "ended_at_s": receipt.ended_at_s,
            "answered": receipt.answered,
            "failed": receipt.failed,
            "running": receipt.running,
            "build_skipped": receipt.build_skipped,
            "deployments": receipt.deployments.iter().map(planned).collect::<Vec<_>>(),
        })),
        "failure": deploy.and_then(|deploy| deploy.failure.as_ref()).map(failure),
    })
}

fn planned(deployment: &PlannedDeployment) -> Value {
    json!({"name": deployment.name, "change": deployment.change, "reasons": deployment.reasons})
}

fn failure(failure: &Failure) -> Value {
    json!({
        "code": failure.code, "message": failure.message, "where": failure.place, "help": failure.help.clone().lines(),
    })
}
