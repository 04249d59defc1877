//! Who is at the two ends of a connection.

use std::net::SocketAddr;

use tokio::net::TcpStream;

use crate::trust::{Network, is_trusted};

/// Both ends of a connection, as text and port.
#[derive(Debug)]
pub(crate) struct Peers {
    pub(crate) client: (Box<str>, u16),
    pub(crate) server: (Box<str>, u16),
    /// What the client says about others is passed on.
    pub(crate) trusted: bool,
}

impl Peers {
    pub(super) fn of(stream: &TcpStream, client: SocketAddr, trusted: &[Network]) -> Self {
        let text = |address: SocketAddr| {
            (
                address.ip().to_canonical().to_string().into_boxed_str(),
                address.port(),
            )
        };
        let server = stream.local_addr().map_or_else(|_| ("".into(), 0), text);
        Self {
            client: text(client),
            server,
            trusted: is_trusted(client.ip(), trusted),
        }
    }
}
