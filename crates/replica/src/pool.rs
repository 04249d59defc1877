//! The queue of requests for sync methods, and which of the threads that serve it is awake.
//!
//! The threads belong to the embedder (they run user code under an interpreter lock); this decides when one more
//! of them wakes. The rule: *a handler that is quick is served by one thread, a handler that waits by as many as
//! there are requests*. A second thread that wakes for a quick handler only queues for the interpreter lock, so
//! nobody is woken while somebody is awake, except
//! - when the queue has not moved for a while and all who are awake are inside user code: the I/O thread wakes one;
//! - when a woken thread soon has the interpreter lock though another is inside user code: then user code waits with
//!   the lock released. It wakes the next at once, and so does every push until a thread is woken for nothing. (Not
//!   soon: the interpreter took the lock from code that computes, which says nothing.)
//!
//! Idle threads form a stack: the last to rest is the first to wake, its caches are warm, and the others stay out.

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::Thread,
    time::{Duration, Instant},
};

use crossbeam_queue::SegQueue;
use parking_lot::Mutex;

use crate::{flow::Flow, request::Request};

/// A thread that has the interpreter lock so soon after its wake was given it; the interpreter takes it from
/// others after 5 ms.
const SOON: Duration = Duration::from_millis(3);

thread_local! {
    /// This thread has a request from `next` that it has not finished.
    static RUNS: Cell<bool> = const { Cell::new(false) };
}

/// What a thread has to do next.
#[derive(Debug)]
pub enum Next {
    /// Start this request, which is claimed. `spare`: start another thread first, none rests.
    Run { request: Arc<Request>, spare: bool },
    /// Wait, without the interpreter lock, with [`Pool::wait`].
    Rest,
    /// End the thread.
    Closed,
}

#[derive(Debug)]
pub struct Pool {
    queue: SegQueue<Arc<Request>>,
    flow: Arc<Flow>,
    crew: Mutex<Crew>,
    /// Somebody was woken and has not looked into the queue since.
    waking: AtomicBool,
    /// User code was seen to wait.
    waits: AtomicBool,
    /// Threads inside user code.
    busy: AtomicUsize,
}

#[derive(Debug, Default)]
struct Crew {
    resting: Vec<Arc<Sleeper>>,
    threads: usize,
    limit: usize,
    closed: bool,
    woken_at: Option<Instant>,
}

#[derive(Debug)]
struct Sleeper {
    thread: Thread,
    woken: AtomicBool,
}

/// Whether a push found somebody to serve it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Served {
    Yes,
    /// Nobody rests and more threads are allowed: the embedder should start one.
    NeedsThread,
}

impl Pool {
    pub(crate) fn new(flow: Arc<Flow>) -> Self {
        Self {
            queue: SegQueue::new(),
            flow,
            crew: Mutex::default(),
            waking: AtomicBool::new(false),
            waits: AtomicBool::new(false),
            busy: AtomicUsize::new(0),
        }
    }

    pub(crate) fn set_limit(&self, limit: usize) {
        self.crew.lock().limit = limit.max(1);
    }

    /// I/O thread: one more request; [`Pool::wake`] must follow.
    pub(crate) fn push(&self, request: Arc<Request>) {
        self.flow.push();
        self.queue.push(request);
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    /// How many were taken out so far: the I/O thread compares two readings.
    pub(crate) fn popped(&self) -> u64 {
        self.flow.popped()
    }

    /// After pushes: wakes one thread if the rule of this module says so, or if `stuck`.
    pub(crate) fn wake(&self, stuck: bool) -> Served {
        if self.queue.is_empty() {
            return Served::Yes;
        }
        let mut crew = self.crew.lock();
        let awake = crew.threads - crew.resting.len();
        // Relaxed: hints; the lock orders what must be ordered.
        let eager = self.waits.load(Ordering::Relaxed) && !self.waking.load(Ordering::Relaxed);
        let stuck = stuck && self.busy.load(Ordering::Relaxed) >= awake;
        if awake > 0 && !stuck && !eager {
            return Served::Yes;
        }
        if let Some(sleeper) = crew.resting.pop() {
            crew.woken_at = Some(Instant::now());
            drop(crew);
            self.waking.store(true, Ordering::Relaxed);
            sleeper.wake();
            return Served::Yes;
        }
        if crew.threads < crew.limit {
            Served::NeedsThread
        } else {
            Served::Yes
        }
    }

    /// A thread joins; false: there are enough of them, or the pool is closed.
    pub fn join(&self) -> bool {
        let mut crew = self.crew.lock();
        if crew.closed || crew.threads >= crew.limit {
            return false;
        }
        crew.threads += 1;
        true
    }

    /// The next request to run, claimed; called with the interpreter lock held. `woken`: the first call after
    /// [`Pool::wait`].
    pub fn next(&self, woken: bool) -> Next {
        // Relaxed, here and below: hints for when to wake; what must be ordered is ordered by the queue and the crew.
        if RUNS.take() {
            self.busy.fetch_sub(1, Ordering::Relaxed);
        }
        if woken {
            self.waking.store(false, Ordering::Relaxed);
        }
        loop {
            let Some(request) = self.queue.pop() else {
                if woken {
                    self.waits.store(false, Ordering::Relaxed);
                }
                return if self.crew.lock().closed {
                    Next::Closed
                } else {
                    Next::Rest
                };
            };
            self.flow.pop();
            if !request.claim() {
                continue;
            }
            let others = self.busy.fetch_add(1, Ordering::Relaxed);
            RUNS.set(true);
            let spare = !self.queue.is_empty() && self.wake_next(woken && others > 0);
            return Next::Run { request, spare };
        }
    }

    /// More is queued than this thread takes. `evidence`: it was woken, and another is inside user code. True: a
    /// thread is wanted.
    fn wake_next(&self, evidence: bool) -> bool {
        if evidence
            && self
                .crew
                .lock()
                .woken_at
                .is_some_and(|at| at.elapsed() < SOON)
        {
            self.waits.store(true, Ordering::Relaxed);
        }
        self.waits.load(Ordering::Relaxed) && self.wake(false) == Served::NeedsThread
    }

    /// Rests until there is work or the pool closes; called without the interpreter lock.
    pub fn wait(&self) {
        let sleeper = Arc::new(Sleeper {
            thread: std::thread::current(),
            woken: AtomicBool::new(false),
        });
        {
            let mut crew = self.crew.lock();
            // The pusher pushes and then takes this lock, so one of the two sees the other.
            if crew.closed || !self.queue.is_empty() {
                return;
            }
            crew.resting.push(Arc::clone(&sleeper));
        }
        while !sleeper.woken.load(Ordering::Acquire) {
            std::thread::park();
        }
    }

    /// Ends all threads once they rest; what is queued is dropped by its owners.
    pub(crate) fn close(&self) {
        let mut crew = self.crew.lock();
        crew.closed = true;
        for sleeper in crew.resting.drain(..) {
            sleeper.wake();
        }
    }
}

impl Sleeper {
    fn wake(&self) {
        self.woken.store(true, Ordering::Release);
        self.thread.unpark();
    }
}
