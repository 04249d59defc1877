//! Where a request came from, as the trusted proxies in front of this one say.
//!
//! `X-Forwarded-For` and `X-Forwarded-Proto`, or else `Forwarded` (RFC 7239), are lists to which each proxy on the way adds
//! what it sees. They are read from their end: there every entry is the word of a trusted proxy, up to the first address
//! that is not trusted itself. That is the client, and what stands before it is only the client's claim. An entry that is
//! no address ends the search as well: the client is then the last one that is known.
//!
//! `Forwarded` counts only where neither of the others is there: a proxy that sets those passes on what a client wrote
//! into this one.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::{HeaderMap, HeaderName, header};

use crate::trust::{Network, is_trusted};

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// What trusted proxies say of a request; `None`: they do not say, so it is what the connection is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Origin {
    /// Address and port of the client; 0: the port is not known.
    pub(crate) client: Option<(IpAddr, u16)>,
    /// Whether the client spoke TLS.
    pub(crate) tls: Option<bool>,
}

/// Whether a field may say something of the origin.
pub(crate) fn is_about_origin(name: &[u8]) -> bool {
    name.starts_with(b"x-forwarded-") || name == b"forwarded"
}

impl Origin {
    /// Reads the fields of a request that came from a trusted proxy.
    pub(crate) fn of(headers: &HeaderMap, trusted: &[Network]) -> Self {
        if headers.contains_key(FOR) || headers.contains_key(PROTO) {
            let (client, hop) = client(entries(headers, &FOR), trusted);
            return Self {
                client,
                tls: tls(entries(headers, &PROTO), hop),
            };
        }
        let nodes = entries(headers, &header::FORWARDED)
            .map(|element| parameter(element, b"for").unwrap_or_default());
        let (client, hop) = client(nodes, trusted);
        let schemes = entries(headers, &header::FORWARDED)
            .map(|element| parameter(element, b"proto").unwrap_or_default());
        Self {
            client,
            tls: tls(schemes, hop),
        }
    }
}

/// The entries of a list, over all lines of the field, the last one first.
///
/// A comma inside quotes divides too: else a client could open a quote, and what proxies add would be inside it.
fn entries<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    headers
        .get_all(name)
        .iter()
        .rev()
        .flat_map(|value| value.as_bytes().rsplit(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|entry| !entry.is_empty())
}

/// The client, and how many proxies stand between it and the last one.
fn client<'a>(
    nodes: impl Iterator<Item = &'a [u8]>,
    trusted: &[Network],
) -> (Option<(IpAddr, u16)>, usize) {
    let mut known = None;
    let mut hops = 0;
    for (hop, node) in nodes.enumerate() {
        hops = hop;
        if node.starts_with(b"unix:") {
            // Another proxy on the machine of one that is trusted.
            continue;
        }
        let Some(address) = address(node) else {
            break;
        };
        known = Some(address);
        if !is_trusted(address.0, trusted) {
            break;
        }
    }
    (known, hops)
}

/// What the proxy says to which the client spoke. One that overwrites the field, rather than adding to it, leaves fewer
/// entries: then it is the first.
fn tls<'a>(schemes: impl Iterator<Item = &'a [u8]>, hops: usize) -> Option<bool> {
    let scheme = schemes.take(hops + 1).last()?.to_ascii_lowercase();
    match &scheme[..] {
        b"https" | b"wss" => Some(true),
        b"http" | b"ws" => Some(false),
        _ => None,
    }
}

/// The value of a parameter of an element of `Forwarded`, without quotes.
fn parameter<'a>(element: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    element.split(|byte| *byte == b';').find_map(|pair| {
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        let (found, value) = (&pair[..equals], pair[equals + 1..].trim_ascii());
        let unquoted = value
            .strip_prefix(b"\"")
            .and_then(|value| value.strip_suffix(b"\""));
        found
            .trim_ascii()
            .eq_ignore_ascii_case(name)
            .then_some(unquoted.unwrap_or(value))
    })
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`.
fn address(node: &[u8]) -> Option<(IpAddr, u16)> {
    let text = std::str::from_utf8(node).ok()?;
    let (ip, port) = if let Ok(ip) = text.parse::<IpAddr>() {
        (ip, 0)
    } else if let Ok(socket) = text.parse::<SocketAddr>() {
        (socket.ip(), socket.port())
    } else {
        let inner = text.strip_prefix('[')?.strip_suffix(']')?;
        (inner.parse::<Ipv6Addr>().ok()?.into(), 0)
    };
    Some((ip.to_canonical(), port))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    /// The client, empty if it is not known, and whether it spoke TLS.
    fn origin(fields: &[(&'static str, &str)]) -> (String, Option<bool>) {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let trusted: Vec<Network> = ["10.0.0.0/8", "2001:db8:f::/48"]
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        let found = Origin::of(&headers, &trusted);
        let client = found
            .client
            .map_or_else(String::new, |(ip, port)| format!("{ip} {port}"));
        (client, found.tls)
    }

    fn client(value: &str) -> String {
        origin(&[("x-forwarded-for", value)]).0
    }

    #[test]
    fn the_client_is_the_last_address_that_is_not_trusted() {
        assert_eq!(client("203.0.113.9"), "203.0.113.9 0");
        assert_eq!(client("6.6.6.6, 203.0.113.9"), "203.0.113.9 0");
        assert_eq!(
            client("6.6.6.6, 203.0.113.9,10.0.0.1 , 127.0.0.1"),
            "203.0.113.9 0"
        );
        assert_eq!(client("10.0.0.3, 10.0.0.2"), "10.0.0.3 0");
        assert_eq!(client("203.0.113.9, unix:"), "203.0.113.9 0");
        let lines = [
            ("x-forwarded-for", "6.6.6.6"),
            ("x-forwarded-for", "203.0.113.9"),
        ];
        assert_eq!(origin(&lines).0, "203.0.113.9 0");
    }

    #[test]
    fn addresses_of_both_families_come_with_and_without_ports() {
        for (text, expected) in [
            ("203.0.113.9:4711", "203.0.113.9 4711"),
            ("2001:db8::7", "2001:db8::7 0"),
            ("[2001:db8::7]", "2001:db8::7 0"),
            ("[2001:db8::7]:4711", "2001:db8::7 4711"),
            ("::ffff:203.0.113.9", "203.0.113.9 0"),
            ("203.0.113.9, 2001:db8:f::1", "203.0.113.9 0"),
        ] {
            assert_eq!(client(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_address_says_nothing_and_ends_the_search() {
        for text in [
            "",
            " , ,",
            "unknown",
            "unix:",
            "_hidden",
            "1.2.3",
            "1.2.3.4:99999",
            "[::1",
            "<script>",
            "6.6.6.6, x",
        ] {
            assert_eq!(client(text), "", "{text:?}");
        }
        assert_eq!(client("6.6.6.6, unknown, 10.0.0.2"), "10.0.0.2 0");
    }

    #[test]
    fn the_scheme_is_what_the_proxy_of_the_client_says() {
        let tls = |proto: &str, clients: &str| {
            origin(&[("x-forwarded-proto", proto), ("x-forwarded-for", clients)]).1
        };
        assert_eq!(tls("https", "203.0.113.9"), Some(true));
        assert_eq!(tls(" WSS ", "203.0.113.9"), Some(true));
        assert_eq!(tls("http", "203.0.113.9"), Some(false));
        // Two proxies, of which each added what it saw, and one of which the second left the field alone.
        assert_eq!(tls("https, http", "203.0.113.9, 10.0.0.1"), Some(true));
        assert_eq!(tls("https", "203.0.113.9, 10.0.0.1"), Some(true));
        // What the client wrote itself.
        assert_eq!(tls("https, http", "203.0.113.9"), Some(false));
        assert_eq!(tls("gopher", "203.0.113.9"), None);
        assert_eq!(
            origin(&[("x-forwarded-proto", "https")]),
            (String::new(), Some(true))
        );
    }

    #[test]
    fn the_standard_field_counts_where_the_others_are_not() {
        let forwarded = |value: &str| origin(&[("forwarded", value)]);
        assert_eq!(
            forwarded("for=192.0.2.60;proto=https;by=203.0.113.43"),
            ("192.0.2.60 0".to_owned(), Some(true))
        );
        assert_eq!(
            forwarded("For=\"[2001:db8:cafe::17]:4711\" ; Proto=http, for=10.0.0.1;proto=https"),
            ("2001:db8:cafe::17 4711".to_owned(), Some(false))
        );
        assert_eq!(forwarded("proto=https"), (String::new(), Some(true)));
        assert_eq!(
            forwarded("for=unknown;proto=https"),
            (String::new(), Some(true))
        );
        // A quote that a client opens does not hide what a proxy adds.
        assert_eq!(
            forwarded("for=\"6.6.6.6, for=203.0.113.9"),
            ("203.0.113.9 0".to_owned(), None)
        );
        assert_eq!(forwarded("for;=;==,;"), (String::new(), None));
        let both = [
            ("forwarded", "for=6.6.6.6;proto=https"),
            ("x-forwarded-for", "203.0.113.9"),
        ];
        assert_eq!(origin(&both), ("203.0.113.9 0".to_owned(), None));
    }
}
