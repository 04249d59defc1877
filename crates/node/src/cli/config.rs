//! `eagleray config check` and `eagleray schema`: what a config file is worth, without a node.

use std::{
    io::{self, Read},
    path::Path,
};

use eagleray_config::{Config, Format, MOST_BYTES, Problem, Problems};
use serde_json::{Value, json};

use super::{CheckArguments, remark, say};

/// Problems and warnings go to standard error, as `FILE:LINE:COLUMN: PATH: MESSAGE`, and the verdict to standard output;
/// with `--json` all of it goes there.
pub(super) fn check(arguments: &CheckArguments) -> Result<(), String> {
    let file = arguments.file.display().to_string();
    let (verdict, problems, warnings) = match read(&arguments.file) {
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

pub(super) fn schema() {
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
