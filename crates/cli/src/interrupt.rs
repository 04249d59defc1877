//! Ctrl-C while something is shown: the last words, and exit status 130.

use std::{io, thread};

use signal_hook::{consts::SIGINT, iterator::Signals};

use crate::{exit::Exit, output::remark};

/// From now on Ctrl-C writes this to standard error and ends the program; without words if they are empty.
///
/// A request that is on its way is not waited for: the node goes on with it or not, and the words say which.
pub(crate) fn ends_with(words: String) {
    let Ok(mut signals) = Signals::new([SIGINT]) else {
        // Without it Ctrl-C ends the program as it ends any.
        return;
    };
    thread::spawn(move || {
        if signals.forever().next().is_some() {
            // Whoever draws is done with its block, and draws no more.
            let held = (io::stdout().lock(), io::stderr().lock());
            remark(&words);
            end(held)
        }
    });
}

#[expect(
    clippy::exit,
    reason = "the other thread may be in a request that nobody waits for any more"
)]
fn end<T>(_held: T) -> ! {
    std::process::exit(Exit::Interrupted as i32)
}
