//! What the files of TLS say, before it is understood: read with a bound, compared, and kept for a successor.

use std::{
    fmt,
    fs::OpenOptions,
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use super::{TlsError, TlsOptions};

/// Bytes of one file. A bundle of all authorities of the web has a quarter of it.
const MOST_BYTES: u64 = 1024 * 1024;

/// See the module. What is in it is secret.
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub(crate) struct Pem {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) certificate: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) key: Vec<u8>,
    #[prost(bytes = "vec", optional, tag = "3")]
    pub(crate) authorities: Option<Vec<u8>>,
}

impl fmt::Debug for Pem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Pem")
    }
}

impl Pem {
    pub(crate) fn read(options: &TlsOptions) -> Result<Self, TlsError> {
        let authorities = options.client_authorities.as_deref();
        Ok(Self {
            certificate: read("ssl_certfile", &options.certificate)?,
            key: read("ssl_keyfile", &options.key)?,
            authorities: authorities
                .map(|path| read("ssl_ca_certs", path))
                .transpose()?,
        })
    }
}

fn read(option: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    read_regular(path).map_err(|source| TlsError::Unreadable {
        option,
        path: path.display().to_string(),
        source,
    })
}

/// Never waits: a pipe is opened as if somebody wrote to it, and then refused.
fn read_regular(path: &Path) -> io::Result<Vec<u8>> {
    let mut options = OpenOptions::new();
    let file = options
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut bytes = Vec::new();
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(io::Error::other("it is longer than 1 MiB"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_short_regular_file_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let error = |name: &str| read_regular(&path(name)).unwrap_err().to_string();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            path("pipe"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RWXU,
            0,
        )
        .unwrap();
        assert_eq!(error("pipe"), "it is no regular file");
        assert_eq!(error(""), "it is no regular file");
        std::fs::write(path("long"), vec![b'a'; 1024 * 1024 + 1]).unwrap();
        assert_eq!(error("long"), "it is longer than 1 MiB");
        std::fs::write(path("most"), vec![b'a'; 1024 * 1024]).unwrap();
        assert_eq!(read_regular(&path("most")).unwrap().len(), 1024 * 1024);
    }

    #[test]
    fn what_is_printed_of_it_has_no_secret() {
        let pem = Pem {
            key: b"secret".to_vec(),
            ..Pem::default()
        };
        assert_eq!(format!("{pem:?}"), "Pem");
    }
}
