//! What a client is told when its request is not carried out: one object, on all paths of our own.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use eagleray_config::Problems;
use eagleray_types::control::ApiError;
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;

use crate::calls::Away;

/// Why a request was not carried out.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Refusal {
    #[serde(skip)]
    pub(crate) status: StatusCode,
    /// A stable word, for programs.
    pub(crate) code: String,
    pub(crate) message: String,
    /// `shop.yaml:9:5`, or empty.
    #[serde(rename = "where")]
    pub(crate) place: String,
    /// What to do next, one a line.
    pub(crate) help: Vec<String>,
    /// Each of several problems, with its own place.
    #[serde(skip_serializing_if = "<[OneProblem]>::is_empty")]
    #[schema(value_type = Option<Vec<OneProblem>>)]
    pub(crate) problems: Box<[OneProblem]>,
}

/// One problem of a config.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct OneProblem {
    pub(crate) code: String,
    pub(crate) message: String,
    #[serde(rename = "where")]
    pub(crate) place: String,
    pub(crate) help: Vec<String>,
    /// `applications[0].deployments[1].num_replicas`.
    pub(crate) path: String,
    pub(crate) line: Option<u32>,
    pub(crate) column: Option<u32>,
}

impl Refusal {
    pub(crate) fn new(
        status: StatusCode,
        code: &str,
        message: impl Into<String>,
        help: &str,
    ) -> Self {
        Self {
            status,
            code: code.to_owned(),
            message: message.into(),
            place: String::new(),
            help: lines(help),
            problems: Box::default(),
        }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid", message, "")
    }

    pub(crate) fn not_found(message: impl Into<String>, help: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message, help)
    }

    /// The controller gave an answer of another kind: one of the two is of another release.
    pub(crate) fn unexpected(what: &str) -> Self {
        let message = format!("the controller gave no answer of the kind that is expected: {what}");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message, "")
    }

    /// For a client that shows text.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let mut say = |place: &str, path: &str, message: &str, help: &[String]| {
            for part in [place, path] {
                if !part.is_empty() {
                    text.push_str(part);
                    text.push_str(": ");
                }
            }
            text.push_str(message);
            text.push('\n');
            for line in help {
                text.push_str("  help: ");
                text.push_str(line);
                text.push('\n');
            }
        };
        if self.problems.is_empty() {
            say(&self.place, "", &self.message, &self.help);
        }
        for one in &self.problems {
            say(&one.place, &one.path, &one.message, &one.help);
        }
        text
    }

    /// All that is wrong with a config. `file` is how the client calls it.
    pub(crate) fn config(problems: &Problems, file: &str) -> Self {
        let list: Vec<OneProblem> = problems
            .iter()
            .map(|problem| OneProblem {
                code: "config_invalid".to_owned(),
                message: problem.message.clone(),
                place: problem.place.map_or_else(
                    || file.to_owned(),
                    |place| format!("{file}:{}:{}", place.line, place.column),
                ),
                help: lines(&problem.help),
                path: problem.path.clone(),
                line: problem.place.map(|place| place.line),
                column: problem.place.map(|place| place.column),
            })
            .collect();
        let count = list.len() + problems.more();
        let mut refusal = Self::new(StatusCode::BAD_REQUEST, "config_invalid", "", "");
        match list.as_slice() {
            [one] if count == 1 => {
                refusal.message = if one.path.is_empty() {
                    one.message.clone()
                } else {
                    format!("{}: {}", one.path, one.message)
                };
                refusal.place.clone_from(&one.place);
                refusal.help.clone_from(&one.help);
            }
            _ => refusal.message = format!("{count} problems"),
        }
        refusal.problems = list.into();
        refusal
    }
}

/// The lines of a text, without empty ones.
pub(crate) fn lines(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| !line.is_empty());
    lines.map(str::to_owned).collect()
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        let status = match error.kind.as_str() {
            "not_found" => StatusCode::NOT_FOUND,
            "conflict" | "plan_stale" => StatusCode::CONFLICT,
            "unavailable" => StatusCode::SERVICE_UNAVAILABLE,
            "internal" => StatusCode::INTERNAL_SERVER_ERROR,
            "unknown" => StatusCode::NOT_IMPLEMENTED,
            _ => StatusCode::BAD_REQUEST,
        };
        Self::new(status, &error.kind, error.message, "")
    }
}

impl From<Away> for Refusal {
    fn from(Away(message): Away) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "controller_away",
            message,
            "ask again in a moment; requests are served meanwhile",
        )
    }
}

impl Refusal {
    /// For whoever answers without a router.
    pub(crate) fn whole(&self) -> Response<Bytes> {
        let object = serde_json::to_vec(self).unwrap_or_default();
        let mut response = Response::new(Bytes::from(object));
        *response.status_mut() = self.status;
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            let headers = response.headers_mut();
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let headers = response.headers_mut();
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        self.whole().map(Body::from)
    }
}
