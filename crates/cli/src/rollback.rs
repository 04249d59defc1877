//! `eagleray rollback`: an earlier revision again, code and all, as a deploy of its own.

use clap::Args;
use serde_json::json;

use crate::{
    answers::{Revision, RolledBack},
    api::{Api, escaped},
    ask,
    deploy::limit,
    exit::Exit,
    find::Where,
    history,
    output::{complain, say},
    status,
    submission::author,
    trouble::{Outcome, Trouble},
    wait::{self, Goal, View, Wait},
};

#[derive(Debug, Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
pub struct RollbackArguments {
    /// The application [default: the only one].
    application: Option<String>,
    /// The revision, such as r14 or its hash [default: the one before].
    revision: Option<String>,
    /// Settle a deploy that was taken back: what serves is what you want. Nothing restarts.
    #[arg(long, conflicts_with = "revision")]
    ack: bool,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
    /// Return once the node has taken it, before it is up.
    #[arg(long)]
    no_wait: bool,
    /// Stop waiting after this time; the node goes on [default: never].
    #[arg(long, value_name = "SECONDS", conflicts_with = "no_wait")]
    timeout: Option<f64>,
    /// Why, for the history.
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// Print what happens as JSON, one object a line.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    place: Where,
}

pub(crate) fn run(arguments: &RollbackArguments) -> Outcome {
    let timeout = limit(arguments.timeout)?;
    let api = Api::of(&arguments.place)?;
    let name = match &arguments.application {
        Some(name) => name.clone(),
        None => history::only_application(&api)?,
    };
    let revision = if arguments.ack {
        Some(serving(&api, &name)?)
    } else {
        arguments.revision.clone()
    };
    if !arguments.yes && !arguments.json && !arguments.ack {
        confirm(&api, &name, revision.as_deref())?;
    }
    let mut body =
        json!({"author": author(), "message": arguments.message.clone().unwrap_or_default()});
    if let (Some(revision), Some(body)) = (&revision, body.as_object_mut()) {
        body.insert("revision".to_owned(), json!(revision));
    }
    // It is for words only.
    let before = status::of(&api, Some(&name))
        .map_or_else(|_| wait::Before::new(), |status| wait::before(&status));
    let path = format!("/api/v1/applications/{}/rollback", escaped(&name));
    let begun: RolledBack = api.post(&path, &body, std::time::Duration::from_secs(35))?;
    for note in begun.notes.iter().filter(|_| !arguments.json) {
        complain(&format!("{name}: {note}"));
    }
    if arguments.json {
        let line = json!({
            "event": "accepted", "application": name, "revision": begun.revision, "rollback_of": begun.rollback_of,
            "notes": begun.notes,
        });
        say(&line.to_string());
    }
    if arguments.no_wait {
        if !arguments.json {
            say(&format!(
                "{name} goes back, as r{}; watch it with: eagleray status --watch",
                begun.revision
            ));
        }
        return Ok(Exit::Done);
    }
    wait::run(&Wait {
        api: &api,
        goal: Goal::Revision(begun.revision),
        names: vec![name],
        view: View::chosen(arguments.json),
        timeout,
        before,
    })
}

/// What serves in place of a deploy that was taken back.
fn serving(api: &Api, name: &str) -> Outcome<String> {
    let revisions = history::of(api, Some(name))?.revisions;
    let current = revisions.iter().find(|one| one.current);
    let taken_back = current.filter(|one| one.result == "rolled_back");
    let ran = |one: &&Revision| one.result == "running";
    match taken_back.and_then(|_| revisions.iter().find(ran)) {
        Some(serves) => Ok(format!("r{}", serves.number)),
        None => Err(Trouble::new(
            Exit::Refused,
            "nothing_taken_back",
            format!("nothing was changed: no deploy of {name} was taken back"),
        )),
    }
}

/// On a terminal a person sees first where it goes; elsewhere the command is meant.
fn confirm(api: &Api, name: &str, revision: Option<&str>) -> Outcome<()> {
    let revisions = history::of(api, Some(name))?.revisions;
    let current = revisions.iter().find(|one| one.current);
    let target = match revision {
        Some(revision) => revision.to_owned(),
        None => before(&revisions).map_or_else(
            || "the one before".to_owned(),
            |one| format!("r{}", one.number),
        ),
    };
    let from = current.map_or_else(String::new, |one| format!(" r{}", one.number));
    match ask::yes(&format!("{name}{from} -> {target}: go on?"), false) {
        Some(false) => Err(Trouble::new(
            Exit::Refused,
            "declined",
            "nothing was changed",
        )),
        Some(true) | None => Ok(()),
    }
}

/// The newest that has run before the present one.
fn before(revisions: &[Revision]) -> Option<&Revision> {
    let current = revisions.iter().find(|one| one.current)?;
    revisions.iter().find(|one| {
        one.number < current.number && !matches!(one.result.as_str(), "failed" | "rolled_back")
    })
}
