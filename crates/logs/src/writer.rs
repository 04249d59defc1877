//! The thread that writes, and the way to it.

use std::{
    collections::HashMap,
    fmt, io,
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::{
    Limits,
    file::{LogFile, Unwritten, lines_in},
};

/// Bytes of one log that may wait for the disk.
pub const WAITING_BYTES: usize = 2 * 1024 * 1024;
/// Bytes of all logs of a writer that may wait.
pub const WAITING_BYTES_OF_ALL: usize = 64 * 1024 * 1024;
/// Pieces of all logs that may wait.
const QUEUE: usize = 4096;
/// Between tries to tell a thread whose queue is full that its lines are waited for.
const TRY_AGAIN: Duration = Duration::from_millis(1);

/// Writes the logs of a process. The thread ends when the writer and all its logs are dropped.
#[derive(Clone, Debug)]
pub struct Writer {
    orders: SyncSender<Order>,
    common: Arc<Common>,
    limits: Limits,
}

/// One log. Clones write to the same one.
#[derive(Clone, Debug)]
pub struct Log(Arc<Sender>);

#[derive(Debug)]
struct Sender {
    orders: SyncSender<Order>,
    state: Arc<State>,
}

/// What the logs of a writer share.
#[derive(Debug, Default)]
struct Common {
    waiting: AtomicUsize,
    trouble: Mutex<Option<Trouble>>,
}

/// The log that failed last, and has not gone well since.
#[derive(Debug)]
struct Trouble {
    log: usize,
    words: String,
}

/// A log, as both sides know it.
#[derive(Debug)]
struct State {
    target: Target,
    limits: Limits,
    waiting: AtomicUsize,
    /// Lines lost since the last word of it in the log.
    lost: AtomicU64,
    common: Arc<Common>,
}

#[derive(Debug)]
enum Target {
    File { path: PathBuf, takes_stderr: bool },
    Terminal,
}

#[derive(Debug)]
enum Order {
    Write {
        state: Arc<State>,
        bytes: Vec<u8>,
    },
    Close(Arc<State>),
    /// Dropped when all before it is written.
    Flush {
        _done: SyncSender<()>,
    },
}

impl Writer {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the process can have no more threads.
    pub fn start(limits: Limits) -> io::Result<Self> {
        let (orders, queue) = sync_channel(QUEUE);
        let common = Arc::<Common>::default();
        let theirs = Arc::clone(&common);
        thread::Builder::new()
            .name("eagleray-logs".to_owned())
            .spawn(move || run(&queue, &theirs))?;
        Ok(Self {
            orders,
            common,
            limits,
        })
    }

    /// A log at `path`. The file is made with its first line.
    pub fn open(&self, path: &Path) -> Log {
        self.log(Target::File {
            path: path.to_owned(),
            takes_stderr: false,
        })
    }

    /// As [`Writer::open`], and from the first line on the standard error of this process goes there too.
    pub fn open_with_stderr(&self, path: &Path) -> Log {
        self.log(Target::File {
            path: path.to_owned(),
            takes_stderr: true,
        })
    }

    /// A log on the standard error of this process. It may stand still for as long as a person likes, and all logs of
    /// the same writer with it, so it is given a writer of its own.
    pub fn terminal(&self) -> Log {
        self.log(Target::Terminal)
    }

    fn log(&self, target: Target) -> Log {
        let state = State {
            target,
            limits: self.limits,
            waiting: AtomicUsize::new(0),
            lost: AtomicU64::new(0),
            common: Arc::clone(&self.common),
        };
        Log(Arc::new(Sender {
            orders: self.orders.clone(),
            state: Arc::new(state),
        }))
    }

    /// Waits until everything given so far is written or lost; `within` at most, whatever the disk does.
    pub fn flush(&self, within: Duration) {
        let until = Instant::now() + within;
        let (done, finished) = sync_channel(0);
        let mut order = Order::Flush { _done: done };
        loop {
            match self.orders.try_send(order) {
                Ok(()) => break,
                Err(TrySendError::Full(again)) if Instant::now() < until => {
                    order = again;
                    thread::sleep(TRY_AGAIN);
                }
                Err(_) => return,
            }
        }
        // Nothing is ever sent.
        finished
            .recv_timeout(until.saturating_duration_since(Instant::now()))
            .ok();
    }

    /// Why lines are being lost, in words that name the file; `None` when all is well again.
    pub fn trouble(&self) -> Option<String> {
        let trouble = self.common.trouble.lock();
        trouble.as_ref().map(|trouble| trouble.words.clone())
    }
}

impl Log {
    /// Hands over whole lines, `lines` of them; each ends in a newline. What there is no room for is lost, and counted.
    pub fn write(&self, bytes: Vec<u8>, lines: u64) {
        let Sender { orders, state } = &*self.0;
        let length = bytes.len();
        // Relaxed throughout: the counts guard memory, not data; the queue orders the data.
        let room = state.waiting.load(Ordering::Relaxed) + length <= WAITING_BYTES
            && state.common.waiting.load(Ordering::Relaxed) + length <= WAITING_BYTES_OF_ALL;
        if room {
            state.hold(length);
            let state = Arc::clone(state);
            if orders.try_send(Order::Write { state, bytes }).is_ok() {
                return;
            }
            self.0.state.release(length);
        }
        state.lost.fetch_add(lines, Ordering::Relaxed);
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        // Where there is no room for the word, the next file that is opened has the thread look for itself.
        drop(self.orders.try_send(Order::Close(Arc::clone(&self.state))));
    }
}

impl State {
    fn hold(&self, bytes: usize) {
        self.waiting.fetch_add(bytes, Ordering::Relaxed);
        self.common.waiting.fetch_add(bytes, Ordering::Relaxed);
    }

    fn release(&self, bytes: usize) {
        self.waiting.fetch_sub(bytes, Ordering::Relaxed);
        self.common.waiting.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, .. } => write!(formatter, "{}", path.display()),
            Self::Terminal => formatter.write_str("the terminal"),
        }
    }
}

/// What the thread has of a log.
struct Opened {
    state: Arc<State>,
    sink: Sink,
    /// Why the last lines were lost.
    reason: String,
}

enum Sink {
    File(LogFile),
    Terminal,
}

fn run(orders: &Receiver<Order>, common: &Common) {
    let mut logs: HashMap<*const State, Opened> = HashMap::new();
    while let Ok(order) = orders.recv() {
        match order {
            Order::Flush { .. } => {}
            Order::Close(state) => {
                if let Some(mut opened) = logs.remove(&Arc::as_ptr(&state)) {
                    opened.say_what_was_lost(common);
                    opened.forget_trouble(common);
                }
            }
            Order::Write { state, bytes } => {
                let key = Arc::as_ptr(&state);
                if !logs.contains_key(&key) {
                    // Those that nobody can write to any more.
                    logs.retain(|_, opened| Arc::strong_count(&opened.state) > 1);
                }
                let opened = logs
                    .entry(key)
                    .or_insert_with(|| Opened::new(Arc::clone(&state)));
                opened.write(&bytes, common);
                state.release(bytes.len());
            }
        }
    }
}

impl Opened {
    fn new(state: Arc<State>) -> Self {
        let sink = match &state.target {
            Target::File { path, takes_stderr } => {
                Sink::File(LogFile::new(path, state.limits, *takes_stderr))
            }
            Target::Terminal => Sink::Terminal,
        };
        Self {
            state,
            sink,
            reason: String::new(),
        }
    }

    fn write(&mut self, bytes: &[u8], common: &Common) {
        if !self.say_what_was_lost(common) {
            self.state
                .lost
                .fetch_add(lines_in(bytes), Ordering::Relaxed);
            return;
        }
        let result = self.sink.append(bytes);
        self.settle(result, common);
    }

    /// Says in the log how many lines are missing there. False if that cannot be written either.
    fn say_what_was_lost(&mut self, common: &Common) -> bool {
        let lost = self.state.lost.swap(0, Ordering::Relaxed);
        if lost == 0 {
            return true;
        }
        let reason = match self.reason.as_str() {
            "" => "the disk did not keep up",
            reason => reason,
        };
        let note = format!("... {lost} lines lost: {reason}\n");
        let result = self.sink.append(note.as_bytes());
        let written = result.is_ok();
        if !written {
            // The note is no line of theirs.
            self.state.lost.fetch_add(lost, Ordering::Relaxed);
        }
        self.settle(
            result.map_err(|unwritten| Unwritten {
                lines: 0,
                ..unwritten
            }),
            common,
        );
        written
    }

    fn settle(&mut self, result: Result<(), Unwritten>, common: &Common) {
        match result {
            Ok(()) => {
                self.reason.clear();
                self.forget_trouble(common);
            }
            Err(Unwritten { lines, error }) => {
                self.state.lost.fetch_add(lines, Ordering::Relaxed);
                self.reason = error.to_string();
                *common.trouble.lock() = Some(Trouble {
                    log: self.key(),
                    words: format!("{}: {error}", self.state.target),
                });
            }
        }
    }

    fn forget_trouble(&self, common: &Common) {
        let mut trouble = common.trouble.lock();
        if trouble
            .as_ref()
            .is_some_and(|trouble| trouble.log == self.key())
        {
            *trouble = None;
        }
    }

    fn key(&self) -> usize {
        Arc::as_ptr(&self.state) as usize
    }
}

impl Sink {
    fn append(&mut self, bytes: &[u8]) -> Result<(), Unwritten> {
        match self {
            Self::File(file) => file.append(bytes),
            Self::Terminal => {
                write_to_terminal(bytes);
                Ok(())
            }
        }
    }
}

/// Past the lock of the standard library, which another thread may hold for as long as the terminal stands still.
fn write_to_terminal(bytes: &[u8]) {
    let mut rest = bytes;
    while !rest.is_empty() {
        match rustix::io::write(io::stderr().as_fd(), rest) {
            Ok(written @ 1..) => rest = rest.get(written..).unwrap_or_default(),
            Err(rustix::io::Errno::INTR) => {}
            // A terminal that is gone loses its lines, as it always did.
            Ok(_) | Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests;
