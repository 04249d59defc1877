//! `eagleray history`: every deploy of an application, and what came of it.

use clap::Args;
use serde_json::Value;

use crate::{
    answers::{Revision, Revisions, Status},
    api::{Api, escaped},
    exit::Exit,
    find::Where,
    output::say,
    screen::{Paint, Screen},
    status,
    table::{Cell, Table},
    trouble::{Outcome, Trouble},
    words::{count, day, duration, now, plain},
};

#[derive(Debug, Args)]
pub struct HistoryArguments {
    /// Of this application only.
    application: Option<String>,
    /// At most so many, the newest [default: 20].
    #[arg(short = 'n', long, value_name = "COUNT")]
    limit: Option<usize>,
    /// Print all that is recorded, as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    place: Where,
}

pub(crate) fn run(arguments: &HistoryArguments) -> Outcome {
    let api = Api::of(&arguments.place)?;
    let name = arguments.application.as_deref();
    if arguments.json {
        let answer: Value = api.get(&path(name), &[])?;
        say(&format!("{answer:#}"));
        return Ok(Exit::Done);
    }
    let revisions = of(&api, name)?.revisions;
    if revisions.is_empty() {
        say("nothing was deployed yet");
        return Ok(Exit::Done);
    }
    let most = arguments.limit.unwrap_or(20);
    let left_out = revisions.len().saturating_sub(most);
    for line in lines(
        &revisions,
        most,
        name.is_none(),
        &Screen::of_output(),
        now(),
    ) {
        say(&line);
    }
    if left_out > 0 {
        say(&format!("({left_out} older: --limit {})", revisions.len()));
    }
    Ok(Exit::Done)
}

fn path(name: Option<&str>) -> String {
    match name {
        Some(name) => format!("/api/v1/applications/{}/revisions", escaped(name)),
        None => "/api/v1/revisions".to_owned(),
    }
}

/// Newest first.
pub(crate) fn of(api: &Api, name: Option<&str>) -> Outcome<Revisions> {
    api.get(&path(name), &[])
}

/// The one that is meant where none is named.
pub(crate) fn only_application(api: &Api) -> Outcome<String> {
    let status: Status = status::of(api, None)?;
    let names: Vec<&str> = status
        .applications
        .iter()
        .map(|one| one.name.as_str())
        .collect();
    match names.as_slice() {
        [only] => Ok((*only).to_owned()),
        [] => Err(Trouble::new(
            Exit::Missing,
            "no_application",
            "no application is deployed",
        )),
        names => Err(
            Trouble::new(Exit::Usage, "usage", "which application is meant?")
                .help(format!("name one of: {}", names.join(", "))),
        ),
    }
}

fn lines(revisions: &[Revision], most: usize, all: bool, screen: &Screen, now: f64) -> Vec<String> {
    let mut heads = vec!["REV", "WHEN", "BY", "RESULT", ">TOOK", ">FAILED", "CHANGED"];
    if all {
        heads.insert(0, "APP");
    }
    let mut table = Table::new(&heads);
    for revision in revisions.iter().take(most) {
        let mut cells = row(revision, screen, now);
        if all {
            cells.insert(0, Cell::painted(revision.application.clone(), Paint::Bold));
        }
        table.row(cells);
    }
    table.lines(screen)
}

fn row(revision: &Revision, screen: &Screen, now: f64) -> Vec<Cell> {
    let star = if revision.current { "*" } else { "" };
    let paint = match revision.result.as_str() {
        "running" => Paint::Good,
        "failed" | "rolled_back" => Paint::Bad,
        "deploying" => Paint::Warning,
        _ => Paint::Plain,
    };
    let result = match revision.result.as_str() {
        "rolled_back" => "rolled back",
        "" => "-",
        other => other,
    };
    let code = revision
        .failure
        .as_ref()
        .map_or_else(String::new, |failure| format!(": {}", failure.code));
    let receipt = revision
        .receipt
        .as_ref()
        .filter(|receipt| receipt.ended_at_s > 0.0);
    let took = receipt.map_or_else(
        || "-".to_owned(),
        |receipt| duration(receipt.ended_at_s - receipt.began_at_s),
    );
    let failed = receipt.map_or_else(
        || "-".to_owned(),
        |receipt| {
            format!(
                "{} of {}",
                count(receipt.failed),
                count(receipt.answered + receipt.failed + receipt.running)
            )
        },
    );
    vec![
        Cell::new(format!("r{}{star}", revision.number)),
        Cell::new(day(revision.deployed_at_s, now)),
        Cell::new(plain(&revision.author)),
        Cell::painted(format!("{} {result}{code}", screen.sign(paint)), paint),
        Cell::new(took),
        Cell::new(failed),
        Cell::new(changed(revision)),
    ]
}

/// Why, if that was said, and what.
fn changed(revision: &Revision) -> String {
    let mut parts = Vec::new();
    if let Some(number) = revision.rollback_of {
        parts.push(format!("back to r{number}"));
    }
    if !revision.message.is_empty() {
        parts.push(format!("\"{}\"", plain(&revision.message)));
    }
    parts.extend(revision.changed.iter().map(|change| plain(change)));
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::screen;

    #[test]
    fn a_row_says_when_by_whom_what_came_of_it_and_why() {
        let revisions = json!({"revisions": [
            {"application": "shop", "number": 15, "deployed_at_s": 1_700_000_000.0, "author": "ann", "result": "running",
             "current": true, "changed": ["models/rank.py", "Gate limit"], "message": "faster",
             "receipt": {"began_at_s": 10.0, "ended_at_s": 18.2, "answered": 4180, "failed": 0}},
            {"application": "shop", "number": 14, "deployed_at_s": 1_700_000_000.0, "author": "ci", "result": "rolled_back",
             "failure": {"code": "import_failed"}},
        ]});
        let revisions: Revisions = serde_json::from_value(revisions).expect("as the node says it");
        let lines = lines(
            &revisions.revisions,
            9,
            false,
            &screen::plain(120),
            1_700_000_001.0,
        );
        let time = &day(1_700_000_000.0, 1_700_000_001.0);
        assert_eq!(
            lines,
            [
                format!(
                    "REV   {:11}  BY   RESULT                         TOOK      FAILED  CHANGED",
                    "WHEN"
                ),
                format!(
                    "r15*  {time:11}  ann  ✔ running                     8.2 s  0 of 4,180  \"faster\"; models/rank.py; Gate limit"
                ),
                format!("r14   {time:11}  ci   ✖ rolled back: import_failed      -           -"),
            ]
        );
    }
}
