//! The answer to `/metrics`: read from the sheets of all processes of the node, by the node alone.
//!
//! Neither controller nor proxy is asked, so it says the same while they are away. Reading, text and compression happen on a
//! thread for such work, one answer at a time. Bounds: [`ANSWERS`] answers are held at once, each until its
//! client has taken it or is cut off, and further ones get 503; so scrapers that never read cost that much memory
//! and no more.

use std::{
    io::{self, Write},
    path::Path,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use eagleray_metrics::{Collector, Format, ProcessLabels, TextOptions};
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use http_body_util::Full;
use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{self, MissedTickBehavior},
};

/// Where it is asked.
pub(crate) const PATH: &str = "/metrics";
const ANSWERS: usize = 8;
/// How often the sheets of dead processes are taken over where nobody scrapes.
const BURY_EVERY: Duration = Duration::from_secs(10);

/// All metrics of the node.
#[derive(Debug)]
pub(crate) struct Metrics {
    collector: Arc<Mutex<Collector>>,
    places: Arc<Semaphore>,
    prefix: Arc<str>,
}

/// An answer, and its place among those that are held.
struct Held {
    bytes: Vec<u8>,
    _place: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Metrics {
    /// Of the sheets in `directory`. `prefix` stands before every name.
    pub(crate) fn new(directory: &Path, prefix: &str, labels: ProcessLabels) -> Self {
        Self {
            collector: Arc::new(Mutex::new(Collector::new(directory, labels))),
            places: Arc::new(Semaphore::new(ANSWERS)),
            prefix: prefix.into(),
        }
    }

    /// What reads the sheets, for whoever does more with them.
    pub(crate) fn collector(&self) -> Arc<Mutex<Collector>> {
        Arc::clone(&self.collector)
    }

    pub(crate) async fn answer(
        &self,
        method: &Method,
        headers: &HeaderMap,
    ) -> Response<Full<Bytes>> {
        if method != Method::GET && method != Method::HEAD {
            return not_allowed();
        }
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return unavailable(
                "as many answers as may be are being read; ask again in a moment\n",
            );
        };
        let format = Format::accepted(&all(headers, &header::ACCEPT));
        let compresses = takes_gzip(&all(headers, &header::ACCEPT_ENCODING));
        let prefix = Arc::clone(&self.prefix);
        let collector = Arc::clone(&self.collector);
        let made = tokio::task::spawn_blocking(move || {
            let prefix = &*prefix;
            let text = collector.lock().text(TextOptions { format, prefix })?;
            if compresses {
                gzip(text.as_bytes())
            } else {
                Ok(text.into_bytes())
            }
        });
        let bytes = match made
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)))
        {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::warn!(%error, "the metrics of this node cannot be read");
                return unavailable("the metrics of this node cannot be read; its log says why\n");
            }
        };
        let held = Held {
            bytes,
            _place: place,
        };
        let mut response = Response::new(Full::new(Bytes::from_owner(held)));
        let head = response.headers_mut();
        head.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static(format.content_type()),
        );
        head.insert(
            header::VARY,
            HeaderValue::from_static("accept, accept-encoding"),
        );
        if compresses {
            head.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    }

    /// Takes over what the dead have counted, now and again; never ends.
    pub(crate) async fn bury(&self) {
        let mut ticks = time::interval(BURY_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let collector = Arc::clone(&self.collector);
            let buried = tokio::task::spawn_blocking(move || collector.lock().bury());
            if let Err(error) = buried
                .await
                .unwrap_or_else(|error| Err(io::Error::other(error)))
            {
                tracing::debug!(%error, "the metrics of dead processes are not taken over");
            }
        }
    }
}

/// All values of a header, as one list.
fn all(headers: &HeaderMap, name: &header::HeaderName) -> String {
    let values = headers.get_all(name).iter();
    let values: Vec<&str> = values.filter_map(|value| value.to_str().ok()).collect();
    values.join(",")
}

fn takes_gzip(accept: &str) -> bool {
    accept.split(',').any(|one| {
        let mut parts = one.split(';').map(str::trim);
        let is_gzip = parts
            .next()
            .is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        let weight = parts.find_map(|part| part.strip_prefix("q="));
        is_gzip && weight.is_none_or(|text| text.parse::<f64>().is_ok_and(|weight| weight > 0.0))
    })
}

fn gzip(text: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(text.len() / 16), Compression::fast());
    encoder.write_all(text)?;
    encoder.finish()
}

fn unavailable(text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response
        .headers_mut()
        .insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

fn not_allowed() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response
        .headers_mut()
        .insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
    response
}

#[cfg(test)]
mod tests {
    use eagleray_metrics::{FamilySpec, Kind, Sheet};

    use super::*;

    #[test]
    fn only_who_takes_gzip_gets_it() {
        for accept in ["gzip", "deflate, GZIP", "br;q=1, gzip;q=0.5", "gzip; q=1"] {
            assert!(takes_gzip(accept), "{accept}");
        }
        for accept in ["", "identity", "gzip;q=0", "x-gzip", "br"] {
            assert!(!takes_gzip(accept), "{accept}");
        }
    }

    /// A directory in which somebody has counted: an empty answer holds nothing.
    fn counted() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let sheet = Sheet::create(directory.path(), "test").unwrap();
        let spec = FamilySpec {
            name: "requests",
            help: "What it is.",
            kind: Kind::Count,
            labels: &[],
            bounds: &[],
            most: 1,
        };
        sheet.family(&spec).count(&[]).add(1);
        directory
    }

    #[tokio::test]
    async fn scrapers_that_never_read_hold_so_many_answers_and_further_ones_are_told() {
        let directory = counted();
        let metrics = Metrics::new(directory.path(), "", ProcessLabels::default());
        let headers = HeaderMap::new();
        let ask = || metrics.answer(&Method::GET, &headers);
        let mut held = Vec::new();
        for _ in 0..ANSWERS {
            let answer = ask().await;
            assert_eq!(answer.status(), StatusCode::OK);
            held.push(answer);
        }
        assert_eq!(ask().await.status(), StatusCode::SERVICE_UNAVAILABLE);
        held.pop();
        assert_eq!(ask().await.status(), StatusCode::OK);
    }
}
