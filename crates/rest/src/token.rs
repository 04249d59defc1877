//! The token of the control port: one line in a file that only its user can read.
//!
//! The file is looked at on every request, and every second, and read again when it has changed, so a token is replaced by writing the file, with
//! no restart. Somebody may remove the file while the node lives (`rm -rf`, whatever tidies `/tmp`): then the token that was
//! read last is written again, so that clients find what works; a link is made again as a link.
//!
//! The file is in the run directory, which goes with the node. A node that is started again, and keeps what it knows, keeps
//! its token too, in a second file beside the checkpoint: scripts and operators of clusters are given one once.

use std::{
    fmt::{self, Write as _},
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, symlink},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// A file that is longer is no token.
const MOST_BYTES: u64 = 4096;
/// 256 bits in hex.
const RANDOM_BYTES: usize = 32;

/// What a file had when it was read: another one means that it may say something else.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

struct Known {
    text: String,
    stamp: Option<Stamp>,
}

/// The token, as its file says it.
pub(crate) struct Token {
    path: PathBuf,
    /// Where the path leads, if it is a link.
    link: Option<PathBuf>,
    /// For the next start of the node.
    kept: Option<PathBuf>,
    /// Another process makes the file, and makes it again where somebody removes it.
    is_anothers: bool,
    known: Mutex<Known>,
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the text.
        formatter
            .debug_struct("Token")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Token {
    /// Reads the file, or makes it: with the token that was kept, or with one that nobody can guess. `kept`: where it is
    /// kept for the next start, if it is.
    ///
    /// # Errors
    /// When it can be neither read nor made, or holds nothing.
    pub(crate) fn open(path: PathBuf, kept: Option<PathBuf>) -> io::Result<Self> {
        let text = match read(&path) {
            Ok((text, _)) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let before = kept.as_deref().and_then(|kept| read(kept).ok());
                let text = match before {
                    Some((text, _)) => text,
                    None => random()?,
                };
                write(&path, &text)?;
                text
            }
            Err(error) => {
                let message = format!("the token in {}: {error}", path.display());
                return Err(io::Error::new(error.kind(), message));
            }
        };
        let link = fs::read_link(&path).ok();
        // The stamp is taken at the first look, which reads the file once more.
        let known = Mutex::new(Known { text, stamp: None });
        let token = Self {
            path,
            link,
            kept,
            is_anothers: false,
            known,
        };
        token.keep();
        Ok(token)
    }

    /// The token that another process keeps: the file is read, and never written. Nothing is the token until there is one.
    pub(crate) fn of_another(path: PathBuf) -> Self {
        Self {
            path,
            link: None,
            kept: None,
            is_anothers: true,
            known: Mutex::new(Known {
                text: String::new(),
                stamp: None,
            }),
        }
    }

    /// Whether this is the token of now. Takes as long for a wrong one as for the right one.
    pub(crate) fn is(&self, presented: &str) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        self.look(&mut known);
        same(known.text.as_bytes(), presented.as_bytes())
    }

    /// Looks at the file though nobody asks: whoever finds no token does not ask.
    pub(crate) fn keep(&self) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        self.look(&mut known);
        let Some(kept) = &self.kept else { return };
        let is_kept = read(kept).is_ok_and(|(text, _)| text == known.text);
        if !is_kept && let Err(error) = write(kept, &known.text) {
            tracing::debug!(%error, "the token cannot be kept for the next start");
        }
    }

    fn look(&self, known: &mut Known) {
        match fs::metadata(&self.path).map(|metadata| stamp(&metadata)) {
            Ok(stamp) if known.stamp == Some(stamp) => {}
            Ok(_) => match read(&self.path) {
                Ok((text, stamp)) => {
                    if known.stamp.is_some() && known.text != text {
                        tracing::info!(path = %self.path.display(), "the token was replaced");
                    }
                    *known = Known {
                        text,
                        stamp: Some(stamp),
                    };
                }
                // Half written, most likely. The last one holds until there is another.
                Err(error) => {
                    tracing::warn!(path = %self.path.display(), %error, "the token cannot be read; the last one holds");
                }
            },
            // A link is somebody's own file, which comes back or does not.
            Err(error)
                if error.kind() == io::ErrorKind::NotFound
                    && fs::symlink_metadata(&self.path).is_err() =>
            {
                known.stamp = None;
                if self.is_anothers {
                    return;
                }
                let made = match &self.link {
                    Some(to) => symlink(to, &self.path),
                    None => write(&self.path, &known.text),
                };
                if let Err(error) = made {
                    tracing::debug!(%error, "the token was removed and cannot be written again");
                }
            }
            Err(_) => {}
        }
    }
}

fn stamp(metadata: &fs::Metadata) -> Stamp {
    Stamp {
        inode: metadata.ino(),
        size: metadata.size(),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    }
}

fn read(path: &Path) -> io::Result<(String, Stamp)> {
    let file = File::open(path)?;
    let stamp = stamp(&file.metadata()?);
    let mut text = String::new();
    file.take(MOST_BYTES + 1).read_to_string(&mut text)?;
    let token = text.trim();
    if token.is_empty() || text.len() as u64 > MOST_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "one line is expected, of 1 to 4096 bytes",
        ));
    }
    Ok((token.to_owned(), stamp))
}

/// A reader sees none or all of it.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let temporary = path.with_extension("new");
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(format!("{text}\n").as_bytes())?;
    fs::rename(&temporary, path)
}

fn random() -> io::Result<String> {
    let mut bytes = [0; RANDOM_BYTES];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        write!(text, "{byte:02x}").ok();
        text
    }))
}

/// Whether two texts are equal, in a time that depends on the length of the second alone.
fn same(secret: &[u8], presented: &[u8]) -> bool {
    let mut differs = u8::from(secret.len() != presented.len());
    for (at, byte) in presented.iter().enumerate() {
        let other = secret.get(at % secret.len().max(1)).copied().unwrap_or(0);
        differs |= std::hint::black_box(byte ^ other);
    }
    differs == 0 && !presented.is_empty()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_token_is_made_once_for_its_user_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let token = Token::open(path.clone(), None).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.trim().len(), 2 * RANDOM_BYTES);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(token.is(text.trim()));
        for wrong in ["", "x", &text.trim()[1..], &format!("{}0", text.trim())] {
            assert!(!token.is(wrong), "{wrong:?}");
        }
        let again = Token::open(path, None).unwrap();
        assert!(again.is(text.trim()));
        assert!(!format!("{again:?}").contains(text.trim()));
    }

    #[test]
    fn a_file_that_is_written_anew_is_the_token_from_then_on() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        fs::write(&path, "first\n").unwrap();
        let token = Token::open(path.clone(), None).unwrap();
        assert!(token.is("first"));
        fs::write(&path, "second\n").unwrap();
        assert!(token.is("second") && !token.is("first"));
        // Half a rotation: the last one holds.
        fs::write(&path, "").unwrap();
        assert!(token.is("second"));
        fs::remove_file(&path).unwrap();
        token.keep();
        assert!(token.is("second"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "second\n");
    }

    #[test]
    fn a_link_is_followed_and_stays_one() {
        let directory = tempfile::tempdir().unwrap();
        let (path, file) = (directory.path().join("token"), directory.path().join("own"));
        fs::write(&file, "first\n").unwrap();
        std::os::unix::fs::symlink(&file, &path).unwrap();
        let token = Token::open(path.clone(), None).unwrap();
        assert!(token.is("first"));
        fs::remove_file(&file).unwrap();
        assert!(token.is("first"), "until there is another");
        fs::write(&file, "second\n").unwrap();
        assert!(token.is("second") && !token.is("first"));
        assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
        // Somebody tidies up.
        fs::remove_file(&path).unwrap();
        token.keep();
        assert_eq!(fs::read_link(&path).unwrap(), file, "a link again");
        fs::write(&file, "third\n").unwrap();
        assert!(token.is("third"), "and followed");
    }

    #[test]
    fn what_is_kept_is_the_token_of_the_next_start_and_follows_each_change() {
        let directory = tempfile::tempdir().unwrap();
        let (path, kept) = (
            directory.path().join("token"),
            directory.path().join("kept"),
        );
        let token = Token::open(path.clone(), Some(kept.clone())).unwrap();
        let first = fs::read_to_string(&path).unwrap();
        assert_eq!(fs::read_to_string(&kept).unwrap(), first);
        let mode = fs::metadata(&kept).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(token);
        fs::remove_file(&path).unwrap();
        let token = Token::open(path.clone(), Some(kept.clone())).unwrap();
        assert!(token.is(first.trim()));
        fs::write(&path, "second\n").unwrap();
        token.keep();
        assert_eq!(fs::read_to_string(&kept).unwrap(), "second\n");
        fs::remove_file(&kept).unwrap();
        token.keep();
        assert_eq!(fs::read_to_string(&kept).unwrap(), "second\n");
    }

    #[test]
    fn the_token_of_another_process_is_followed_and_never_made() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let token = Token::of_another(path.clone());
        assert!(!token.is("") && !token.is("first"));
        assert!(!path.exists());
        fs::write(&path, "first\n").unwrap();
        assert!(token.is("first"));
        fs::remove_file(&path).unwrap();
        assert!(token.is("first"), "until there is another");
        assert!(!path.exists());
        fs::write(&path, "second\n").unwrap();
        assert!(token.is("second") && !token.is("first"));
    }

    #[test]
    fn what_is_no_token_is_refused_at_the_start() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        fs::write(&path, "  \n").unwrap();
        assert!(
            Token::open(path, None)
                .unwrap_err()
                .to_string()
                .contains("token")
        );
    }
}
