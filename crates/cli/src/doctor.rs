//! `eagleray doctor`: whether this machine can run a node, and whether the one that runs is well.
//!
//! It changes nothing and starts nothing, and it shows neither the token nor any value of an environment variable, so that
//! what it prints can be sent to somebody.

mod machine;
mod node;

use clap::Args;
use serde_json::{Map, Value, json};

use crate::{
    exit::Exit,
    find::Where,
    output::{say, say_all},
    screen::{Paint, Screen},
    words::plain,
};

#[derive(Debug, Args)]
pub struct DoctorArguments {
    /// Print JSON: by check, `ok` or what is wrong.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    place: Where,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Passed,
    /// It works, and not as well as it could.
    Warning,
    Failed,
}

/// One thing that was looked at.
#[derive(Clone, Debug)]
struct Check {
    /// A stable word.
    name: &'static str,
    verdict: Verdict,
    text: String,
    /// What to do.
    help: String,
}

impl Check {
    fn passed(name: &'static str, text: impl Into<String>) -> Self {
        Self {
            name,
            verdict: Verdict::Passed,
            text: text.into(),
            help: String::new(),
        }
    }

    fn warning(name: &'static str, text: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            name,
            verdict: Verdict::Warning,
            text: text.into(),
            help: help.into(),
        }
    }

    fn failed(name: &'static str, text: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            name,
            verdict: Verdict::Failed,
            text: text.into(),
            help: help.into(),
        }
    }
}

pub(crate) fn run(arguments: &DoctorArguments) -> Exit {
    // Of another machine's node only what it answers can be looked at.
    let mut checks = if arguments.place.is_remote() {
        Vec::new()
    } else {
        machine::checks()
    };
    checks.extend(node::checks(&arguments.place));
    if arguments.json {
        say(&json(&checks).to_string());
    } else {
        say_all(&lines(&checks, &Screen::of_output()));
    }
    let failed = checks.iter().any(|check| check.verdict == Verdict::Failed);
    if failed { Exit::Failed } else { Exit::Done }
}

fn json(checks: &[Check]) -> Value {
    let one = |check: &Check| {
        let text = match check.verdict {
            Verdict::Passed => "ok",
            Verdict::Warning | Verdict::Failed => check.text.as_str(),
        };
        (check.name.to_owned(), json!(text))
    };
    Value::Object(checks.iter().map(one).collect::<Map<_, _>>())
}

fn lines(checks: &[Check], screen: &Screen) -> Vec<String> {
    let mut lines = Vec::new();
    for check in checks {
        let paint = match check.verdict {
            Verdict::Passed => Paint::Good,
            Verdict::Warning => Paint::Warning,
            Verdict::Failed => Paint::Bad,
        };
        let sign = screen.paint(screen.sign(paint), paint);
        lines.push(format!("{sign} {}: {}", check.name, plain(&check.text)));
        lines.extend(check.help.lines().map(|help| format!("    help: {help}")));
    }
    let count = |verdict| {
        checks
            .iter()
            .filter(|check| check.verdict == verdict)
            .count()
    };
    let (warnings, failed) = (count(Verdict::Warning), count(Verdict::Failed));
    let s = if warnings == 1 { "" } else { "s" };
    lines.push(format!(
        "{} passed, {warnings} warning{s}, {failed} failed",
        count(Verdict::Passed)
    ));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::screen;

    fn checks() -> Vec<Check> {
        vec![
            Check::passed("kernel", "6.8"),
            Check::warning("files", "256 open files at most", "ulimit -n 65536"),
            Check::failed("port", "8000 is in use", "eagleray start --http-port 8080"),
        ]
    }

    #[test]
    fn each_check_says_what_is_and_what_to_do() {
        assert_eq!(
            lines(&checks(), &screen::plain(80)),
            [
                "✔ kernel: 6.8",
                "! files: 256 open files at most",
                "    help: ulimit -n 65536",
                "✖ port: 8000 is in use",
                "    help: eagleray start --http-port 8080",
                "1 passed, 1 warning, 1 failed",
            ]
        );
    }

    #[test]
    fn for_programs_a_check_is_ok_or_what_is_wrong() {
        assert_eq!(
            json(&checks()),
            json!({"kernel": "ok", "files": "256 open files at most", "port": "8000 is in use"})
        );
    }

    #[test]
    fn the_machine_of_the_tests_is_fit_for_a_node() {
        let failed: Vec<_> = machine::checks()
            .into_iter()
            .filter(|check| check.verdict == Verdict::Failed)
            .collect();
        assert!(failed.is_empty(), "{failed:?}");
    }
}
