//! TLS of the ingress: what the files that the user names say, read and checked before anything runs.
//!
//! rustls with aws-lc-rs; TLS 1.2 and 1.3; ALPN offers HTTP/2 and HTTP/1.1, and takes HTTP/1.0 for the latter. With
//! `client_authorities` every client must show a certificate that they signed. [`server`] chooses the cipher.

mod pem;
mod server;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};

pub(crate) use pem::Pem;
pub(crate) use server::{Server, begin_randomness};

/// What ALPN calls HTTP/2.
pub(crate) const HTTP2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";
const HTTP1_0: &[u8] = b"http/1.0";

/// What to say of a private key that can be read and not used.
const UNKNOWN_KIND: &str = "is of a kind that is not taken. Take a key on P-256, P-384 or P-521, an Ed25519 key, or an RSA \
    key of 2048 to 8192 bits, and a certificate for it";

/// Where certificate and key are: PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsOptions {
    /// The server's certificate, then those between it and a root.
    pub certificate: PathBuf,
    /// Its private key, not encrypted.
    pub key: PathBuf,
    /// Authorities of clients' certificates; `None`: clients need none.
    pub client_authorities: Option<PathBuf>,
}

/// Why the files cannot be used. Each says which option names the file and what to do.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{option} {path}: cannot be read: {source}")]
    Unreadable {
        option: &'static str,
        path: String,
        source: io::Error,
    },
    #[error("{option} {path}: {problem}")]
    Unusable {
        option: &'static str,
        path: String,
        problem: String,
    },
}

impl TlsOptions {
    /// Reads the files and checks that they fit each other.
    ///
    /// # Errors
    /// The first file that cannot be used.
    pub fn check(&self) -> Result<(), TlsError> {
        self.server(&Pem::read(self)?).map(|_| ())
    }

    /// A server that shows what was read of the files.
    pub(crate) fn server(&self, pem: &Pem) -> Result<Server, TlsError> {
        let certificates = certificates("ssl_certfile", &self.certificate, &pem.certificate)?;
        let key = key(&self.key, &pem.key)?;
        let provider = Arc::new(server::provider());
        if provider
            .key_provider
            .load_private_key(key.clone_key())
            .is_err()
        {
            return Err(unusable("ssl_keyfile", &self.key, &UNKNOWN_KIND));
        }
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable("ssl_certfile", &self.certificate, &error))?;
        let builder = match (&self.client_authorities, &pem.authorities) {
            (Some(path), Some(pem)) => {
                let mut roots = RootCertStore::empty();
                for certificate in self::certificates("ssl_ca_certs", path, pem)? {
                    roots
                        .add(certificate)
                        .map_err(|error| unusable("ssl_ca_certs", path, &error))?;
                }
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                        .build()
                        .map_err(|error| unusable("ssl_ca_certs", path, &error))?;
                builder.with_client_cert_verifier(verifier)
            }
            (Some(path), None) => {
                let problem = "was not read with the certificate that is in force";
                return Err(unusable("ssl_ca_certs", path, &problem));
            }
            (None, _) => builder.with_no_client_auth(),
        };
        let mut config = builder
            .with_single_cert(certificates, key)
            .map_err(|error| {
                let problem = format!("does not fit ssl_certfile: {error}");
                unusable("ssl_keyfile", &self.key, &problem)
            })?;
        config.alpn_protocols = [HTTP2, HTTP1, HTTP1_0].map(<[u8]>::to_vec).to_vec();
        Ok(Server::new(config))
    }
}

fn certificates(
    option: &'static str,
    path: &Path,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unusable(option, path, &error))?;
    if certificates.is_empty() {
        let problem = "has no certificate; it must be PEM, with `-----BEGIN CERTIFICATE-----`";
        return Err(unusable(option, path, &problem));
    }
    Ok(certificates)
}

fn key(path: &Path, pem: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    let is_encrypted = ["BEGIN ENCRYPTED PRIVATE KEY", "Proc-Type: 4,ENCRYPTED"]
        .iter()
        .any(|mark| pem.windows(mark.len()).any(|at| at == mark.as_bytes()));
    if is_encrypted {
        let problem = format!(
            "is encrypted, and encrypted keys are not taken. Write a decrypted copy that only its owner can read, \
             and name that: `(umask 077; openssl pkey -in {} -out KEY.pem)`",
            path.display()
        );
        return Err(unusable("ssl_keyfile", path, &problem));
    }
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| {
        let problem = "has no private key; it must be PEM, with `-----BEGIN PRIVATE KEY-----`";
        unusable("ssl_keyfile", path, &problem)
    })
}

fn unusable(option: &'static str, path: &Path, problem: &dyn std::fmt::Display) -> TlsError {
    TlsError::Unusable {
        option,
        path: path.display().to_string(),
        problem: problem.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Files {
        folder: tempfile::TempDir,
    }

    impl Files {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
            let files = Self { folder };
            files.write("cert", &made.cert.pem());
            files.write("key", &made.signing_key.serialize_pem());
            files
        }

        fn write(&self, name: &str, text: &str) {
            std::fs::write(self.path(name), text).unwrap();
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        fn problem(&self, certificate: &str, key: &str, authorities: Option<&str>) -> String {
            TlsOptions {
                certificate: self.path(certificate),
                key: self.path(key),
                client_authorities: authorities.map(|name| self.path(name)),
            }
            .check()
            .map_or_else(|error| error.to_string(), |()| String::new())
        }
    }

    #[test]
    fn a_certificate_and_its_key_are_taken() {
        let files = Files::new();
        assert_eq!(files.problem("cert", "key", None), "");
        assert_eq!(files.problem("cert", "key", Some("cert")), "");
    }

    #[test]
    fn a_key_on_each_curve_is_taken() {
        for curve in [
            &rcgen::PKCS_ECDSA_P256_SHA256,
            &rcgen::PKCS_ECDSA_P384_SHA384,
            &rcgen::PKCS_ECDSA_P521_SHA512,
            &rcgen::PKCS_ED25519,
        ] {
            let files = Files::new();
            let key = rcgen::KeyPair::generate_for(curve).unwrap();
            let params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
            files.write("cert", &params.self_signed(&key).unwrap().pem());
            files.write("key", &key.serialize_pem());
            assert_eq!(files.problem("cert", "key", None), "", "{curve:?}");
        }
    }

    #[test]
    fn files_that_cannot_be_used_are_named_with_their_option() {
        let files = Files::new();
        let other = Files::new();
        files.write("empty", "");
        files.write(
            "other",
            &std::fs::read_to_string(other.path("key")).unwrap(),
        );
        files.write("pkcs8", "-----BEGIN ENCRYPTED PRIVATE KEY-----\n");
        files.write(
            "old",
            "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n",
        );
        let of_no_kind = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        files.write("no kind", of_no_kind);
        for (certificate, key, authorities, parts) in [
            ("none", "key", None, ["ssl_certfile", "cannot be read"]),
            ("cert", "none", None, ["ssl_keyfile", "cannot be read"]),
            (
                "cert",
                "key",
                Some("none"),
                ["ssl_ca_certs", "cannot be read"],
            ),
            ("empty", "key", None, ["ssl_certfile", "no certificate"]),
            ("cert", "empty", None, ["ssl_keyfile", "no private key"]),
            (
                "cert",
                "key",
                Some("empty"),
                ["ssl_ca_certs", "no certificate"],
            ),
            ("cert", "other", None, ["ssl_keyfile", "does not fit"]),
            ("cert", "pkcs8", None, ["ssl_keyfile", "openssl pkey"]),
            ("cert", "old", None, ["ssl_keyfile", "openssl pkey"]),
            (
                "cert",
                "no kind",
                None,
                ["ssl_keyfile", "is of a kind that is not taken"],
            ),
        ] {
            let problem = files.problem(certificate, key, authorities);
            for part in parts {
                assert!(problem.contains(part), "{certificate} {key}: {problem:?}");
            }
        }
    }
}
