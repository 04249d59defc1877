//! What has happened: a page of events, or all that come from now on.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use eagleray_types::control::{EventsRequest, api_request, api_response};
use http::{HeaderMap, header};
use serde::Deserialize;
use tokio::{sync::mpsc, time};
use utoipa::IntoParams;

use crate::{errors::Refusal, extract::Parameters, state, stream, view};

/// How often a follower's events are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// A comment is sent when nothing has happened for so long, so that whatever lies between sees that the connection lives.
const SAY_SOMETHING_AFTER: Duration = Duration::from_secs(15);

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Selection {
    /// Events after this number; left out: from the oldest that is kept.
    since: Option<u64>,
    /// At most so many.
    limit: Option<u32>,
    /// Events as they happen, as server-sent events. So does `Accept: text/event-stream`.
    #[serde(default)]
    follow: bool,
}

/// Events, oldest first. Followed, `id` is the number, and `Last-Event-ID` goes on from there.
#[utoipa::path(get, path = "/api/v1/events", tag = "history", params(Selection), responses(
    (status = 200, body = view::Events),
    (status = 400, body = Refusal),
))]
pub(crate) async fn events(
    State(state): State<Arc<state::State>>,
    headers: HeaderMap,
    Parameters(wanted): Parameters<Selection>,
) -> Result<Response, Refusal> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let accepts = text(header::ACCEPT.as_str()).unwrap_or("");
    let follows = wanted.follow || accepts.contains("text/event-stream");
    let last = text("last-event-id").and_then(|id| id.parse().ok());
    let since = last.or(wanted.since).unwrap_or(0);
    let first = page(&state, since, wanted.limit.unwrap_or(0)).await?;
    if !follows {
        return Ok(Json(first).into_response());
    }
    let (sender, response) = stream::answer("text/event-stream");
    tokio::spawn(follow(state, first, since, sender));
    Ok(response)
}

async fn page(state: &state::State, since: u64, limit: u32) -> Result<view::Events, Refusal> {
    let request = api_request::Body::Events(EventsRequest { since, limit });
    match state.call(request).await? {
        api_response::Body::Events(events) => Ok(events.into()),
        _ => Err(Refusal::unexpected("events")),
    }
}

/// Sends what happens until the client leaves.
async fn follow(
    state: Arc<state::State>,
    mut events: view::Events,
    mut since: u64,
    sender: mpsc::Sender<Bytes>,
) {
    let mut silent = time::Instant::now();
    loop {
        if let Some(text) = messages(&events) {
            silent = time::Instant::now();
            if sender.send(text.into()).await.is_err() {
                return;
            }
        } else if silent.elapsed() >= SAY_SOMETHING_AFTER {
            silent = time::Instant::now();
            if sender.send(Bytes::from_static(b":\n\n")).await.is_err() {
                return;
            }
        }
        since = events.next.max(since);
        tokio::select! {
            () = sender.closed() => return,
            () = time::sleep(LOOK_EVERY) => {}
        }
        events = match page(&state, since, 0).await {
            Ok(events) => events,
            // The client asks again, with the number that it has.
            Err(_) => return,
        };
    }
}

/// As server-sent events; none for no events.
fn messages(events: &view::Events) -> Option<String> {
    let mut text = String::new();
    if events.lost > 0 {
        // Writing to a string does not fail.
        write!(text, "event: lost\ndata: {{\"lost\":{}}}\n\n", events.lost).ok();
    }
    for event in &events.events {
        let data = serde_json::to_string(event).unwrap_or_default();
        write!(text, "id: {}\ndata: {data}\n\n", event.number).ok();
    }
    (!text.is_empty()).then_some(text)
}
