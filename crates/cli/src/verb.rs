//! The verbs, and which function each is.

use clap::Subcommand;

use crate::{
    config::{self, ConfigCommand},
    counters,
    exit::Exit,
    program::Program,
    status::{self, StatusArguments},
};

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Show what a node serves.
    Status(StatusArguments),
    /// Work with config files.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print the JSON schema of config files, with which editors complete and check them.
    Schema,
}

impl Verb {
    /// Does it, says why if it cannot, and returns how it ended.
    pub fn run(self, program: Program) -> Exit {
        let (result, json) = match self {
            Self::Status(arguments) if arguments.counters => (
                counters::run(arguments.node.as_deref(), arguments.json),
                arguments.json,
            ),
            Self::Status(arguments) => (status::run(&arguments), arguments.json),
            Self::Config(ConfigCommand::Check(arguments)) => (
                config::check(&arguments, program).map_err(Into::into),
                false,
            ),
            Self::Schema => {
                config::schema();
                return Exit::Done;
            }
        };
        match result {
            Ok(()) => Exit::Done,
            Err(trouble) => {
                trouble.tell(json);
                trouble.exit
            }
        }
    }
}
