//! How a replica comes by its process: an interpreter of its own, or a fork of one that has imported its code.
//!
//! The first replica of its kind is started as ever, and told that others may be forked from it. It imports, looks at
//! what it has become, and says whether it can be forked. If so it is a zygote from then on, and the replica is its first
//! fork; else it goes on as the replica, so nobody has waited for an import in vain. Replicas of the same kind that are
//! wanted meanwhile wait for its word: one import for all is less than one import each.

use std::{
    cell::{Cell, RefCell},
    path::PathBuf,
    rc::Rc,
    time::Instant,
};

use bytes::Bytes;
use eagleray_types::{ReplicaId, control::Spawn};
use rustix::process::Signal;
use tokio::sync::Notify;

use super::{
    berth::Berth,
    nest::{self, Line, Word},
    process,
    zygotes::{NoFork, Requests, Turn, Zygotes},
};
use crate::{link, spawn::Process};

/// The process that a replica has, if it has one yet.
#[derive(Debug, Default)]
pub(super) struct Slot {
    process: RefCell<Option<Rc<Process>>>,
    killed: Cell<bool>,
    kill: Notify,
}

impl Slot {
    pub(super) fn put(&self, process: Rc<Process>) {
        if self.killed.get() {
            process.signal(Signal::KILL);
        }
        *self.process.borrow_mut() = Some(process);
    }

    /// The process is another's now.
    fn take(&self) {
        *self.process.borrow_mut() = None;
    }

    /// One that has no process yet is killed when it has.
    pub(super) fn kill(&self) {
        self.killed.set(true);
        self.kill.notify_one();
        if let Some(process) = self.process.borrow().as_ref() {
            process.signal(Signal::KILL);
        }
    }
}

pub(super) struct Birth {
    pub(super) node_id: String,
    pub(super) run_directory: PathBuf,
    pub(super) id: ReplicaId,
    pub(super) command: Spawn,
    pub(super) slot: Rc<Slot>,
    pub(super) zygotes: Rc<Zygotes>,
}

/// A replica's process, and what it has said meanwhile.
pub(super) type Born = (Rc<Process>, Option<Bytes>);

impl Birth {
    /// An interpreter of its own, at once.
    pub(super) fn alone(&self, berth: &Berth) -> Result<Rc<Process>, String> {
        self.start(berth, None)
    }

    fn start(&self, berth: &Berth, nest: Option<&nest::Nest>) -> Result<Rc<Process>, String> {
        let process = process::start(
            &self.node_id,
            &self.run_directory,
            &self.id,
            &self.command,
            berth,
            nest,
        )?;
        let process = Rc::new(process);
        self.slot.put(Rc::clone(&process));
        Ok(process)
    }

    /// A fork where there can be one; `key` says whose. `incoming` is read only until there is a process that is the
    /// replica.
    pub(super) async fn forked(
        &self,
        key: &str,
        berth: Berth,
        incoming: &mut link::Receiver,
    ) -> Result<Born, String> {
        loop {
            match self.zygotes.turn(key) {
                Turn::First => return self.first(key, berth, incoming).await,
                Turn::Fork(requests) => return self.fork(&requests, berth).await,
                Turn::Alone => return Ok((self.alone(&berth)?, None)),
                Turn::Wait(word) => tokio::select! {
                    // Dropped or sent: the table says what came of it.
                    _ = word => {}
                    // It is to be seen as one that was started and killed.
                    () = self.slot.kill.notified() => return Ok((self.alone(&berth)?, None)),
                },
            }
        }
    }

    /// Starts the process that others may be forked from.
    async fn first(
        &self,
        key: &str,
        berth: Berth,
        incoming: &mut link::Receiver,
    ) -> Result<Born, String> {
        let id = self.zygotes.next_id(self.id.as_str().len());
        let made = nest::make(&self.command.first_command, id.clone());
        let Ok((nest, line)) = made else {
            // Out of descriptors, most likely.
            self.zygotes.forget(key);
            return Ok((self.alone(&berth)?, None));
        };
        let started = self.start(&berth, Some(&nest));
        drop(nest);
        let process = started.inspect_err(|_| self.zygotes.forget(key))?;
        let word = tokio::select! {
            biased;
            word = line.next() => word,
            () = process.ended() => {
                self.zygotes.forget(key);
                return Ok((process, None));
            }
            said = incoming.next() => {
                self.zygotes.cannot_fork(key, &self.command.deployment, "it is of a release that is never forked");
                return Ok((process, said.ok().flatten().map(|(_, said)| said)));
            }
        };
        match word {
            Some(Word::CanFork) => {
                self.slot.take();
                let requests = self.hand_over(key, id, process, line);
                self.fork(&requests, berth).await
            }
            // It imported nothing, which may be another matter next time.
            Some(Word::CannotFork(reason)) if reason.is_empty() => {
                self.zygotes.forget(key);
                Ok((process, None))
            }
            Some(Word::CannotFork(reason)) => {
                self.zygotes
                    .cannot_fork(key, &self.command.deployment, &reason);
                Ok((process, None))
            }
            _ => {
                let reason =
                    "while it imported its modules, the descriptor that it speaks on was closed";
                self.zygotes
                    .cannot_fork(key, &self.command.deployment, reason);
                Ok((process, None))
            }
        }
    }

    fn hand_over(&self, key: &str, id: String, process: Rc<Process>, line: Line) -> Requests {
        Rc::clone(&self.zygotes).adopt(key, id, &self.command.deployment, process, line)
    }

    async fn fork(&self, requests: &Requests, berth: Berth) -> Result<Born, String> {
        let began = Instant::now();
        match requests.fork(self.id.as_str(), berth).await {
            Ok(process) => {
                let process = Rc::new(process);
                self.slot.put(Rc::clone(&process));
                tracing::debug!(replica = %self.id, took = ?began.elapsed(), "forked");
                Ok((process, None))
            }
            Err(NoFork::Untouched(berth, reason)) => {
                tracing::warn!(
                    replica = %self.id,
                    reason,
                    "it was not forked, and is an interpreter of its own"
                );
                Ok((self.alone(&berth)?, None))
            }
            Err(NoFork::Half) => Err(
                "the process that it was being forked from was killed meanwhile; it is started again by itself".to_owned(),
            ),
        }
    }
}
