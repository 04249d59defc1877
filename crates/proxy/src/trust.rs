//! Whose word about other clients is taken.
//!
//! `Forwarded`, `X-Forwarded-*` and `X-Eagleray-*` say what a proxy in front of this one knows. From anybody else they are
//! a way to lie to user code about who asks, so they are passed on from loopback and from the networks that the user
//! names, and dropped from all others. What they say of the client's address and scheme is in `origin`.

use std::{net::IpAddr, str::FromStr};

use http::{HeaderName, header};

/// An address, or all that share its first bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl FromStr for Network {
    type Err = String;

    /// `10.0.0.1`, `10.0.0.0/8`, `2001:db8::/32`.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no address and no network such as 10.0.0.0/8");
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => most,
            Some(bits) => bits.parse().map_err(|_| wrong())?,
        };
        if bits > most {
            return Err(wrong());
        }
        Ok(Self { address, bits })
    }
}

impl Network {
    fn contains(self, client: IpAddr) -> bool {
        let left =
            |bits: u128, width: u8| bits.checked_shr(u32::from(width - self.bits)).unwrap_or(0);
        match (self.address, client) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                left(u128::from(own.to_bits()), 32) == left(u128::from(other.to_bits()), 32)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                left(own.to_bits(), 128) == left(other.to_bits(), 128)
            }
            _ => false,
        }
    }
}

/// Whether what `client` says about others is passed on.
pub(crate) fn is_trusted(client: IpAddr, networks: &[Network]) -> bool {
    let client = client.to_canonical();
    client.is_loopback() || networks.iter().any(|network| network.contains(client))
}

/// Whether a field is the word of a proxy about its client.
pub(crate) fn is_about_client(name: &HeaderName) -> bool {
    let text = name.as_str();
    *name == header::FORWARDED
        || text.starts_with("x-forwarded-")
        || text.starts_with("x-eagleray-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_and_named_networks_are_trusted() {
        let networks: Vec<Network> = ["10.0.0.0/8", "192.168.1.7", "2001:db8::/32", "::/128"]
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        for (client, trusted) in [
            ("127.0.0.1", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("10.255.0.1", true),
            ("::ffff:10.0.0.1", true),
            ("11.0.0.1", false),
            ("192.168.1.7", true),
            ("192.168.1.8", false),
            ("2001:db8:1::1", true),
            ("2001:db9::1", false),
        ] {
            assert_eq!(
                is_trusted(client.parse().unwrap(), &networks),
                trusted,
                "{client}"
            );
        }
        let all: Network = "0.0.0.0/0".parse().unwrap();
        assert!(is_trusted("8.8.8.8".parse().unwrap(), &[all]));
        assert!(!is_trusted("8.8.8.8".parse().unwrap(), &[]));
    }

    #[test]
    fn what_is_no_network_is_named() {
        for text in [
            "",
            "localhost",
            "10.0.0.0/33",
            "10.0.0.0/x",
            "10.0.0.0/",
            "::/129",
            "10.0.0/8",
        ] {
            assert!(text.parse::<Network>().unwrap_err().contains(text));
        }
    }
}
