//! The options of HTTP, which `run`, `start` and the nodes of scripts share.

use std::{env, path::PathBuf};

use clap::Args;
use eagleray_supervisor::{resources::Declared, run_directory};

use crate::settings::{self, ControlOptions, NodeOptions, ProxyOptions, TlsFiles};

#[derive(Debug, Args)]
pub(super) struct HttpArguments {
    /// Where HTTP listens [default: 127.0.0.1, or `EAGLERAY_SERVE_DEFAULT_HTTP_HOST`].
    #[arg(long = "http-host", value_name = "HOST")]
    pub(super) host: Option<String>,
    /// Port of HTTP, 0 for any [default: 8000, or `EAGLERAY_SERVE_DEFAULT_HTTP_PORT`].
    #[arg(long = "http-port", value_name = "PORT")]
    pub(super) port: Option<u16>,
    /// No HTTP: nothing listens, and applications are reached by handles.
    #[arg(long, conflicts_with_all = ["host", "port", "ssl_certfile"])]
    pub(super) no_http: bool,
    /// Path before every route prefix.
    #[arg(long = "http-root-path", value_name = "PATH", default_value = "")]
    pub(super) root_path: String,
    /// Time limit of a request, to the last byte of its answer [default: none].
    #[arg(long = "http-request-timeout-s", value_name = "SECONDS")]
    pub(super) request_timeout_s: Option<f64>,
    /// How long a connection may be idle between requests [default: 90].
    #[arg(long = "http-keep-alive-timeout-s", value_name = "SECONDS")]
    pub(super) keep_alive_timeout_s: Option<f64>,
    /// An address or network, such as 10.0.0.0/8, whose `X-Forwarded-*` and `Forwarded` say who the client is. Loopback
    /// always may [default: those of `FORWARDED_ALLOW_IPS`].
    #[arg(long = "http-trusted-proxy", value_name = "NETWORK")]
    pub(super) trusted_proxies: Vec<String>,
    /// A host that requests may name, such as example.com or *.example.com; others are answered 421. May be given many
    /// times [default: any].
    #[arg(long = "http-allowed-host", value_name = "HOST")]
    pub(super) allowed_hosts: Vec<String>,
    /// A limit of docs/limits.md, such as `header_count=200`. May be given many times.
    #[arg(long = "http-limit", value_name = "KEY=NUMBER", value_parser = key_and_number)]
    pub(super) limits: Vec<(String, f64)>,
    /// PEM file of the server's certificate: HTTP is served over TLS.
    #[arg(
        long = "http-ssl-certfile",
        value_name = "FILE",
        requires = "ssl_keyfile"
    )]
    pub(super) ssl_certfile: Option<PathBuf>,
    /// PEM file of its private key, not encrypted.
    #[arg(
        long = "http-ssl-keyfile",
        value_name = "FILE",
        requires = "ssl_certfile"
    )]
    pub(super) ssl_keyfile: Option<PathBuf>,
    /// PEM file of the authorities that sign clients' certificates, which every client must show then.
    #[arg(
        long = "http-ssl-ca-certs",
        value_name = "FILE",
        requires = "ssl_certfile"
    )]
    pub(super) ssl_ca_certs: Option<PathBuf>,
}

impl HttpArguments {
    /// Options of a resident node with these.
    pub(super) fn options(
        &self,
        name: String,
        control: ControlOptions,
    ) -> Result<NodeOptions, String> {
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
            control,
            proxy,
            resources: Declared::default(),
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
