//! The command line: `eagleray run`, `start`, `stop`, `status`, `config`, `schema`. Success is exit status 0; what failed says why on stderr.

use std::{
    io::{self, Write},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Command, ExitCode},
};

use clap::{Args, Parser, Subcommand};
use eagleray_supervisor::{
    environment::{OPTIONS, ROLE},
    ready::Up,
};

use self::http::HttpArguments;
use crate::settings::{self, NodeOptions};

mod client;
mod config;
mod counters;
mod http;
mod run;
mod start;
mod status;
mod stop;
mod tree;

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
    /// Start a resident node, which scripts join instead of starting their own.
    Start(StartArguments),
    /// End a resident node and everything that it runs.
    Stop(StopArguments),
    /// Show what a node serves.
    Status(StatusArguments),
    /// Work with config files.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print the JSON schema of config files, with which editors complete and check them.
    Schema,
    /// Be a node (started by scripts).
    #[command(hide = true)]
    Node(NodeArguments),
}

#[derive(Debug, Args)]
struct RunArguments {
    /// What to serve, as MODULE:NAME: an application, or a function that builds one.
    #[arg(value_name = "MODULE:NAME")]
    target: String,
    /// Arguments of the function that builds the application.
    #[arg(value_name = "KEY=VALUE")]
    arguments: Vec<String>,
    /// Name of the application.
    #[arg(long, default_value = "default")]
    name: String,
    /// Path under which HTTP reaches the application.
    #[arg(long, value_name = "PATH", default_value = "/")]
    route_prefix: String,
    /// Where the module is looked for first.
    #[arg(short = 'd', long, value_name = "DIRECTORY", default_value = ".")]
    app_dir: PathBuf,
    #[command(flatten)]
    http: HttpArguments,
}

#[derive(Debug, Args)]
struct StartArguments {
    /// Name of the node [default: `default`, or `EAGLERAY_NODE_NAME`].
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    http: HttpArguments,
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
struct StatusArguments {
    /// Show this application only.
    #[arg(short, long, value_name = "APPLICATION")]
    name: Option<String>,
    /// Name of the node [default: `default` or `EAGLERAY_NODE_NAME`, else the only one that runs].
    #[arg(long)]
    node: Option<String>,
    /// Show what the proxies have counted: connections, limits that were hit (docs/limits.md).
    #[arg(long, conflicts_with = "name")]
    counters: bool,
    /// Print JSON instead of YAML.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Say everything that is wrong with a config file, with line and column. Starts nothing, and asks no node.
    Check(CheckArguments),
}

#[derive(Debug, Args)]
struct CheckArguments {
    /// The file: JSON if its name ends in .json, else YAML; `-` for standard input.
    file: PathBuf,
    /// Print JSON: `problems` and `warnings`, each a list.
    #[arg(long)]
    json: bool,
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
        Sub::Start(arguments) => start::run(&arguments),
        Sub::Stop(arguments) => stop::run(arguments.name.as_deref()),
        Sub::Status(arguments) if arguments.counters => counters::run(&arguments),
        Sub::Status(arguments) => status::run(&arguments),
        Sub::Config(ConfigCommand::Check(arguments)) => config::check(&arguments),
        Sub::Schema => {
            config::schema();
            Ok(())
        }
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
        ..arguments.http.options(arguments.name)?
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

/// One line on standard output. Nobody reading it is no reason to fail.
pub(crate) fn say(line: &str) {
    drop(writeln!(io::stdout(), "{line}"));
}

/// What went wrong, on standard error.
pub(crate) fn complain(message: &str) {
    drop(writeln!(io::stderr(), "eagleray: {message}"));
}

/// Lines on standard error that are no failure of this program's own.
pub(crate) fn remark(lines: &str) {
    drop(write!(io::stderr(), "{lines}"));
}

/// Where a node listens, after "is up" or "runs".
fn place(http_address: &str) -> String {
    if http_address.is_empty() {
        " without HTTP".to_owned()
    } else {
        format!(" at {http_address}")
    }
}

/// What the user of a node that came up wants to know.
pub(crate) fn announce(up: &Up) {
    let name = if up.name == settings::DEFAULT_NAME {
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
    say(&format!("logs: {}", up.log_directory.display()));
    say(&format!("stop it with: eagleray stop{name}"));
}
