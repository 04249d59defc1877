//! `eagleray completions`: what a shell reads to complete the command line, made of the same description as its help.

use clap::Args;
use clap_complete::{Shell, generate};

use crate::{exit::Exit, output::say, program::Program};

#[derive(Debug, Args)]
pub struct CompletionsArguments {
    /// For this shell.
    shell: Shell,
}

pub(crate) fn run(arguments: &CompletionsArguments, program: Program) -> Exit {
    let mut out = Vec::new();
    generate(
        arguments.shell,
        &mut (program.command)(),
        "eagleray",
        &mut out,
    );
    say(String::from_utf8_lossy(&out).trim_end());
    Exit::Done
}
