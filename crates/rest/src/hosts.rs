//! The hosts that requests to the control port may name.

use std::net::IpAddr;

/// The hosts that requests may name.
#[derive(Clone, Debug)]
pub struct Hosts {
    /// The bound one, in lower case.
    bound: String,
}

impl Hosts {
    /// Loopback, and the host of `address` (`http://10.1.2.3:8265`).
    pub fn of(address: &str) -> Self {
        let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
        Self {
            bound: host(rest).to_ascii_lowercase(),
        }
    }

    /// Whether a Host header may say this. Its port is not looked at: a tunnel has another one.
    pub fn allow(&self, text: &str) -> bool {
        let host = host(text).to_ascii_lowercase();
        let name = host.strip_suffix('.').unwrap_or(&host);
        let address = name
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        name == "localhost"
            || name.ends_with(".localhost")
            || address
                .unwrap_or(name)
                .parse::<IpAddr>()
                .is_ok_and(|address| address.is_loopback())
            || (!host.is_empty() && host == self.bound)
    }
}

/// Without its port.
fn host(text: &str) -> &str {
    if text.starts_with('[') {
        let end = text.find(']').map_or(text.len(), |at| at + 1);
        return text.get(..end).unwrap_or(text);
    }
    text.rsplit_once(':').map_or(text, |(host, _)| host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_and_the_bound_host_are_ours() {
        let hosts = Hosts::of("http://10.1.2.3:8265");
        for ours in [
            "localhost",
            "LOCALHOST:8265",
            "127.0.0.1:1",
            "127.9.9.9",
            "[::1]:8265",
            "app.localhost:80",
            "localhost.:80",
            "10.1.2.3:8265",
        ] {
            assert!(hosts.allow(ours), "{ours}");
        }
        for other in [
            "",
            "example.com",
            "127.0.0.1.example.com:8265",
            "localhost.example.com",
            "10.1.2.4",
            "[::2]:8265",
            "[::1",
            "0.0.0.0:8265",
        ] {
            assert!(!hosts.allow(other), "{other}");
        }
    }
}
