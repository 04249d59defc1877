//! The native children of a node: controller, proxy, reaper. Each is started again when it ends.
//!
//! What must outlive them stays here: the listening sockets (a client that connects while the proxy is away waits
//! in the backlog and is served by the next one), and the node's end of the reaper's pipe.
//!
//! How soon is the business of [`Restarts`].

use std::{
    cell::{Cell, RefCell},
    fs::File,
    io::{self, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::{net::UnixStream, process::CommandExt},
    },
    path::PathBuf,
    process::{Command, Stdio},
    rc::Rc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use rustix::process::Signal;
use tokio::{
    sync::{Notify, mpsc},
    task::spawn_local,
    time,
};

use crate::{
    descriptor::{number, pipe},
    environment, link,
    listeners::Listeners,
    reaper,
    restarts::Restarts,
    spawn::{self, Process, describe},
};

/// One that has lived so long is well, whatever was before.
const WELL_AFTER: Duration = Duration::from_secs(10);
const READ_REST_WITHIN: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Controller,
    Proxy,
    Reaper,
}

impl Role {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Controller => "controller",
            Self::Proxy => "proxy",
            Self::Reaper => "reaper",
        }
    }
}

/// What a service's task tells the node's loop.
#[derive(Debug)]
pub(crate) enum News {
    Up {
        role: Role,
        link: Option<link::Sender>,
    },
    Said {
        role: Role,
        message: Bytes,
    },
    Down {
        role: Role,
        reason: String,
        /// It is in a crash loop, in words.
        trouble: Option<String>,
    },
    /// It has run for a while.
    Well {
        role: Role,
    },
    /// It ended after it was told to, and does not come back.
    Ended {
        role: Role,
    },
}

#[derive(Debug)]
pub(crate) struct Recipe {
    pub(crate) role: Role,
    /// JSON of its options.
    pub(crate) options: String,
    pub(crate) node_id: String,
    pub(crate) run_directory: PathBuf,
    pub(crate) log_directory: PathBuf,
    /// Those that it accepts connections from.
    pub(crate) listeners: Listeners,
}

#[derive(Debug)]
pub(crate) struct Service {
    recipe: RefCell<Recipe>,
    role: Role,
    process: RefCell<Option<Rc<Process>>>,
    /// The node's end of the reaper's pipe.
    pipe: RefCell<Option<File>>,
    ending: Cell<bool>,
    wake: Notify,
    over: Cell<bool>,
}

impl Service {
    /// Starts it and keeps it running until [`Service::end`].
    pub(crate) fn start(recipe: Recipe, news: mpsc::Sender<News>) -> Rc<Self> {
        let service = Rc::new(Self {
            role: recipe.role,
            recipe: RefCell::new(recipe),
            process: RefCell::default(),
            pipe: RefCell::default(),
            ending: Cell::default(),
            wake: Notify::new(),
            over: Cell::default(),
        });
        spawn_local(Rc::clone(&service).keep_running(news));
        service
    }

    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(process) = &*self.process.borrow() {
            process.signal(signal);
        }
    }

    /// Of the process that runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        let process = self.process.borrow();
        process.as_ref().map(|process| process.pid())
    }

    /// From now on it is not started again.
    pub(crate) fn end(&self) {
        self.ending.set(true);
        self.wake.notify_one();
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.get()
    }

    /// Closes the node's copies of its listening sockets: when the child has closed its own, clients are refused.
    pub(crate) fn close_listeners(&self) {
        self.recipe.borrow_mut().listeners.close();
    }

    /// Reaper only: tells it that nothing is left to be done.
    pub(crate) fn tell_all_is_well(&self) {
        self.end();
        if let Some(mut pipe) = self.pipe.borrow_mut().take() {
            // A reaper that is gone needs no telling.
            drop(pipe.write_all(reaper::ALL_IS_WELL));
        }
    }

    async fn keep_running(self: Rc<Self>, news: mpsc::Sender<News>) {
        let role = self.role;
        let mut restarts = Restarts::default();
        while !self.ending.get() {
            let started = Instant::now();
            let reason = match self.run_once(&news).await {
                Ok(reason) => reason,
                Err(error) => format!("cannot be started: {error}"),
            };
            if self.ending.get() {
                break;
            }
            let delay = restarts.died(Instant::now(), started.elapsed());
            let trouble = restarts
                .crash_loop()
                .map(|words| self.trouble(&words, &reason, delay));
            tracing::warn!(
                role = role.name(),
                reason,
                ?delay,
                trouble,
                "a process of the node ended and is started again"
            );
            // The loop is gone only when the node is.
            drop(
                news.send(News::Down {
                    role,
                    reason,
                    trouble,
                })
                .await,
            );
            tokio::select! {
                () = time::sleep(delay) => {}
                () = self.wake.notified() => {}
            }
        }
        self.over.set(true);
        drop(news.send(News::Ended { role }).await);
    }

    /// One life of the process. Returns how it ended.
    async fn run_once(&self, news: &mpsc::Sender<News>) -> io::Result<String> {
        let (process, control) = self.spawn()?;
        let process = Rc::new(process);
        *self.process.borrow_mut() = Some(Rc::clone(&process));
        let (link, reader) = match control {
            None => (None, None),
            Some(control) => {
                let (link, incoming) = link::open(control)?;
                (
                    Some(link),
                    Some(spawn_local(read(self.role, incoming, news.clone()))),
                )
            }
        };
        tracing::info!(
            role = self.role.name(),
            pid = process.pid(),
            "process started"
        );
        drop(
            news.send(News::Up {
                role: self.role,
                link,
            })
            .await,
        );
        if time::timeout(WELL_AFTER, process.ended()).await.is_err() {
            drop(news.send(News::Well { role: self.role }).await);
            process.ended().await;
        }
        *self.process.borrow_mut() = None;
        let reason = describe(process.reap()?);
        if let Some(mut reader) = reader
            && time::timeout(READ_REST_WITHIN, &mut reader).await.is_err()
        {
            // Whatever comes on it from now on is nobody's word: the next one is about to be started.
            reader.abort();
            tracing::warn!(
                role = self.role.name(),
                "something outside it still holds its connection, which is closed"
            );
        }
        Ok(reason)
    }

    fn trouble(&self, words: &str, reason: &str, delay: Duration) -> String {
        let log = self
            .recipe
            .borrow()
            .log_directory
            .join(format!("{}.log", self.role.log_name()));
        format!(
            "the {} is in a {words}, last: {reason}; next start in {:.1} s. Its log {} says why",
            self.role.name(),
            delay.as_secs_f64(),
            log.display()
        )
    }

    fn spawn(&self) -> io::Result<(Process, Option<UnixStream>)> {
        let recipe = self.recipe.borrow();
        // The executable that runs, even when the file has been replaced meanwhile: one node is one release.
        let mut command = Command::new("/proc/self/exe");
        command.arg0(format!("eagleray: {}", self.role.name()));
        command
            .env(environment::ROLE, self.role.name())
            .env(environment::OPTIONS, &recipe.options);
        command
            .env(environment::NODE, &recipe.node_id)
            .env(environment::RUN_DIRECTORY, &recipe.run_directory);
        command
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        if self.role == Role::Reaper {
            let (read, write) = pipe()?;
            command.stdin(read);
            let process = spawn::spawn(command, &[], None)?;
            *self.pipe.borrow_mut() = Some(File::from(write));
            return Ok((process, None));
        }
        let (control, theirs) = UnixStream::pair()?;
        command.env(environment::CONTROL_FD, number(&theirs));
        let mut inherited: Vec<BorrowedFd<'_>> = vec![theirs.as_fd()];
        command.env(environment::LISTENERS, recipe.listeners.text());
        inherited.extend(recipe.listeners.descriptors());
        Ok((spawn::spawn(command, &inherited, None)?, Some(control)))
    }
}

impl Role {
    /// The reaper is quiet, and writes where the node does.
    fn log_name(self) -> &'static str {
        match self {
            Self::Reaper => "node",
            other => other.name(),
        }
    }
}

async fn read(role: Role, mut incoming: link::Receiver, news: mpsc::Sender<News>) {
    loop {
        match incoming.next().await {
            Ok(Some((_, message))) => {
                if news.send(News::Said { role, message }).await.is_err() {
                    return;
                }
            }
            // The end of the process is what counts, and is seen by its pidfd.
            Ok(None) => return,
            Err(error) => {
                tracing::error!(role = role.name(), %error, "its control connection broke");
                return;
            }
        }
    }
}
