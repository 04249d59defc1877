//! `eagleray run` and `build`: become the Python beside this executable, which imports what they name. The one deploys it
//! and serves until Ctrl-C (`python/eagleray/_driver/command.py`), the other prints its config (`config_command.py`).
//!
//! Until our own imports are done nothing of the user's is importable: the bootstrap sees to that
//! (`python/eagleray/_bootstrap.py`). Where it is only that Python knows ([`package`]).

use std::{env, os::unix::process::CommandExt, process::Command};

use eagleray_supervisor::{
    environment::{OPTIONS, PYTHON_PATH},
    package,
};
use serde_json::{Map, Value, json};

use super::{BuildArguments, HttpArguments, RunArguments};

pub(super) fn run(arguments: &RunArguments) -> Result<(), String> {
    let options = json!({
        "target": arguments.target,
        "arguments": arguments.arguments,
        "name": arguments.name,
        "route_prefix": arguments.route_prefix,
        "app_dir": arguments.app_dir,
        "reload": arguments.reload,
        "http_options": arguments.http.given(),
    });
    become_python("eagleray._driver.command", &options)
}

pub(super) fn build(arguments: &BuildArguments) -> Result<(), String> {
    let options = json!({
        "targets": arguments.targets,
        "app_dir": arguments.app_dir,
        "output_path": arguments.output_path,
    });
    become_python("eagleray._driver.config_command", &options)
}

fn become_python(module: &str, options: &Value) -> Result<(), String> {
    let python = eagleray_cli::interpreter()?;
    let mut command = Command::new(&python);
    package::run_module(&mut command, module, env::current_dir().ok());
    command.args(env::args_os().skip(1));
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
