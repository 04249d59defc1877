//! `eagleray config`: what was submitted; `config check` and `eagleray schema`: what a file is worth, without a node.

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use eagleray_config::{Config, Format, MOST_BYTES, Problem, Problems, shape::Object, table};
use serde_json::{Value, json};

use crate::{
    api::Api,
    exit::Exit,
    find::Where,
    output::{remark, say},
    program::Program,
    status,
    tree::Tree,
    trouble::Outcome,
};

/// Without a subcommand: what was submitted.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct ConfigArguments {
    #[command(subcommand)]
    command: Option<ConfigCommand>,
    /// Of this application only.
    #[arg(short, long, value_name = "APPLICATION")]
    name: Option<String>,
    /// What holds of `http_options` instead: what the node was started with, and over it what was submitted.
    #[arg(long, conflicts_with = "name")]
    http: bool,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    place: Where,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Say everything that is wrong with a config file, with line and column. Starts nothing, and asks no node.
    Check(CheckArguments),
}

#[derive(Debug, Args)]
pub(crate) struct CheckArguments {
    /// The file: JSON if its name ends in .json, else YAML; `-` for standard input.
    pub(crate) file: PathBuf,
    /// Print JSON: `problems` and `warnings`, each a list.
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) fn run(arguments: &ConfigArguments, program: Program) -> Outcome {
    match &arguments.command {
        Some(ConfigCommand::Check(check)) => self::check(check, program),
        None => submitted(arguments),
    }
}

/// The config of each application as it was submitted, as YAML documents: what `serve config` prints.
fn submitted(arguments: &ConfigArguments) -> Outcome {
    let api = Api::of(&arguments.place)?;
    let status = status::of(&api, arguments.name.as_deref())?;
    if arguments.http {
        let held = json!({"http_options": status.node.http_options});
        if arguments.json {
            say(&held.to_string());
        } else {
            say(Tree::of_json(&held).yaml(false).trim_end());
        }
        return Ok(Exit::Done);
    }
    let declared = status
        .applications
        .iter()
        .filter(|one| !one.config.is_null());
    if arguments.json {
        say(&declared
            .map(|one| one.config.clone())
            .collect::<Value>()
            .to_string());
        return Ok(Exit::Done);
    }
    let documents: Vec<String> = declared
        .map(|one| document(&one.config).yaml(false))
        .collect();
    match (&arguments.name, documents.is_empty()) {
        (Some(name), true) => say(&format!(
            "No config has been deployed for application \"{name}\"."
        )),
        (None, true) => say("No configuration was found."),
        _ => say(documents.join("\n---\n\n").trim_end()),
    }
    Ok(Exit::Done)
}

/// With the keys in the order that the table of keys has them in, as they are written.
fn document(config: &Value) -> Tree {
    let mut tree = Tree::of_json(config);
    tree.sort_by_key(|key| place(&table::APPLICATION, key));
    if let Some(Tree::List(deployments)) = tree.get_mut("deployments") {
        for deployment in deployments {
            deployment.sort_by_key(|key| place(&table::DEPLOYMENT, key));
        }
    }
    tree
}

fn place(table: &Object, key: &str) -> usize {
    let known = table.keys.iter().position(|known| known.name == key);
    known.unwrap_or(table.keys.len())
}

/// Problems and warnings go to standard error, as `FILE:LINE:COLUMN: PATH: MESSAGE`, and the verdict to standard output;
/// with `--json` all of it goes there.
fn check(arguments: &CheckArguments, program: Program) -> Outcome {
    let file = arguments.file.display().to_string();
    let judged = text(&arguments.file).and_then(|(text, format)| {
        let config = Config::parse(&text, format)?;
        let problems = (program.judge)(&config);
        if problems.is_empty() {
            Ok(config)
        } else {
            Err(problems)
        }
    });
    let (verdict, problems, warnings) = match judged {
        Ok(config) => {
            let applications = config.applications.len();
            let plural = if applications == 1 { "" } else { "s" };
            let verdict = Ok(format!(
                "{file} is right: {applications} application{plural}"
            ));
            (verdict, Problems::default(), config.warnings)
        }
        Err(problems) => {
            let count = problems.iter().len() + problems.more();
            let plural = if count == 1 { "" } else { "s" };
            let verdict = Err(format!("{file} has {count} problem{plural}"));
            (verdict, problems, Problems::default())
        }
    };
    if arguments.json {
        let json = json!({"problems": list(&problems), "warnings": list(&warnings)});
        say(&format!("{json:#}"));
        return told(verdict);
    }
    remark(&problems.render(&file));
    remark(&warnings.render_warnings(&file));
    told(verdict.inspect(|verdict| say(verdict)))
}

fn told(verdict: Result<String, String>) -> Outcome {
    Ok(verdict.map(|_| Exit::Done)?)
}

pub(crate) fn schema() {
    say(&format!("{:#}", eagleray_config::schema()));
}

/// The text of a file, or of standard input as `-`.
pub(crate) fn text(file: &Path) -> Result<(String, Format), Problems> {
    if file != Path::new("-") {
        return eagleray_config::read(file);
    }
    let mut bytes = Vec::new();
    let most = MOST_BYTES as u64 + 1;
    let read = io::stdin().lock().take(most).read_to_end(&mut bytes);
    read.map_err(|error| eagleray_config::unreadable(&error))?;
    eagleray_config::text(bytes).map(|text| (text, Format::Yaml))
}

fn list(problems: &Problems) -> Value {
    let one = |problem: &Problem| {
        json!({
            "path": problem.path,
            "line": problem.place.map(|place| place.line),
            "column": problem.place.map(|place| place.column),
            "message": problem.message,
            "help": problem.help,
        })
    };
    problems.iter().map(one).collect()
}
