//! What is kept beside the log files to search them: for each file the blocks that it is cut into ([`Block`]).
//!
//! **Whoever writes logs knows nothing of it.** The index is made from the files afterwards, by [`Indexer`], so it costs
//! a writer nothing, and a log that several processes append to needs no agreement. What is not in it yet a search
//! looks through, so an index that is late, lost or on a full disk makes searches slower and never wrong.
//!
//! A file is named by its inode, which stays when the log is turned over, in `index/` below the logs. Its first line says
//! how the log begins, so an inode that serves another file is noticed. A block that was half written when its writer died
//! is noticed by its sum, and made again.

use std::{
    collections::HashSet,
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use rustix::{fs::FlockOperation, io::Errno};

use crate::{
    Clock,
    block::{self, Block},
    directory,
};

/// Where it is, below the logs.
const DIRECTORY: &str = "index";
const MAGIC: &[u8; 8] = b"ERINDEX1";
/// A log is known by so many of its first bytes.
const BEGINNING_BYTES: usize = 64;
const HEADER_BYTES: usize = MAGIC.len() + BEGINNING_BYTES;
/// Offset, length, two times, levels, length of the filter; and the sum behind it.
const FIXED_BYTES: usize = 8 + 4 + 8 + 8 + 1 + 4;
const SUM_BYTES: usize = 4;
/// Between looks at the logs.
const EVERY: Duration = Duration::from_secs(1);
/// Of all logs between two looks, so that a great backlog leaves the processor to others.
const BYTES_A_TURN: u64 = 64 * 1024 * 1024;

/// A log file as it was found.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) path: PathBuf,
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) bytes: u64,
}

impl Part {
    pub(crate) const fn key(&self) -> (u64, u64) {
        (self.device, self.inode)
    }

    /// Opens it, under the name that it has by now.
    pub(crate) fn open(&self) -> io::Result<File> {
        let mut path = self.path.clone();
        loop {
            let file = File::open(&path)?;
            let metadata = file.metadata()?;
            if (metadata.dev(), metadata.ino()) == self.key() {
                return Ok(file);
            }
            path = directory::next_part(&path);
        }
    }
}

/// Every log file of a directory. One that cannot be looked at is left out.
pub(crate) fn parts(logs: &Path) -> Vec<Part> {
    let Ok(entries) = fs::read_dir(logs) else {
        return Vec::new();
    };
    let found = entries.flatten().filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let metadata = entry.metadata().ok()?;
        (metadata.is_file() && directory::is_log(&name)).then(|| Part {
            path: entry.path(),
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
        })
    });
    let mut parts: Vec<Part> = found.collect();
    parts.sort_by(|one, other| one.path.cmp(&other.path));
    parts
}

fn index_path(logs: &Path, (device, inode): (u64, u64)) -> PathBuf {
    logs.join(DIRECTORY).join(format!("{device:x}-{inode:x}"))
}

/// How a log begins; none while it has too little to be known by.
fn beginning(log: &File) -> io::Result<Option<[u8; BEGINNING_BYTES]>> {
    let mut bytes = [0; BEGINNING_BYTES];
    match log.read_exact_at(&mut bytes, 0) {
        Ok(()) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// Gives the blocks that the index has of a log to `take`, in order, and says where the index ends and how long the good
/// part of its file is. Nothing of it is trusted: what does not fit ends it.
pub(crate) fn load(
    logs: &Path,
    part: &Part,
    log: &File,
    mut take: impl FnMut(BlockRef<'_>),
) -> io::Result<(u64, u64)> {
    let bytes = match fs::read(index_path(logs, part.key())) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((0, 0)),
        Err(error) => return Err(error),
    };
    let header = bytes.get(..HEADER_BYTES);
    let Some(begins) = beginning(log)? else {
        return Ok((0, 0));
    };
    if header.is_none_or(|header| !header.starts_with(MAGIC) || !header.ends_with(&begins)) {
        return Ok((0, 0));
    }
    let (mut at, mut end) = (HEADER_BYTES, 0);
    while let Some((block, length)) = BlockRef::read(bytes.get(at..).unwrap_or_default()) {
        if block.offset != end || block.end() > part.bytes {
            break;
        }
        end = block.end();
        at += length;
        take(block);
    }
    Ok((end, at as u64))
}

/// A block as it stands in an index.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockRef<'a> {
    pub(crate) offset: u64,
    pub(crate) length: u32,
    pub(crate) first_ms: i64,
    pub(crate) last_ms: i64,
    pub(crate) levels: u8,
    pub(crate) filter: &'a [u8],
}

impl<'a> BlockRef<'a> {
    pub(crate) const fn end(&self) -> u64 {
        self.offset + self.length as u64
    }

    fn read(bytes: &'a [u8]) -> Option<(Self, usize)> {
        let mut rest = bytes;
        let offset = u64::from_le_bytes(*take(&mut rest)?);
        let length = u32::from_le_bytes(*take(&mut rest)?);
        let first_ms = i64::from_le_bytes(*take(&mut rest)?);
        let last_ms = i64::from_le_bytes(*take(&mut rest)?);
        let [levels] = *take(&mut rest)?;
        let words = u32::from_le_bytes(*take(&mut rest)?) as usize;
        let (filter, rest) = rest.split_at_checked(words)?;
        let size = FIXED_BYTES + words;
        let sum = u32::from_le_bytes(*rest.first_chunk()?);
        let block = Self {
            offset,
            length,
            first_ms,
            last_ms,
            levels,
            filter,
        };
        (sum_of(bytes.get(..size)?) == sum).then_some((block, size + SUM_BYTES))
    }
}

impl<'a> From<&'a Block> for BlockRef<'a> {
    fn from(block: &'a Block) -> Self {
        Self {
            offset: block.offset,
            length: block.length,
            first_ms: block.first_ms,
            last_ms: block.last_ms,
            levels: block.levels,
            filter: &block.filter,
        }
    }
}

fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (taken, left) = rest.split_first_chunk()?;
    *rest = left;
    Some(taken)
}

fn put(block: &Block, out: &mut Vec<u8>) {
    let begin = out.len();
    out.extend(block.offset.to_le_bytes());
    out.extend(block.length.to_le_bytes());
    out.extend(block.first_ms.to_le_bytes());
    out.extend(block.last_ms.to_le_bytes());
    out.push(block.levels);
    out.extend((block.filter.len() as u32).to_le_bytes());
    out.extend(&block.filter);
    let sum = sum_of(out.get(begin..).unwrap_or_default());
    out.extend(sum.to_le_bytes());
}

/// Eight bytes at a time: the index of a gigabyte is summed in a few milliseconds.
fn sum_of(bytes: &[u8]) -> u32 {
    let (chunks, rest) = bytes.as_chunks::<8>();
    let mut sum = 0x9e37_79b9_7f4a_7c15_u64 ^ bytes.len() as u64;
    let mut add =
        |word: u64| sum = (sum.rotate_left(23) ^ word).wrapping_mul(0xff51_afd7_ed55_8ccd);
    for chunk in chunks {
        add(u64::from_le_bytes(*chunk));
    }
    for byte in rest {
        add(u64::from(*byte));
    }
    (sum >> 32) as u32
}

/// Brings the index of a directory up to date, `most` bytes of logs at a time; says whether that was all. Does nothing
/// while another process is at it.
///
/// # Errors
/// When nothing can be written below the directory.
pub fn refresh(logs: &Path, most: u64) -> io::Result<bool> {
    let below = logs.join(DIRECTORY);
    match DirBuilder::new().mode(0o700).create(&below) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let lock = options().create(true).open(below.join("lock"))?;
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => return Ok(true),
        locked => locked?,
    }
    let parts = parts(logs);
    forget_others(&below, &parts);
    let mut left = most;
    for part in &parts {
        if left == 0 {
            return Ok(false);
        }
        // One that is gone, or cannot be read, is somebody else's affair.
        if let Ok(done) = extend(logs, part, left) {
            left = left.saturating_sub(done);
        }
    }
    Ok(left > 0)
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

/// Adds the blocks that a log has got since; only full ones, so the end of a log is looked through by each search.
fn extend(logs: &Path, part: &Part, most: u64) -> io::Result<u64> {
    let path = index_path(logs, part.key());
    if part.bytes < block::BLOCK_BYTES as u64 {
        return Ok(0);
    }
    let log = part.open()?;
    let mut before_ms = 0;
    let (begin, mut size) = load(logs, part, &log, |block| before_ms = block.last_ms)?;
    if part.bytes - begin < block::BLOCK_BYTES as u64 {
        return Ok(0);
    }
    let Some(begins) = beginning(&log)? else {
        return Ok(0);
    };
    let index = options().create(true).truncate(false).open(path)?;
    let mut clock = Clock::default();
    let (mut offset, mut out) = (begin, Vec::new());
    if size == 0 {
        out.extend(MAGIC);
        out.extend(begins);
    }
    index.set_len(size)?;
    while part.bytes - offset >= block::BLOCK_BYTES as u64 && offset - begin < most {
        let (bytes, reaches_end) = block::read(&log, offset, part.bytes, &mut clock)?;
        if reaches_end || bytes.is_empty() {
            break;
        }
        let block = Block::of(offset, &bytes, before_ms, &mut clock);
        (offset, before_ms) = (block.end(), block.last_ms);
        put(&block, &mut out);
        if out.len() > block::BLOCK_BYTES {
            index.write_all_at(&out, size)?;
            size += out.len() as u64;
            out.clear();
        }
    }
    index.write_all_at(&out, size)?;
    Ok(offset - begin)
}

/// Removes what is kept of logs that are gone.
fn forget_others(below: &Path, parts: &[Part]) {
    let kept: HashSet<String> = parts
        .iter()
        .map(|part| format!("{:x}-{:x}", part.device, part.inode))
        .collect();
    let Ok(entries) = fs::read_dir(below) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name != "lock" && !kept.contains(&*name) {
            drop(fs::remove_file(entry.path()));
        }
    }
}

/// A thread that keeps the index of a directory up to date. It ends when this is dropped, within a second.
#[derive(Debug)]
pub struct Indexer {
    ended: Arc<AtomicBool>,
    thread: thread::Thread,
}

impl Indexer {
    /// Starts it.
    ///
    /// # Errors
    /// When the process can have no more threads.
    pub fn start(logs: PathBuf) -> io::Result<Self> {
        let ended = Arc::<AtomicBool>::default();
        let theirs = Arc::clone(&ended);
        let running = thread::Builder::new()
            .name("eagleray-index".to_owned())
            .spawn(move || {
                while !theirs.load(Ordering::Relaxed) {
                    // A disk that is full or gone: searches read the logs themselves.
                    drop(refresh(&logs, BYTES_A_TURN));
                    thread::park_timeout(EVERY);
                }
            })?;
        let thread = running.thread().clone();
        Ok(Self { ended, thread })
    }
}

impl Drop for Indexer {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.unpark();
    }
}

#[cfg(test)]
mod tests;
