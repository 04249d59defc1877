//! A replica from its start to the report of its death.

use std::{
    os::unix::process::ExitStatusExt as _,
    process::ExitStatus,
    rc::Rc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use rustix::process::Signal;
use tokio::{
    sync::mpsc,
    task::{JoinHandle, spawn_blocking, spawn_local},
    time,
};

use super::{berth::Berth, birth::Birth};
use crate::{
    core::{Event, ReplicaNews},
    link,
    output::ReplicaOutput,
    processes::{self, Belongs},
    spawn::{Process, describe},
};

/// After all processes are gone, nobody holds the other end; this bounds a descriptor that went elsewhere.
const READ_REST_WITHIN: Duration = Duration::from_secs(1);
const SCAN_WITHIN: Duration = Duration::from_secs(5);
/// Between the end of its connection and that of its process, for one that ends.
const END_WITHIN: Duration = Duration::from_secs(1);
const LEFT_US: &str =
    ": it had closed its connection to the node, as exec does, and was no replica any more";

/// What runs beside a replica.
pub(super) struct Tasks {
    pub(super) node_id: String,
    pub(super) replica_id: String,
    pub(super) output: Rc<ReplicaOutput>,
    pub(super) pumps: [JoinHandle<()>; 2],
    pub(super) news: mpsc::Sender<Event>,
}

impl Tasks {
    /// As [`Tasks::watch`], of one that has no process yet.
    pub(super) async fn begin(
        self,
        birth: Birth,
        key: String,
        berth: Berth,
        mut incoming: link::Receiver,
        socket_path: String,
    ) {
        let born = birth.forked(&key, berth, &mut incoming).await;
        drop(birth);
        let replica_id = self.replica_id.clone();
        let (news, born) = match born {
            Ok((process, said)) => {
                let pid = process.pid();
                tracing::info!(replica = replica_id, pid, "replica started");
                let news = ReplicaNews::Started { pid, socket_path };
                (news, Some((process, said)))
            }
            Err(message) => (ReplicaNews::NotStarted { message }, None),
        };
        // The loop is gone only when the node is.
        drop(self.news.send(Event::Replica(replica_id, news)).await);
        if let Some((process, said)) = born {
            self.watch(process, incoming, said).await;
        }
    }

    /// From the start of a replica to the report of its death. It has `said` something already.
    pub(super) async fn watch(
        self,
        process: Rc<Process>,
        mut incoming: link::Receiver,
        said: Option<Bytes>,
    ) {
        let Self {
            node_id,
            replica_id,
            output,
            pumps,
            news,
        } = self;
        let mut reader = spawn_local({
            let (replica_id, news) = (replica_id.clone(), news.clone());
            async move {
                let mut before = said;
                while let Some(event) = match before.take() {
                    Some(event) => Some(event),
                    None => incoming.next().await.ok().flatten().map(|(_, event)| event),
                } {
                    let said = Event::Replica(replica_id.clone(), ReplicaNews::Said(event));
                    if news.send(said).await.is_err() {
                        return;
                    }
                }
            }
        });
        let mut left_us = false;
        tokio::select! {
            () = process.ended() => {}
            _ = &mut reader => left_us = end_one_that_left_us(&replica_id, &process).await,
        }
        // It stays a zombie until its session is empty, so that no other session can have its number meanwhile.
        let belongs = Belongs::to_replica(&node_id, &replica_id, process.pid());
        loop {
            let belongs = belongs.clone();
            let scan =
                spawn_blocking(move || processes::end_all(&belongs, Instant::now() + SCAN_WITHIN));
            match scan.await {
                Ok(true) => break,
                Ok(false) => tracing::warn!(
                    replica = replica_id,
                    "processes that it started cannot be ended yet"
                ),
                Err(_) => return,
            }
        }
        let status = process.reap();
        let signal = status.as_ref().ok().and_then(ExitStatus::signal);
        let mut reason = status.map_or_else(|error| format!("unknown: {error}"), describe);
        if left_us {
            reason.push_str(LEFT_US);
        }
        // One that left us ended for what it did.
        let signal = signal.filter(|_| !left_us).unwrap_or(0).cast_unsigned();
        let rest = async {
            // A task that panicked has been reported by its panic.
            if !reader.is_finished() {
                drop(reader.await);
            }
            for pump in pumps {
                drop(pump.await);
            }
        };
        if time::timeout(READ_REST_WITHIN, rest).await.is_err() {
            tracing::warn!(
                replica = replica_id,
                "something outside it still holds its output or connection"
            );
        }
        let stderr_tail = output.tail.borrow().text();
        // The loop is gone only when the node is.
        let exited = ReplicaNews::Exited {
            reason,
            signal,
            stderr_tail,
        };
        drop(news.send(Event::Replica(replica_id, exited)).await);
    }
}

/// Its connection is closed by its end, and by nothing else that leaves it a replica: user code that calls exec, or closes
/// descriptors that are not its own, has made another program of it. Returns whether it was that.
async fn end_one_that_left_us(replica_id: &str, process: &Process) -> bool {
    if time::timeout(END_WITHIN, process.ended()).await.is_ok() {
        return false;
    }
    tracing::error!(
        replica = replica_id,
        "the process has closed its connection to the node, as exec does, and is killed: it is no replica any more"
    );
    process.signal(Signal::KILL);
    process.ended().await;
    true
}
