//! The server's end of a handshake, and which cipher it takes.
//!
//! AES with a key of 128 bits where a client offers it, as browsers and Go's servers choose: nobody has come near to breaking
//! it, and it is the quicker one on both sides. OpenSSL names 256 bits first, so curl and Python's clients would get those if
//! their order held. A client that prefers `ChaCha20` has no instructions for AES, and its order holds.

use std::{io, sync::Arc};

use rustls::{
    CipherSuite, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    server::Acceptor,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};

/// The one provider of cryptography, its suites in our order.
pub(super) fn provider() -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    provider
        .cipher_suites
        .sort_by_key(|suite| !is_aes_128(suite.suite()));
    provider
}

/// Gathers what the process's randomness begins with, if it has not: some 25 ms, which the first client would wait for.
pub(crate) fn begin_randomness() {
    // A failure is met again in each handshake, which ends there.
    aws_lc_rs::default_provider()
        .secure_random
        .fill(&mut [0])
        .ok();
}

/// What connections that begin are served with. Sessions and certificates are the same in both.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    our_order: Arc<ServerConfig>,
    clients_order: Arc<ServerConfig>,
}

impl Server {
    pub(super) fn new(mut config: ServerConfig) -> Self {
        config.ignore_client_order = false;
        let clients_order = Arc::new(config.clone());
        config.ignore_client_order = true;
        Self {
            our_order: Arc::new(config),
            clients_order,
        }
    }

    /// Takes a handshake.
    pub(crate) async fn accept<S>(&self, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        let config = if prefers_chacha(start.client_hello().cipher_suites()) {
            &self.clients_order
        } else {
            &self.our_order
        };
        start.into_stream(Arc::clone(config)).await
    }
}

fn is_aes_128(suite: CipherSuite) -> bool {
    use CipherSuite::{
        TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        TLS13_AES_128_GCM_SHA256,
    };
    matches!(
        suite,
        TLS13_AES_128_GCM_SHA256
            | TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
            | TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
    )
}

fn is_chacha(suite: CipherSuite) -> bool {
    use CipherSuite::{
        TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        TLS13_CHACHA20_POLY1305_SHA256,
    };
    matches!(
        suite,
        TLS13_CHACHA20_POLY1305_SHA256
            | TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
            | TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
    )
}

/// Whether the first of what a client offers and we know is `ChaCha20`. What nobody knows (GREASE) is passed over.
fn prefers_chacha(offered: &[CipherSuite]) -> bool {
    offered
        .iter()
        .find(|offered| {
            aws_lc_rs::ALL_CIPHER_SUITES
                .iter()
                .any(|known| known.suite() == **offered)
        })
        .is_some_and(|first| is_chacha(*first))
}
