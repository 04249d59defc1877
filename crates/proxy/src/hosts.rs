//! The host names under which the ingress is served.
//!
//! A page of a stranger can give its own name the address 127.0.0.1 (DNS rebinding): the browser then takes a service on
//! loopback for a part of that page. What tells such a request apart is its Host. Without a list any host will do; with one,
//! a request that names another is answered 421, whatever protocol it came by, but for `/-/healthz`, since what asks for
//! health knows an address at most.

use std::str::FromStr;

/// A host name, an address, or (`*.example.com`) all names below one. Ports do not matter, and neither does case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    name: Box<[u8]>,
    below: bool,
}

impl FromStr for Host {
    type Err = String;

    /// `example.com`, `*.example.com`, `10.0.0.1`, `::1`, `[::1]`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, below) = match text.strip_prefix("*.") {
            Some(name) => (name, true),
            None => (text, false),
        };
        let address = name
            .strip_prefix('[')
            .and_then(|name| name.strip_suffix(']'))
            .unwrap_or(name);
        let is_address = address.parse::<std::net::Ipv6Addr>().is_ok() && !below;
        let of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if !is_address && (name.is_empty() || !name.bytes().all(of_name)) {
            return Err(format!(
                "{text:?} is no host name, no address, and no *. before a name; ports do not belong here"
            ));
        }
        Ok(Self {
            name: plain(address.as_bytes()).into(),
            below,
        })
    }
}

impl Host {
    /// Whether this is the name of a Host field, without its port.
    fn is(&self, name: &[u8]) -> bool {
        if !self.below {
            return name.eq_ignore_ascii_case(&self.name);
        }
        name.len()
            .checked_sub(self.name.len() + 1)
            .and_then(|dot| name.split_at_checked(dot))
            .is_some_and(|(before, rest)| {
                !before.is_empty() && rest[0] == b'.' && rest[1..].eq_ignore_ascii_case(&self.name)
            })
    }
}

/// Whether a request with this Host (`None`: it has none) is for us.
pub(crate) fn are_allowed(host: Option<&[u8]>, allowed: &[Host]) -> bool {
    if allowed.is_empty() {
        return true;
    }
    let Some(host) = host else { return false };
    let name = match host {
        [b'[', rest @ ..] => rest.split(|byte| *byte == b']').next(),
        _ => host.split(|byte| *byte == b':').next(),
    };
    let name = plain(name.unwrap_or_default());
    allowed.iter().any(|host| host.is(name))
}

/// Without the dot that may end a full name.
fn plain(name: &[u8]) -> &[u8] {
    name.strip_suffix(b".").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_allowed_by_its_name_whatever_its_port_and_case() {
        let list = ["localhost", "*.Example.com", "10.0.0.1", "[::1]"];
        let allowed: Vec<Host> = list.iter().map(|text| text.parse().unwrap()).collect();
        let takes = |host: &str| are_allowed(Some(host.as_bytes()), &allowed);
        for host in [
            "localhost",
            "LocalHost:8000",
            "localhost.:1",
            "a.example.com",
            "a.b.EXAMPLE.com:80",
            "10.0.0.1:8000",
            "[::1]",
            "[::1]:8000",
        ] {
            assert!(takes(host), "{host}");
        }
        for host in [
            "",
            "evil.test",
            "example.com",
            ".example.com",
            "xexample.com",
            "localhost.evil.test",
            "evillocalhost",
            "10.0.0.10",
            "[::2]:1",
        ] {
            assert!(!takes(host), "{host}");
        }
        assert!(!are_allowed(None, &allowed));
        assert!(are_allowed(None, &[]) && are_allowed(Some(b"evil.test"), &[]));
    }

    #[test]
    fn what_is_no_host_is_refused_in_words() {
        for text in [
            "", "*", "*.", "a b", "http://a", "a:80", "a/b", "*.[::1]", "[a]",
        ] {
            let problem = text.parse::<Host>().unwrap_err();
            assert!(problem.contains(&format!("{text:?}")), "{problem}");
        }
    }
}
