//! The environment variables that the executable reads beside those of its node, and the options that travel in one.
//!
//! A process that is started by another gets its options as JSON in the environment, not as arguments: so its
//! whole command line can be a title such as `eagleray: proxy`.

use std::{collections::BTreeMap, env, path::PathBuf, time::Duration};

use clap::ValueEnum;
use eagleray_logs::{Encoding, Limits};
use eagleray_metrics::ProcessLabels;
use eagleray_supervisor::{
    environment::{OPTIONS, set},
    resources::Declared,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

pub(crate) const LOG: &str = "EAGLERAY_LOG";
/// `TEXT` or `JSON`: what the native processes log, and access lines.
pub(crate) const LOG_ENCODING: &str = "EAGLERAY_SERVE_LOG_ENCODING";
pub(crate) const HTTP_HOST: &str = "EAGLERAY_SERVE_DEFAULT_HTTP_HOST";
pub(crate) const HTTP_PORT: &str = "EAGLERAY_SERVE_DEFAULT_HTTP_PORT";
pub(crate) const CONTROL_HOST: &str = "EAGLERAY_CONTROL_HOST";
pub(crate) const CONTROL_PORT: &str = "EAGLERAY_CONTROL_PORT";
pub(crate) const CONTROL_TOKEN_FILE: &str = "EAGLERAY_CONTROL_TOKEN_FILE";
pub(crate) const NUM_CPUS: &str = "EAGLERAY_NUM_CPUS";
pub(crate) const NUM_GPUS: &str = "EAGLERAY_NUM_GPUS";
pub(crate) const MEMORY: &str = "EAGLERAY_MEMORY";
pub(crate) const RESOURCES: &str = "EAGLERAY_RESOURCES";
pub(crate) const METRICS_HOST: &str = "EAGLERAY_METRICS_HOST";
pub(crate) const METRICS_PORT: &str = "EAGLERAY_METRICS_PORT";
pub(crate) const METRICS_PREFIX: &str = "EAGLERAY_METRICS_PREFIX";
pub(crate) const METRICS_REPLICA_LABELS: &str = "EAGLERAY_METRICS_REPLICA_LABELS";
/// Where exporters of OpenTelemetry answer Prometheus.
const STANDARD_METRICS_PORT: u16 = 9464;
/// Where Ray's dashboard is, and its clients look.
const STANDARD_CONTROL_PORT: u16 = 8265;
/// Named by uvicorn.
const TRUSTED_PROXIES: &str = "FORWARDED_ALLOW_IPS";

/// Where the logs of a node are, and how they are kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LogOptions {
    pub(crate) directory: PathBuf,
    pub(crate) limits: Limits,
    pub(crate) encoding: Encoding,
    /// Lines of the native processes go to the terminal too.
    pub(crate) terminal: bool,
}

impl LogOptions {
    /// As environment variables say; in no directory yet.
    ///
    /// # Errors
    /// What is wrong with one, in words for its user.
    pub(crate) fn from_environment(terminal: bool) -> Result<Self, String> {
        let encoding = match set(LOG_ENCODING) {
            None => Encoding::default(),
            Some(text) => text
                .parse()
                .map_err(|problem| format!("{LOG_ENCODING} {problem}"))?,
        };
        Ok(Self {
            directory: PathBuf::new(),
            limits: Limits::from_variables(set)?,
            encoding,
            terminal,
        })
    }

    /// The log of the process with this role.
    pub(crate) fn path(&self, role: &str) -> PathBuf {
        self.directory.join(format!("{role}.log"))
    }
}

/// What a node is asked to be.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NodeOptions {
    pub(crate) name: String,
    pub(crate) http_host: String,
    /// 0 takes any free port.
    pub(crate) http_port: u16,
    /// Nothing listens for HTTP, and host and port mean nothing.
    #[serde(default)]
    pub(crate) no_http: bool,
    pub(crate) control: ControlOptions,
    pub(crate) proxy: ProxyOptions,
    /// What the machine has for replicas, as far as somebody says.
    #[serde(default)]
    pub(crate) resources: Declared,
    /// The script that owns the node; `None` for a resident one.
    pub(crate) owner_pid: Option<u32>,
    /// Read end of a pipe that the owner holds.
    pub(crate) owner_fd: Option<i32>,
    /// Where one line of JSON says that the node is up, or why not.
    pub(crate) ready_fd: Option<i32>,
    /// Log to the terminal too.
    pub(crate) foreground: bool,
    /// Command line of the script that owns the node, for people.
    pub(crate) argv: Vec<String>,
}

/// The control port of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ControlOptions {
    pub(crate) host: String,
    /// 0 takes any free port.
    pub(crate) port: u16,
    /// The file of the token; `None`: one that is made in the run directory.
    pub(crate) token_file: Option<PathBuf>,
    #[serde(default)]
    pub(crate) metrics: MetricsOptions,
}

/// How metrics are shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MetricsOptions {
    /// Stands before every name.
    pub(crate) prefix: String,
    /// Which metrics name their replica.
    #[serde(default)]
    pub(crate) replica_labels: ReplicaLabels,
    /// A port for them and for health alone.
    pub(crate) listen: Option<MetricsListen>,
}

/// Which metrics have the labels `replica` and `actor_id`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ReplicaLabels {
    /// Counters and gauges.
    #[default]
    Single,
    /// Histograms, too.
    All,
    /// None.
    None,
}

impl From<ReplicaLabels> for ProcessLabels {
    fn from(labels: ReplicaLabels) -> Self {
        match labels {
            ReplicaLabels::Single => Self::Single,
            ReplicaLabels::All => Self::All,
            ReplicaLabels::None => Self::None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MetricsListen {
    pub(crate) host: String,
    /// 0 takes any free port.
    pub(crate) port: u16,
}

/// What a proxy is told besides its address.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProxyOptions {
    pub(crate) root_path: String,
    /// `None`: requests may take as long as they like.
    pub(crate) request_timeout_s: Option<f64>,
    pub(crate) keep_alive_timeout_s: Option<f64>,
    /// Addresses and networks whose `X-Forwarded-*` reach user code, besides loopback.
    #[serde(default)]
    pub(crate) trusted_proxies: Vec<String>,
    /// The hosts that requests may name; empty: any.
    #[serde(default)]
    pub(crate) allowed_hosts: Vec<String>,
    /// Those that differ from the defaults, by their keys in `docs/limits.md`.
    pub(crate) limits: BTreeMap<String, f64>,
    #[serde(default)]
    pub(crate) tls: Option<TlsFiles>,
}

/// PEM files of the ingress, by absolute paths.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TlsFiles {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) client_authorities: Option<PathBuf>,
}

impl TlsFiles {
    fn options(&self) -> eagleray_proxy::TlsOptions {
        eagleray_proxy::TlsOptions {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            client_authorities: self.client_authorities.clone(),
        }
    }
}

impl ProxyOptions {
    /// These as a config has them, without those that have no key there.
    pub(crate) fn as_config(&self) -> Map<String, Value> {
        let mut config = Map::new();
        let mut put = |key: &str, value: Value| drop(config.insert(key.to_owned(), value));
        put("root_path", json!(self.root_path));
        put("request_timeout_s", json!(self.request_timeout_s));
        if let Some(seconds) = self.keep_alive_timeout_s {
            put("keep_alive_timeout_s", json!(seconds));
        }
        put("limits", json!(self.limits));
        put("trusted_proxies", json!(self.trusted_proxies));
        put("allowed_hosts", json!(self.allowed_hosts));
        if let Some(files) = &self.tls {
            put("ssl_certfile", json!(files.certificate));
            put("ssl_keyfile", json!(files.key));
            put("ssl_ca_certs", json!(files.client_authorities));
        }
        config
    }

    /// The other way round. What is not there is as by default; what is nothing of the proxy's is left out.
    pub(crate) fn of_config(config: &Map<String, Value>) -> Self {
        let text = |key: &str| config.get(key)?.as_str().map(str::to_owned);
        let number = |key: &str| config.get(key)?.as_f64();
        let texts = |key: &str| -> Vec<String> {
            let list = config.get(key).and_then(Value::as_array);
            let texts = list.into_iter().flatten().filter_map(Value::as_str);
            texts.map(str::to_owned).collect()
        };
        let limits = config.get("limits").and_then(Value::as_object);
        let limits = limits.into_iter().flatten();
        let tls = || {
            Some(TlsFiles {
                certificate: text("ssl_certfile")?.into(),
                key: text("ssl_keyfile")?.into(),
                client_authorities: text("ssl_ca_certs").map(PathBuf::from),
            })
        };
        Self {
            root_path: text("root_path").unwrap_or_default(),
            // Below zero: no limit, in a config.
            request_timeout_s: number("request_timeout_s").filter(|seconds| *seconds >= 0.0),
            keep_alive_timeout_s: number("keep_alive_timeout_s"),
            trusted_proxies: texts("trusted_proxies"),
            allowed_hosts: texts("allowed_hosts"),
            limits: limits
                .filter_map(|(key, value)| Some((key.clone(), value.as_f64()?)))
                .collect(),
            tls: tls(),
        }
    }

    /// What clients call the protocol.
    pub(crate) fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// Reads the files of TLS, so that a node that could not serve does not start.
    ///
    /// # Errors
    /// What is wrong with the first that cannot be used.
    pub(crate) fn check_files(&self) -> Result<(), String> {
        match &self.tls {
            Some(files) => files.options().check().map_err(|error| error.to_string()),
            None => Ok(()),
        }
    }

    /// Checks everything.
    ///
    /// # Errors
    /// All that is wrong, one text each.
    pub(crate) fn check(&self) -> Result<eagleray_proxy::Options, Vec<String>> {
        let mut options = eagleray_proxy::Options {
            root_path: self.root_path.clone(),
            tls: self.tls.as_ref().map(TlsFiles::options),
            ..eagleray_proxy::Options::default()
        };
        let mut problems = Vec::new();
        if !self.root_path.is_empty() && !self.root_path.starts_with('/') {
            problems.push(format!(
                "root_path {:?} must begin with `/`",
                self.root_path
            ));
        }
        let mut seconds = |name: &str, value: Option<f64>| {
            let value = value?;
            let duration = Duration::try_from_secs_f64(value).ok();
            let duration = duration.filter(|duration| *duration >= Duration::from_millis(1));
            if duration.is_none() {
                problems.push(format!(
                    "{name} must be seconds, 0.001 or more, got {value}"
                ));
            }
            duration
        };
        options.request_timeout = seconds("request_timeout_s", self.request_timeout_s);
        if let Some(keep_alive) = seconds("keep_alive_timeout_s", self.keep_alive_timeout_s) {
            options.keep_alive = keep_alive;
        }
        for text in &self.trusted_proxies {
            match text.parse() {
                Ok(network) => options.trusted_proxies.push(network),
                Err(problem) => problems.push(format!("trusted_proxies: {problem}")),
            }
        }
        for text in &self.allowed_hosts {
            match text.parse() {
                Ok(host) => options.allowed_hosts.push(host),
                Err(problem) => problems.push(format!("allowed_hosts: {problem}")),
            }
        }
        let given = self
            .limits
            .iter()
            .map(|(key, number)| (key.as_str(), *number));
        if let Err(more) = options.limits.set(given) {
            problems.extend(more);
        }
        if problems.is_empty() {
            Ok(options)
        } else {
            Err(problems)
        }
    }
}

/// What every native child process is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChildOptions {
    pub(crate) logs: LogOptions,
    pub(crate) proxy: ProxyOptions,
    pub(crate) checkpoint: PathBuf,
    pub(crate) blob_directory: PathBuf,
    pub(crate) run_directory: PathBuf,
    pub(crate) node_id: String,
    /// The control port, as clients see it.
    pub(crate) control_address: String,
    /// `http_options` as the node runs with them, by the keys of a config.
    pub(crate) http_options: Map<String, Value>,
    /// Where the token of the control port is kept for the next start of the node; `None`: it is not.
    pub(crate) kept_token: Option<PathBuf>,
}

/// What the reaper is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReaperOptions {
    pub(crate) node_id: String,
    pub(crate) run_directory: PathBuf,
    pub(crate) state_directory: PathBuf,
    /// Both directories go with the node, as those of a script's node do.
    pub(crate) remove: bool,
    pub(crate) logs: LogOptions,
}

/// Host and port of HTTP when no option names them.
pub(crate) fn default_http_host() -> String {
    set(HTTP_HOST).unwrap_or_else(|| "127.0.0.1".to_owned())
}

pub(crate) fn default_http_port() -> Result<u16, String> {
    port(HTTP_PORT, 8000)
}

pub(crate) fn default_control_host() -> String {
    set(CONTROL_HOST).unwrap_or_else(|| "127.0.0.1".to_owned())
}

pub(crate) fn default_control_port() -> Result<u16, String> {
    port(CONTROL_PORT, STANDARD_CONTROL_PORT)
}

pub(crate) fn control_token_file() -> Option<PathBuf> {
    set(CONTROL_TOKEN_FILE).map(PathBuf::from)
}

impl MetricsOptions {
    /// From arguments, and variables where there are none. Naming a host or a port opens the port.
    ///
    /// # Errors
    /// What cannot be a port, or stand before a name.
    pub(crate) fn new(
        host: Option<String>,
        port_given: Option<u16>,
        prefix: Option<String>,
        replica_labels: Option<ReplicaLabels>,
    ) -> Result<Self, String> {
        let host = host.or_else(|| set(METRICS_HOST));
        let is_wanted = host.is_some() || port_given.is_some() || set(METRICS_PORT).is_some();
        let port = match port_given {
            Some(port) => port,
            None => port(METRICS_PORT, STANDARD_METRICS_PORT)?,
        };
        let prefix = prefix.or_else(|| set(METRICS_PREFIX)).unwrap_or_default();
        let mut bytes = prefix.bytes();
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if prefix.len() > 64
            || prefix.starts_with(|first: char| first.is_ascii_digit())
            || !bytes.all(fits)
        {
            return Err(format!(
                "{prefix:?} cannot stand before the names of metrics: use letters, digits and `_`, no digit first, as in ray_"
            ));
        }
        let replica_labels = match (replica_labels, set(METRICS_REPLICA_LABELS)) {
            (Some(labels), _) => labels,
            (None, None) => ReplicaLabels::default(),
            (None, Some(word)) => ReplicaLabels::from_str(&word, false).map_err(|_| {
                format!("{METRICS_REPLICA_LABELS}: {word:?} is not one of single, all, none")
            })?,
        };
        Ok(Self {
            prefix,
            replica_labels,
            listen: is_wanted.then(|| MetricsListen {
                host: host.unwrap_or_else(|| "127.0.0.1".to_owned()),
                port,
            }),
        })
    }
}

fn port(variable: &str, otherwise: u16) -> Result<u16, String> {
    match set(variable) {
        None => Ok(otherwise),
        Some(text) => text
            .parse()
            .map_err(|_| format!("{variable}={text} is not a port (0 to 65535)")),
    }
}

/// The networks of `FORWARDED_ALLOW_IPS`, which servers of Python read as well: addresses and networks between commas, or
/// `*` for all. Names are left out, since nothing here has one.
pub(crate) fn trusted_proxies() -> Vec<String> {
    set(TRUSTED_PROXIES).map_or_else(Vec::new, |text| networks_in(&text))
}

fn networks_in(text: &str) -> Vec<String> {
    text.split(',')
        .map(str::trim)
        .flat_map(|entry| match entry {
            "*" => vec!["0.0.0.0/0", "::/0"],
            entry => vec![entry],
        })
        .filter(|entry| entry.parse::<eagleray_proxy::Network>().is_ok())
        .map(ToOwned::to_owned)
        .collect()
}

/// The options in this process's environment.
pub(crate) fn own_options<T: serde::de::DeserializeOwned>() -> Result<T, String> {
    let text = env::var(OPTIONS)
        .map_err(|_| format!("{OPTIONS} is not set; this process is started by a node"))?;
    serde_json::from_str(&text).map_err(|error| format!("{OPTIONS}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_config_says_is_what_it_was_made_of() {
        let options = ProxyOptions {
            root_path: "/a".into(),
            request_timeout_s: Some(1.5),
            keep_alive_timeout_s: Some(7.0),
            trusted_proxies: vec!["10.0.0.0/8".into()],
            allowed_hosts: vec!["a.example".into()],
            limits: [("header_count".to_owned(), 7.0)].into(),
            tls: Some(TlsFiles {
                certificate: "/c".into(),
                key: "/k".into(),
                client_authorities: Some("/a".into()),
            }),
        };
        assert_eq!(ProxyOptions::of_config(&options.as_config()), options);
        let least = ProxyOptions::default();
        assert_eq!(ProxyOptions::of_config(&least.as_config()), least);
        let stated = json!({"request_timeout_s": -1, "host": null, "ssl_certfile": "/c"});
        let read = ProxyOptions::of_config(stated.as_object().expect("an object"));
        assert_eq!(read, least);
    }

    #[test]
    fn networks_of_the_environment_are_those_that_can_be_read() {
        assert_eq!(
            networks_in("10.0.0.1, 172.16.0.0/12"),
            ["10.0.0.1", "172.16.0.0/12"]
        );
        assert_eq!(networks_in("*"), ["0.0.0.0/0", "::/0"]);
        assert_eq!(networks_in("nginx,,10.0.0.0/99,::1"), ["::1"]);
    }
}
