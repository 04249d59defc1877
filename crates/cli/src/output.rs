//! What the command line writes. Nobody reading it is no reason to fail, and none to go on for long.

use std::io::{self, Write};

/// One line on standard output.
pub fn say(line: &str) {
    drop(writeln!(io::stdout(), "{line}"));
}

pub(crate) fn say_all(lines: &[String]) {
    for line in lines {
        say(line);
    }
}

/// One line on standard output, of many: whether anybody still reads.
pub(crate) fn told(line: &str) -> bool {
    writeln!(io::stdout(), "{line}").is_ok()
}

/// What went wrong, on standard error.
pub fn complain(message: &str) {
    drop(writeln!(io::stderr(), "eagleray: {message}"));
}

/// Lines on standard error that are no failure of this program's own.
pub fn remark(lines: &str) {
    drop(write!(io::stderr(), "{lines}"));
}

/// Where a node listens, after "is up" or "runs".
pub fn place(http_address: &str) -> String {
    if http_address.is_empty() {
        " without HTTP".to_owned()
    } else {
        format!(" at {http_address}")
    }
}
