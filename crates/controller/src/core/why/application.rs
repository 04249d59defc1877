//! What is not fine of an application itself; its deployments have reasons of their own.

use eagleray_types::control::Why;

use super::{Moment, counted, gist};
use crate::{
    books::{application::Application, declared::Declared, desired::Plan, history::Record},
    store::checkpoint::Verdict,
};

pub(in crate::core) fn of_application(
    application: &Application,
    plan: Option<&Plan>,
    moment: Moment<'_>,
) -> Vec<Why> {
    let Some(plan) = plan else {
        return vec![deleting(application, moment)];
    };
    let last = plan.history.last();
    last.and_then(|last| failed(application, plan, last))
        .into_iter()
        .chain(not_routed(plan, moment))
        .collect()
}

/// Of one that a config declares: how far its code is.
pub(in crate::core) fn of_declared(declared: &Declared, wall_now_s: f64) -> Option<Why> {
    let name = &declared.application;
    let (code, sentence, help) = match &declared.failure {
        Some(failure) => {
            let place = match failure.place.as_str() {
                "" => String::new(),
                place => format!(" ({place})"),
            };
            let sentence = format!(
                "Its newest config could not be built{place}: {}",
                gist(&failure.message)
            );
            ("build_failed", sentence, failure.help.clone())
        }
        None if declared.is_building() => {
            let seconds = (wall_now_s - declared.began_at_s).max(0.0);
            let sentence = format!("Its code is being imported, for {seconds:.0} s by now.");
            let help = format!("What that has printed: eagleray logs {name}");
            ("building", sentence, help)
        }
        None => return None,
    };
    Some(Why {
        code: code.to_owned(),
        sentence,
        since_s: declared.began_at_s,
        help,
        replica_id: String::new(),
    })
}

fn deleting(application: &Application, moment: Moment<'_>) -> Why {
    let deployments = application.deployments.values();
    let left = deployments.map(|one| one.replicas.len()).sum();
    let sentence = format!(
        "It is being deleted: {} still {} what was begun.",
        counted(left, "replica"),
        if left == 1 { "finishes" } else { "finish" }
    );
    let help = "To keep it, deploy it again.".to_owned();
    moment.why("deleting", None, sentence, help)
}

/// The newest deploy has failed, and has not come up since.
fn failed(application: &Application, plan: &Plan, last: &Record) -> Option<Why> {
    let number = last.number();
    let name = &application.name;
    let (code, sentence, help) = match last.outcome.verdict() {
        Verdict::Failed => (
            "deploy_failed",
            format!("r{number} did not come up."),
            format!("Correct it and deploy again. eagleray logs {name} shows what it printed."),
        ),
        Verdict::RolledBack => {
            let serves = plan
                .aimed_at()
                .filter(|one| one.number() != number)
                .or(plan.history.before());
            let serves = serves.map_or_else(
                || "what ran before".to_owned(),
                |one| format!("r{}", one.number()),
            );
            (
                "rolled_back",
                format!("r{number} did not come up, so {serves} serves on."),
                format!(
                    "Correct it and deploy again, or make what serves the target: eagleray rollback {name}"
                ),
            )
        }
        _ => return None,
    };
    Some(Why {
        code: code.to_owned(),
        sentence,
        since_s: last.outcome.ended_at_s,
        help,
        replica_id: String::new(),
    })
}

/// It is not reachable where its newest revision says.
fn not_routed(plan: &Plan, moment: Moment<'_>) -> Option<Why> {
    let spec = &plan.aim().spec;
    let wanted = spec.route_prefix.as_str();
    let present = plan.route.as_ref().map(|route| route.prefix.as_str());
    if present.unwrap_or_default() == wanted {
        return None;
    }
    let ingress = &spec.ingress;
    let sentence = match (present, wanted) {
        (None, wanted) => {
            format!("{wanted} answers 404 so far: no replica of {ingress} has come up yet.")
        }
        (Some(present), "") => format!(
            "It is still reachable at {present}, until a replica of {ingress} has come up in its newest revision."
        ),
        (Some(present), wanted) => format!(
            "It is still reachable at {present} and not at {wanted}, until a replica of {ingress} has come up in its \
             newest revision and no other application is at {wanted}."
        ),
    };
    Some(moment.why("not_routed", None, sentence, String::new()))
}
