//! `eagleray status`: what a node serves, and what of it is not fine.
//!
//! On a terminal a table for people; elsewhere the YAML of `serve status`, which scripts read. The exit status says whether all
//! is well, so that a script need not read at all.

mod curves;
mod table;
mod watch;
mod yaml;

pub(crate) use self::table::sentences;

use clap::{Args, ValueEnum};
use serde_json::Value;

use crate::{
    answers::{Application, Status},
    api::Api,
    counters,
    exit::Exit,
    find::Where,
    output::{complain, say, say_all},
    resources,
    screen::Screen,
    trouble::{Outcome, Trouble},
    words::now,
};

pub(crate) const PATH: &str = "/api/v1/status";

#[derive(Debug, Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
pub struct StatusArguments {
    /// Show this application only.
    application: Option<String>,
    /// The same, as `serve` spells it.
    #[arg(
        short,
        long,
        value_name = "APPLICATION",
        conflicts_with = "application"
    )]
    name: Option<String>,
    #[command(flatten)]
    place: Where,
    /// Show what the proxies have counted: connections, limits that were hit (docs/limits.md).
    #[arg(long, conflicts_with_all = ["name", "application", "address"])]
    counters: bool,
    /// Show what the node has for replicas, who holds it, and who waits for it.
    #[arg(long, conflicts_with_all = ["name", "application", "counters"])]
    resources: bool,
    /// Go on showing it until Ctrl-C; elsewhere than on a terminal a line for each change.
    #[arg(short, long, conflicts_with_all = ["counters", "resources", "json", "output"])]
    watch: bool,
    /// How it looks [default: table on a terminal, else yaml].
    #[arg(short, long, value_name = "FORM")]
    output: Option<Form>,
    /// Print all that is known, as JSON.
    #[arg(long, conflicts_with = "output")]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    Table,
    Yaml,
    Json,
}

impl StatusArguments {
    pub(crate) fn is_json(&self) -> bool {
        self.json || self.output == Some(Form::Json)
    }
}

pub(crate) fn run(arguments: &StatusArguments) -> Outcome {
    if arguments.counters {
        return counters::run(arguments.place.node.as_deref(), arguments.is_json());
    }
    let api = Api::of(&arguments.place)?;
    if arguments.resources {
        return resources::run(&api, arguments.is_json());
    }
    let name = arguments
        .application
        .as_deref()
        .or(arguments.name.as_deref());
    if arguments.watch {
        return watch::run(&api, name);
    }
    let screen = Screen::of_output();
    let form = match arguments.output {
        _ if arguments.json => Form::Json,
        Some(form) => form,
        None if screen.terminal => Form::Table,
        None => Form::Yaml,
    };
    let answer = ask(&api, name)?;
    let status = parse(&answer)?;
    match form {
        Form::Json => say(&format!("{answer:#}")),
        Form::Yaml => say(&yaml(&status, name)),
        Form::Table => say_all(&table::lines(&status, None, &screen, now())),
    }
    if form != Form::Table {
        warn(&status);
    }
    Ok(verdict(&status))
}

fn ask(api: &Api, name: Option<&str>) -> Outcome<Value> {
    let query: Vec<_> = name.map(|name| ("application", name)).into_iter().collect();
    let answer: Outcome<Value> = api.get(PATH, &query);
    answer.map_err(|trouble| match name {
        Some(name) if trouble.exit == Exit::Missing => missing(name),
        _ => trouble,
    })
}

pub(crate) fn missing(name: &str) -> Trouble {
    let message = format!("no application {name:?} is deployed");
    Trouble::new(Exit::Missing, "no_application", message)
        .help("`eagleray status` shows those that are")
}

fn parse(answer: &Value) -> Outcome<Status> {
    serde_json::from_value(answer.clone()).map_err(|error| {
        let message = format!("the status cannot be read: {error}");
        Trouble::new(Exit::Unknown, "answer", message)
            .help("the node is of another release: use the command of its environment")
    })
}

/// What a node serves: all of it, or one application.
pub(crate) fn of(api: &Api, name: Option<&str>) -> Outcome<Status> {
    parse(&ask(api, name)?)
}

fn yaml(status: &Status, name: Option<&str>) -> String {
    let tree = match (name, status.applications.first()) {
        (Some(_), Some(only)) => yaml::application(only),
        _ => yaml::whole(status),
    };
    tree.yaml(name.is_none()).trim_end().to_owned()
}

fn warn(status: &Status) {
    for why in &status.node.why {
        complain(format!("warning: {} {}", why.sentence, why.help).trim_end());
    }
}

/// Whether all is well. What is on its way to be is.
fn verdict(status: &Status) -> Exit {
    if status.applications.iter().any(is_unwell) {
        Exit::Failed
    } else {
        Exit::Done
    }
}

pub(crate) fn is_unwell(application: &Application) -> bool {
    matches!(application.status.as_str(), "UNHEALTHY" | "DEPLOY_FAILED")
}
