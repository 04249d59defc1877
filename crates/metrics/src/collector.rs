//! Reads the sheets of a node.
//!
//! They are read with `read`, not mapped: a process that makes its file shorter would otherwise end the node by a fault of
//! the memory. A word is written by one store and lies on its own border, so it is read whole. What is no file (a pipe on which
//! nobody writes) is not waited for.
//!
//! Whoever has died is looked for before its sheet is read, so the last that it counted is in it; then the sheet is taken
//! over ([`Dead`]) and its file removed. That happens at every collection, and [`Collector::bury`] does it where nobody scrapes.

use std::{
    borrow::Cow,
    fs::{self, OpenOptions},
    io::{self, Read as _},
    mem,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;

use crate::{
    dead::Dead,
    labels::ProcessLabels,
    layout::{HEADER, MOST_BYTES},
    liveness::{self, Usage},
    merged::All,
    reader::{self, Owner},
    reading::Reading,
    text,
};

/// Sheets that are read, of the processes of one node.
const MOST_SHEETS: usize = 8192;
/// Bytes of living sheets that are read for one answer: further sheets are left out of it.
const MOST_READ: usize = 256 * 1024 * 1024;
/// Bytes of sheets of the dead that wait for a visitor; it does not hear of further ones.
const MOST_UNSEEN: usize = 64 * 1024 * 1024;

/// What the node knows of all that was counted on it.
#[derive(Debug)]
pub struct Collector {
    directory: PathBuf,
    labels: ProcessLabels,
    dead: Dead,
    most_read: usize,
    has_complained: bool,
    /// Sheets of the dead that no visitor has seen yet, if there is one that comes back.
    unseen: Option<Vec<(String, Vec<u8>)>>,
}

impl Collector {
    pub fn new(directory: &Path, labels: ProcessLabels) -> Self {
        Self {
            directory: directory.to_owned(),
            labels,
            dead: Dead::default(),
            most_read: MOST_READ,
            has_complained: false,
            unseen: None,
        }
    }

    /// The text of everything.
    ///
    /// # Errors
    /// The directory cannot be read. A sheet that cannot is left out.
    pub fn text(&mut self, options: text::Options<'_>) -> io::Result<String> {
        let living = self.living()?;
        let with_exemplars = options.format == text::Format::OpenMetrics;
        let mut all = All::default();
        for (_, bytes) in &living {
            if let Some(mut read) = reader::read(bytes) {
                self.labels.apply(&mut read);
                all.add(read, with_exemplars, |_, _| true);
            }
        }
        self.dead.add_to(&mut all, self.labels);
        if all.at_odds > 0 {
            tracing::debug!(
                families = all.at_odds,
                "metrics of one name and different types: the first is shown"
            );
        }
        let (text, is_whole) = text::write(&all, options);
        drop(all);
        drop(living);
        if !is_whole {
            self.complain();
        }
        Ok(text)
    }

    /// Takes over what processes had counted that are gone.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn bury(&mut self) -> io::Result<()> {
        for entry in fs::read_dir(&self.directory)?.take(MOST_SHEETS) {
            let path = entry?.path();
            // Of those who live no more than the head.
            let head = read_file(&path, HEADER);
            let owner = head.ok().map(|head| reader::owner(&head));
            if owner.is_some_and(|owner| owner.and_then(usage).is_none()) {
                self.sheet(&path);
            }
        }
        Ok(())
    }

    /// Shows each sheet: of those who live, and once more of each that has ended since the last time. At the first time there are none of
    /// those.
    ///
    /// # Errors
    /// The directory cannot be read. A sheet that cannot is left out.
    pub fn visit(&mut self, mut visitor: impl FnMut(&Reading<'_>)) -> io::Result<()> {
        self.unseen.get_or_insert_default();
        let mut read = 0;
        for entry in fs::read_dir(&self.directory)?.take(MOST_SHEETS) {
            let path = entry?.path();
            let Some((_, bytes, usage)) = self.sheet(&path) else {
                continue;
            };
            read += bytes.len();
            if read <= self.most_read
                && let Some(sheet) = reader::read(&bytes)
            {
                visitor(&Reading::new(&name(&path), sheet, Some(usage)));
            }
        }
        for (name, bytes) in self.unseen.iter_mut().flat_map(mem::take) {
            if let Some(sheet) = reader::read(&bytes) {
                visitor(&Reading::new(&name, sheet, None));
            }
        }
        Ok(())
    }

    /// The bytes of those who live, in the order in which they began; of the others their totals are taken over.
    fn living(&mut self) -> io::Result<Vec<(Owner, Vec<u8>)>> {
        let mut living = Vec::new();
        let mut read = 0;
        for entry in fs::read_dir(&self.directory)?.take(MOST_SHEETS) {
            let path = entry?.path();
            let Some((owner, bytes, _)) = self.sheet(&path) else {
                continue;
            };
            if read + bytes.len() > self.most_read {
                self.complain();
                continue;
            }
            read += bytes.len();
            living.push((owner, bytes));
        }
        living.sort_by_key(|(owner, _)| *owner);
        Ok(living)
    }

    fn complain(&mut self) {
        if !std::mem::replace(&mut self.has_complained, true) {
            tracing::warn!(
                "processes of this node count more than one answer of /metrics may have; some are left out of it"
            );
        }
    }

    /// For tests: as [`MOST_READ`].
    #[cfg(test)]
    pub(crate) fn read_at_most(&mut self, bytes: usize) {
        self.most_read = bytes;
    }

    /// The sheet of a process that lives, and what it takes of the machine.
    fn sheet(&mut self, path: &Path) -> Option<(Owner, Vec<u8>, Usage)> {
        let bytes = read_file(path, MOST_BYTES).ok()?;
        let Some(owner) = reader::owner(&bytes) else {
            remove_stillborn(path);
            return None;
        };
        if let Some(usage) = usage(owner) {
            return Some((owner, bytes, usage));
        }
        // Again: it may have counted between the reading and its end.
        let bytes = read_file(path, MOST_BYTES).ok()?;
        match fs::remove_file(path) {
            // Taken over, it would be again; left out, its totals would go back. So it counts among the living.
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Some((owner, bytes, Usage::default()));
            }
            _ => {}
        }
        let mut read = reader::read(&bytes)?;
        self.labels.apply(&mut read);
        self.dead.take(&bytes, &read);
        if let Some(unseen) = &mut self.unseen
            && unseen.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() < MOST_UNSEEN
        {
            unseen.push((name(path).into_owned(), bytes));
        }
        None
    }
}

/// Removes a file whose process died before it had begun: its number stands in its name.
fn remove_stillborn(path: &Path) {
    let name = path.file_name().and_then(|name| name.to_str());
    let pid = name.and_then(|name| name.rsplit('-').nth(1)?.parse().ok());
    if pid.is_some_and(|pid| liveness::started(pid).is_none()) {
        // One that stays is looked at again.
        fs::remove_file(path).ok();
    }
}

fn name(path: &Path) -> Cow<'_, str> {
    path.file_name().unwrap_or_default().to_string_lossy()
}

/// `None`: the process has ended.
fn usage(owner: Owner) -> Option<Usage> {
    let living = liveness::living(owner.pid)?;
    (living.started == owner.started).then_some(living.usage)
}

/// The first so many bytes of it.
fn read_file(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)?;
    file.take(most as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}
