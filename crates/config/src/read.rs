//! A config file as text.
//!
//! A regular file of at most [`MOST_BYTES`], in UTF-8. Anything else at the path is refused without being waited for: a
//! FIFO that nobody writes to is not opened as one would open a file.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use rustix::fs::{Mode, OFlags};

use crate::{
    format::Format,
    node::Place,
    problem::{Problem, Problems, Stage},
};

/// The longest text that is taken as a config.
pub const MOST_BYTES: usize = 1 << 20;

/// What the file at `path` says, and in which format it is: JSON if its name ends in `.json`, else YAML.
///
/// # Errors
/// There is no such file, it is no regular one, it is too long, or it is not UTF-8.
pub fn read(path: &Path) -> Result<(String, Format), Problems> {
    let bytes = bytes(path).map_err(|why| refuse(None, why))?;
    let is_json = path
        .extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    let format = if is_json { Format::Json } else { Format::Yaml };
    text(bytes).map(|text| (text, format))
}

/// A text from bytes.
///
/// # Errors
/// It is too long, or not UTF-8.
pub fn text(bytes: Vec<u8>) -> Result<String, Problems> {
    if bytes.len() > MOST_BYTES {
        return Err(too_long(bytes.len() as u64));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let place = Place::of_byte(error.as_bytes(), at);
        refuse(
            Some(place),
            "not UTF-8; save the file in this encoding".to_owned(),
        )
    })
}

fn bytes(path: &Path) -> Result<Vec<u8>, String> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let descriptor = rustix::fs::open(path, flags, Mode::empty())
        .map_err(|error| format!("cannot be opened: {}", io::Error::from(error)))?;
    let file = File::from(descriptor);
    let failed = |error: io::Error| format!("cannot be read: {error}");
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_dir() {
        return Err("a directory; name the file in it".to_owned());
    }
    if !metadata.is_file() {
        return Err("no regular file".to_owned());
    }
    if metadata.len() > MOST_BYTES as u64 {
        return Err(length(metadata.len()));
    }
    let mut bytes = Vec::with_capacity(metadata.len() as usize + 1);
    // It may grow meanwhile.
    let most = MOST_BYTES as u64 + 1;
    file.take(most).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// Of what cannot be read, such as standard input.
pub fn unreadable(error: &io::Error) -> Problems {
    refuse(None, format!("cannot be read: {error}"))
}

pub(crate) fn too_long(bytes: u64) -> Problems {
    refuse(None, length(bytes))
}

fn length(bytes: u64) -> String {
    format!("{bytes} bytes or more, and a config has at most {MOST_BYTES}")
}

fn refuse(place: Option<Place>, message: String) -> Problems {
    Problems::one(Problem {
        stage: Stage::Read,
        path: String::new(),
        place,
        message,
        help: String::new(),
    })
}
