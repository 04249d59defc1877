//! What is to be deployed, of `deploy` and `diff`: a file that is right as far as can be known here, or one application of a module.

mod place;

use std::path::{Path, PathBuf};

use clap::Args;
use eagleray_config::{Config, Format, Problems, node::Place};
use serde_json::{Map, Value, json};

use crate::{
    exit::Exit,
    output::remark,
    program::Program,
    trouble::{Flaw, Help, Outcome, Trouble},
    words::plural,
};

/// What the command line says of it.
#[derive(Clone, Debug, Args)]
pub(crate) struct Source {
    /// A config file, or an application of a module as MODULE:NAME.
    #[arg(value_name = "FILE|MODULE:NAME")]
    pub(crate) target: String,
    /// Arguments of the function that builds the application. Not for a file, which states its own.
    #[arg(value_name = "KEY=VALUE")]
    pub(crate) arguments: Vec<String>,
    /// Name of the application of a module [default: default].
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Where modules are looked for first.
    #[arg(short = 'd', long, value_name = "DIRECTORY", default_value = ".")]
    pub(crate) app_dir: PathBuf,
    /// YAML or JSON file of the `runtime_env` of a module's application.
    #[arg(long, value_name = "FILE")]
    pub(crate) runtime_env: Option<PathBuf>,
    /// The same, as JSON.
    #[arg(long, value_name = "JSON", conflicts_with = "runtime_env")]
    pub(crate) runtime_env_json: Option<String>,
    /// `working_dir` of that.
    #[arg(long, value_name = "URI")]
    pub(crate) working_dir: Option<String>,
}

/// How it shall be done.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Envelope<'a> {
    pub(crate) message: &'a str,
    pub(crate) rebuild: bool,
    pub(crate) plan: &'a str,
}

/// What is sent, but for where and by whom.
#[derive(Debug)]
pub(crate) struct Submission {
    /// How the user calls it.
    pub(crate) label: String,
    pub(crate) body: Map<String, Value>,
    pub(crate) names: Vec<String>,
    /// It is all that shall be declared, as a file is. An application of a module leaves the others alone.
    pub(crate) whole: bool,
}

impl Submission {
    /// A target is a file if there is one of that name, as for `serve deploy`.
    ///
    /// # Arguments
    /// `quiet`: nothing is said beside the answer.
    pub(crate) fn read(source: &Source, quiet: bool, program: Program) -> Outcome<Self> {
        read(source, quiet, program)
    }

    /// What is sent. Where the code is imported is said to a node of this machine only: another has other directories.
    pub(crate) fn body(
        &self,
        source: &Source,
        envelope: &Envelope<'_>,
        local: bool,
    ) -> Outcome<Value> {
        let place = if local {
            place::of(&source.app_dir)?
        } else {
            json!({})
        };
        let mut body = self.body.clone();
        for (key, value) in [
            ("whole", json!(self.whole)),
            ("place", place),
            ("author", json!(author())),
            ("message", json!(envelope.message)),
            ("rebuild", json!(envelope.rebuild)),
            ("plan", json!(envelope.plan)),
        ] {
            body.insert(key.to_owned(), value);
        }
        Ok(Value::Object(body))
    }
}

fn read(arguments: &Source, quiet: bool, program: Program) -> Outcome<Submission> {
    let target = arguments.target.as_str();
    let path = Path::new(target);
    if target == "-" || path.exists() || looks_like_a_file(path) {
        if !arguments.arguments.is_empty() {
            return Err(usage(
                "KEY=VALUE is for an application of a module; a file has `args`",
            ));
        }
        for (option, given) in [
            ("--name", arguments.name.is_some()),
            ("--runtime-env", arguments.runtime_env.is_some()),
            ("--runtime-env-json", arguments.runtime_env_json.is_some()),
            ("--working-dir", arguments.working_dir.is_some()),
        ] {
            if given {
                crate::output::complain(&format!("warning: {option} has no effect with a file"));
            }
        }
        return file(path, quiet, program);
    }
    module(arguments, program)
}

/// Nobody calls a module so, and who means a file wants to hear that there is none.
fn looks_like_a_file(path: &Path) -> bool {
    let ends = |end: &&str| path.extension().is_some_and(|extension| extension == *end);
    ["yaml", "yml", "json"].iter().any(ends) || path.components().count() > 1
}

fn file(path: &Path, quiet: bool, program: Program) -> Outcome<Submission> {
    let label = path.display().to_string();
    let refuse = |problems: &Problems| refused(&label, problems);
    let (text, format) = crate::config::text(path).map_err(|problems| refuse(&problems))?;
    let config = Config::parse(&text, format).map_err(|problems| refuse(&problems))?;
    let found = (program.judge)(&config);
    if !found.is_empty() {
        return Err(refuse(&found));
    }
    if !quiet {
        remark(&config.warnings.render_warnings(&label));
    }
    let format = match format {
        Format::Json => "json",
        Format::Yaml => "yaml",
    };
    let body = json!({"text": text, "format": format, "file": label});
    Ok(Submission {
        label: label.clone(),
        body: object(body),
        names: names(&config),
        whole: true,
    })
}

fn module(arguments: &Source, program: Program) -> Outcome<Submission> {
    let target = &arguments.target;
    if !target.contains(':') {
        let message = format!("{target:?} is neither a file nor MODULE:NAME");
        return Err(usage(message)
            .help("a file: eagleray deploy shop.yaml; a module: eagleray deploy shop:app"));
    }
    let mut application = Map::new();
    let name = arguments.name.as_deref().unwrap_or("default");
    application.insert("name".to_owned(), json!(name));
    application.insert("import_path".to_owned(), json!(target));
    let args = pairs(&arguments.arguments)?;
    if !args.is_empty() {
        application.insert("args".to_owned(), Value::Object(args));
    }
    if let Some(environment) = runtime_env(arguments)? {
        application.insert("runtime_env".to_owned(), environment);
    }
    let config = json!({"applications": [application]});
    let parsed = Config::of_json(&config).map_err(|problems| refused(target, &problems))?;
    let found = (program.judge)(&parsed);
    if !found.is_empty() {
        return Err(refused(target, &found));
    }
    Ok(Submission {
        label: target.clone(),
        body: object(json!({"config": config, "file": target})),
        names: names(&parsed),
        whole: false,
    })
}

fn runtime_env(arguments: &Source) -> Outcome<Option<Value>> {
    let parse = |text: &str, format: Format, label: &str| {
        let values = eagleray_config::values(text, format);
        values
            .map(|node| node.to_json())
            .map_err(|problems| refused(label, &problems))
    };
    let mut found = match (&arguments.runtime_env, &arguments.runtime_env_json) {
        (Some(file), _) => {
            let label = file.display().to_string();
            let (text, format) =
                crate::config::text(file).map_err(|problems| refused(&label, &problems))?;
            Some(parse(&text, format, &label)?)
        }
        (None, Some(text)) => Some(parse(text, Format::Json, "--runtime-env-json")?),
        (None, None) => None,
    };
    if let Some(directory) = &arguments.working_dir {
        let environment = found.get_or_insert_with(|| json!({}));
        if let Some(environment) = environment.as_object_mut() {
            environment.insert("working_dir".to_owned(), json!(directory));
        }
    }
    Ok(found)
}

fn pairs(arguments: &[String]) -> Outcome<Map<String, Value>> {
    let pair = |argument: &String| match argument.split_once('=') {
        Some((key, value)) if !key.is_empty() && !value.is_empty() => {
            Ok((key.to_owned(), json!(value)))
        }
        _ => Err(usage(format!(
            "{argument:?} is no argument: write KEY=VALUE"
        ))),
    };
    arguments.iter().map(pair).collect()
}

/// Who deploys, for the history.
pub(crate) fn author() -> String {
    use eagleray_supervisor::environment::set;
    set("USER").or_else(|| set("LOGNAME")).unwrap_or_default()
}

fn usage(message: impl Into<String>) -> Trouble {
    Trouble::new(Exit::Usage, "usage", message)
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn names(config: &Config) -> Vec<String> {
    config
        .applications
        .iter()
        .map(|one| one.name.clone())
        .collect()
}

/// All that is wrong with a config, each at its place.
fn refused(label: &str, problems: &Problems) -> Trouble {
    let count = problems.iter().len() + problems.more();
    let message = format!(
        "{label} has {}; nothing was changed",
        plural(count, "problem")
    );
    let mut trouble = Trouble::new(Exit::Refused, "config_invalid", message);
    let place = |place: Place| format!("{label}:{place}");
    let flaws = problems.iter().map(|problem| Flaw {
        message: problem.message.clone(),
        place: problem.place.map_or_else(|| label.to_owned(), place),
        path: problem.path.clone(),
        help: Help::One(problem.help.clone()),
    });
    trouble.problems = flaws.collect();
    trouble
}

#[cfg(test)]
mod tests;
