//! What a proxy can be told. Plain fields: the executable reads its file or environment and fills them in.

use std::{num::NonZeroUsize, path::PathBuf, time::Duration};

use eagleray_logs::{Encoding, Log};

use crate::{hosts::Host, limits::Limits, tls::TlsOptions, trust::Network};

/// Options of one proxy process.
#[derive(Clone, Debug)]
pub struct Options {
    /// Threads, each with its own connections and router. By default a quarter of the cores, 1 to 8.
    pub threads: NonZeroUsize,
    /// Stands before every route prefix; empty, or `/a/b`.
    pub root_path: String,
    /// The time limit of a request, from its head to the last byte of its answer.
    pub request_timeout: Option<Duration>,
    /// How long a connection may be idle between requests.
    pub keep_alive: Duration,
    /// The bounds on what clients may cost.
    pub limits: Limits,
    /// Whose `X-Forwarded-*` and the like are believed and reach user code, besides loopback.
    pub trusted_proxies: Vec<Network>,
    /// The hosts that requests may name; empty: any.
    pub allowed_hosts: Vec<Host>,
    /// Certificate and key; `None`: plain TCP.
    pub tls: Option<TlsOptions>,
    /// Where access lines go; `None` writes none.
    pub access_log: Option<Log>,
    /// How they are written.
    pub access_log_encoding: Encoding,
    /// Where requests are counted; `None`: nowhere that anybody reads.
    pub metrics: Option<MetricsOptions>,
}

/// Where the threads of a proxy count.
#[derive(Clone, Debug)]
pub struct MetricsOptions {
    /// Of the sheets of a node.
    pub directory: PathBuf,
    pub node_id: String,
    /// Where the node is, as metrics say it.
    pub node_address: String,
}

impl Default for Options {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self {
            threads: NonZeroUsize::new((cores / 4).clamp(1, 8)).unwrap_or(NonZeroUsize::MIN),
            root_path: String::new(),
            request_timeout: None,
            keep_alive: Duration::from_secs(90),
            limits: Limits::default(),
            trusted_proxies: Vec::new(),
            allowed_hosts: Vec::new(),
            tls: None,
            access_log: None,
            access_log_encoding: Encoding::default(),
            metrics: None,
        }
    }
}
