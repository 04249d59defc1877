//! The thread that writes what replicas print to their log files.
//!
//! Only this thread waits for the disk. Everyone else hands it whole lines through a bounded queue, each replica
//! within its own share of memory, so a slow disk costs lines of the one that prints most, and never a request.
//! Lost lines are counted, and the count stands in the file where they would have been.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

/// Bytes of one replica that may wait for the disk.
const REPLICA_BYTES: usize = 1024 * 1024;
/// Chunks of all replicas that may wait.
const QUEUE: usize = 4096;
/// A file is turned over at this size; one old file is kept.
const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024;
/// Log files of replicas that a run directory keeps; the oldest go first.
const MAX_FILES: usize = 200;

/// The sending side of one replica's file. The file is made with its first line.
#[derive(Debug)]
pub(crate) struct ReplicaLog {
    path: Arc<Path>,
    waiting: Arc<AtomicUsize>,
    lost: u64,
    writer: Writer,
}

#[derive(Debug)]
struct Chunk {
    path: Arc<Path>,
    waiting: Arc<AtomicUsize>,
    bytes: Vec<u8>,
    lost: u64,
    /// No more will come for this file.
    last: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Writer {
    queue: SyncSender<Chunk>,
}

/// Waits for the thread.
#[derive(Debug)]
pub(crate) struct Finish(Receiver<Chunk>);

impl Finish {
    /// Returns when everything is written, after all writers and logs are gone; or when the time is over.
    pub(crate) fn wait(self, within: Duration) {
        // Nothing is ever sent: the thread holds the other end until it ends.
        self.0.recv_timeout(within).ok();
    }
}

impl Writer {
    pub(crate) fn start() -> io::Result<(Self, Finish)> {
        let (queue, chunks) = sync_channel(QUEUE);
        let (running, finish) = sync_channel(0);
        thread::Builder::new()
            .name("log-writer".into())
            .spawn(move || {
                write_all(&chunks);
                drop(running);
            })?;
        Ok((Self { queue }, Finish(finish)))
    }

    pub(crate) fn open(&self, path: &Path) -> ReplicaLog {
        ReplicaLog {
            path: path.into(),
            waiting: Arc::default(),
            lost: 0,
            writer: self.clone(),
        }
    }
}

impl ReplicaLog {
    /// Hands over whole lines (`lines` of them). If there is no room they are lost, and counted.
    pub(crate) fn write(&mut self, bytes: Vec<u8>, lines: u64) {
        // Relaxed: the count guards memory, not data; the queue orders the data.
        if self.waiting.load(Ordering::Relaxed) + bytes.len() > REPLICA_BYTES
            || !self.send(bytes, false)
        {
            self.lost += lines;
        }
    }

    fn send(&mut self, bytes: Vec<u8>, last: bool) -> bool {
        let length = bytes.len();
        let chunk = Chunk {
            path: Arc::clone(&self.path),
            waiting: Arc::clone(&self.waiting),
            bytes,
            lost: self.lost,
            last,
        };
        self.waiting.fetch_add(length, Ordering::Relaxed);
        if self.writer.queue.try_send(chunk).is_ok() {
            self.lost = 0;
            true
        } else {
            self.waiting.fetch_sub(length, Ordering::Relaxed);
            false
        }
    }
}

impl Drop for ReplicaLog {
    fn drop(&mut self) {
        // Without room the file stays open until the thread ends, which costs a descriptor and nothing else.
        self.send(Vec::new(), true);
    }
}

struct OpenFile {
    path: Arc<Path>,
    file: File,
    size: u64,
}

fn write_all(chunks: &Receiver<Chunk>) {
    let mut files: Vec<OpenFile> = Vec::new();
    // Lines lost because the disk refused them, by position of the file; told with the next line that fits.
    while let Ok(chunk) = chunks.recv() {
        if chunk.last && chunk.bytes.is_empty() && chunk.lost == 0 {
            files.retain(|open| open.path != chunk.path);
            continue;
        }
        if let Err(error) = write(&mut files, &chunk) {
            tracing::warn!(path = %chunk.path.display(), %error, "lines of a replica were not written");
            files.retain(|open| open.path != chunk.path);
        }
        chunk
            .waiting
            .fetch_sub(chunk.bytes.len(), Ordering::Relaxed);
        if chunk.last {
            files.retain(|open| open.path != chunk.path);
        }
    }
}

fn write(files: &mut Vec<OpenFile>, chunk: &Chunk) -> io::Result<()> {
    let known = files.iter().position(|open| open.path == chunk.path);
    let at = known.unwrap_or(files.len());
    if known.is_none() {
        files.push(open(&chunk.path)?);
    }
    let Some(open_file) = files.get_mut(at) else {
        return Ok(());
    };
    if open_file.size > MAX_FILE_BYTES {
        let mut old = open_file.path.as_os_str().to_owned();
        old.push(".1");
        fs::rename(&open_file.path, &old)?;
        *open_file = open(&chunk.path)?;
    }
    if chunk.lost > 0 {
        let note = format!("... {} lines lost: the disk did not keep up\n", chunk.lost);
        open_file.file.write_all(note.as_bytes())?;
    }
    open_file.file.write_all(&chunk.bytes)?;
    open_file.size += chunk.bytes.len() as u64;
    Ok(())
}

fn open(path: &Arc<Path>) -> io::Result<OpenFile> {
    if let Some(directory) = path.parent() {
        remove_oldest(directory);
    }
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)?;
    let size = file.metadata()?.len();
    Ok(OpenFile {
        path: Arc::clone(path),
        file,
        size,
    })
}

/// A replica that dies while starting makes a file each time; the directory must not grow for ever.
fn remove_oldest(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    let mut files: Vec<_> = entries
        .flatten()
        .filter(|entry| {
            entry
                .file_name()
                .to_str()
                .is_some_and(|name| name.starts_with("replica_"))
        })
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    if files.len() < MAX_FILES {
        return;
    }
    files.sort();
    let excess = files.len() + 1 - MAX_FILES;
    for (_, path) in files.into_iter().take(excess) {
        // A file that cannot be removed is met again next time.
        drop(fs::remove_file(path));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_reach_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("replica_a_b_c.log");
        let (writer, finish) = Writer::start().unwrap();
        let mut log = writer.open(&path);
        log.write(b"one\n".to_vec(), 1);
        log.write(b"two\n".to_vec(), 1);
        drop((log, writer));
        finish.wait(Duration::from_secs(10));
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\n");
    }

    #[test]
    fn a_disk_that_stands_still_costs_lines_and_no_memory_and_the_count_is_told() {
        let (queue, chunks) = sync_channel(QUEUE);
        let mut log = Writer { queue }.open(Path::new("unused"));
        let line = vec![b'x'; 64 * 1024];
        for _ in 0..100 {
            log.write(line.clone(), 1);
        }
        let kept = chunks.try_iter().inspect(|chunk| {
            chunk
                .waiting
                .fetch_sub(chunk.bytes.len(), Ordering::Relaxed);
        });
        assert_eq!(kept.count(), REPLICA_BYTES / line.len());
        log.write(b"after\n".to_vec(), 1);
        assert_eq!(
            chunks.try_recv().unwrap().lost,
            100 - (REPLICA_BYTES / line.len()) as u64
        );
    }
}
