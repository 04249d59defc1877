//! The processes that replicas are forked from: one for each interpreter, directory, environment and code.
//!
//! They are a way to start replicas and nothing that anybody asks for: what is not here is made with the next replica that
//! could use it, and one that dies is missed by nobody. So there is a bound on how many there are, and the one that was
//! used longest ago makes room. So it is with their memory. The controller says when there will be no further replica of
//! a kind, which is when its revision is over.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    time::{Duration, Instant},
};

use eagleray_types::{DeploymentKey, control::Spawn};
use rustix::process::Signal;
use tokio::{
    sync::{Notify, mpsc, oneshot},
    task::{spawn_blocking, spawn_local},
    time,
};

use super::{
    berth::Berth,
    nest::{Line, Word},
};
use crate::{
    environment, memory,
    processes::{self, Belongs},
    spawn::{Expecting, Process, adopts_orphans},
};

/// Zygotes of a node, and kinds of replica that are known not to fork.
const MOST: usize = 64;
/// And of the machine's memory they have this part at most, all together.
const MEMORY_SHARE: u64 = 4;
/// Forks that may wait for one zygote.
const WAITING: usize = 256;
/// A fork takes milliseconds; a zygote that was stopped takes for ever.
const FORK_WITHIN: Duration = Duration::from_secs(5);
const SCAN_WITHIN: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct Zygotes {
    node_id: String,
    enabled: bool,
    kinds: RefCell<BTreeMap<String, Kind>>,
    /// Changes of the table so far: when each kind was used last.
    clock: Cell<u64>,
    made: Cell<u64>,
    alive: Cell<usize>,
    one_gone: Notify,
}

#[derive(Debug)]
struct Kind {
    used_at: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The first replica imports, and others wait for its word. It may be that no more of them will come.
    Importing {
        waiting: Vec<oneshot::Sender<()>>,
        is_wanted: bool,
    },
    Ready(Requests),
    CannotFork,
}

/// What zygotes have in memory, though most of it may be their forks' too.
fn memory_of(kinds: &BTreeMap<String, Kind>) -> u64 {
    let pids = kinds.values().filter_map(|kind| match &kind.state {
        State::Ready(requests) => Some(requests.pid),
        _ => None,
    });
    pids.map(memory::of_process).sum()
}

/// What a replica that is to be started does.
pub(super) enum Turn {
    First,
    Wait(oneshot::Receiver<()>),
    Fork(Requests),
    Alone,
}

/// What the keys of these imports begin with.
fn prefix(imports: &str) -> String {
    format!("{}:{imports}", imports.len())
}

/// Where a zygote is asked for forks. When the last is dropped it ends.
#[derive(Clone, Debug)]
pub(super) struct Requests {
    sender: mpsc::Sender<Request>,
    /// Of the zygote.
    pid: u32,
}

#[derive(Debug)]
struct Request {
    replica_id: String,
    berth: Berth,
    expecting: Expecting,
    answer: oneshot::Sender<Result<Process, NoFork>>,
}

/// Why there is no process.
#[derive(Debug)]
pub(super) enum NoFork {
    /// Nobody has touched what the replica is to have.
    Untouched(Berth, String),
    /// There may have been one for a moment.
    Half,
}

impl Zygotes {
    pub(super) fn new(node_id: &str) -> Self {
        Self {
            node_id: node_id.to_owned(),
            enabled: environment::set(environment::ZYGOTES).is_none_or(|value| value != "0"),
            kinds: RefCell::default(),
            clock: Cell::new(0),
            made: Cell::new(0),
            alive: Cell::new(0),
            one_gone: Notify::new(),
        }
    }

    /// Of which kind it is; `None`: it is not forked.
    pub(super) fn key(&self, spawn: &Spawn) -> Option<String> {
        let switch = spawn.environment.get(environment::ZYGOTES);
        let enabled = switch.map_or(self.enabled, |value| value != "0");
        let can = enabled && !spawn.imports.is_empty() && !spawn.bootstrap.is_empty();
        let can = can && adopts_orphans();
        can.then(|| {
            let place = (&spawn.python, &spawn.bootstrap, &spawn.working_directory);
            let environment = &spawn.environment;
            format!("{}{:?}", prefix(&spawn.imports), (place, environment))
        })
    }

    pub(super) fn turn(&self, key: &str) -> Turn {
        let now = self.tick();
        let mut kinds = self.kinds.borrow_mut();
        let Some(kind) = kinds.get_mut(key) else {
            let state = State::Importing {
                waiting: Vec::new(),
                is_wanted: true,
            };
            kinds.insert(
                key.to_owned(),
                Kind {
                    used_at: now,
                    state,
                },
            );
            return Turn::First;
        };
        kind.used_at = now;
        match &mut kind.state {
            State::Importing { waiting, .. } => {
                let (sender, receiver) = oneshot::channel();
                waiting.push(sender);
                Turn::Wait(receiver)
            }
            State::Ready(requests) => Turn::Fork(requests.clone()),
            State::CannotFork => Turn::Alone,
        }
    }

    pub(super) fn forget_imports(&self, imports: &str) {
        let prefix = prefix(imports);
        self.kinds.borrow_mut().retain(|key, kind| {
            let of_these = key.starts_with(&prefix);
            if of_these && let State::Importing { is_wanted, .. } = &mut kind.state {
                // Somebody waits for its word.
                *is_wanted = false;
                return true;
            }
            !of_these
        });
    }

    fn tick(&self) -> u64 {
        self.clock.set(self.clock.get() + 1);
        self.clock.get()
    }

    /// For a zygote, in the place of a replica's id, and as long as one.
    pub(super) fn next_id(&self, length: usize) -> String {
        self.made.set(self.made.get() + 1);
        let width = length.saturating_sub(1);
        format!("~{:0width$}", self.made.get())
    }

    /// Nothing came of it, or it has ended: the next replica of this kind is the first again.
    pub(super) fn forget(&self, key: &str) {
        self.kinds.borrow_mut().remove(key);
    }

    /// The zygote of this kind has ended, unless another one has taken its place.
    fn forget_closed(&self, key: &str) {
        let mut kinds = self.kinds.borrow_mut();
        if matches!(kinds.get(key), Some(Kind { state: State::Ready(requests), .. }) if requests.sender.is_closed())
        {
            kinds.remove(key);
        }
    }

    pub(super) fn cannot_fork(&self, key: &str, deployment: &DeploymentKey, reason: &str) {
        tracing::info!(
            "replicas of {deployment} are not forked, each imports its modules itself: {reason}"
        );
        self.enter(key, State::CannotFork);
    }

    fn enter(&self, key: &str, state: State) {
        let used_at = self.tick();
        let mut kinds = self.kinds.borrow_mut();
        kinds.insert(key.to_owned(), Kind { used_at, state });
        let settled =
            |kind: &Kind| (!matches!(kind.state, State::Importing { .. })).then_some(kind.used_at);
        let most_memory = memory::of_machine().map_or(u64::MAX, |bytes| bytes / MEMORY_SHARE);
        while kinds.len() > MOST || memory_of(&kinds) > most_memory {
            let oldest = kinds
                .iter()
                .filter(|(other, _)| *other != key)
                .filter_map(|(key, kind)| Some((settled(kind)?, key.clone())))
                .min();
            match oldest {
                Some((_, key)) => drop(kinds.remove(&key)),
                None => break,
            }
        }
    }

    /// The process is a zygote from now on.
    pub(super) fn adopt(
        self: Rc<Self>,
        key: &str,
        id: String,
        deployment: &DeploymentKey,
        process: Rc<Process>,
        line: Line,
    ) -> Requests {
        let (sender, requests) = mpsc::channel(WAITING);
        let requests_of = Requests {
            sender,
            pid: process.pid(),
        };
        let unwanted = |kind: &Kind| {
            matches!(
                kind.state,
                State::Importing {
                    is_wanted: false,
                    ..
                }
            )
        };
        if self.kinds.borrow().get(key).is_some_and(unwanted) {
            // It ends when it has forked the one that is asked for now.
            self.forget(key);
        } else {
            self.enter(key, State::Ready(requests_of.clone()));
        }
        self.alive.set(self.alive.get() + 1);
        tracing::info!(pid = process.pid(), "replicas of {deployment} are forked");
        let zygote = Zygote {
            zygotes: self,
            key: key.to_owned(),
            id,
            deployment: deployment.to_string(),
            process,
            line,
        };
        spawn_local(zygote.live(requests));
        requests_of
    }

    /// Ends all of them.
    pub(crate) fn end(&self) {
        self.kinds.borrow_mut().clear();
    }

    /// Waits until none is left.
    pub(crate) async fn ended(&self) {
        while self.alive.get() > 0 {
            self.one_gone.notified().await;
        }
    }
}

impl Requests {
    pub(super) async fn fork(&self, replica_id: &str, berth: Berth) -> Result<Process, NoFork> {
        let (answer, answered) = oneshot::channel();
        let request = Request {
            replica_id: replica_id.to_owned(),
            berth,
            expecting: Expecting::one(),
            answer,
        };
        if let Err(mpsc::error::SendError(request)) = self.sender.send(request).await {
            return Err(NoFork::Untouched(request.berth, ENDED.to_owned()));
        }
        answered.await.unwrap_or(Err(NoFork::Half))
    }
}

const ENDED: &str = "its zygote has ended";

struct Zygote {
    zygotes: Rc<Zygotes>,
    key: String,
    id: String,
    deployment: String,
    process: Rc<Process>,
    line: Line,
}

/// What came of one request.
enum Fork {
    Process(Process),
    None(String),
    /// The zygote is of no more use.
    Silence,
}

impl Zygote {
    async fn live(self, mut requests: mpsc::Receiver<Request>) {
        let mut silent = None;
        loop {
            let request = tokio::select! {
                biased;
                () = self.process.ended() => break,
                request = requests.recv() => request,
            };
            let Some(request) = request else { break };
            let began = Instant::now();
            match self.fork(&request).await {
                Fork::Process(process) => {
                    tracing::debug!(took = ?began.elapsed(), "forked {}", request.replica_id);
                    // Who asked has not gone away: it waits for nothing else.
                    request.answer.send(Ok(process)).ok();
                    drop(request.expecting);
                }
                Fork::None(reason) => request.refuse(reason),
                Fork::Silence => {
                    silent = Some(request);
                    break;
                }
            }
        }
        requests.close();
        self.zygotes.forget_closed(&self.key);
        self.process.signal(Signal::KILL);
        self.process.ended().await;
        let half_born = silent.as_ref().map(|request| request.replica_id.as_str());
        self.end_what_is_left(half_born.unwrap_or(&self.id)).await;
        let reason = self
            .process
            .reap()
            .map_or_else(|error| error.to_string(), crate::spawn::describe);
        tracing::info!("the zygote of {} has ended: {reason}", self.deployment);
        if let Some(request) = silent {
            request.answer.send(Err(NoFork::Half)).ok();
        }
        while let Some(request) = requests.recv().await {
            request.refuse(ENDED.to_owned());
        }
        self.zygotes.alive.set(self.zygotes.alive.get() - 1);
        self.zygotes.one_gone.notify_one();
    }

    async fn fork(&self, request: &Request) -> Fork {
        if self.line.ask(&request.replica_id, &request.berth).is_err() {
            return Fork::Silence;
        }
        let word = tokio::select! {
            biased;
            word = self.line.next() => word,
            () = self.process.ended() => None,
            () = time::sleep(FORK_WITHIN) => None,
        };
        match word {
            Some(Word::Forked(pid)) => match Process::adopt(pid) {
                Ok(process) => Fork::Process(process),
                Err(error) => {
                    tracing::error!(%error, "a forked replica cannot be watched and is killed");
                    Fork::Silence
                }
            },
            Some(Word::NotForked(reason)) => Fork::None(reason),
            _ => Fork::Silence,
        }
    }

    /// Kills what was forked and is no replica yet, which still looks like its parent, or like the replica `id`.
    async fn end_what_is_left(&self, id: &str) {
        let belongs = Belongs::to_replica(&self.zygotes.node_id, id, self.process.pid());
        let scan =
            spawn_blocking(move || processes::end_all(&belongs, Instant::now() + SCAN_WITHIN));
        if !matches!(scan.await, Ok(true)) {
            tracing::warn!("processes of the zygote of {} are left", self.deployment);
        }
    }
}

impl Request {
    fn refuse(self, reason: String) {
        let answer = Err(NoFork::Untouched(self.berth, reason));
        self.answer.send(answer).ok();
    }
}
