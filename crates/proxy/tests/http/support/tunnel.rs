//! Puts TLS between a client of a test and the proxy, so that the tests of plain sockets are tests of TLS too.
//!
//! A client speaks plainly to the tunnel, which speaks TLS with the proxy: a connection for a connection, an end for an end
//! (of one direction or both), a reset for a reset, and next to nothing kept in between, so that whoever does not read
//! stops whoever writes.

use std::{io::ErrorKind, net::SocketAddr, path::PathBuf, sync::Arc, thread::JoinHandle};

use eagleray_proxy::TlsOptions;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::oneshot,
    task::{LocalSet, spawn_local},
};
use tokio_rustls::TlsConnector;

/// What the kernel keeps of one direction on one of the tunnel's sockets.
const KERNEL_BYTES: u32 = 16 * 1024;
const PIECE_BYTES: usize = 8 * 1024;

/// A certificate for `localhost` with its key, as files.
pub(crate) struct Identity {
    folder: tempfile::TempDir,
}

impl Identity {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(folder.path().join("certificate"), made.cert.pem()).unwrap();
        std::fs::write(folder.path().join("key"), made.signing_key.serialize_pem()).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn options(&self) -> TlsOptions {
        TlsOptions {
            certificate: self.path("certificate"),
            key: self.path("key"),
            client_authorities: None,
        }
    }

    /// What a client must know to connect, and offers by ALPN.
    fn connector(&self, alpn: &[u8]) -> TlsConnector {
        let certificate = CertificateDer::from_pem_file(self.path("certificate")).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![alpn.to_vec()];
        TlsConnector::from(Arc::new(config))
    }
}

pub(crate) struct Tunnel {
    /// Where a client of HTTP/1.1 connects.
    pub(crate) http1: SocketAddr,
    pub(crate) http2: SocketAddr,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Tunnel {
    /// A tunnel to the proxy at this address, which has that identity.
    pub(crate) fn new(proxy: SocketAddr, identity: &Identity) -> Self {
        let connectors = [identity.connector(b"http/1.1"), identity.connector(b"h2")];
        let (end, ended) = oneshot::channel();
        let (tell, told) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let tasks = LocalSet::new();
            tasks.block_on(&runtime, async move {
                for connector in connectors {
                    let listener = listen();
                    tell.send(listener.local_addr().unwrap()).unwrap();
                    spawn_local(accept(listener, proxy, connector));
                }
                ended.await.ok();
            });
        });
        Self {
            http1: told.recv().unwrap(),
            http2: told.recv().unwrap(),
            end: Some(end),
            thread: Some(thread),
        }
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.end.take();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

fn socket() -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(KERNEL_BYTES).unwrap();
    socket.set_send_buffer_size(KERNEL_BYTES).unwrap();
    socket
}

fn listen() -> TcpListener {
    let socket = socket();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    socket.listen(1024).unwrap()
}

async fn accept(listener: TcpListener, proxy: SocketAddr, connector: TlsConnector) {
    loop {
        let (client, _) = listener.accept().await.unwrap();
        spawn_local(carry(client, proxy, connector.clone()));
    }
}

async fn carry(client: TcpStream, proxy: SocketAddr, connector: TlsConnector) {
    client.set_nodelay(true).unwrap();
    let Ok(server) = socket().connect(proxy).await else {
        return;
    };
    server.set_nodelay(true).unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    // A proxy that refuses the connection closes it before any handshake.
    let Ok(server) = connector.connect(name, server).await else {
        return;
    };
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_server, mut to_server) = tokio::io::split(server);
    let passed = tokio::try_join!(
        pass(&mut from_client, &mut to_server),
        pass(&mut from_server, &mut to_client),
    );
    if passed.is_err() {
        let server = from_server.unsplit(to_server);
        for socket in [&from_client.unsplit(to_client), server.get_ref().0] {
            socket.set_zero_linger().ok();
        }
    }
}

/// Passes on what comes, up to its end.
async fn pass(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
) -> std::io::Result<()> {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match from.read(&mut piece).await {
            // An end without a word of TLS is an end.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => break,
            Ok(0) => break,
            Ok(length) => {
                to.write_all(&piece[..length]).await?;
                to.flush().await?;
            }
            Err(error) => return Err(error),
        }
    }
    to.shutdown().await
}
