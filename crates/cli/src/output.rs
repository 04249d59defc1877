//! What the command line writes. Nobody reading it is no reason to fail, and none to go on for long.
//!
//! Words for people name the next command. Where this one was told which node is meant, so is that one ([`meant`]): it
//! would ask another node else.

use std::{
    borrow::Cow,
    cell::RefCell,
    io::{self, Write},
};

/// Commands that ask a node.
const ASKING: [&str; 13] = [
    "config", "deploy", "diff", "doctor", "events", "explain", "history", "logs", "rollback",
    "scale", "shutdown", "stack", "status",
];

thread_local! {
    /// ` --node NAME`, if the command that this thread carries out was given that.
    static MEANT: RefCell<String> = const { RefCell::new(String::new()) };
}

/// From here on commands that are named say which node is meant: ` --node NAME`, or nothing.
pub(crate) fn meant(option: String) {
    MEANT.set(option);
}

/// A text with the node that is meant in each command that it names.
pub(crate) fn named(text: &str) -> Cow<'_, str> {
    MEANT.with_borrow(|option| match option.as_str() {
        "" => Cow::Borrowed(text),
        option => Cow::Owned(with_option(text, option)),
    })
}

fn with_option(text: &str, option: &str) -> String {
    let mut parts = text.split("eagleray ");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str("eagleray ");
        let end = part.find(|one: char| !one.is_ascii_lowercase());
        let (verb, rest) = part.split_at(end.unwrap_or(part.len()));
        out.push_str(verb);
        if ASKING.contains(&verb)
            && ![" --node", " --address"]
                .iter()
                .any(|one| rest.starts_with(one))
        {
            out.push_str(option);
        }
        out.push_str(rest);
    }
    out
}

/// One line on standard output.
pub fn say(line: &str) {
    drop(writeln!(io::stdout(), "{line}"));
}

pub(crate) fn say_all(lines: &[String]) {
    for line in lines {
        say(&named(line));
    }
}

/// One line on standard output, of many: whether anybody still reads.
pub(crate) fn told(line: &str) -> bool {
    writeln!(io::stdout(), "{line}").is_ok()
}

/// What went wrong, on standard error.
pub fn complain(message: &str) {
    drop(writeln!(io::stderr(), "eagleray: {}", named(message)));
}

/// Lines on standard error that are no failure of this program's own.
pub fn remark(lines: &str) {
    drop(write!(io::stderr(), "{}", named(lines)));
}

/// Where a node listens, after "is up" or "runs".
pub fn place(http_address: &str) -> String {
    if http_address.is_empty() {
        " without HTTP".to_owned()
    } else {
        format!(" at {http_address}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_is_named_asks_the_node_that_is_meant() {
        let text = "why: eagleray explain shop · `eagleray status`; eagleray run a:b, eagleray logs --node x";
        assert_eq!(named(text), text, "none is");
        meant(" --node b".to_owned());
        assert_eq!(
            named(text),
            "why: eagleray explain --node b shop · `eagleray status --node b`; eagleray run a:b, eagleray logs --node x"
        );
        assert_eq!(named("eagleray: no node runs"), "eagleray: no node runs");
    }
}
