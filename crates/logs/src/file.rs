//! One log file: appended to, turned over, made again. Only the writer's thread is here, so it may block.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::{fs::OFlags, io::Errno};

use crate::{Limits, directory};

/// How often a file that is written is looked for under its name.
const LOOK_AFTER: Duration = Duration::from_secs(1);

/// Lines that were not written, of those given.
#[derive(Debug)]
pub(crate) struct Unwritten {
    pub(crate) lines: u64,
    pub(crate) error: io::Error,
}

#[derive(Debug)]
pub(crate) struct LogFile {
    path: PathBuf,
    limits: Limits,
    /// What the process writes to its standard error goes here too.
    takes_stderr: bool,
    open: Option<Open>,
    /// The last write ended within a line.
    torn: bool,
    /// The last write failed: what stands under the name now may be another file, and better.
    failed: bool,
}

#[derive(Debug)]
struct Open {
    file: File,
    size: u64,
    /// Only those are turned over. A pipe or a device is not.
    regular: bool,
    looked: Instant,
}

impl LogFile {
    pub(crate) fn new(path: &Path, limits: Limits, takes_stderr: bool) -> Self {
        Self {
            path: path.to_owned(),
            limits,
            takes_stderr,
            open: None,
            torn: false,
            failed: false,
        }
    }

    /// Appends whole lines.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), Unwritten> {
        self.look();
        let mut rest = bytes;
        let mut result = if self.has_room_for(bytes.len()) {
            self.write(&mut rest)
        } else {
            self.turn_over().and_then(|()| self.write(&mut rest))
        };
        let begun = self
            .open
            .as_ref()
            .is_some_and(|open| open.regular && open.size > 0);
        if begun && result.as_ref().is_err_and(|error| is(error, Errno::FBIG)) {
            // The process may not make files so large (`ulimit -f`): a new one takes the rest.
            result = self.turn_over().and_then(|()| self.write(&mut rest));
        }
        self.failed = result.is_err();
        result.map_err(|error| Unwritten {
            lines: lines_in(rest),
            error,
        })
    }

    fn has_room_for(&self, bytes: usize) -> bool {
        let limit = self.limits.file_bytes;
        self.open
            .as_ref()
            .is_none_or(|open| !open.regular || open.size == 0 || open.size + bytes as u64 <= limit)
    }

    /// Takes what was written off `rest`.
    fn write(&mut self, rest: &mut &[u8]) -> io::Result<()> {
        if self.open.is_none() {
            self.open = Some(self.make()?);
        }
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        if self.torn {
            open.append(b"\n")?;
            self.torn = false;
        }
        while !rest.is_empty() {
            match open.append(rest) {
                Ok(written) => {
                    let (done, left) = rest.split_at(written);
                    self.torn = !done.ends_with(b"\n");
                    *rest = left;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Lets go of a file that is not the one of its name any more.
    fn look(&mut self) {
        let Some(open) = &mut self.open else { return };
        if !self.failed && open.looked.elapsed() < LOOK_AFTER {
            return;
        }
        open.looked = Instant::now();
        let (here, there) = (open.file.metadata(), fs::metadata(&self.path));
        if let Ok(here) = &here {
            // Others may append to it too.
            open.size = here.len();
        }
        let same = here.is_ok_and(|here| {
            there.is_ok_and(|there| (here.ino(), here.dev()) == (there.ino(), there.dev()))
        });
        // Where no other can be made, the lines go where they went.
        if !same && let Ok(open) = self.make() {
            self.open = Some(open);
        }
    }

    /// `FILE` becomes `FILE.1`, and so on; the oldest goes.
    fn turn_over(&mut self) -> io::Result<()> {
        if self.is_under_its_name() {
            let kept = self.limits.kept_files;
            if kept == 0 {
                fs::remove_file(&self.path)?;
            }
            for number in (0..kept).rev() {
                match fs::rename(self.numbered(number), self.numbered(number + 1)) {
                    Err(error) if number == 0 => return Err(error),
                    // There is no such old file, or it stays and is written over by the next.
                    _ => {}
                }
            }
        }
        self.open = Some(self.make()?);
        self.torn = false;
        directory::make_room(&self.path, &self.limits);
        Ok(())
    }

    /// Not so when another process that writes to it has turned it over already.
    fn is_under_its_name(&self) -> bool {
        let Some(here) = self
            .open
            .as_ref()
            .and_then(|open| open.file.metadata().ok())
        else {
            return false;
        };
        fs::metadata(&self.path)
            .is_ok_and(|there| (here.ino(), here.dev()) == (there.ino(), there.dev()))
    }

    fn numbered(&self, number: u32) -> PathBuf {
        if number == 0 {
            return self.path.clone();
        }
        let mut name = self.path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        name.into()
    }

    fn make(&self) -> io::Result<Open> {
        if !self.path.exists() {
            directory::make_room(&self.path, &self.limits);
        }
        // Not blocking: a pipe that nobody reads in place of the file costs its lines, not the thread.
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags((OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed())
            .open(&self.path)?;
        let metadata = file.metadata()?;
        if metadata.is_file() && metadata.mode() & 0o077 != 0 {
            // It says who asked for what: for this user only, under any umask.
            file.set_permissions(Permissions::from_mode(0o600))?;
        }
        if self.takes_stderr {
            rustix::stdio::dup2_stderr(&file)?;
        }
        Ok(Open {
            size: metadata.len(),
            regular: metadata.is_file(),
            looked: Instant::now(),
            file,
        })
    }
}

impl Open {
    fn append(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        if written == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.size += written as u64;
        Ok(written)
    }
}

/// Lines that end in `bytes`.
pub(crate) fn lines_in(bytes: &[u8]) -> u64 {
    bytes.split(|byte| *byte == b'\n').skip(1).count() as u64
}

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}

#[cfg(test)]
mod tests;
