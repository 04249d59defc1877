//! Why a deploy has not come up, as the one failure that its record keeps: what failed how often, where, and what was raised.
//!
//! The messages of the status are the public contract's: long, one for each deployment, with whole tracebacks. Here is what
//! a person looks for first, so that it fits on a screen; the rest is in the status and in the logs.

use eagleray_types::control::Failure;

use super::why::gist;
use crate::books::{application::Application, deployment::Deployment, status::Status};

const HEADER: &str = "Traceback (most recent call last)";
/// Lines of what was raised: some errors list what is wrong.
const MOST_LINES: usize = 6;
/// Bytes of each.
const LONGEST: usize = 500;

/// Of an application whose newest deploy has failed.
pub(super) fn failure(application: &Application) -> Failure {
    let deployments = application.deployments.values();
    let failed: Vec<&Deployment> = deployments
        .filter(|one| one.status.status == Status::DeployFailed)
        .collect();
    let Some(first) = failed.first() else {
        return Failure {
            code: "deploy_failed".to_owned(),
            message: "nothing is known of the reason".to_owned(),
            ..Failure::default()
        };
    };
    let mut failure = of(first);
    let others: Vec<&str> = failed
        .iter()
        .skip(1)
        .map(|one| one.key.deployment.as_str())
        .collect();
    if !others.is_empty() {
        let name = &application.name;
        failure.help = format!("{} failed too: eagleray explain {name}", others.join(", "));
    }
    failure
}

fn of(deployment: &Deployment) -> Failure {
    let name = &deployment.key.deployment;
    let judged = deployment.judged();
    let attempts = judged.and_then(|(_, attempts)| attempts);
    let error = attempts.map_or("", |one| one.last_error.as_str());
    let stack = Stack::of(error);
    let (code, what) = if attempts.is_some_and(|one| one.config_refused) {
        (
            "config_refused",
            "the new user_config was refused".to_owned(),
        )
    } else {
        let failures = attempts.map_or(0, |one| one.failures);
        let limit = judged.map_or(failures, |(spec, _)| deployment.round_of(spec).limit());
        let of = format!("{failures} of {}", limit.max(failures));
        let what = match stack.outermost {
            _ if attempts.is_some_and(|one| one.crash_loop.is_some()) => {
                "its replicas die again and again".to_owned()
            }
            "__init__" => format!("the constructor raised in {of} tries"),
            "reconfigure" | "check_health" => format!("{} raised in {of} tries", stack.outermost),
            _ => format!("{of} starts failed"),
        };
        ("start_failed", what)
    };
    Failure {
        code: code.to_owned(),
        message: format!("{name}: {what}\n{}", stack.raised.join("\n")),
        place: stack.place,
        help: String::new(),
    }
}

/// What a traceback says.
struct Stack<'a> {
    /// Function of the outermost call; or empty.
    outermost: &'a str,
    /// Of the innermost call that is no library's, as `shop.py:6 in __init__`; or empty.
    place: String,
    raised: Vec<String>,
}

impl<'a> Stack<'a> {
    /// Of the last traceback in it: those before are its causes.
    fn of(error: &'a str) -> Self {
        let last = match error.rsplit_once(HEADER) {
            Some((_, after)) => after.split_once('\n').map_or("", |(_, lines)| lines),
            None => error,
        };
        let calls: Vec<Call<'_>> = last.lines().filter_map(Call::of).collect();
        let own = calls.iter().rev().find(|one| !one.is_library());
        let place = own.or(calls.last());
        Self {
            outermost: calls.first().map_or("", |one| one.function),
            place: place.map_or_else(String::new, Call::place),
            raised: raised(last).unwrap_or_else(|| vec![gist(error)]),
        }
    }
}

/// The lines of an error from where the stack is over.
fn raised(stack: &str) -> Option<Vec<String>> {
    let is_over = |line: &&str| line.starts_with(|first: char| !first.is_whitespace());
    let lines = stack.lines().skip_while(|line| !is_over(line));
    let lines: Vec<String> = lines
        .filter(|line| !line.trim().is_empty())
        .take(MOST_LINES)
        .map(|line| line.chars().take(LONGEST).collect())
        .collect();
    (!lines.is_empty()).then_some(lines)
}

/// `  File "/srv/shop.py", line 6, in __init__`
struct Call<'a> {
    path: &'a str,
    line: &'a str,
    function: &'a str,
}

impl<'a> Call<'a> {
    fn of(text: &'a str) -> Option<Self> {
        let (path, rest) = text
            .trim()
            .strip_prefix("File \"")?
            .split_once("\", line ")?;
        let (line, function) = rest.split_once(", in ").unwrap_or((rest, ""));
        Some(Self {
            path,
            line,
            function,
        })
    }

    fn is_library(&self) -> bool {
        self.path.contains("/site-packages/") || self.path.contains("/lib/python")
    }

    fn place(&self) -> String {
        let function = match self.function {
            "" => String::new(),
            function => format!(" in {function}"),
        };
        format!("{}:{}{function}", self.path, self.line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceback_says_where_user_code_was_and_what_it_raised() {
        let error = "Traceback (most recent call last):\n  File \"/srv/old.py\", line 1, in f\nKeyError: 'x'\n\n\
                     During handling of the above exception, another exception occurred:\n\n\
                     Traceback (most recent call last):\n  File \"/srv/shop.py\", line 6, in __init__\n    load(path)\n\
                     \x20 File \"/opt/site-packages/torch/load.py\", line 90, in load\n    raise E\n    ^^^^^^^\n\
                     ValidationError: 2 errors\npath\n  is no file\n";
        let stack = Stack::of(error);
        assert_eq!(stack.outermost, "__init__");
        assert_eq!(stack.place, "/srv/shop.py:6 in __init__");
        assert_eq!(
            stack.raised,
            ["ValidationError: 2 errors", "path", "  is no file"]
        );
    }

    #[test]
    fn what_is_no_traceback_is_quoted_as_it_is() {
        let stack = Stack::of("it ended: signal 9\nsome output");
        assert_eq!((stack.outermost, stack.place.as_str()), ("", ""));
        assert_eq!(stack.raised, ["it ended: signal 9", "some output"]);
        assert_eq!(Stack::of("").raised, ["nothing is known of the reason"]);
        let syntax = Stack::of(
            "  File \"/srv/rank.py\", line 3\n    def f(\n         ^\nSyntaxError: '(' was never closed\n",
        );
        assert_eq!(syntax.place, "/srv/rank.py:3");
        assert_eq!(syntax.raised, ["SyntaxError: '(' was never closed"]);
    }
}
