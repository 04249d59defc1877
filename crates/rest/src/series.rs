//! What was measured over the last day. The node answers this itself, from its file ([`eagleray_series`]), so it is there while the
//! controller is away; the rules of the port, and the form of the answer, are here with those of all other paths.

use std::{path::PathBuf, time::SystemTime};

use axum::extract::Query as UriQuery;
use bytes::Bytes;
use eagleray_series::{BOUNDS_MS, Mark, OneSeries, Query, Ring, Row, Window};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri, header};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{errors::Refusal, guard, hosts::Hosts, token::Token};

/// How far back an answer reaches where nobody says.
const USUAL_WINDOW_S: f64 = 600.0;

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Wanted {
    /// Of this application only.
    application: Option<String>,
    /// Of this deployment only.
    deployment: Option<String>,
    /// Of this replica only.
    replica: Option<String>,
    /// With a series for each replica.
    #[serde(default)]
    replicas: bool,
    /// Seconds since 1970, or, if negative, before now; left out: ten minutes ago.
    from: Option<f64>,
    /// As `from`; left out: now.
    to: Option<f64>,
    /// Seconds; rounded up to what is kept. Left out: a few hundred points at most.
    step: Option<f64>,
}

/// What was measured, step by step.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SeriesAnswer {
    /// The beginning of the first step, seconds since 1970. The next begins `step_s` later.
    from_s: f64,
    step_s: f64,
    /// Of each step, how many seconds of it were measured: 0 where the node was not running.
    covered_s: Vec<f64>,
    /// Upper bounds of `latency_buckets`, milliseconds; a last bucket has none.
    bounds_ms: Vec<f64>,
    series: Vec<View>,
    /// What happened meanwhile, oldest first.
    marks: Vec<MarkView>,
    /// Series that had no room, in this answer or when they were measured: the ones with the least to do.
    left_out: u64,
}

/// One series. Each list has a value for each step, `null` where there is none.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct View {
    application: String,
    /// Empty: the application, as HTTP clients see it. Its errors are answers from 500 on, its latency that of the proxy.
    deployment: String,
    /// Empty: the deployment, with all its replicas.
    replica: String,
    requests_per_s: Vec<Option<f64>>,
    errors_per_s: Vec<Option<f64>>,
    /// Exact to the bucket. `null` where nothing was answered.
    p50_ms: Vec<Option<f64>>,
    p95_ms: Vec<Option<f64>>,
    p99_ms: Vec<Option<f64>>,
    /// The most that waited in proxies.
    queued: Vec<Option<u64>>,
    /// The most that user code ran.
    ongoing: Vec<Option<u64>>,
    replicas_wanted: Vec<Option<u64>>,
    replicas_running: Vec<Option<u64>>,
    /// Cores that the replicas took, without processes that they had started.
    cpu: Vec<Option<f64>>,
    memory_bytes: Vec<Option<u64>>,
    total: Total,
}

/// Of the whole time that was asked for.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Total {
    requests: u64,
    errors: u64,
    p50_ms: Option<f64>,
    p95_ms: Option<f64>,
    p99_ms: Option<f64>,
    /// Requests by how long they took.
    latency_buckets: Vec<u64>,
}

/// An event, as a mark beside the curves.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MarkView {
    /// That of the event.
    number: u64,
    time_s: f64,
    kind: String,
    level: String,
    application: String,
    deployment: String,
    replica: String,
    message: String,
}

/// Rates, latencies, queues and replicas, of the last day at most. Answered without the controller.
#[utoipa::path(get, path = "/api/v1/series", tag = "history", params(Wanted), responses(
    (status = 200, body = SeriesAnswer),
    (status = 400, body = Refusal),
    (status = 503, body = Refusal, description = "This node keeps no series; its log says why"),
))]
pub(crate) fn series(
    ring: Option<&Ring>,
    wanted: Wanted,
    now_s: f64,
) -> Result<SeriesAnswer, Refusal> {
    let Some(ring) = ring else {
        return Err(Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "no_series",
            "this node keeps no series",
            "node.log in its log directory says why",
        ));
    };
    let query = wanted.query(now_s)?;
    let window = Window::read(ring, &query).map_err(Refusal::invalid)?;
    Ok(window.into())
}

/// Where series are asked for.
#[derive(Debug)]
pub struct Series {
    token: Token,
    hosts: Hosts,
    ring: Option<Ring>,
}

impl Series {
    pub const PATH: &str = "/api/v1/series";

    /// `token`: the file that the controller keeps. `control_address`: as clients see the port. `ring`: `None` if there is none.
    pub fn new(token: PathBuf, control_address: &str, ring: Option<Ring>) -> Self {
        Self {
            token: Token::of_another(token),
            hosts: Hosts::of(control_address),
            ring,
        }
    }

    /// Reads the file, which takes a moment.
    pub fn answer(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Response<Bytes> {
        match self.try_answer(method, uri, headers) {
            Ok(answer) => {
                let mut response = Response::new(Bytes::from(answer));
                let json = HeaderValue::from_static("application/json");
                response.headers_mut().insert(header::CONTENT_TYPE, json);
                response
            }
            Err(refusal) => refusal.whole(),
        }
    }

    fn try_answer(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<Vec<u8>, Refusal> {
        guard::verdict(&self.token, &self.hosts, headers)?;
        if method != Method::GET && method != Method::HEAD {
            return Err(Refusal::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                format!("{method} is no method of {}", uri.path()),
                "GET /api/v1/openapi.json lists what there is",
            ));
        }
        let wanted = UriQuery::<Wanted>::try_from_uri(uri).map_err(|rejection| {
            Refusal::new(
                StatusCode::BAD_REQUEST,
                "query_invalid",
                rejection.body_text(),
                "GET /api/v1/openapi.json lists the parameters",
            )
        })?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now_s = now.unwrap_or_default().as_secs_f64();
        let answer = series(self.ring.as_ref(), wanted.0, now_s)?;
        serde_json::to_vec(&answer).map_err(|error| Refusal::invalid(error.to_string()))
    }
}

impl Wanted {
    fn query(self, now_s: f64) -> Result<Query, Refusal> {
        let numbers = [self.from, self.to, self.step];
        if numbers
            .into_iter()
            .flatten()
            .any(|number| !number.is_finite())
        {
            return Err(Refusal::invalid(
                "`from`, `to` and `step` are finite numbers",
            ));
        }
        if self.step.is_some_and(|step| step <= 0.0) {
            return Err(Refusal::invalid("`step` is a number above 0"));
        }
        let time_s = |given: f64| if given < 0.0 { now_s + given } else { given };
        let to_s = self.to.map_or(now_s, time_s);
        let from_s = self.from.map_or(to_s - USUAL_WINDOW_S, time_s);
        // Casts saturate.
        let ms = |seconds: f64| (seconds * 1000.0) as u64;
        Ok(Query {
            application: self.application,
            deployment: self.deployment,
            replica: self.replica,
            replicas: self.replicas,
            from_ms: ms(from_s),
            to_ms: ms(to_s),
            now_ms: ms(now_s),
            step_ms: self.step.map(ms),
        })
    }
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

impl From<Window> for SeriesAnswer {
    fn from(window: Window) -> Self {
        let covered_s: Vec<f64> = window.covered_ms.iter().map(|ms| seconds(*ms)).collect();
        Self {
            from_s: seconds(window.from_ms),
            step_s: seconds(window.step_ms),
            series: window
                .series
                .into_iter()
                .map(|one| View::new(&one, &covered_s))
                .collect(),
            covered_s,
            bounds_ms: BOUNDS_MS.to_vec(),
            marks: window.marks.into_iter().map(Into::into).collect(),
            left_out: window.left_out,
        }
    }
}

impl View {
    fn new(one: &OneSeries, covered_s: &[f64]) -> Self {
        fn of<T>(steps: &[Option<Row>], value: impl Fn(&Row) -> Option<T>) -> Vec<Option<T>> {
            steps.iter().map(|row| value(row.as_ref()?)).collect()
        }
        let steps = &one.steps;
        let rate = |amount: &dyn Fn(&Row) -> f64| {
            let rates = steps.iter().zip(covered_s);
            let rate = |(row, covered): (&Option<Row>, &f64)| {
                let rate = amount(row.as_ref()?) / covered;
                // To a thousandth: more says nothing and takes room.
                rate.is_finite().then(|| (rate * 1000.0).round() / 1000.0)
            };
            rates.map(rate).collect()
        };
        Self {
            application: one.subject.application.to_string(),
            deployment: one.subject.deployment.to_string(),
            replica: one.subject.replica.to_string(),
            requests_per_s: rate(&|row| row.requests as f64),
            errors_per_s: rate(&|row| row.errors as f64),
            p50_ms: of(steps, |row| row.quantile_ms(0.5)),
            p95_ms: of(steps, |row| row.quantile_ms(0.95)),
            p99_ms: of(steps, |row| row.quantile_ms(0.99)),
            queued: of(steps, |row| Some(row.queued)),
            ongoing: of(steps, |row| Some(row.ongoing)),
            replicas_wanted: of(steps, |row| row.wanted),
            replicas_running: of(steps, |row| row.ready),
            cpu: rate(&|row| row.cpu_ms as f64 / 1000.0),
            memory_bytes: of(steps, |row| Some(row.memory_kib.saturating_mul(1024))),
            total: Total {
                requests: one.total.requests,
                errors: one.total.errors,
                p50_ms: one.total.quantile_ms(0.5),
                p95_ms: one.total.quantile_ms(0.95),
                p99_ms: one.total.quantile_ms(0.99),
                latency_buckets: one.total.latency.to_vec(),
            },
        }
    }
}

impl From<Mark> for MarkView {
    fn from(mark: Mark) -> Self {
        Self {
            number: mark.number,
            time_s: seconds(mark.time_ms),
            kind: mark.kind,
            level: mark.level,
            application: mark.application,
            deployment: mark.deployment,
            replica: mark.replica,
            message: mark.message,
        }
    }
}
