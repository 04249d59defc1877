//! `eagleray config check` and `eagleray schema`: what a config file is worth, without a node.

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use eagleray_config::{Config, Format, MOST_BYTES, Problem, Problems};
use serde_json::{Value, json};

use crate::{
    output::{remark, say},
    program::Program,
};

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Say everything that is wrong with a config file, with line and column. Starts nothing, and asks no node.
    Check(CheckArguments),
}

#[derive(Debug, Args)]
pub struct CheckArguments {
    /// The file: JSON if its name ends in .json, else YAML; `-` for standard input.
    pub(crate) file: PathBuf,
    /// Print JSON: `problems` and `warnings`, each a list.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Problems and warnings go to standard error, as `FILE:LINE:COLUMN: PATH: MESSAGE`, and the verdict to standard output;
/// with `--json` all of it goes there.
pub(crate) fn check(arguments: &CheckArguments, program: Program) -> Result<(), String> {
    let file = arguments.file.display().to_string();
    let judged = read(&arguments.file).and_then(|config| {
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
        return verdict.map(drop);
    }
    remark(&problems.render(&file));
    remark(&warnings.render_warnings(&file));
    verdict.map(|verdict| say(&verdict))
}

pub(crate) fn schema() {
    say(&format!("{:#}", eagleray_config::schema()));
}

fn read(file: &Path) -> Result<Config, Problems> {
    if file != Path::new("-") {
        return Config::read(file);
    }
    let mut bytes = Vec::new();
    let most = MOST_BYTES as u64 + 1;
    let read = io::stdin().lock().take(most).read_to_end(&mut bytes);
    read.map_err(|error| eagleray_config::unreadable(&error))?;
    eagleray_config::text(bytes).and_then(|text| Config::parse(&text, Format::Yaml))
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
