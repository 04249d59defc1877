//! The series of the node: a sample now and again, and the answer to `/api/v1/series`.
//!
//! Both happen on threads for such work and need neither controller nor proxy. A node whose file cannot be opened has no
//! series, says so once in its log, and serves as any other.

use std::{
    io,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use eagleray_metrics::Collector;
use eagleray_rest::Series as Answers;
use eagleray_series::{Moment, Ring, SAMPLE_EVERY_MS, Sampler};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
    time::{self, MissedTickBehavior},
};

use crate::marks::Marks;

/// Where it is asked.
pub(crate) const PATH: &str = Answers::PATH;
/// Answers that are made, or wait for a client to take them, at once; further ones are told to come again.
const ANSWERS: usize = 8;

#[derive(Debug)]
pub(crate) struct Series {
    answers: Arc<Answers>,
    sampler: Option<Arc<Mutex<Sampler>>>,
    marks: Option<Marks>,
    places: Arc<Semaphore>,
}

/// An answer, and its place among those that are held.
struct Held {
    bytes: Bytes,
    _place: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Series {
    /// Those in the file at `path`, for the node with this run directory.
    pub(crate) fn open(path: &Path, run_directory: &Path, control_address: &str) -> Self {
        let ring = match Ring::open(path) {
            Ok((ring, note)) => {
                if let Some(note) = note {
                    tracing::warn!(path = %path.display(), "the series of this node start anew: {note}");
                }
                Some(ring)
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "this node keeps no series");
                None
            }
        };
        let marks = ring.clone().map(|ring| Marks::new(ring, run_directory));
        let sampler = ring.clone().map(|ring| Sampler::new(ring, now()));
        let token = run_directory.join("token");
        Self {
            answers: Arc::new(Answers::new(token, control_address, ring)),
            sampler: sampler.map(|sampler| Arc::new(Mutex::new(sampler))),
            marks,
            places: Arc::new(Semaphore::new(ANSWERS)),
        }
    }

    /// Takes samples; ends only where there is nowhere to put them.
    pub(crate) async fn sample(&self, collector: Arc<Mutex<Collector>>) {
        let (Some(sampler), Some(marks)) = (&self.sampler, &self.marks) else {
            return;
        };
        let mut marked = None;
        let mut ticks = time::interval(Duration::from_millis(SAMPLE_EVERY_MS));
        // Late is late: how long a sample covers is measured.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let (taker, collector) = (Arc::clone(sampler), Arc::clone(&collector));
            let taken = spawn_blocking(move || taker.lock().sample(&mut collector.lock(), now()));
            let taken = taken
                .await
                .unwrap_or_else(|error| Err(io::Error::other(error)));
            if let Err(error) = taken {
                tracing::debug!(%error, "no sample was taken");
            }
            let events = sampler.lock().events();
            if events.is_some() && events != marked {
                match marks.follow().await {
                    Ok(()) => marked = events,
                    // The controller ends, or begins. There is another sample soon.
                    Err(error) => tracing::debug!(%error, "events are not marked in the series"),
                }
            }
        }
    }

    pub(crate) async fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return refused(
                StatusCode::SERVICE_UNAVAILABLE,
                r#"{"code":"busy","message":"as many answers as may be are being read","where":"","help":["ask again in a moment"]}"#,
            );
        };
        let answers = Arc::clone(&self.answers);
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let headers: HeaderMap = request.headers().clone();
        let made = spawn_blocking(move || answers.answer(&method, &uri, &headers)).await;
        let Ok(response) = made else {
            return refused(
                StatusCode::INTERNAL_SERVER_ERROR,
                r#"{"code":"internal","message":"the series cannot be read","where":"","help":["node.log in the node's log directory says why"]}"#,
            );
        };
        response.map(|bytes| {
            let held = Held {
                bytes,
                _place: place,
            };
            Full::new(Bytes::from_owner(held))
        })
    }
}

fn refused(status: StatusCode, object: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(object));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

fn now() -> Moment {
    let monotonic = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(monotonic.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(monotonic.tv_nsec).unwrap_or(0);
    let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Moment {
        monotonic_ms: seconds * 1000 + nanoseconds / 1_000_000,
        wall_ms: u64::try_from(wall.unwrap_or_default().as_millis()).unwrap_or(u64::MAX),
    }
}
