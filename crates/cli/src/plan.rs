//! What a deploy would do: what restarts, what is changed in place, what goes.

use serde_json::Value;

use crate::{
    answers::{Planned, PlannedApplication, PlannedDeployment},
    api::{Api, BUILD_WITHIN},
    exit::Exit,
    output::{complain, say, say_all},
    receipt,
    screen::{Paint, Screen},
    trouble::{Outcome, Trouble},
    words::plain,
};

/// Asks for the plan, shows it, and says how much it would change.
pub(crate) fn run(api: &Api, body: &Value, label: &str, as_json: bool) -> Outcome<Change> {
    let answer: Value = api.post("/api/v1/plans", body, BUILD_WITHIN)?;
    let planned: Planned = serde_json::from_value(answer.clone()).map_err(|error| {
        Trouble::new(
            Exit::Unknown,
            "answer",
            format!("the plan cannot be read: {error}"),
        )
    })?;
    if as_json {
        say(&answer.to_string());
    } else {
        for warning in &planned.warnings {
            complain(&format!("warning: {warning}"));
        }
        say_all(&lines(&planned, label, &Screen::of_output()));
    }
    Ok(Change::of(&planned))
}

/// The most that a plan would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Change {
    Nothing,
    InPlace,
    Restarts,
    Deletes,
    /// Something cannot be built, so nobody knows.
    Fails,
}

impl Change {
    pub(crate) fn of(planned: &Planned) -> Self {
        let one = |application: &PlannedApplication| match application.change.as_str() {
            "failed" => Self::Fails,
            "delete" => Self::Deletes,
            _ => application
                .deployments
                .iter()
                .map(Self::of_deployment)
                .max()
                .unwrap_or(Self::Nothing),
        };
        let of_node = if planned.http_options.is_empty() {
            Self::Nothing
        } else {
            Self::InPlace
        };
        let of_all = planned.applications.iter().map(one);
        of_all.fold(of_node, Self::max)
    }

    fn of_deployment(deployment: &PlannedDeployment) -> Self {
        match deployment.change.as_str() {
            "untouched" => Self::Nothing,
            "in_place" => Self::InPlace,
            "delete" => Self::Deletes,
            _ => Self::Restarts,
        }
    }

    /// For `--exit-code`.
    pub(crate) fn exit(self) -> Exit {
        match self {
            Self::Nothing => Exit::Done,
            Self::InPlace => Exit::InPlace,
            Self::Restarts => Exit::Restarts,
            Self::Deletes => Exit::Deletes,
            Self::Fails => Exit::Failed,
        }
    }
}

fn lines(planned: &Planned, label: &str, screen: &Screen) -> Vec<String> {
    let mut lines = Vec::new();
    if !planned.http_options.is_empty() {
        lines.push(format!(
            "http_options  in place  {}",
            planned.http_options.join("; ")
        ));
    }
    for application in &planned.applications {
        lines.extend(one(application, screen));
    }
    match Change::of(planned) {
        Change::Nothing => lines.push("nothing would change".to_owned()),
        Change::Fails => {}
        _ if planned.plan.is_empty() => {}
        _ => lines.push(format!(
            "do exactly this: eagleray deploy {label} --plan {}",
            planned.plan
        )),
    }
    lines
}

/// What leads from one revision to another, a line each.
pub(crate) fn between(planned: &Planned) -> Vec<String> {
    let mut lines = Vec::new();
    for application in &planned.applications {
        lines.extend(application.changed.clone());
        let touched = application.deployments.iter();
        for deployment in touched.filter(|one| one.change != "untouched") {
            let word = match deployment.change.as_str() {
                "in_place" => "in place",
                word => word,
            };
            // What concerns all deployments was said above.
            let own = deployment.reasons.iter();
            let own = own.filter(|reason| !application.changed.contains(reason));
            let own: Vec<&str> = own.map(String::as_str).collect();
            let reasons = match own.join("; ") {
                reasons if reasons.is_empty() => String::new(),
                reasons => format!(": {reasons}"),
            };
            lines.push(format!("{} {word}{reasons}", deployment.name));
        }
    }
    lines
}

fn one(application: &PlannedApplication, screen: &Screen) -> Vec<String> {
    let from = application.from.map_or_else(String::new, |from| {
        format!(" r{from} {} new", screen.arrow())
    });
    let word = match application.change.as_str() {
        "update" => String::new(),
        "delete" => format!(" {}", screen.paint("DELETE", Paint::Bad)),
        "failed" => format!(" {}", screen.paint("cannot be built", Paint::Bad)),
        other => format!(" {other}"),
    };
    let from = if application.change == "update" {
        from
    } else {
        String::new()
    };
    let mut lines = vec![format!(
        "{}{from}{word}",
        screen.paint(&application.name, Paint::Bold)
    )];
    lines.extend(
        application
            .changed
            .iter()
            .map(|change| format!("  {}", plain(change))),
    );
    if let Some(failure) = &application.failure {
        lines.extend(receipt::because(failure, &[], screen).into_iter().skip(1));
    }
    let widest = application
        .deployments
        .iter()
        .map(|one| one.name.len())
        .max()
        .unwrap_or(0);
    for deployment in &application.deployments {
        let (word, paint) = match deployment.change.as_str() {
            "restart" => (
                format!("RESTART {}", deployment.replicas_before),
                Paint::Warning,
            ),
            "delete" => (format!("DELETE {}", deployment.replicas_before), Paint::Bad),
            "in_place" => ("in place".to_owned(), Paint::Good),
            "new" => (format!("new {}", deployment.replicas_after), Paint::Good),
            other => (other.to_owned(), Paint::Faint),
        };
        let word = screen.paint(&format!("{word:10}"), paint);
        let reasons = plain(&deployment.reasons.join("; "));
        lines.push(
            format!("  {:widest$}  {word}  {reasons}", deployment.name)
                .trim_end()
                .to_owned(),
        );
    }
    lines
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::screen;

    fn planned() -> Planned {
        let planned = json!({"plan": "9c41", "applications": [
            {"name": "shop", "change": "update", "from": 15, "deployments": [
                {"name": "Gate", "change": "in_place", "reasons": ["max_ongoing_requests 20 -> 40"]},
                {"name": "Rank", "change": "restart", "reasons": ["code models/rank.py", "num_cpus 1 -> 2"], "replicas_before": 8},
                {"name": "Embed", "change": "untouched"},
            ]},
            {"name": "old", "change": "delete", "from": 2},
        ]});
        serde_json::from_value(planned).expect("as the node says it")
    }

    #[test]
    fn a_plan_says_of_each_deployment_what_becomes_of_it() {
        assert_eq!(
            lines(&planned(), "shop.yaml", &screen::plain(100)),
            [
                "shop r15 → new",
                "  Gate   in place    max_ongoing_requests 20 -> 40",
                "  Rank   RESTART 8   code models/rank.py; num_cpus 1 -> 2",
                "  Embed  untouched",
                "old DELETE",
                "do exactly this: eagleray deploy shop.yaml --plan 9c41",
            ]
        );
    }

    #[test]
    fn what_is_untouched_does_not_lie_between_two_revisions() {
        let mut planned = planned();
        planned.applications[0].changed = vec!["code models/rank.py".to_owned()];
        assert_eq!(
            between(&planned),
            [
                "code models/rank.py",
                "Gate in place: max_ongoing_requests 20 -> 40",
                "Rank restart: num_cpus 1 -> 2",
            ]
        );
    }

    #[test]
    fn the_worst_that_happens_is_the_exit_status() {
        let mut planned = planned();
        assert_eq!(Change::of(&planned).exit(), Exit::Deletes);
        planned.applications.pop();
        assert_eq!(Change::of(&planned).exit(), Exit::Restarts);
        planned.applications[0].deployments.remove(1);
        assert_eq!(Change::of(&planned).exit(), Exit::InPlace);
        assert_eq!(Change::of(&Planned::default()).exit(), Exit::Done);
    }

    #[test]
    fn http_options_alone_are_a_change_in_place() {
        let planned = Planned {
            plan: "9c41".to_owned(),
            http_options: vec![
                "request_timeout_s null -> 5".to_owned(),
                "limits.connections 8192 -> 20".to_owned(),
            ],
            ..Planned::default()
        };
        assert_eq!(Change::of(&planned).exit(), Exit::InPlace);
        assert_eq!(
            lines(&planned, "shop.yaml", &screen::plain(100)),
            [
                "http_options  in place  request_timeout_s null -> 5; limits.connections 8192 -> 20",
                "do exactly this: eagleray deploy shop.yaml --plan 9c41",
            ]
        );
    }
}
