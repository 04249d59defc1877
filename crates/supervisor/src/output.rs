//! What replicas print: read as fast as it comes, cut into lines, and handed to the log and to those who watch.
//!
//! The pipe must never fill, or user code would block in `print`. So reading waits for nobody: a log or a watcher
//! without room loses lines, and is told how many.

mod lines;

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    os::fd::OwnedFd,
    rc::Rc,
};

use bytes::{Buf, BytesMut};
use eagleray_logs::Log;
use eagleray_types::{DeploymentKey, control::Output};
use tokio::{io::AsyncReadExt, net::unix::pipe, sync::mpsc};

use lines::{Heads, Line};

/// A longer line is cut into several.
const MAX_LINE_BYTES: usize = 64 * 1024;
/// Lines that may wait for one watcher.
const WATCHER_LINES: usize = 1024;
/// What a replica wrote to stderr last is kept up to this size, for the message when it dies.
const TAIL_BYTES: usize = 16 * 1024;
const READ_BYTES: usize = 64 * 1024;

/// Those who watch the output of all replicas.
#[derive(Debug, Default)]
pub(crate) struct Watchers {
    watchers: RefCell<Vec<Watcher>>,
}

#[derive(Debug)]
struct Watcher {
    lines: mpsc::Sender<Output>,
    lost: u64,
}

impl Watchers {
    pub(crate) fn watch(&self) -> mpsc::Receiver<Output> {
        let (lines, receiver) = mpsc::channel(WATCHER_LINES);
        let mut watchers = self.watchers.borrow_mut();
        // Those that left while nothing was printed.
        watchers.retain(|watcher| !watcher.lines.is_closed());
        watchers.push(Watcher { lines, lost: 0 });
        receiver
    }

    fn is_empty(&self) -> bool {
        self.watchers.borrow().is_empty()
    }

    fn tell(&self, output: &Output) {
        self.watchers
            .borrow_mut()
            .retain_mut(|watcher| match watcher.lines.try_reserve() {
                Ok(place) => {
                    place.send(Output {
                        lost: std::mem::take(&mut watcher.lost),
                        ..output.clone()
                    });
                    true
                }
                Err(mpsc::error::TrySendError::Full(())) => {
                    watcher.lost += 1;
                    true
                }
                Err(mpsc::error::TrySendError::Closed(())) => false,
            });
    }
}

/// The output of one replica: both its pipes, its log, the end of its stderr.
#[derive(Debug)]
pub(crate) struct ReplicaOutput {
    pub(crate) replica_id: String,
    pub(crate) deployment: DeploymentKey,
    pub(crate) watchers: Rc<Watchers>,
    pub(crate) log: Log,
    pub(crate) tail: RefCell<Tail>,
    /// The tail has lines of stdout too.
    pub(crate) keeps_stdout: bool,
    heads: RefCell<Heads>,
    /// What comes next on stderr is the rest of a line with a head, which was too long.
    is_cut: Cell<bool>,
}

/// The last lines of stderr.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    lines: VecDeque<String>,
    bytes: usize,
}

impl Tail {
    fn push(&mut self, line: String) {
        self.bytes += line.len() + 1;
        self.lines.push_back(line);
        while self.bytes > TAIL_BYTES
            && self.lines.len() > 1
            && let Some(oldest) = self.lines.pop_front()
        {
            self.bytes -= oldest.len() + 1;
        }
    }

    pub(crate) fn text(&self) -> String {
        self.lines
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join("\n")
    }
}

impl ReplicaOutput {
    pub(crate) fn new(
        replica_id: &str,
        deployment: DeploymentKey,
        watchers: Rc<Watchers>,
        log: Log,
        keeps_stdout: bool,
    ) -> Self {
        Self {
            replica_id: replica_id.to_owned(),
            heads: RefCell::new(Heads::new(&deployment, replica_id)),
            deployment,
            watchers,
            log,
            tail: RefCell::default(),
            keeps_stdout,
            is_cut: Cell::new(false),
        }
    }

    /// Reads one of the pipes until all who could write to it are gone.
    pub(crate) async fn pump(self: Rc<Self>, read_end: OwnedFd, stderr: bool) {
        let mut pipe = match pipe::Receiver::from_owned_fd(read_end) {
            Ok(pipe) => pipe,
            Err(error) => {
                tracing::error!(replica = self.replica_id, %error, "its output cannot be read");
                return;
            }
        };
        let mut buffer = BytesMut::with_capacity(READ_BYTES);
        loop {
            buffer.reserve(READ_BYTES);
            match pipe.read_buf(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(_) => self.take_lines(&mut buffer, stderr, false),
            }
        }
        self.take_lines(&mut buffer, stderr, true);
    }

    /// Takes the whole lines out of `buffer`; at the end also what has no newline.
    fn take_lines(&self, buffer: &mut BytesMut, stderr: bool, end: bool) {
        let mut chunk = Vec::new();
        let mut lines = 0;
        while !buffer.is_empty() {
            let near = buffer.iter().take(MAX_LINE_BYTES);
            let (line, is_cut) = match near.into_iter().position(|byte| *byte == b'\n') {
                Some(length) => {
                    let line = buffer.split_to(length);
                    buffer.advance(1);
                    (line, false)
                }
                None if buffer.len() >= MAX_LINE_BYTES => (buffer.split_to(MAX_LINE_BYTES), true),
                None if end => (buffer.split(), false),
                None => break,
            };
            lines += u64::from(self.take_line(&line, stderr, is_cut, &mut chunk));
        }
        if lines > 0 {
            self.log.write(chunk, lines);
        }
    }

    /// Adds a line to what goes to the log, and shows it; false if it is none.
    fn take_line(&self, line: &[u8], stderr: bool, is_cut: bool, chunk: &mut Vec<u8>) -> bool {
        let (line, has_head) = match Line::read(line, stderr) {
            _ if stderr && self.is_cut.get() => (line, true),
            Line::FromNowOn(said) => {
                self.heads.borrow_mut().take_announcement(said);
                return false;
            }
            Line::Printed(printed) => {
                self.heads.borrow_mut().add(chunk, &printed, stderr);
                self.line(printed.text, stderr);
                (printed.text, false)
            }
            Line::WithHead(line) => {
                self.line(line, stderr);
                (line, true)
            }
            Line::LogOnly(line) => (line, true),
        };
        if has_head {
            chunk.extend_from_slice(line);
        }
        if stderr {
            self.is_cut.set(is_cut && has_head);
        }
        chunk.push(b'\n');
        true
    }

    fn line(&self, line: &[u8], stderr: bool) {
        let is_kept = stderr || self.keeps_stdout;
        if !is_kept && self.watchers.is_empty() {
            return;
        }
        let text = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned();
        if is_kept {
            self.tail.borrow_mut().push(text.clone());
        }
        self.watchers.tell(&Output {
            replica_id: self.replica_id.clone(),
            deployment: Some(self.deployment.clone()),
            line: text,
            stderr,
            lost: 0,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use eagleray_logs::{Limits, Writer};

    fn output(watchers: &Rc<Watchers>) -> ReplicaOutput {
        ReplicaOutput::new(
            "r",
            DeploymentKey::new("app", "Model"),
            Rc::clone(watchers),
            Writer::start(Limits::default())
                .unwrap()
                .open("/dev/null".as_ref()),
            false,
        )
    }

    #[test]
    fn lines_are_cut_where_they_end_and_the_rest_waits() {
        let watchers = Rc::new(Watchers::default());
        let mut seen = watchers.watch();
        let output = output(&watchers);
        let mut buffer = BytesMut::from(&b"one\ntwo\r\nthr"[..]);
        output.take_lines(&mut buffer, false, false);
        assert_eq!(seen.try_recv().unwrap().line, "one");
        assert_eq!(seen.try_recv().unwrap().line, "two");
        assert!(seen.try_recv().is_err());
        output.take_lines(&mut buffer, true, true);
        let last = seen.try_recv().unwrap();
        assert_eq!((last.line.as_str(), last.stderr), ("thr", true));
        assert_eq!(output.tail.borrow().text(), "thr");
    }

    #[test]
    fn lines_for_the_log_only_are_neither_shown_nor_kept_as_the_last_words() {
        let watchers = Rc::new(Watchers::default());
        let mut seen = watchers.watch();
        let output = output(&watchers);
        let mut buffer = BytesMut::from(&b"\x1eCALL work OK 0.4ms\nshown\n"[..]);
        output.take_lines(&mut buffer, true, false);
        assert_eq!(seen.try_recv().unwrap().line, "shown");
        assert_eq!(output.tail.borrow().text(), "shown");
        let mut buffer = BytesMut::from(&b"\x1eof stdout\n"[..]);
        output.take_lines(&mut buffer, false, false);
        assert_eq!(seen.try_recv().unwrap().line, "\u{1e}of stdout");
    }

    #[test]
    fn a_line_without_end_is_cut() {
        let watchers = Rc::new(Watchers::default());
        let mut seen = watchers.watch();
        let mut buffer = BytesMut::from(&vec![b'x'; MAX_LINE_BYTES + 5][..]);
        output(&watchers).take_lines(&mut buffer, false, false);
        assert_eq!(seen.try_recv().unwrap().line.len(), MAX_LINE_BYTES);
        assert_eq!(buffer.len(), 5);
    }

    #[test]
    fn a_watcher_that_does_not_read_loses_lines_and_learns_how_many() {
        let watchers = Rc::new(Watchers::default());
        let mut seen = watchers.watch();
        let output = output(&watchers);
        for _ in 0..WATCHER_LINES + 7 {
            output.line(b"x", false);
        }
        for _ in 0..WATCHER_LINES {
            assert_eq!(seen.try_recv().unwrap().lost, 0);
        }
        output.line(b"y", false);
        assert_eq!(seen.try_recv().unwrap().lost, 7);
    }

    #[test]
    fn the_tail_keeps_the_end() {
        let mut tail = Tail::default();
        for number in 0..100_000 {
            tail.push(format!("line {number}"));
        }
        assert!(tail.text().len() <= TAIL_BYTES);
        assert!(tail.text().ends_with("line 99999"));
    }
}
