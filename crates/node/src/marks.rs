//! Events of the controller, written as marks into the series.
//!
//! The controller is asked only when it has counted another event than before (its sheet says so), over the socket to which the
//! control port forwards, from the last number that the file has. So nothing is asked while nothing happens, nothing is
//! there twice, and what happened while node or controller was away is caught up with.

use std::{
    io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use bytes::Bytes;
use eagleray_series::{Mark, Ring};
use http::{Request, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::{net::UnixStream, task::spawn_blocking, time};

const ANSWERED_WITHIN: Duration = Duration::from_secs(5);
/// Events of one answer.
const AT_ONCE: usize = 500;
const MOST_BYTES: usize = 4 << 20;

#[derive(Debug)]
pub(crate) struct Marks {
    ring: Ring,
    socket: PathBuf,
    token: PathBuf,
    /// The last that is marked.
    last: AtomicU64,
}

#[derive(Debug, Deserialize)]
struct Events {
    events: Vec<Event>,
    /// The last number.
    next: u64,
}

/// As `/api/v1/events` has it.
#[derive(Debug, Deserialize)]
struct Event {
    number: u64,
    at_s: f64,
    kind: String,
    level: String,
    application: Option<String>,
    deployment: Option<String>,
    replica_id: Option<String>,
    message: String,
}

impl Marks {
    pub(crate) fn new(ring: Ring, run_directory: &Path) -> Self {
        let last = ring.marks().last().map_or(0, |mark| mark.number);
        Self {
            ring,
            socket: run_directory.join("rest.sock"),
            token: run_directory.join("token"),
            last: AtomicU64::new(last),
        }
    }

    /// Writes down all that has happened since the last time.
    pub(crate) async fn follow(&self) -> io::Result<()> {
        loop {
            let since = self.last.load(Ordering::Relaxed);
            let answer = time::timeout(ANSWERED_WITHIN, self.ask(since)).await??;
            let count = answer.events.len();
            let ring = self.ring.clone();
            spawn_blocking(move || write(&ring, answer.events)).await??;
            // Also where it is less: then the controller has lost its past, and this one is of no use.
            self.last.store(answer.next, Ordering::Relaxed);
            if count < AT_ONCE {
                return Ok(());
            }
        }
    }

    async fn ask(&self, since: u64) -> io::Result<Events> {
        let path = self.token.clone();
        let token = spawn_blocking(move || std::fs::read_to_string(path)).await??;
        let request = Request::builder()
            .uri(format!("/api/v1/events?since={since}&limit={AT_ONCE}"))
            .header(header::HOST, "127.0.0.1")
            .header(header::AUTHORIZATION, format!("Bearer {}", token.trim()))
            .body(Full::<Bytes>::default())
            .map_err(io::Error::other)?;
        let stream = UnixStream::connect(&self.socket).await?;
        let (mut sender, connection) = client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        let answer = async {
            let answer = sender
                .send_request(request)
                .await
                .map_err(io::Error::other)?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), MOST_BYTES).collect().await;
            let body = body.map_err(io::Error::other)?.to_bytes();
            if !status.is_success() {
                return Err(io::Error::other(format!("the controller answers {status}")));
            }
            serde_json::from_slice(&body).map_err(io::Error::other)
        };
        // The connection moves only while somebody drives it, and ends with the answer.
        tokio::select! {
            biased;
            answer = answer => answer,
            ended = connection => match ended {
                Ok(()) => Err(io::ErrorKind::UnexpectedEof.into()),
                Err(error) => Err(io::Error::other(error)),
            },
        }
    }
}

fn write(ring: &Ring, events: Vec<Event>) -> io::Result<()> {
    for event in events {
        ring.mark(&Mark {
            number: event.number,
            time_ms: (event.at_s * 1000.0) as u64,
            kind: event.kind,
            level: event.level,
            application: event.application.unwrap_or_default(),
            deployment: event.deployment.unwrap_or_default(),
            replica: event.replica_id.unwrap_or_default(),
            message: event.message,
        })?;
    }
    Ok(())
}
