//! `GET /api/v1/logs`: what the node and its replicas have logged, one JSON object a line.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{extract::State, response::Response};
use eagleray_logs::{Level, Source, parse_time};
use eagleray_types::control::{api_request, api_response};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::{errors::Refusal, extract::Parameters, state};

/// Records of an answer when the client asks for nothing in particular.
const LIMIT: usize = 1000;
/// More than these are asked for as all.
const MOST: usize = 100_000;

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(crate) struct Selection {
    /// Of this application only.
    application: String,
    deployment: String,
    /// Dead ones too.
    replica: String,
    /// Its number (`r12`) or its hash.
    revision: String,
    /// This or worse: DEBUG, INFO, WARNING, ERROR, CRITICAL.
    level: String,
    /// `5m`, `2h`, `1d` ago, seconds since 1970, or `2026-01-31T12:00:00Z`.
    since: String,
    until: String,
    /// Text in the message.
    grep: String,
    /// Id of a request, or of its trace; of a UUID eight digits are enough.
    request: String,
    /// Some of user, stdout, stderr, access, system, with commas between.
    source: String,
    /// The newest so many; 0: all. Left out: all with `since` or `request`, else 1000.
    limit: Option<usize>,
    /// And whatever is written from now on.
    follow: bool,
}

/// What was logged, by time, one JSON object a line.
#[utoipa::path(get, path = "/api/v1/logs", tag = "logs", params(Selection), responses(
    (status = 200, body = String, content_type = "application/x-ndjson"),
    (status = 400, body = Refusal),
    (status = 404, body = Refusal),
    (status = 503, body = Refusal),
))]
pub(crate) async fn logs(
    State(state): State<Arc<state::State>>,
    Parameters(selection): Parameters<Selection>,
) -> Result<Response, Refusal> {
    let follows = selection.follow;
    let query = query(&state, selection).await?;
    state.readers.start(query, follows)
}

async fn query(
    state: &state::State,
    selection: Selection,
) -> Result<eagleray_logs::Query, Refusal> {
    let revision = revision(state, &selection).await?;
    let mut query = parse(selection).map_err(Refusal::invalid)?;
    query.revision = revision;
    Ok(query)
}

/// All but the revision; what is wrong is said with its parameter.
fn parse(selection: Selection) -> Result<eagleray_logs::Query, String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now_ms = now.map_or(0, |now| now.as_millis() as i64);
    let time = |name: &str, text: &str| match text {
        "" => Ok(None),
        text => parse_time(text, now_ms)
            .map(Some)
            .map_err(|error| format!("{name}: {error}")),
    };
    let level = match selection.level.as_str() {
        "" => None,
        name => Some(Level::parse(name).ok_or_else(|| {
            format!("level: {name:?} is none of DEBUG, INFO, WARNING, ERROR, CRITICAL")
        })?),
    };
    let is_narrow = !(selection.since.is_empty() && selection.request.is_empty());
    let usual = if is_narrow { 0 } else { LIMIT };
    let named = selection.source.split(',').map(str::trim);
    let sources = named.filter(|name| !name.is_empty()).map(|name| {
        Source::parse(name).ok_or_else(|| {
            format!("source: {name:?} is none of user, stdout, stderr, access, system")
        })
    });
    Ok(eagleray_logs::Query {
        sources: sources.collect::<Result<_, _>>()?,
        since_ms: time("since", &selection.since)?,
        until_ms: time("until", &selection.until)?,
        level,
        limit: Some(selection.limit.unwrap_or(usual)).filter(|limit| (1..=MOST).contains(limit)),
        revision: String::new(),
        application: selection.application,
        deployment: selection.deployment,
        replica: selection.replica,
        request: selection.request,
        text: selection.grep,
    })
}

/// Lines have the hash of a revision; people say its number as well.
async fn revision(state: &state::State, selection: &Selection) -> Result<String, Refusal> {
    let said = &selection.revision;
    let number = said.strip_prefix('r').unwrap_or(said).parse::<u64>();
    let Some(number) = number.ok().filter(|_| said.len() < 8) else {
        return Ok(said.clone());
    };
    let history = api_request::Body::History(selection.application.clone());
    let api_response::Body::History(history) = state.call(history).await? else {
        return Err(Refusal::unexpected("history"));
    };
    let mut hashes = history
        .revisions
        .into_iter()
        .filter(|record| record.number == number)
        .map(|record| record.revision);
    match (hashes.next(), hashes.next()) {
        (Some(hash), None) => Ok(hash),
        (Some(_), Some(_)) => Err(Refusal::invalid(format!(
            "several applications have a revision r{number}: say which `application` is meant"
        ))),
        _ => Err(Refusal::not_found(
            format!("there is no revision r{number}"),
            "`eagleray history` lists those that there are",
        )),
    }
}
