//! Access lines: `time [request id] METHOD ROUTE STATUS LATENCYms`.
//!
//! A line is put together from bytes into a buffer of the thread, with the second of its time printed once; full
//! buffers and those older than [`FLUSH_AFTER`] go to one writer thread through a short queue. The log is lossy: a
//! disk that does not keep up costs lines, which are counted and named in the log itself, never a request's time.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// The longest that a line waits in its thread.
pub(crate) const FLUSH_AFTER: Duration = Duration::from_millis(100);
const BUFFER_BYTES: usize = 32 * 1024;
/// Buffers that may wait for the disk: 2 MiB.
const QUEUE_BUFFERS: usize = 64;

/// What one line says.
pub(crate) struct Line<'a> {
    pub(crate) request_id: &'a [u8],
    pub(crate) method: &'a str,
    pub(crate) route: &'a str,
    pub(crate) status: u16,
    pub(crate) latency: Duration,
}

/// The writer thread and the way to it.
#[derive(Clone, Debug)]
pub(crate) struct Sink {
    buffers: SyncSender<Vec<u8>>,
    lost: Arc<AtomicU64>,
}

impl Sink {
    /// Opens the file and starts its writer, which ends when every sink is dropped.
    pub(crate) fn open(path: &Path) -> io::Result<(Self, JoinHandle<()>)> {
        // It says who asked for what: for this user only, under any umask.
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path)?;
        let (buffers, queue) = sync_channel(QUEUE_BUFFERS);
        let lost = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&lost);
        let writer = std::thread::Builder::new()
            .name("eagleray-access-log".to_owned())
            .spawn(move || write_all(file, &queue, &counter))?;
        Ok((Self { buffers, lost }, writer))
    }
}

fn write_all(mut file: File, queue: &Receiver<Vec<u8>>, lost: &AtomicU64) {
    while let Ok(buffer) = queue.recv() {
        if let Err(error) = file.write_all(&buffer) {
            let lines = buffer.split(|byte| *byte == b'\n').count() as u64 - 1;
            lost.fetch_add(lines, Ordering::Relaxed);
            tracing::warn!(%error, lines, "access log lines were not written");
            continue;
        }
        // Relaxed: a statistic, no other memory depends on it.
        let lines = lost.swap(0, Ordering::Relaxed);
        if lines > 0 {
            tracing::warn!(
                lines,
                "access log lines were lost because the disk did not keep up"
            );
            if let Err(error) = writeln!(file, "({lines} lines lost: the disk did not keep up)") {
                tracing::warn!(%error, lines, "the number of lost access log lines was not written");
            }
        }
    }
}

/// The buffer of one thread.
#[derive(Debug)]
pub(crate) struct AccessLog {
    sink: Option<Sink>,
    buffer: Vec<u8>,
    lines: u64,
    second: u64,
    /// `2026-01-31T12:00:00`, for `second`.
    printed: [u8; 19],
}

impl AccessLog {
    pub(crate) fn new(sink: Option<Sink>) -> Self {
        Self {
            sink,
            buffer: Vec::new(),
            lines: 0,
            second: u64::MAX,
            printed: [b' '; 19],
        }
    }

    /// Adds a line; true if the buffer was empty, so that somebody must see to [`Self::flush`].
    pub(crate) fn write(&mut self, wall: SystemTime, line: &Line<'_>) -> bool {
        if self.sink.is_none() {
            return false;
        }
        let first = self.buffer.is_empty();
        let since = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        if since.as_secs() != self.second {
            self.second = since.as_secs();
            self.printed = print_second(self.second);
        }
        let buffer = &mut self.buffer;
        buffer.extend_from_slice(&self.printed);
        buffer.push(b'.');
        let milliseconds = since.subsec_millis();
        buffer.extend([100, 10, 1].map(|unit| b'0' + (milliseconds / unit % 10) as u8));
        buffer.extend_from_slice(b"Z [");
        buffer.extend_from_slice(line.request_id);
        buffer.extend_from_slice(b"] ");
        buffer.extend_from_slice(line.method.as_bytes());
        buffer.push(b' ');
        buffer.extend_from_slice(line.route.as_bytes());
        buffer.push(b' ');
        let mut digits = itoa::Buffer::new();
        buffer.extend_from_slice(digits.format(line.status).as_bytes());
        buffer.push(b' ');
        let tenths = u64::try_from(line.latency.as_micros() / 100).unwrap_or(u64::MAX);
        buffer.extend_from_slice(digits.format(tenths / 10).as_bytes());
        buffer.push(b'.');
        buffer.push(b'0' + (tenths % 10) as u8);
        buffer.extend_from_slice(b"ms\n");
        self.lines += 1;
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush();
        }
        first
    }

    /// Hands the buffer to the writer. When its queue is full the lines are lost and counted.
    pub(crate) fn flush(&mut self) {
        let Some(sink) = &self.sink else { return };
        if self.buffer.is_empty() {
            return;
        }
        let buffer = std::mem::replace(&mut self.buffer, Vec::with_capacity(BUFFER_BYTES + 1024));
        let lines = std::mem::take(&mut self.lines);
        if sink.buffers.try_send(buffer).is_err() {
            sink.lost.fetch_add(lines, Ordering::Relaxed);
        }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.flush();
    }
}

/// UTC, from the days since 1970 by the civil calendar: years begin in March, so that the leap day is the last.
fn print_second(second: u64) -> [u8; 19] {
    let days = second / 86_400 + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let mut text = *b"0000-00-00T00:00:00";
    let mut put = |at: usize, width: usize, mut value: u64| {
        for digit in text[at..at + width].iter_mut().rev() {
            *digit = b'0' + (value % 10) as u8;
            value /= 10;
        }
    };
    put(0, 4, year);
    put(5, 2, month);
    put(8, 2, day);
    put(11, 2, second / 3_600 % 24);
    put(14, 2, second / 60 % 60);
    put(17, 2, second % 60);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_print_as_utc_dates() {
        for (second, expected) in [
            (0, "1970-01-01T00:00:00"),
            (951_782_400, "2000-02-29T00:00:00"),
            (951_868_800, "2000-03-01T00:00:00"),
            (1_735_689_599, "2024-12-31T23:59:59"),
            (4_107_542_400, "2100-03-01T00:00:00"),
        ] {
            assert_eq!(
                std::str::from_utf8(&print_second(second)).unwrap(),
                expected
            );
        }
    }

    #[test]
    fn lines_reach_the_file_in_order_with_time_and_id() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let (sink, writer) = Sink::open(&path).unwrap();
        let mut log = AccessLog::new(Some(sink));
        let line = |status| Line {
            request_id: b"abc",
            method: "GET",
            route: "/iris",
            status,
            latency: Duration::from_micros(12_345),
        };
        assert!(log.write(UNIX_EPOCH + Duration::from_millis(1_500), &line(200)));
        assert!(!log.write(UNIX_EPOCH + Duration::from_millis(2_007), &line(404)));
        drop(log);
        writer.join().unwrap();
        assert_eq!(
            std::fs::read_to_string(path).unwrap(),
            "1970-01-01T00:00:01.500Z [abc] GET /iris 200 12.3ms\n1970-01-01T00:00:02.007Z [abc] GET /iris 404 12.3ms\n"
        );
    }

    #[test]
    fn lines_that_the_disk_cannot_take_are_counted() {
        let (buffers, queue) = sync_channel(1);
        let sink = Sink {
            buffers,
            lost: Arc::default(),
        };
        let lost = Arc::clone(&sink.lost);
        let mut log = AccessLog::new(Some(sink));
        let line = Line {
            request_id: b"abc",
            method: "GET",
            route: "/",
            status: 200,
            latency: Duration::from_millis(1),
        };
        for _ in 0..3 {
            log.write(UNIX_EPOCH, &line);
            log.flush();
        }
        assert_eq!(lost.load(Ordering::Relaxed), 2);
        drop(queue);
    }
}
