//! The status as a table: a row for each deployment, and beside each that is not fine why.

use super::curves::Curves;
use crate::{
    answers::{Application, Deployment, Status, Why},
    screen::{Paint, Screen},
    table::{Cell, Table},
    words::{duration, first_line, last_line, plain},
};

/// What a person sees. `now` is the wall clock.
pub(super) fn lines(
    status: &Status,
    curves: Option<&Curves>,
    screen: &Screen,
    now: f64,
) -> Vec<String> {
    let mut lines = vec![screen.clip(&head(status, screen, now))];
    for why in &status.node.why {
        let text = format!("{} {}", screen.sign(Paint::Warning), plain(&why.sentence));
        lines.push(screen.paint(&screen.clip(&text), Paint::Warning));
    }
    lines.push(String::new());
    if status.applications.is_empty() {
        lines.push("no application is deployed".to_owned());
        lines.push(next(
            &["eagleray deploy FILE", "eagleray run MODULE:NAME"],
            screen,
        ));
        return lines;
    }
    let mut heads = vec!["APP", "REV", "STATUS", "DEPLOYMENT", ">REPLICAS"];
    if curves.is_some() {
        heads.extend(Curves::heads(screen));
    }
    heads.push("WHY");
    let mut table = Table::new(&heads);
    for application in &status.applications {
        rows(application, curves, screen, &mut table, now);
    }
    lines.extend(table.lines(screen));
    let unwell = status
        .applications
        .iter()
        .find(|one| !sentences(one).is_empty());
    if let Some(unwell) = unwell {
        lines.push(String::new());
        let explain = format!("eagleray explain {}", unwell.name);
        let logs = format!("eagleray logs {}", unwell.name);
        lines.push(next(&[&explain, &logs], screen));
    }
    lines
}

fn head(status: &Status, screen: &Screen, now: f64) -> String {
    let node = &status.node;
    let up = if node.started_at_s > 0.0 {
        format!("  up {}", duration(now - node.started_at_s))
    } else {
        String::new()
    };
    let http = if node.http_address.is_empty() {
        "without HTTP".to_owned()
    } else {
        let paint = match node.proxy_status.as_str() {
            "HEALTHY" => Paint::Good,
            "UNHEALTHY" => Paint::Bad,
            _ => Paint::Warning,
        };
        let proxy = screen.paint(screen.sign(paint), paint);
        format!("{} {proxy}", node.http_address)
    };
    format!("node {}{up}  {http}", node.name)
}

fn next(commands: &[&str], screen: &Screen) -> String {
    let between = if screen.signs { " · " } else { ", " };
    screen.paint(
        &screen.clip(&format!("next: {}", commands.join(between))),
        Paint::Faint,
    )
}

fn rows(
    application: &Application,
    curves: Option<&Curves>,
    screen: &Screen,
    table: &mut Table,
    now: f64,
) {
    let none = || vec![Cell::new(""); curves.map_or(0, |_| Curves::heads(screen).len())];
    let paint = paint(&application.status);
    let revision = application
        .revision_number
        .map_or_else(|| "-".to_owned(), |number| format!("r{number}"));
    let start = [
        Cell::painted(application.name.clone(), Paint::Bold),
        Cell::new(revision),
        Cell::painted(
            format!("{} {}", screen.sign(paint), application.status),
            paint,
        ),
    ];
    let empty = || [Cell::new(""), Cell::new(""), Cell::new("")];
    let mut start = Some(start);
    let own = why(&application.why, own_message(application), now);
    if !own.is_empty() || application.deployments.is_empty() {
        let cells = start.take().into_iter().flatten();
        let empty = [Cell::new(""), Cell::new("")];
        let rest = cells.chain(empty).chain(none());
        table.row(rest.chain([Cell::new(own)]).collect());
    }
    for deployment in &application.deployments {
        let cells = start.take().unwrap_or_else(empty).into_iter();
        let replicas = replicas(deployment, screen);
        let paint = if deployment.status == "HEALTHY" {
            Paint::Plain
        } else {
            self::paint(&deployment.status)
        };
        let own = [
            Cell::new(deployment.name.clone()),
            Cell::painted(replicas, paint),
        ];
        let measured = curves.map_or_else(Vec::new, |curves| {
            curves.cells(screen, &application.name, &deployment.name)
        });
        let why = Cell::new(why(&deployment.why, message(deployment), now));
        let cells = cells.chain(own).chain(measured);
        table.row(cells.chain([why]).collect());
    }
}

pub(super) fn paint(status: &str) -> Paint {
    match status {
        "RUNNING" | "HEALTHY" => Paint::Good,
        "UNHEALTHY" | "DEPLOY_FAILED" => Paint::Bad,
        _ => Paint::Warning,
    }
}

/// `4/4`, `8→10` while it grows, and how many that do not serve are there beside.
fn replicas(deployment: &Deployment, screen: &Screen) -> String {
    let running = deployment.running();
    let target = deployment.target_replicas;
    if matches!(deployment.status.as_str(), "UPSCALING" | "DOWNSCALING") {
        return format!("{running}{}{target}", screen.arrow());
    }
    format!("{running}/{target}")
}

/// The first sentence, and how many more there are.
fn why(sentences: &[Why], message: String, now: f64) -> String {
    let Some(first) = sentences.first() else {
        return message;
    };
    let since = first.since_s.filter(|since| *since > 0.0);
    let since = since.map_or_else(String::new, |since| {
        format!(" (for {})", duration(now - since))
    });
    let more = match sentences.len() {
        1 => String::new(),
        count => format!(" (and {} more)", count - 1),
    };
    format!("{}{since}{more}", plain(&first.sentence))
}

/// What the application itself says where it has no sentence and none of its deployments has more to say.
fn own_message(application: &Application) -> String {
    let told = application
        .deployments
        .iter()
        .any(|one| !one.why.is_empty() || !one.message.is_empty());
    if told || application.status == "RUNNING" {
        return String::new();
    }
    said(&application.message)
}

fn message(deployment: &Deployment) -> String {
    if deployment.status == "HEALTHY" {
        String::new()
    } else {
        said(&deployment.message)
    }
}

/// A message in one line: of a traceback its end, which says what happened.
fn said(message: &str) -> String {
    let first = first_line(message);
    if first.starts_with("Traceback (most recent call last)") {
        return last_line(message);
    }
    first
}

/// All sentences of an application, by whom they are about.
pub(crate) fn sentences(application: &Application) -> Vec<(&str, &Why)> {
    let own = application.why.iter().map(|why| ("", why));
    let deployments = application.deployments.iter();
    let theirs = deployments.flat_map(|one| one.why.iter().map(|why| (one.name.as_str(), why)));
    own.chain(theirs).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::screen;

    fn status() -> Status {
        let gate = json!({"name": "Gate", "status": "HEALTHY", "replica_states": {"RUNNING": 4}, "target_replicas": 4});
        let rank = json!({"name": "Rank", "status": "UPSCALING", "replica_states": {"RUNNING": 8}, "target_replicas": 10});
        let chat = json!({
            "name": "Chat", "status": "UNHEALTHY", "target_replicas": 2,
            "why": [{"code": "hung", "sentence": "q7f2 does not turn, in tokenizer.py:88", "since_s": 1000.0}, {"sentence": "x"}],
        });
        let status = json!({
            "node": {"name": "default", "http_address": "http://127.0.0.1:8000", "proxy_status": "HEALTHY", "started_at_s": 414.0},
            "applications": [
                {"name": "shop", "status": "RUNNING", "revision_number": 15, "deployments": [gate, rank]},
                {"name": "chat", "status": "UNHEALTHY", "revision_number": 3, "deployments": [chat]},
                {"name": "new", "status": "DEPLOY_FAILED", "message": "Traceback (most recent call last):\n  x\nImportError: no"},
            ],
        });
        serde_json::from_value(status).expect("as the node says it")
    }

    #[test]
    fn each_row_that_is_not_fine_says_why() {
        let lines = lines(&status(), None, &screen::plain(110), 1014.0);
        assert_eq!(
            lines,
            [
                "node default  up 10 min 0 s  http://127.0.0.1:8000 ✔",
                "",
                "APP   REV  STATUS           DEPLOYMENT  REPLICAS  WHY",
                "shop  r15  ✔ RUNNING        Gate             4/4",
                "                            Rank            8→10",
                "chat  r3   ✖ UNHEALTHY      Chat             0/2  q7f2 does not turn, in tokenizer.py:88 (for 14.0 s) (and 1",
                "                                                  more)",
                "new   -    ✖ DEPLOY_FAILED                        ImportError: no",
                "",
                "next: eagleray explain chat · eagleray logs chat",
            ]
        );
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_and_letters_stand_for_signs() {
        let screen = Screen {
            signs: false,
            ..screen::plain(40)
        };
        for line in lines(&status(), None, &screen, 1014.0) {
            assert!(line.is_ascii() && line.len() <= 40, "{line:?}");
        }
    }

    #[test]
    fn a_node_without_applications_says_what_to_do() {
        let status = Status::default();
        let text = lines(&status, None, &screen::plain(80), 0.0).join("\n");
        assert!(
            text.ends_with(
                "no application is deployed\nnext: eagleray deploy FILE · eagleray run MODULE:NAME"
            ),
            "{text}"
        );
    }
}
