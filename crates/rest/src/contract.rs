//! The paths of Ray Serve, for clients that were written for it. Their answers carry no key beyond Ray's: its own models
//! refuse one that they do not know. Their errors are text, and of scaling an object with one key, as there.

mod details;

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use eagleray_config::{Config, Format};
use eagleray_types::control::{
    Apply, BuildPlace, Empty, Scale as ScaleMessage, api_request, api_response,
};
use http::{HeaderName, HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use crate::{
    deploys::{declare, declared},
    errors::Refusal,
    extract::{self, Body, Names, Parameters},
    state,
};

/// The release of Ray Serve whose API this is: clients compare it.
const RAY_VERSION: &str = "2.60.0";
/// How long a DELETE waits for the applications to be gone.
const DELETED_WITHIN: Duration = Duration::from_secs(30);
const WARNING: HeaderName = HeaderName::from_static("warning");

/// A refusal as Ray's clients show it: text.
pub(crate) struct Text(Refusal);

impl From<Refusal> for Text {
    fn from(refusal: Refusal) -> Self {
        Self(refusal)
    }
}

impl IntoResponse for Text {
    fn into_response(self) -> Response {
        (self.0.status, self.0.text()).into_response()
    }
}

/// A refusal to scale: `{"error": ...}`.
pub(crate) struct Error(Refusal);

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self(refusal)
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        // What cannot be scaled now is a precondition there.
        let status = match self.0.status {
            StatusCode::CONFLICT => StatusCode::PRECONDITION_FAILED,
            other => other,
        };
        (status, Json(json!({"error": self.0.text()}))).into_response()
    }
}

/// The release, as Ray's clients ask before anything else.
#[utoipa::path(get, path = "/api/ray/version", tag = "Ray Serve", responses(
    (status = 200, description = "`version`, `ray_version`, `ray_commit`, `session_name`", body = Object),
))]
pub(crate) async fn version(State(state): State<Arc<state::State>>) -> Json<Value> {
    Json(json!({
        "version": "4",
        "ray_version": RAY_VERSION,
        "ray_commit": "",
        "session_name": format!("eagleray-{}", state.version),
    }))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Selection {
    /// `imperative` or `declarative`: those alone.
    api_type: Option<String>,
}

/// All applications, in Ray Serve's shape (`ServeInstanceDetails`).
#[utoipa::path(get, path = "/api/serve/applications/", tag = "Ray Serve", params(Selection), responses(
    (status = 200, body = Object),
    (status = 400, description = "In words", body = String, content_type = "text/plain"),
))]
pub(crate) async fn applications(
    State(state): State<Arc<state::State>>,
    selection: Result<Parameters<Selection>, Refusal>,
) -> Result<Json<Value>, Text> {
    let Parameters(Selection { api_type }) = selection?;
    let wanted = api_type.map(|word| word.to_ascii_lowercase());
    if let Some(word) = &wanted
        && !matches!(word.as_str(), "imperative" | "declarative" | "unknown")
    {
        let message = format!("api_type {word:?} is neither `imperative` nor `declarative`");
        return Err(Refusal::invalid(message).into());
    }
    let (node, mut status) = tokio::try_join!(state.node_info(), state.status())?;
    if let Some(word) = wanted {
        status
            .applications
            .retain(|application| details::source(application) == word);
    }
    Ok(Json(details::instance(&node, &status)))
}

/// Declares a whole config: what was declared before and is not named is deleted. Answers once that is durable.
#[utoipa::path(put, path = "/api/serve/applications/", tag = "Ray Serve", request_body = Object, responses(
    (status = 200, description = "Declared. The body is empty, and a `Warning` header says what was not applied"),
    (status = 400, description = "All that is wrong, in words", body = String, content_type = "text/plain"),
))]
pub(crate) async fn put_applications(
    State(state): State<Arc<state::State>>,
    body: Result<Body, Refusal>,
) -> Result<Response, Text> {
    let Body(bytes) = body?;
    let config = eagleray_config::text(bytes.to_vec())
        .and_then(|text| Config::parse(&text, Format::Json))
        .and_then(|config| Ok((declared(&state, &config)?, config)));
    let (applications, config) = config.map_err(|problems| Refusal::config(&problems, "config"))?;
    let apply = Apply {
        applications,
        node_options: Value::Object(config.node).to_string(),
        place: BuildPlace::default(),
        whole: true,
        ..Apply::default()
    };
    let applied = declare(&state, apply).await?;
    let mut response = StatusCode::OK.into_response();
    for warning in applied.warnings {
        // A header is one line of ASCII.
        let line: String = warning
            .chars()
            .map(|one| match one {
                '"' | '\\' => '\'',
                ' '..='~' => one,
                _ => ' ',
            })
            .collect();
        if let Ok(value) = HeaderValue::from_str(&format!("199 - \"{line}\"")) {
            response.headers_mut().append(WARNING, value);
        }
    }
    Ok(response)
}

/// Deletes every application, and waits up to 30 s for them to be gone.
#[utoipa::path(delete, path = "/api/serve/applications/", tag = "Ray Serve", responses(
    (status = 200, description = "Deleted, or on the way. The body is empty"),
))]
pub(crate) async fn delete_applications(
    State(state): State<Arc<state::State>>,
) -> Result<StatusCode, Text> {
    let request = api_request::Body::DeleteAll(Empty {});
    match state.call_within(request, DELETED_WITHIN).await {
        Ok(api_response::Body::Done(_)) => Ok(StatusCode::OK),
        Ok(_) => Err(Refusal::unexpected("done").into()),
        // It goes on.
        Err(refusal) if refusal.status == StatusCode::GATEWAY_TIMEOUT => Ok(StatusCode::OK),
        Err(refusal) => Err(refusal.into()),
    }
}

/// How many replicas there shall be.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct Scale {
    target_num_replicas: u32,
}

/// Another number of replicas, until a deploy states another.
#[utoipa::path(post, path = "/api/v1/applications/{application}/deployments/{deployment}/scale", tag = "Ray Serve",
    params(("application" = String, Path), ("deployment" = String, Path)), request_body = Scale, responses(
    (status = 200, description = "`{\"message\": ...}`", body = Object),
    (status = 400, description = "`{\"error\": ...}`", body = Object),
    (status = 404, description = "`{\"error\": ...}`", body = Object),
    (status = 412, description = "It cannot be scaled now: `{\"error\": ...}`", body = Object),
))]
pub(crate) async fn scale(
    State(state): State<Arc<state::State>>,
    names: Result<Names<(String, String)>, Refusal>,
    body: Result<extract::Json<Scale>, Refusal>,
) -> Result<Json<Value>, Error> {
    let Names((application, deployment)) = names?;
    let extract::Json(Scale {
        target_num_replicas: replicas,
    }) = body?;
    let message = format!(
        "deployment {deployment:?} of application {application:?} is being scaled to {replicas} replicas"
    );
    let request = api_request::Body::Scale(ScaleMessage {
        application,
        deployment,
        replicas,
    });
    match state.call(request).await? {
        api_response::Body::Done(_) => Ok(Json(json!({"message": message}))),
        _ => Err(Refusal::unexpected("done").into()),
    }
}
