//! The command line: `eagleray run`, `build`, `start` and `stop`, which make and end nodes, beside the verbs of [`eagleray_cli`].
//! Success is exit status 0; what failed says why on standard error.

use std::{
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Command, ExitCode},
};

use clap::{Args, CommandFactory, Parser, Subcommand};
use eagleray_cli::{Program, Verb, complain, place, say, socket};
use eagleray_supervisor::{
    environment::{OPTIONS, ROLE},
    ready::Up,
};

use self::{control::ControlArguments, http::HttpArguments, resources::ResourceArguments};
use crate::settings::NodeOptions;

mod control;
mod http;
mod judge;
mod resources;
mod run;
mod start;
mod stop;

pub(crate) use judge::http_options_and_files;

/// What the verbs take from here.
const PROGRAM: Program = Program {
    judge: judge::http_options,
    command: Cli::command,
};

#[derive(Debug, Parser)]
#[command(
    name = "eagleray",
    version,
    about = "Serves machine-learning models behind HTTP.",
    arg_required_else_help = true
)]
struct Cli {
    #[command(subcommand)]
    command: Sub,
}

#[derive(Debug, Subcommand)]
enum Sub {
    /// Serve an application of a module in the foreground, until Ctrl-C.
    Run(RunArguments),
    /// Print a config file for applications, with the options that their code states.
    Build(BuildArguments),
    /// Start a resident node, which scripts join instead of starting their own.
    Start(StartArguments),
    /// End a resident node and everything that it runs.
    Stop(StopArguments),
    #[command(flatten)]
    Verb(Verb),
    /// Be a node (started by scripts).
    #[command(hide = true)]
    Node(NodeArguments),
}

#[derive(Debug, Args)]
struct RunArguments {
    /// What to serve: MODULE:NAME, which is an application or a function that builds one; or a config file.
    #[arg(value_name = "MODULE:NAME|FILE")]
    target: String,
    /// Arguments of the function that builds the application.
    #[arg(value_name = "KEY=VALUE")]
    arguments: Vec<String>,
    /// Name of the application [default: `default`].
    #[arg(long)]
    name: Option<String>,
    /// Path under which HTTP reaches the application [default: `/`].
    #[arg(long, value_name = "PATH")]
    route_prefix: Option<String>,
    /// Where the module is looked for first.
    #[arg(short = 'd', long, value_name = "DIRECTORY", default_value = ".")]
    app_dir: PathBuf,
    /// Serve it anew whenever its code changes, or the config file.
    #[arg(short, long)]
    reload: bool,
    #[command(flatten)]
    http: HttpArguments,
}

#[derive(Debug, Args)]
struct BuildArguments {
    /// Applications that are ready, each as MODULE:NAME.
    #[arg(value_name = "MODULE:NAME", required = true)]
    targets: Vec<String>,
    /// Where modules are looked for first.
    #[arg(short = 'd', long, value_name = "DIRECTORY", default_value = ".")]
    app_dir: PathBuf,
    /// Write the config to this file instead of standard output.
    #[arg(short, long, value_name = "FILE")]
    output_path: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct StartArguments {
    /// Name of the node [default: `default`, or `EAGLERAY_NODE_NAME`].
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    http: HttpArguments,
    #[command(flatten)]
    control: ControlArguments,
    #[command(flatten)]
    resources: ResourceArguments,
    /// Stay in the terminal and log to it.
    #[arg(long)]
    foreground: bool,
}

#[derive(Debug, Args)]
struct StopArguments {
    /// Name of the node [default: `default`, or `EAGLERAY_NODE_NAME`].
    #[arg(long)]
    name: Option<String>,
}

#[derive(Debug, Args)]
struct NodeArguments {
    #[arg(long)]
    name: String,
    #[arg(long)]
    owner_pid: u32,
    #[arg(long)]
    owner_fd: i32,
    #[arg(long)]
    ready_fd: i32,
    #[command(flatten)]
    http: HttpArguments,
    #[command(flatten)]
    control: ControlArguments,
    #[command(flatten)]
    resources: ResourceArguments,
}

pub(crate) fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are "errors" too, and go to standard output.
            drop(error.print());
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let result = match cli.command {
        Sub::Run(arguments) => run::run(&arguments),
        Sub::Build(arguments) => run::build(&arguments),
        Sub::Start(arguments) => start::run(&arguments),
        Sub::Stop(arguments) => stop::run(arguments.name.as_deref()),
        Sub::Verb(verb) => return verb.run(PROGRAM).into(),
        Sub::Node(arguments) => become_node(arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            complain(&message);
            ExitCode::FAILURE
        }
    }
}

fn become_node(arguments: NodeArguments) -> Result<(), String> {
    let argv = std::fs::read(format!("/proc/{}/cmdline", arguments.owner_pid)).unwrap_or_default();
    let argv = argv
        .split(|byte| *byte == 0)
        .filter(|part| !part.is_empty());
    let options = NodeOptions {
        owner_pid: Some(arguments.owner_pid),
        owner_fd: Some(arguments.owner_fd),
        ready_fd: Some(arguments.ready_fd),
        foreground: false,
        argv: argv
            .map(|part| String::from_utf8_lossy(part).into_owned())
            .collect(),
        resources: arguments.resources.declared()?,
        ..arguments
            .http
            .options(arguments.name, arguments.control.options()?)?
    };
    let error = node_command(&options)?.exec();
    Err(format!("the node cannot be started: {error}"))
}

/// The command that is a node: this executable, with its role in the environment and a title for a command line.
fn node_command(options: &NodeOptions) -> Result<Command, String> {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("eagleray: node").env(ROLE, "node");
    command.env(
        OPTIONS,
        serde_json::to_string(options).map_err(|error| error.to_string())?,
    );
    Ok(command)
}

/// What the user of a node that came up wants to know.
pub(crate) fn announce(up: &Up) {
    let name = if up.name == socket::DEFAULT_NAME {
        String::new()
    } else {
        format!(" --name {}", up.name)
    };
    if !up.warning.is_empty() {
        complain(&format!("warning: {}", up.warning));
    }
    say(&format!(
        "node {} is up{} (process {})",
        up.name,
        place(&up.http_address),
        up.pid
    ));
    if !up.control_address.is_empty() {
        say(&format!("control: {}", up.control_address));
    }
    if !up.metrics_address.is_empty() {
        say(&format!("metrics: {}/metrics", up.metrics_address));
    }
    say(&format!("logs: {}", up.log_directory.display()));
    let node = if name.is_empty() {
        String::new()
    } else {
        format!(" --node {}", up.name)
    };
    say(&format!("deploy with: eagleray deploy FILE{node}"));
    say(&format!("stop it with: eagleray stop{name}"));
}
