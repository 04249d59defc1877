//! `eagleray run`: becomes the Python beside this executable, which imports the module, deploys, and serves until Ctrl-C
//! (`python/eagleray/_driver/command.py`).
//!
//! Until our own imports are done nothing of the user's is importable: no current directory, and no `PYTHONPATH`, which
//! travels under another name. So a `queue.py` beside the application is no module of ours.

use std::{
    env, io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Map, Value, json};

use super::{HttpArguments, RunArguments};
use crate::settings;

/// `sys` and `os` are there before any path is looked at. What is on `PYTHONPATH` comes last, in case we are.
const BOOT: &str = "import os, sys
if sys.path[:1] == ['']: del sys.path[0]
later = os.environ.get('EAGLERAY_PYTHONPATH', '').split(os.pathsep)
sys.path += [entry for entry in later if entry]
from eagleray._driver.command import main
main()
";

pub(super) fn run(arguments: &RunArguments) -> Result<(), String> {
    let python = python()?;
    let options = json!({
        "target": arguments.target,
        "arguments": arguments.arguments,
        "name": arguments.name,
        "route_prefix": arguments.route_prefix,
        "app_dir": arguments.app_dir,
        "http_options": arguments.http.given(),
    });
    let mut command = Command::new(&python);
    command.arg("-c").arg(BOOT).args(env::args_os().skip(1));
    command.env(settings::OPTIONS, options.to_string());
    if let Some(path) = env::var_os("PYTHONPATH") {
        command
            .env(settings::PYTHON_PATH, path)
            .env_remove("PYTHONPATH");
    }
    let error = command.exec();
    Err(format!("cannot start {}: {error}", python.display()))
}

/// The Python that this executable was installed for: beside it, or, where it lies alone, the first on `PATH`.
fn python() -> Result<PathBuf, String> {
    let own =
        env::current_exe().map_err(|error| format!("where this is cannot be read: {error}"))?;
    let beside = own.parent().unwrap_or(Path::new("/"));
    let on_path = env::var_os("PATH").unwrap_or_default();
    [beside.join("python3"), beside.join("python")]
        .into_iter()
        .chain(env::split_paths(&on_path).map(|directory| directory.join("python3")))
        .find(|candidate| is_executable(candidate))
        .ok_or_else(|| {
            format!(
                "there is no python3 beside {} nor on PATH; install eagleray with pip into an environment, and run the \
                 eagleray of that",
                own.display()
            )
        })
}

fn is_executable(path: &Path) -> bool {
    let access = rustix::fs::access(path, rustix::fs::Access::EXEC_OK).map_err(io::Error::from);
    path.is_file() && access.is_ok()
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
