//! Why something is not fine: for each thing that is not, one sentence, since when, and what to do next.
//!
//! Pure, and the one place where these sentences are. Who runs as wanted has none. The first of a deployment is what people
//! are to see if they see only one: what keeps requests from being answered, then what fails, then what takes its time.
//! The messages that the public contract knows are longer and stay what they are ([`super::render`]); no text of theirs is
//! repeated here but the error that user code raised.

mod application;
mod deployment;
mod replica;
mod store;

use std::time::Duration;

use eagleray_types::control::Why;

use super::outbox::Outbox;
use crate::books::resources::Resources;

pub(super) use application::{of_application, of_declared};
pub(super) use deployment::of_deployment;
pub(super) use store::of_store;

/// Its load asks for more than shall run.
pub(super) const HELD_BACK: &str = "held_back";
/// Replicas wait for room on the node.
pub(super) const PENDING: &str = "pending_resources";
/// Characters of somebody else's words in a sentence.
const QUOTED: usize = 300;

/// When it is said.
#[derive(Clone, Copy)]
pub(super) struct Moment<'a> {
    pub(super) now: Duration,
    pub(super) out: &'a Outbox,
    pub(super) resources: &'a Resources,
}

impl Moment<'_> {
    /// A reason that has held since a moment.
    pub(super) fn why(
        self,
        code: &str,
        since: Option<Duration>,
        sentence: String,
        help: String,
    ) -> Why {
        Why {
            code: code.to_owned(),
            sentence,
            since_s: since.map_or(0.0, |at| self.out.wall_time_s(at)),
            help,
            replica_id: String::new(),
        }
    }

    /// `12 s`, since a moment.
    fn seconds(self, since: Duration) -> String {
        format!("{} s", self.now.saturating_sub(since).as_secs())
    }
}

/// `1 replica`, `2 replicas`.
fn counted(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

/// What an error says in one line: of a traceback its last line, of anything else its first.
pub(super) fn gist(error: &str) -> String {
    let mut lines = error.lines().map(str::trim).filter(|line| !line.is_empty());
    let line = if error.contains("Traceback (most recent call last)") {
        lines.next_back()
    } else {
        lines.next()
    };
    line.unwrap_or("nothing is known of the reason")
        .chars()
        .take(QUOTED)
        .collect()
}

/// Where the innermost call of a stack stands, as `tokenizer.py:88 in encode`.
fn innermost(stacks: &str) -> Option<String> {
    let line = stacks
        .lines()
        .find_map(|line| line.trim().strip_prefix("File \""))?;
    let (path, rest) = line.split_once("\", line ")?;
    let file = path.rsplit('/').next().unwrap_or(path);
    let (number, function) = rest.split_once(" in ").unwrap_or((rest, ""));
    let place = match function {
        "" => format!("{file}:{number}"),
        function => format!("{file}:{number} in {function}"),
    };
    Some(place.chars().take(QUOTED).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_traceback_the_last_line_says_what_it_is() {
        let error = "Traceback (most recent call last):\n  File \"a.py\", line 1\nValueError: no\n";
        assert_eq!(gist(error), "ValueError: no");
        assert_eq!(
            gist("it ended: signal 9\nsome output"),
            "it ended: signal 9"
        );
        assert_eq!(gist(" \n"), "nothing is known of the reason");
    }

    #[test]
    fn a_stack_is_said_by_its_innermost_call() {
        let stacks = "Thread 0x1 (most recent call first):\n  File \"/srv/tokenizer.py\", line 88 in encode\n  \
                      File \"/srv/app.py\", line 3 in call";
        assert_eq!(
            innermost(stacks).as_deref(),
            Some("tokenizer.py:88 in encode")
        );
        assert_eq!(innermost(""), None);
        assert_eq!(
            innermost("File \"a.py\", line 7").as_deref(),
            Some("a.py:7")
        );
    }
}
