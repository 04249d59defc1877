//! The verbs, and which function each is.

use clap::Subcommand;

use crate::{
    completions::{self, CompletionsArguments},
    config::{self, ConfigArguments},
    deploy::{self, DeployArguments},
    diff::{self, DiffArguments},
    doctor::{self, DoctorArguments},
    events::{self, EventsArguments},
    exit::Exit,
    explain::{self, ExplainArguments},
    history::{self, HistoryArguments},
    logs::{self, LogsArguments},
    program::Program,
    reference,
    rollback::{self, RollbackArguments},
    scale::{self, ScaleArguments},
    shutdown::{self, ShutdownArguments},
    stack::{self, StackArguments},
    status::{self, StatusArguments},
};

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Deploy what a config file declares, or one application of a module, and wait until it is up.
    Deploy(DeployArguments),
    /// Show what a deploy would change, or what two revisions differ in.
    Diff(DiffArguments),
    /// Show what a node serves.
    Status(StatusArguments),
    /// Say everything that is not fine: why, since when, and what to do.
    Explain(ExplainArguments),
    /// Show what was logged: search it, or follow it.
    Logs(LogsArguments),
    /// Show what has happened.
    Events(EventsArguments),
    /// Show the deploys of an application, and what came of each.
    History(HistoryArguments),
    /// Go back to an earlier revision, code and all.
    Rollback(RollbackArguments),
    /// Change the number of replicas of a deployment, until a deploy states another.
    Scale(ScaleArguments),
    /// Show where the threads of a replica are.
    Stack(StackArguments),
    /// Show the configs that were submitted; `config check` judges a file.
    Config(ConfigArguments),
    /// Print the JSON schema of config files, with which editors complete and check them.
    Schema,
    /// Look whether this machine can run a node, and whether the one that runs is well.
    Doctor(DoctorArguments),
    /// End a node and all its applications.
    Shutdown(ShutdownArguments),
    /// Print completions for a shell.
    Completions(CompletionsArguments),
    /// Print the reference page of the command line.
    #[command(hide = true)]
    Reference,
}

impl Verb {
    /// Does it, says why if it cannot, and returns how it ended.
    pub fn run(self, program: Program) -> Exit {
        let json = self.is_json();
        let result = match self {
            Self::Deploy(arguments) => deploy::run(&arguments, program),
            Self::Diff(arguments) => diff::run(&arguments, program),
            Self::Status(arguments) => status::run(&arguments),
            Self::Explain(arguments) => explain::run(&arguments),
            Self::Logs(arguments) => logs::run(&arguments),
            Self::Events(arguments) => events::run(&arguments),
            Self::History(arguments) => history::run(&arguments),
            Self::Rollback(arguments) => rollback::run(&arguments),
            Self::Scale(arguments) => scale::run(&arguments),
            Self::Stack(arguments) => stack::run(&arguments),
            Self::Config(arguments) => config::run(&arguments, program),
            Self::Schema => {
                config::schema();
                Ok(Exit::Done)
            }
            Self::Doctor(arguments) => Ok(doctor::run(&arguments)),
            Self::Shutdown(arguments) => shutdown::run(&arguments),
            Self::Completions(arguments) => Ok(completions::run(&arguments, program)),
            Self::Reference => Ok(reference::run(program)),
        };
        match result {
            Ok(exit) => exit,
            Err(trouble) => {
                trouble.tell(json);
                trouble.exit
            }
        }
    }

    /// Whether standard output is JSON, so that a failure is too.
    fn is_json(&self) -> bool {
        match self {
            Self::Deploy(arguments) => arguments.json,
            Self::Diff(arguments) => arguments.json,
            Self::Status(arguments) => arguments.is_json(),
            Self::Explain(arguments) => arguments.json,
            Self::Logs(arguments) => arguments.json,
            Self::Events(arguments) => arguments.json,
            Self::History(arguments) => arguments.json,
            Self::Rollback(arguments) => arguments.json,
            Self::Scale(arguments) => arguments.json,
            Self::Stack(arguments) => arguments.json,
            Self::Config(arguments) => arguments.json,
            Self::Doctor(arguments) => arguments.json,
            Self::Schema | Self::Shutdown(_) | Self::Completions(_) | Self::Reference => false,
        }
    }
}
