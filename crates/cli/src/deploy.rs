//! `eagleray deploy`: what a file or a module declares becomes what the node serves.
//!
//! Waiting is only a view: the node works on whether anybody looks or not, and neither Ctrl-C nor a time limit here changes
//! what becomes of it.

mod guard;

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::{
    answers::Applied,
    api::{Api, BUILD_WITHIN},
    exit::Exit,
    find::Where,
    output::{complain, say},
    plan::{self, Change},
    program::Program,
    status,
    submission::{Envelope, Source, Submission},
    trouble::{Outcome, Trouble},
    wait::{self, Goal, View, Wait},
};

#[derive(Debug, Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
pub struct DeployArguments {
    #[command(flatten)]
    source: Source,
    /// Say what would happen, and change nothing: as `eagleray diff`.
    #[arg(long, conflicts_with_all = ["plan", "no_wait"])]
    dry_run: bool,
    /// Do exactly what this plan of `eagleray diff` showed, or nothing.
    #[arg(long, value_name = "ID")]
    plan: Option<String>,
    /// Return once the node has taken it, before it is up.
    #[arg(long)]
    no_wait: bool,
    /// Stop waiting after this time; the node goes on [default: never].
    #[arg(long, value_name = "SECONDS", conflicts_with = "no_wait")]
    timeout: Option<f64>,
    /// Why, for the history.
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// Import the code although nothing that it has read before has changed.
    #[arg(long)]
    rebuild: bool,
    /// Delete, without asking, the applications that the file leaves out.
    #[arg(short, long)]
    yes: bool,
    /// Print what happens as JSON, one object a line.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    place: Where,
}

pub(crate) fn run(arguments: &DeployArguments, program: Program) -> Outcome {
    // What is wrong with a file is said without a node.
    let submission = Submission::read(&arguments.source, arguments.json, program)?;
    let api = Api::of(&arguments.place)?;
    let envelope = Envelope {
        message: arguments.message.as_deref().unwrap_or_default(),
        rebuild: arguments.rebuild,
        plan: arguments.plan.as_deref().unwrap_or_default(),
    };
    let body = submission.body(&arguments.source, &envelope, api.found.local)?;
    if arguments.dry_run {
        let change = plan::run(&api, &body, &submission.label, arguments.json)?;
        return Ok(if change == Change::Fails {
            Exit::Failed
        } else {
            Exit::Done
        });
    }
    guard::deletions(&api, &submission, arguments.yes, arguments.json)?;
    let before = match status::of(&api, None) {
        // It is for words only.
        _ if arguments.no_wait => wait::Before::new(),
        Ok(status) => wait::before(&status),
        Err(_) => wait::Before::new(),
    };
    let applied: Applied = api
        .post("/api/v1/deploys", &body, BUILD_WITHIN)
        .map_err(|trouble| stale(trouble, &submission.label))?;
    for warning in applied.warnings.iter().filter(|_| !arguments.json) {
        complain(&format!("warning: {warning}"));
    }
    if arguments.no_wait {
        accepted(&applied, arguments.json);
        return Ok(Exit::Done);
    }
    if arguments.json {
        say(&taken(&applied).to_string());
    }
    for name in applied.deleted.iter().filter(|_| !arguments.json) {
        complain(&format!("{name} is being deleted"));
    }
    wait::run(&Wait {
        api: &api,
        goal: Goal::Deploy(applied.deploy),
        names: applied.building,
        view: View::chosen(arguments.json),
        timeout: limit(arguments.timeout)?,
        before,
    })
}

pub(crate) fn limit(seconds: Option<f64>) -> Outcome<Option<Duration>> {
    let parse = |seconds: f64| {
        Duration::try_from_secs_f64(seconds).map_err(|_| {
            Trouble::new(
                Exit::Usage,
                "usage",
                format!("--timeout {seconds} is no time in seconds"),
            )
        })
    };
    seconds.map(parse).transpose()
}

fn stale(trouble: Trouble, label: &str) -> Trouble {
    if trouble.code == "plan_stale" && trouble.help.is_empty() {
        return trouble.help(format!("make a new plan: eagleray diff {label}"));
    }
    trouble
}

fn taken(applied: &Applied) -> Value {
    json!({
        "event": "accepted", "deploy": applied.deploy, "building": applied.building, "deleted": applied.deleted,
        "warnings": applied.warnings,
    })
}

fn accepted(applied: &Applied, as_json: bool) {
    if as_json {
        say(&taken(applied).to_string());
        return;
    }
    let mut parts = Vec::new();
    if !applied.building.is_empty() {
        parts.push(format!("building {}", applied.building.join(", ")));
    }
    if !applied.deleted.is_empty() {
        parts.push(format!("deleting {}", applied.deleted.join(", ")));
    }
    if parts.is_empty() {
        parts.push("nothing to do".to_owned());
    }
    say(&format!(
        "deploy {} is taken: {}",
        applied.deploy,
        parts.join("; ")
    ));
    say("watch it with: eagleray status --watch");
}
