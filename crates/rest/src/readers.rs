//! Who reads the logs: a thread for each search or follower, and the way to its client.
//!
//! A search waits for the disk, so each runs on a thread of its own, [`AT_A_TIME`] of them. Between it and the client there
//! is a bounded queue of pieces: a client that reads slowly makes its own search wait, and nobody else. One that takes nothing
//! for [`TAKES_WITHIN`] is let go, with a line in the controller's log; it can go on by `since`, since what was written
//! stays in the files.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use axum::response::Response;
use bytes::Bytes;
use eagleray_logs::{Follow, Query, Record, search};
use http::StatusCode;
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::timeout,
};

use crate::{errors::Refusal, stream};

/// Searches and followers; more are refused.
const AT_A_TIME: usize = 16;
/// What is sent at once, if there is so much.
const PIECE_BYTES: usize = 16 * 1024;
const TAKES_WITHIN: Duration = Duration::from_secs(30);
/// Between looks at the files of whoever follows.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Those who read the logs of this node.
#[derive(Debug)]
pub(crate) struct Readers {
    directory: PathBuf,
    places: Arc<Semaphore>,
    let_go: Arc<AtomicU64>,
}

impl Readers {
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            places: Arc::new(Semaphore::new(AT_A_TIME)),
            let_go: Arc::default(),
        }
    }

    /// Starts to look for what is asked; the lines come as they are found.
    pub(crate) fn start(&self, query: Query, follows: bool) -> Result<Response, Refusal> {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return Err(Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "too_many_readers",
                format!("{AT_A_TIME} clients read logs already"),
                "end one of them, or ask again in a moment",
            ));
        };
        let (pieces, response) = stream::answer("application/x-ndjson");
        let out = Out {
            pieces,
            runtime: Handle::current(),
            piece: Vec::new(),
            let_go: Arc::clone(&self.let_go),
            _place: place,
        };
        let directory = self.directory.clone();
        thread::Builder::new()
            .name("logs-reader".to_owned())
            .spawn(move || drop(read(&directory, query, follows, out)))
            .map_err(|error| {
                let message = format!("no thread can be started to read the logs: {error}");
                Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "internal", message, "")
            })?;
        Ok(response)
    }
}

/// The client is gone, or was let go.
struct Gone;

fn read(directory: &Path, mut query: Query, follows: bool, mut out: Out) -> Result<(), Gone> {
    let found = search(directory, query.clone());
    query.limit = None;
    let following = follows.then(|| Follow::after(directory, &found, query));
    for record in found {
        out.add(&record)?;
    }
    out.send()?;
    let Some(mut following) = following else {
        return Ok(());
    };
    loop {
        let records = following.poll();
        for record in &records {
            out.add(record)?;
        }
        out.send()?;
        if records.is_empty() {
            out.wait()?;
        }
    }
}

/// The way to the client.
struct Out {
    pieces: mpsc::Sender<Bytes>,
    runtime: Handle,
    piece: Vec<u8>,
    let_go: Arc<AtomicU64>,
    _place: OwnedSemaphorePermit,
}

impl Out {
    fn add(&mut self, record: &Record) -> Result<(), Gone> {
        self.piece.extend(record.to_json());
        self.piece.push(b'\n');
        if self.piece.len() < PIECE_BYTES {
            return Ok(());
        }
        self.send()
    }

    /// Waits for the client, for a time.
    fn send(&mut self) -> Result<(), Gone> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = Bytes::from(std::mem::take(&mut self.piece));
        let sent = async { timeout(TAKES_WITHIN, self.pieces.send(piece)).await };
        match self.runtime.block_on(sent) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Gone),
            Err(_) => {
                // Relaxed: it is only told.
                let count = 1 + self.let_go.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(
                    count,
                    "a reader of logs took nothing for {TAKES_WITHIN:?} and was let go"
                );
                Err(Gone)
            }
        }
    }

    /// A moment, or until the client is gone.
    fn wait(&self) -> Result<(), Gone> {
        let gone = async { timeout(LOOK_EVERY, self.pieces.closed()).await };
        match self.runtime.block_on(gone) {
            Ok(()) => Err(Gone),
            Err(_) => Ok(()),
        }
    }
}
