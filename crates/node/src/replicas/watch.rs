//! A replica from its start to the report of its death.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use tokio::{
    sync::mpsc,
    task::{JoinHandle, spawn_blocking, spawn_local},
    time,
};

use super::News;
use crate::{
    link,
    output::ReplicaOutput,
    processes::{self, Belongs},
    spawn::{Process, describe},
};

/// After all processes are gone, nobody holds the other end; this bounds a descriptor that went elsewhere.
const READ_REST_WITHIN: Duration = Duration::from_secs(1);
const SCAN_WITHIN: Duration = Duration::from_secs(5);

/// What runs beside a replica.
pub(super) struct Tasks {
    pub(super) node_id: String,
    pub(super) replica_id: String,
    pub(super) process: Rc<Process>,
    pub(super) output: Rc<ReplicaOutput>,
    pub(super) pumps: [JoinHandle<()>; 2],
    pub(super) news: mpsc::Sender<News>,
}

impl Tasks {
    /// From the start of a replica to the report of its death.
    pub(super) async fn watch(self, mut incoming: link::Receiver) {
        let Self {
            node_id,
            replica_id,
            process,
            output,
            pumps,
            news,
        } = self;
        let reader = spawn_local({
            let (replica_id, news) = (replica_id.clone(), news.clone());
            async move {
                // A broken connection says nothing by itself: the process is what counts.
                while let Ok(Some((_, event))) = incoming.next().await {
                    if news
                        .send(News::Said {
                            replica_id: replica_id.clone(),
                            event,
                        })
                        .await
                        .is_err()
                    {
                        return;
                    }
                }
            }
        });
        process.ended().await;
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
        let reason = process
            .reap()
            .map_or_else(|error| format!("unknown: {error}"), describe);
        let rest = async {
            // A task that panicked has been reported by its panic.
            drop(reader.await);
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
        drop(
            news.send(News::Exited {
                replica_id,
                reason,
                stderr_tail,
            })
            .await,
        );
    }
}
