//! The options of the control port, which `start` and the nodes of scripts share.

use std::{
    net::ToSocketAddrs,
    path::{Path, PathBuf},
};

use clap::Args;

use crate::settings::{self, ControlOptions, MetricsOptions, ReplicaLabels};

#[derive(Debug, Args)]
pub(super) struct ControlArguments {
    /// Where the control port listens: REST, and this command line [default: 127.0.0.1, or `EAGLERAY_CONTROL_HOST`].
    #[arg(long, value_name = "HOST")]
    control_host: Option<String>,
    /// Its port, 0 for any [default: 8265, or `EAGLERAY_CONTROL_PORT`].
    #[arg(long, value_name = "PORT")]
    control_port: Option<u16>,
    /// The file whose one line is the token of the control port, read anew when it changes [default: one that is made in the
    /// run directory at each start, or `EAGLERAY_CONTROL_TOKEN_FILE`].
    #[arg(long, value_name = "FILE")]
    control_token_file: Option<PathBuf>,
    #[command(flatten)]
    metrics: MetricsArguments,
}

#[derive(Debug, Args)]
#[expect(
    clippy::struct_field_names,
    reason = "an argument is known by its field's name, among all of its command"
)]
struct MetricsArguments {
    /// Opens a port that answers `/metrics` and `/-/healthz` only, without a token, for a Prometheus on another machine
    /// [default: none, or `EAGLERAY_METRICS_HOST`].
    #[arg(long, value_name = "HOST")]
    metrics_host: Option<String>,
    /// Its port, 0 for any; opens it on 127.0.0.1 if no host is given [default: 9464, or `EAGLERAY_METRICS_PORT`].
    #[arg(long, value_name = "PORT")]
    metrics_port: Option<u16>,
    /// Stands before the name of every metric, such as `ray_` for boards made for Ray [default: nothing, or
    /// `EAGLERAY_METRICS_PREFIX`].
    #[arg(long, value_name = "PREFIX")]
    metrics_prefix: Option<String>,
    /// Which metrics have the labels `replica` and `actor_id`: `single`, counters and gauges; `all`, histograms too;
    /// `none` [default: single, or `EAGLERAY_METRICS_REPLICA_LABELS`].
    #[arg(long, value_name = "WHICH", value_enum, hide_possible_values = true)]
    metrics_replica_labels: Option<ReplicaLabels>,
}

impl ControlArguments {
    pub(super) fn options(&self) -> Result<ControlOptions, String> {
        let host = self.control_host.clone();
        let host = host.unwrap_or_else(settings::default_control_host);
        must_be_loopback(&host)?;
        let token_file = self
            .control_token_file
            .clone()
            .or_else(settings::control_token_file);
        let token_file = token_file.as_ref().map(absolute).transpose()?;
        if let Some(file) = &token_file {
            must_hold_a_token(file)?;
        }
        Ok(ControlOptions {
            host,
            port: match self.control_port {
                Some(port) => port,
                None => settings::default_control_port()?,
            },
            token_file,
            metrics: MetricsOptions::new(
                self.metrics.metrics_host.clone(),
                self.metrics.metrics_port,
                self.metrics.metrics_prefix.clone(),
                self.metrics.metrics_replica_labels,
            )?,
        })
    }
}

/// A token in clear text is no protection on a network.
fn must_be_loopback(host: &str) -> Result<(), String> {
    // A name that has no address is said where the port is opened.
    let mut addresses = (host, 0).to_socket_addrs().into_iter().flatten();
    match addresses.find(|address| !address.ip().is_loopback()) {
        None => Ok(()),
        Some(address) => Err(format!(
            "the control port does not listen on {host} ({}): other machines can reach it, and it has no TLS, so whoever \
             listens on the way would read the token. Leave it on 127.0.0.1 and come through a tunnel (ssh -L \
             8265:127.0.0.1:8265) or a reverse proxy with TLS",
            address.ip()
        )),
    }
}

fn must_hold_a_token(file: &Path) -> Result<(), String> {
    let wrong = |problem: &str| {
        format!(
            "the token of the control port cannot be taken from {}: {problem}; write one line into it, such as the output \
             of `openssl rand -hex 32`",
            file.display()
        )
    };
    match std::fs::read_to_string(file) {
        Ok(text) if text.trim().is_empty() => Err(wrong("it is empty")),
        Ok(_) => Ok(()),
        Err(error) => Err(wrong(&error.to_string())),
    }
}

/// The node works elsewhere.
fn absolute(path: &PathBuf) -> Result<PathBuf, String> {
    std::path::absolute(path).map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_listened_on() {
        for host in ["127.0.0.1", "127.0.0.2", "::1", "localhost"] {
            assert_eq!(must_be_loopback(host), Ok(()), "{host}");
        }
        for host in ["0.0.0.0", "::", "192.0.2.1"] {
            let refusal = must_be_loopback(host).unwrap_err();
            assert!(
                refusal.contains("TLS") && refusal.contains("tunnel"),
                "{refusal}"
            );
        }
    }
}
