//! A native process of the node as the machine has it: its executable, what it inherits, its connection.
//!
//! What must outlive it stays here: the listening sockets (a client that connects while the proxy is away waits
//! in the backlog and is served by the next one), and the node's end of the reaper's pipe.

use std::{
    fs::File,
    io::{self, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::{net::UnixStream, process::CommandExt},
    },
    path::PathBuf,
    process::{Command, Stdio},
    rc::Rc,
    time::Duration,
};

use bytes::Bytes;
use rustix::process::Signal;
use tokio::{sync::mpsc, task::spawn_local, time};

use crate::{
    core::{Event, Role, ServiceNews},
    descriptor::{number, pipe},
    environment,
    link::{self, NotSent},
    listeners::Listeners,
    reaper,
    spawn::{self, Process, describe},
};

const READ_REST_WITHIN: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Recipe {
    pub(crate) role: Role,
    pub(crate) executable: PathBuf,
    /// JSON of its options.
    pub(crate) options: String,
    pub(crate) node_id: String,
    pub(crate) run_directory: PathBuf,
    /// Those that it accepts connections from.
    pub(crate) listeners: Listeners,
}

#[derive(Debug)]
pub(crate) struct Service {
    recipe: Recipe,
    process: Option<Rc<Process>>,
    link: Option<link::Sender>,
    /// The node's end of the reaper's pipe.
    pipe: Option<File>,
    news: mpsc::Sender<Event>,
}

impl Service {
    pub(crate) fn new(recipe: Recipe, news: mpsc::Sender<Event>) -> Self {
        Self {
            recipe,
            process: None,
            link: None,
            pipe: None,
            news,
        }
    }

    /// Starts it, and returns its number. Its words and its end come as news.
    pub(crate) fn start(&mut self) -> io::Result<u32> {
        let (process, incoming) = if self.recipe.role == Role::Reaper {
            (self.spawn_on_pipe()?, None)
        } else {
            let (process, incoming) = self.spawn_on_connection()?;
            (process, Some(incoming))
        };
        let process = Rc::new(process);
        self.process = Some(Rc::clone(&process));
        let role = self.recipe.role;
        tracing::info!(role = role.name(), pid = process.pid(), "process started");
        let pid = process.pid();
        spawn_local(watch(role, process, incoming, self.news.clone()));
        Ok(pid)
    }

    pub(crate) fn tell(&self, message: Bytes) -> Result<(), NotSent> {
        let link = self.link.as_ref().ok_or(NotSent::Ended)?;
        link.send(0, message)
    }

    /// Messages that it has not read.
    pub(crate) fn waiting(&self) -> usize {
        self.link.as_ref().map_or(0, link::Sender::waiting)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(process) = &self.process {
            process.signal(signal);
        }
    }

    /// Its process is gone.
    pub(crate) fn forget(&mut self) {
        self.process = None;
        self.link = None;
    }

    /// Closes the node's copies of its listening sockets: when the child has closed its own, clients are refused.
    pub(crate) fn close_listeners(&mut self) {
        self.recipe.listeners.close();
    }

    /// Reaper only: tells it that nothing is left to be done.
    pub(crate) fn say_all_is_well(&mut self) {
        if let Some(mut pipe) = self.pipe.take() {
            // A reaper that is gone needs no telling.
            drop(pipe.write_all(reaper::ALL_IS_WELL));
        }
    }

    fn spawn_on_pipe(&mut self) -> io::Result<Process> {
        let (read, write) = pipe()?;
        let mut command = self.command();
        command.stdin(read);
        let process = spawn::spawn(command, &[], None)?;
        self.pipe = Some(File::from(write));
        Ok(process)
    }

    fn spawn_on_connection(&mut self) -> io::Result<(Process, link::Receiver)> {
        let (control, theirs) = UnixStream::pair()?;
        let (link, incoming) = link::open(control)?;
        let listeners = &self.recipe.listeners;
        let mut command = self.command();
        command
            .stdin(Stdio::null())
            .env(environment::CONTROL_FD, number(&theirs))
            .env(environment::LISTENERS, listeners.text());
        let mut inherited: Vec<BorrowedFd<'_>> = vec![theirs.as_fd()];
        inherited.extend(listeners.descriptors());
        let process = spawn::spawn(command, &inherited, None)?;
        self.link = Some(link);
        Ok((process, incoming))
    }

    fn command(&self) -> Command {
        let (role, recipe) = (self.recipe.role.name(), &self.recipe);
        let mut command = Command::new(&recipe.executable);
        command.arg0(format!("eagleray: {role}"));
        command
            .env(environment::ROLE, role)
            .env(environment::OPTIONS, &recipe.options)
            .env(environment::NODE, &recipe.node_id)
            .env(environment::RUN_DIRECTORY, &recipe.run_directory);
        command.current_dir("/").stdout(Stdio::null());
        command
    }
}

/// One life of the process, from its start to the news of its end.
async fn watch(
    role: Role,
    process: Rc<Process>,
    incoming: Option<link::Receiver>,
    news: mpsc::Sender<Event>,
) {
    let reader = incoming.map(|incoming| spawn_local(read(role, incoming, news.clone())));
    process.ended().await;
    let reason = match process.reap() {
        Ok(status) => describe(status),
        Err(error) => format!("unknown: {error}"),
    };
    if let Some(mut reader) = reader
        && time::timeout(READ_REST_WITHIN, &mut reader).await.is_err()
    {
        // Whatever comes on it from now on is nobody's word: the next one is about to be started.
        reader.abort();
        tracing::warn!(
            role = role.name(),
            "something outside it still holds its connection, which is closed"
        );
    }
    // The loop is gone only when the node is.
    let ended = Event::Service(role, ServiceNews::Ended { reason });
    drop(news.send(ended).await);
}

async fn read(role: Role, mut incoming: link::Receiver, news: mpsc::Sender<Event>) {
    loop {
        match incoming.next().await {
            Ok(Some((_, message))) => {
                let said = Event::Service(role, ServiceNews::Said(message));
                if news.send(said).await.is_err() {
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
