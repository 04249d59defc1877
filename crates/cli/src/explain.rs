//! `eagleray explain`: every reason why something is not fine, since when, and what to do.

use clap::Args;
use serde_json::{Value, json};

use crate::{
    answers::{Application, Status, Why},
    api::Api,
    exit::Exit,
    find::Where,
    output::{say, say_all},
    screen::{Paint, Screen, cells, wrap},
    status,
    trouble::Outcome,
    words::{clock, duration, now, plain},
};

#[derive(Debug, Args)]
pub struct ExplainArguments {
    /// Of this application, or of this deployment of it, only.
    #[arg(value_name = "APP[/DEPLOYMENT]")]
    about: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    place: Where,
}

pub(crate) fn run(arguments: &ExplainArguments) -> Outcome {
    let api = Api::of(&arguments.place)?;
    let (application, deployment) = match arguments.about.as_deref() {
        None => (None, None),
        Some(about) => match about.rsplit_once('/') {
            Some((application, deployment)) => (Some(application), Some(deployment)),
            None => (Some(about), None),
        },
    };
    let status = status::of(&api, application)?;
    let mut found: Vec<Reason<'_>> = of_node(&status).filter(|_| application.is_none()).collect();
    for one in &status.applications {
        let reasons = reasons(one)
            .into_iter()
            .filter(|reason| deployment.is_none_or(|name| reason.deployment == name));
        found.extend(reasons);
    }
    if arguments.json {
        say(&Value::from(found.iter().map(Reason::json).collect::<Vec<_>>()).to_string());
    } else {
        say_all(&lines(&found, &Screen::of_output(), now()));
    }
    Ok(if found.is_empty() {
        Exit::Done
    } else {
        Exit::Failed
    })
}

#[derive(Debug)]
struct Reason<'a> {
    /// Empty: the node itself.
    application: &'a str,
    /// Empty: the application itself.
    deployment: &'a str,
    why: std::borrow::Cow<'a, Why>,
}

impl Reason<'_> {
    fn json(&self) -> Value {
        json!({
            "application": self.application, "deployment": self.deployment, "code": self.why.code,
            "sentence": self.why.sentence, "since_s": self.why.since_s, "help": self.why.help,
            "replica_id": self.why.replica_id,
        })
    }
}

/// Of the node's own processes, and of what they keep.
fn of_node(status: &Status) -> impl Iterator<Item = Reason<'_>> {
    status.node.why.iter().map(|why| Reason {
        application: "",
        deployment: "",
        why: std::borrow::Cow::Borrowed(why),
    })
}

/// Its sentences; where a row is not fine and has none, what it says itself.
fn reasons(application: &Application) -> Vec<Reason<'_>> {
    let mut found: Vec<Reason<'_>> = status::sentences(application)
        .into_iter()
        .map(|(deployment, why)| Reason {
            application: &application.name,
            deployment,
            why: std::borrow::Cow::Borrowed(why),
        })
        .collect();
    let rows = application
        .deployments
        .iter()
        .map(|one| (one.name.as_str(), one.status.as_str(), one.message.as_str()));
    let own = [(
        "",
        application.status.as_str(),
        application.message.as_str(),
    )];
    for (name, status, message) in own.into_iter().chain(rows) {
        let fine = matches!(status, "RUNNING" | "HEALTHY") || message.is_empty();
        // An application that is unwell says again what its deployments say.
        let said = found
            .iter()
            .any(|reason| reason.deployment == name || name.is_empty());
        if !fine && !said {
            let why = Why {
                code: status.to_lowercase(),
                sentence: message.to_owned(),
                ..Why::default()
            };
            found.push(Reason {
                application: &application.name,
                deployment: name,
                why: std::borrow::Cow::Owned(why),
            });
        }
    }
    found
}

fn lines(reasons: &[Reason<'_>], screen: &Screen, now: f64) -> Vec<String> {
    let mut lines = Vec::new();
    for reason in reasons {
        let name = match reason.deployment {
            "" if reason.application.is_empty() => "node".to_owned(),
            "" => reason.application.to_owned(),
            deployment => format!("{}/{deployment}", reason.application),
        };
        let code = screen.paint(&format!("[{}]", reason.why.code), Paint::Faint);
        lines.push(format!(
            "{} {} {code}",
            screen.paint(screen.sign(Paint::Bad), Paint::Bad),
            screen.paint(&name, Paint::Bold)
        ));
        for line in plain(&reason.why.sentence).lines() {
            lines.extend(
                indented(line, screen.width.saturating_sub(2))
                    .into_iter()
                    .map(|line| format!("  {line}")),
            );
        }
        if let Some(since) = reason.why.since_s.filter(|since| *since > 0.0) {
            lines.push(format!(
                "  since  {} ({})",
                clock(since),
                duration(now - since)
            ));
        }
        for help in reason.why.help.lines() {
            lines.push(format!("  help   {help}"));
        }
    }
    if lines.is_empty() {
        lines.push("all is well".to_owned());
    }
    lines
}

/// As it is where it fits, so that a traceback keeps its shape.
fn indented(line: &str, width: usize) -> Vec<String> {
    if cells(line) <= width {
        vec![line.to_owned()]
    } else {
        wrap(line, width)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::screen;

    #[test]
    fn every_sentence_has_its_time_and_its_help() {
        let node = json!({"why": [{"code": "proxy_restarting", "sentence": "The proxy ended.", "help": "read its log"}]});
        let status = json!({"node": node, "applications": [
            {"name": "shop", "status": "RUNNING"},
            {"name": "chat", "status": "UNHEALTHY", "message": "a deployment is unhealthy", "deployments": [{
                "name": "Chat", "status": "UNHEALTHY", "message": "long text",
                "why": [{"code": "hung", "sentence": "q7f2 does not turn", "since_s": 1000.0, "help": "eagleray stack q7f2"}],
            }]},
            {"name": "new", "status": "DEPLOY_FAILED", "message": "no module"},
        ]});
        let status: Status = serde_json::from_value(status).expect("as the node says it");
        let applications = status.applications.iter().flat_map(reasons);
        let reasons: Vec<_> = of_node(&status).chain(applications).collect();
        let lines = lines(&reasons, &screen::plain(80), 1010.0);
        let since = format!("  since  {} (10.0 s)", clock(1000.0));
        assert_eq!(
            lines,
            [
                "✖ node [proxy_restarting]",
                "  The proxy ended.",
                "  help   read its log",
                "✖ chat/Chat [hung]",
                "  q7f2 does not turn",
                &since,
                "  help   eagleray stack q7f2",
                "✖ new [deploy_failed]",
                "  no module",
            ]
        );
    }

    #[test]
    fn where_all_is_well_it_says_so() {
        assert_eq!(lines(&[], &screen::plain(80), 0.0), ["all is well"]);
    }
}
