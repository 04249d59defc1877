//! The command line: `eagleray run`, `start`, `stop`, `status`. Success is exit status 0; what failed says why on stderr.

use std::{
    env,
    io::{self, Write},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Command, ExitCode},
};

use clap::{Args, Parser, Subcommand};
use eagleray_supervisor::{
    environment::{OPTIONS, ROLE},
    ready::Up,
    run_directory,
};

use crate::settings::{self, NodeOptions, ProxyOptions, TlsFiles};

mod client;
mod counters;
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
    /// Be a node (started by scripts).
    #[command(hide = true)]
    Node(NodeArguments),
}

#[derive(Debug, Args)]
struct HttpArguments {
    /// Where HTTP listens [default: 127.0.0.1, or `EAGLERAY_SERVE_DEFAULT_HTTP_HOST`].
    #[arg(long = "http-host", value_name = "HOST")]
    host: Option<String>,
    /// Port of HTTP, 0 for any [default: 8000, or `EAGLERAY_SERVE_DEFAULT_HTTP_PORT`].
    #[arg(long = "http-port", value_name = "PORT")]
    port: Option<u16>,
    /// No HTTP: nothing listens, and applications are reached by handles.
    #[arg(long, conflicts_with_all = ["host", "port", "ssl_certfile"])]
    no_http: bool,
    /// Path before every route prefix.
    #[arg(long = "http-root-path", value_name = "PATH", default_value = "")]
    root_path: String,
    /// Time limit of a request, to the last byte of its answer [default: none].
    #[arg(long = "http-request-timeout-s", value_name = "SECONDS")]
    request_timeout_s: Option<f64>,
    /// How long a connection may be idle between requests [default: 90].
    #[arg(long = "http-keep-alive-timeout-s", value_name = "SECONDS")]
    keep_alive_timeout_s: Option<f64>,
    /// An address or network, such as 10.0.0.0/8, whose `X-Forwarded-*` and `Forwarded` say who the client is. Loopback
    /// always may [default: those of `FORWARDED_ALLOW_IPS`].
    #[arg(long = "http-trusted-proxy", value_name = "NETWORK")]
    trusted_proxies: Vec<String>,
    /// A host that requests may name, such as example.com or *.example.com; others are answered 421. May be given many
    /// times [default: any].
    #[arg(long = "http-allowed-host", value_name = "HOST")]
    allowed_hosts: Vec<String>,
    /// A limit of docs/limits.md, such as `header_count=200`. May be given many times.
    #[arg(long = "http-limit", value_name = "KEY=NUMBER", value_parser = key_and_number)]
    limits: Vec<(String, f64)>,
    /// PEM file of the server's certificate: HTTP is served over TLS.
    #[arg(
        long = "http-ssl-certfile",
        value_name = "FILE",
        requires = "ssl_keyfile"
    )]
    ssl_certfile: Option<PathBuf>,
    /// PEM file of its private key, not encrypted.
    #[arg(
        long = "http-ssl-keyfile",
        value_name = "FILE",
        requires = "ssl_certfile"
    )]
    ssl_keyfile: Option<PathBuf>,
    /// PEM file of the authorities that sign clients' certificates, which every client must show then.
    #[arg(
        long = "http-ssl-ca-certs",
        value_name = "FILE",
        requires = "ssl_certfile"
    )]
    ssl_ca_certs: Option<PathBuf>,
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

impl HttpArguments {
    /// Options of a resident node with these.
    fn options(&self, name: String) -> Result<NodeOptions, String> {
        if !run_directory::is_valid_name(&name) {
            return Err(format!(
                "{name:?} cannot name a node: use letters, digits, `-`, `_` and `.`"
            ));
        }
        let proxy = ProxyOptions {
            root_path: self.root_path.trim_end_matches('/').to_owned(),
            request_timeout_s: self.request_timeout_s,
            keep_alive_timeout_s: self.keep_alive_timeout_s,
            trusted_proxies: if self.trusted_proxies.is_empty() {
                settings::trusted_proxies()
            } else {
                self.trusted_proxies.clone()
            },
            allowed_hosts: self.allowed_hosts.clone(),
            limits: self.limits.iter().cloned().collect(),
            tls: self.tls()?,
        };
        proxy
            .check()
            .map_err(|problems| format!("HTTP options: {}", problems.join("; ")))?;
        Ok(NodeOptions {
            name,
            http_host: self
                .host
                .clone()
                .unwrap_or_else(settings::default_http_host),
            http_port: match self.port {
                Some(port) => port,
                None => settings::default_http_port()?,
            },
            no_http: self.no_http,
            proxy,
            owner_pid: None,
            owner_fd: None,
            ready_fd: None,
            foreground: false,
            argv: env::args().collect(),
        })
    }
}

impl HttpArguments {
    fn tls(&self) -> Result<Option<TlsFiles>, String> {
        let (Some(certificate), Some(key)) = (&self.ssl_certfile, &self.ssl_keyfile) else {
            return Ok(None);
        };
        // The node works elsewhere.
        let absolute = |path: &PathBuf| {
            std::path::absolute(path).map_err(|error| format!("{}: {error}", path.display()))
        };
        Ok(Some(TlsFiles {
            certificate: absolute(certificate)?,
            key: absolute(key)?,
            client_authorities: self.ssl_ca_certs.as_ref().map(absolute).transpose()?,
        }))
    }
}

fn key_and_number(text: &str) -> Result<(String, f64), String> {
    let (key, number) = text.split_once('=').ok_or("it has no `=`")?;
    let number = number
        .parse()
        .map_err(|_| format!("{number:?} is not a number"))?;
    Ok((key.to_owned(), number))
}

/// One line on standard output. Nobody reading it is no reason to fail.
pub(crate) fn say(line: &str) {
    drop(writeln!(io::stdout(), "{line}"));
}

/// What went wrong, on standard error.
pub(crate) fn complain(message: &str) {
    drop(writeln!(io::stderr(), "eagleray: {message}"));
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
