//! `eagleray run`: becomes the Python beside this executable, which imports the module, deploys, and serves until Ctrl-C
//! (`python/eagleray/_driver/command.py`).
//!
//! Until our own imports are done nothing of the user's is importable: the bootstrap sees to that
//! (`python/eagleray/_bootstrap.py`). Where it is only that Python knows, so that is asked first: with `-c`, by which
//! Python puts its current directory on the path, and imports from it to show errors (3.13). So it begins in `/`.

use std::{env, os::unix::process::CommandExt, process::Command};

use eagleray_supervisor::environment::{OPTIONS, PYTHON_PATH};
use serde_json::{Map, Value, json};

use super::{HttpArguments, RunArguments};

/// Where the working directory waits meanwhile.
const DIRECTORY: &str = "EAGLERAY_DIRECTORY";
/// `sys` and `os` are there before any path is looked at.
const FIND: &str = "import os, sys
here = os.environ.pop('EAGLERAY_DIRECTORY', None)
if here is not None: os.chdir(here)
held = os.environ.get('EAGLERAY_PYTHONPATH', '').split(os.pathsep)
for entry in filter(None, sys.path + held):
    boot = os.path.join(os.path.abspath(entry), 'eagleray', '_bootstrap.py')
    if os.path.isfile(boot):
        os.execv(sys.executable, [sys.executable, boot, 'eagleray._driver.command', *sys.argv[1:]])
sys.exit(f'eagleray: {sys.executable} has no eagleray; install it with pip into that environment')
";

pub(super) fn run(arguments: &RunArguments) -> Result<(), String> {
    let python = eagleray_cli::interpreter()?;
    let options = json!({
        "target": arguments.target,
        "arguments": arguments.arguments,
        "name": arguments.name,
        "route_prefix": arguments.route_prefix,
        "app_dir": arguments.app_dir,
        "http_options": arguments.http.given(),
    });
    let mut command = Command::new(&python);
    command.arg("-c").arg(FIND).args(env::args_os().skip(1));
    if let Ok(directory) = env::current_dir() {
        command.env(DIRECTORY, directory).current_dir("/");
    }
    command.env(OPTIONS, options.to_string());
    if let Some(path) = env::var_os("PYTHONPATH") {
        command.env(PYTHON_PATH, path).env_remove("PYTHONPATH");
    }
    let error = command.exec();
    Err(format!("cannot start {}: {error}", python.display()))
}

impl HttpArguments {
    /// The `http_options` of `serve.start` for what was given; empty: nothing was.
    fn given(&self) -> Map<String, Value> {
        let mut given = Map::new();
        let mut put = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                given.insert(key.to_owned(), value);
            }
        };
        put("host", self.host.as_ref().map(|host| json!(host)));
        if self.no_http {
            put("host", Some(Value::Null));
        }
        put("port", self.port.map(|port| json!(port)));
        let root_path = Some(&self.root_path).filter(|path| !path.is_empty());
        put("root_path", root_path.map(|path| json!(path)));
        put(
            "request_timeout_s",
            self.request_timeout_s.map(|seconds| json!(seconds)),
        );
        put(
            "keep_alive_timeout_s",
            self.keep_alive_timeout_s.map(|seconds| json!(seconds)),
        );
        if !self.trusted_proxies.is_empty() {
            put("trusted_proxies", Some(json!(self.trusted_proxies)));
        }
        if !self.allowed_hosts.is_empty() {
            put("allowed_hosts", Some(json!(self.allowed_hosts)));
        }
        if !self.limits.is_empty() {
            let limits: Map<String, Value> = self
                .limits
                .iter()
                .map(|(key, number)| (key.clone(), json!(number)))
                .collect();
            put("limits", Some(Value::Object(limits)));
        }
        for (key, file) in [
            ("ssl_certfile", &self.ssl_certfile),
            ("ssl_keyfile", &self.ssl_keyfile),
            ("ssl_ca_certs", &self.ssl_ca_certs),
        ] {
            put(key, file.as_ref().map(|file| json!(file)));
        }
        given
    }
}
