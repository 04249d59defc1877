//! Questions to a person.

use std::io::{self, BufRead, IsTerminal};

use crate::output::remark;

/// Whether the person says yes; none if nobody is there to be asked: both what is read and what is written must be a terminal.
pub(crate) fn yes(question: &str, quiet: bool) -> Option<bool> {
    if quiet || !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return None;
    }
    remark(&format!("{question} [y/N] "));
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    if read.is_ok_and(|length| length == 0) {
        remark("\n");
    }
    Some(matches!(
        answer.trim().to_ascii_lowercase().as_str(),
        "y" | "yes"
    ))
}
