//! TLS of the ingress: what it chooses, what it refuses, and that a handshake has a time limit.

use std::{
    io::{Read, Write},
    net::TcpStream,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use eagleray_proxy::{Limits, Options, TlsOptions};
use eagleray_wire::{Flags, Kind, RequestHead};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    CipherSuite, ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
};

use crate::http2::counted;
use crate::support::{
    PATIENCE, Proxy, Replica,
    raw::{self, Raw},
    target,
};

/// An authority, with certificates of a server and a client that it signed.
struct Authority {
    folder: tempfile::TempDir,
    root: CertificateDer<'static>,
    client: (CertificateDer<'static>, PrivateKeyDer<'static>),
}

impl Authority {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = params.self_signed(&key).unwrap();
        let issuer = Issuer::from_params(&params, &key);
        let leaf = || {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
            (params.signed_by(&key, &issuer).unwrap(), key)
        };
        let (server, server_key) = leaf();
        let (client, client_key) = leaf();
        let write = |name: &str, text: String| {
            std::fs::write(folder.path().join(name), text).unwrap();
        };
        write("root", root.pem());
        write("server", server.pem());
        write("key", server_key.serialize_pem());
        Self {
            root: root.der().clone(),
            client: (
                client.der().clone(),
                PrivateKeyDer::try_from(client_key.serialize_der()).unwrap(),
            ),
            folder,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn proxy(&self, replica: &Replica, wants_client: bool, limits: Limits) -> Proxy {
        let mut proxy = Proxy::with(Options {
            threads: 1.try_into().unwrap(),
            limits,
            tls: Some(TlsOptions {
                certificate: self.path("server"),
                key: self.path("key"),
                client_authorities: wants_client.then(|| self.path("root")),
            }),
            ..Options::default()
        });
        proxy.snapshot(&[("/", target("D", &[replica]))]);
        proxy
    }

    fn connect(
        &self,
        proxy: &Proxy,
        alpn: &[&[u8]],
        shows_certificate: bool,
    ) -> StreamOwned<ClientConnection, TcpStream> {
        self.connect_with(
            aws_lc_rs::default_provider(),
            proxy,
            alpn,
            shows_certificate,
        )
    }

    fn connect_with(
        &self,
        provider: CryptoProvider,
        proxy: &Proxy,
        alpn: &[&[u8]],
        shows_certificate: bool,
    ) -> StreamOwned<ClientConnection, TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = if shows_certificate {
            let (certificate, key) = &self.client;
            builder
                .with_client_auth_cert(vec![certificate.clone()], key.clone_key())
                .unwrap()
        } else {
            builder.with_no_client_auth()
        };
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let name = ServerName::try_from("localhost").unwrap();
        let connection = ClientConnection::new(Arc::new(config), name).unwrap();
        let stream = TcpStream::connect(proxy.own_address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        StreamOwned::new(connection, stream)
    }
}

/// Answers one request, and checks what its head says of TLS.
fn answer_one(replica: &Replica, version: u8) {
    let mut connection = replica.accept();
    let request = connection.expect(Kind::Request);
    let (RequestHead::Http(head), _) = RequestHead::decode(&request.payload).unwrap() else {
        panic!("not http")
    };
    assert_eq!((head.tls, head.version), (true, version));
    assert!(connection.start(&request));
    connection.answer(&request, 200, &[], b"a whole answer");
}

/// Reads until these bytes have come; returns all that has.
fn read_until(stream: &mut impl Read, wanted: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    while !bytes.windows(wanted.len()).any(|window| window == wanted) {
        let mut chunk = [0; 4096];
        let length = stream.read(&mut chunk).unwrap();
        assert_ne!(length, 0, "{:?}", String::from_utf8_lossy(&bytes));
        bytes.extend(&chunk[..length]);
    }
    bytes
}

/// The longest of these frames of HTTP/2, with its header.
fn longest_frame(mut bytes: &[u8]) -> usize {
    let mut longest = 0;
    while let [high, middle, low, rest @ ..] = bytes {
        let length = 9 + u32::from_be_bytes([0, *high, *middle, *low]) as usize;
        longest = longest.max(length);
        bytes = rest.get(length - 3..).unwrap_or_default();
    }
    longest
}

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";

#[test]
fn alpn_chooses_the_protocol() {
    let authority = Authority::new();
    for (alpn, version) in [
        (&[][..], 11),
        (&[&b"http/1.1"[..]][..], 11),
        (&[&b"http/1.0"[..]][..], 11),
        (&[&b"h2"[..], &b"http/1.1"[..]][..], 20),
    ] {
        let replica = Replica::start("a", 10);
        let proxy = authority.proxy(&replica, false, Limits::default());
        let mut client = authority.connect(&proxy, alpn, false);
        if version == 11 {
            client.write_all(REQUEST).unwrap();
        } else {
            let settings = raw::frame(raw::SETTINGS, 0, 0, &[]);
            let get = raw::frame(raw::HEADERS, 5, 1, &raw::block(raw::GET));
            client
                .write_all(&[raw::PREFACE, &settings, &get].concat())
                .unwrap();
        }
        answer_one(&replica, version);
        read_until(&mut client, b"a whole answer");
    }
}

/// The quicker of two ciphers of AES, unless the client has no AES in hardware; and what there is, if it offers one alone.
#[test]
fn the_cipher_is_one_that_the_client_can_have_fast() {
    use CipherSuite::{
        TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 as OLD_AES_128,
        TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 as OLD_AES_256,
        TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 as OLD_CHACHA,
        TLS13_AES_128_GCM_SHA256 as AES_128, TLS13_AES_256_GCM_SHA384 as AES_256,
        TLS13_CHACHA20_POLY1305_SHA256 as CHACHA,
    };
    let authority = Authority::new();
    let replica = Replica::start("a", 10);
    let proxy = authority.proxy(&replica, false, Limits::default());
    for (offered, chosen) in [
        (&[AES_256, CHACHA, AES_128][..], AES_128),
        (&[AES_256, CHACHA], AES_256),
        (&[CHACHA, AES_256, AES_128], CHACHA),
        (&[CHACHA], CHACHA),
        (&[OLD_AES_256, OLD_CHACHA, OLD_AES_128], OLD_AES_128),
        (&[OLD_CHACHA, OLD_AES_128], OLD_CHACHA),
    ] {
        let mut provider = aws_lc_rs::default_provider();
        provider.cipher_suites = offered
            .iter()
            .map(|wanted| {
                let mut all = aws_lc_rs::ALL_CIPHER_SUITES.iter();
                *all.find(|suite| suite.suite() == *wanted).unwrap()
            })
            .collect();
        let mut client = authority.connect_with(provider, &proxy, &[], false);
        while client.conn.is_handshaking() {
            client.conn.complete_io(&mut client.sock).unwrap();
        }
        let suite = client.conn.negotiated_cipher_suite().unwrap();
        assert_eq!(suite.suite(), chosen, "of {offered:?}");
    }
}

/// Over HTTP/2 the frames of a piece are gathered below h2. None of them may be left there, and each fits a record of TLS.
#[test]
fn each_long_piece_of_an_answer_is_at_the_client_before_the_next_is_made() {
    const ROOM: u32 = 10 << 20;
    let authority = Authority::new();
    for alpn in [&b"http/1.1"[..], &b"h2"[..]] {
        let replica = Replica::start("a", 10);
        let proxy = authority.proxy(&replica, false, Limits::default());
        let mut client = authority.connect(&proxy, &[alpn], false);
        if alpn == b"h2" {
            let settings = raw::frame(raw::SETTINGS, 0, 0, &raw::settings(&[(4, ROOM)]));
            let window = raw::frame(raw::WINDOW_UPDATE, 0, 0, &ROOM.to_be_bytes());
            let get = raw::frame(raw::HEADERS, 5, 1, &raw::block(raw::GET));
            client
                .write_all(&[raw::PREFACE, &settings, &window, &get].concat())
                .unwrap();
        } else {
            client.write_all(REQUEST).unwrap();
        }
        let mut connection = replica.accept();
        let request = connection.expect(Kind::Request);
        assert!(connection.start(&request));
        connection.begin_answer(&request, 200, &[]);
        for (number, length) in
            (0..40).zip([20_000, 60_000, 10, 16_360, 65_520].into_iter().cycle())
        {
            let end = format!("piece {number} ends");
            let mut piece = vec![b'x'; length];
            piece.extend(end.as_bytes());
            connection.respond(&request, Flags::NONE, &piece);
            let bytes = read_until(&mut client, end.as_bytes());
            if alpn == b"h2" {
                let longest = (9 + piece.len()).min(16 * 1024);
                assert_eq!(longest_frame(&bytes), longest, "piece {number}");
            }
        }
    }
}

/// Lengths of the frames of data in these bytes, and what was in them.
fn data_frames(mut bytes: &[u8]) -> (Vec<usize>, Vec<u8>) {
    let (mut lengths, mut data) = (Vec::new(), Vec::new());
    while let [high, middle, low, kind, ..] = bytes {
        let length = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
        let Some(payload) = bytes.get(9..9 + length) else {
            break;
        };
        if *kind == raw::DATA {
            lengths.push(length);
            data.extend(payload);
        }
        bytes = &bytes[9 + length..];
    }
    (lengths, data)
}

/// Pieces that are there together fill frames together; the last waits for nobody.
#[test]
fn the_rest_of_a_long_piece_shares_its_frame_with_what_comes_next() {
    const ROOM: u32 = 100 << 20;
    const FULL: usize = 16 * 1024 - 9;
    let authority = Authority::new();
    let replica = Replica::start("a", 10);
    let proxy = authority.proxy(&replica, false, Limits::default());
    let mut client = authority.connect(&proxy, &[b"h2"], false);
    let settings = raw::frame(raw::SETTINGS, 0, 0, &raw::settings(&[(4, ROOM)]));
    let window = raw::frame(raw::WINDOW_UPDATE, 0, 0, &ROOM.to_be_bytes());
    client
        .write_all(&[raw::PREFACE, &settings, &window].concat())
        .unwrap();
    let pieces: Vec<Vec<u8>> = (b'a'..=b'c').map(|letter| vec![letter; 20_000]).collect();
    let mut connection = None;
    // How much of what was written the proxy reads at once, the system decides.
    let has_shared = (0..100).any(|number| {
        let get = raw::frame(raw::HEADERS, 5, 2 * number + 1, &raw::block(raw::GET));
        client.write_all(&get).unwrap();
        let connection = connection.get_or_insert_with(|| replica.accept());
        let request = connection.expect(Kind::Request);
        assert!(connection.start(&request));
        connection.begin_answer(&request, 200, &[]);
        let end = format!("answer {number} ends");
        let last = [&pieces[2][..], end.as_bytes()].concat();
        let parts = [&pieces[0][..], &pieces[1], &last].map(|piece| (Flags::NONE, piece));
        connection.respond_at_once(&request, &parts);
        // The answer goes on, and all that is there has come.
        let (lengths, data) = data_frames(&read_until(&mut client, end.as_bytes()));
        assert!(data == [&pieces[0][..], &pieces[1], &last].concat());
        connection.respond(&request, Flags::END.with(Flags::DONE), b"");
        lengths[..] == [FULL, FULL, FULL, 60_000 + end.len() - 3 * FULL]
    });
    assert!(has_shared);
}

#[test]
fn a_client_that_ends_its_half_without_a_word_of_tls_is_answered() {
    let authority = Authority::new();
    for alpn in [&b"http/1.1"[..], b"h2"] {
        let replica = Replica::start("a", 10);
        let limits = Limits {
            half_close_s: PATIENCE,
            half_close_within_s: PATIENCE,
            ..Limits::default()
        };
        let proxy = authority.proxy(&replica, false, limits);
        let mut client = authority.connect(&proxy, &[alpn], false);
        if alpn == b"h2" {
            let settings = raw::frame(raw::SETTINGS, 0, 0, &[]);
            let get = raw::frame(raw::HEADERS, 5, 1, &raw::block(raw::GET));
            client
                .write_all(&[raw::PREFACE, &settings, &get].concat())
                .unwrap();
        } else {
            client.write_all(REQUEST).unwrap();
        }
        client.sock.shutdown(std::net::Shutdown::Write).unwrap();
        let mut connection = replica.accept();
        let request = connection.expect(Kind::Request);
        assert!(connection.start(&request));
        // The proxy has read the end by the time in which it takes another connection.
        let other = authority.connect(&proxy, &[], false);
        drop(other);
        connection.answer(&request, 200, &[], b"a whole answer");
        read_until(&mut client, b"a whole answer");
    }
}

#[test]
fn a_client_without_a_certificate_is_refused_where_one_is_asked_for() {
    let authority = Authority::new();
    let replica = Replica::start("a", 10);
    let mut proxy = authority.proxy(&replica, true, Limits::default());
    let mut refused = authority.connect(&proxy, &[], false);
    // With TLS 1.3 a client learns it when it reads.
    let written = refused.write_all(REQUEST);
    let mut answer = Vec::new();
    assert!(written.is_err() || refused.read_to_end(&mut answer).is_err());
    assert!(answer.is_empty());
    let mut taken = authority.connect(&proxy, &[], true);
    taken.write_all(REQUEST).unwrap();
    answer_one(&replica, 11);
    read_until(&mut taken, b"a whole answer");
    counted(&mut proxy, "tls_handshakes_failed", 1);
}

#[test]
fn what_is_no_handshake_or_does_not_end_is_closed() {
    let authority = Authority::new();
    let replica = Replica::start("a", 10);
    let limits = Limits {
        tls_handshake_s: Duration::from_millis(100),
        ..Limits::default()
    };
    let mut proxy = authority.proxy(&replica, false, limits);
    let mut plain = Raw::bare(proxy.own_address);
    plain.bytes(REQUEST);
    plain.close_whatever_comes();
    counted(&mut proxy, "tls_handshakes_failed", 1);
    let mut silent = Raw::bare(proxy.own_address);
    silent.bytes(&[0x16, 3, 1]);
    silent.close_whatever_comes();
    counted(&mut proxy, "tls_handshakes_timed_out", 1);
}
