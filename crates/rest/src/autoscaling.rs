//! How a deployment follows its load, and what it would do by another configuration.

use std::sync::Arc;

use axum::{Json, extract::State};
use eagleray_types::control::{WhatIf, api_request, api_response};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::{IntoParams, ToSchema};

use crate::{
    errors::Refusal,
    extract::{Names, Parameters},
    state, view,
};

/// What to suppose; without any, only what is so.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Suppositions {
    /// `target_ongoing_requests`.
    target: Option<f64>,
    /// `min_replicas`.
    min: Option<u32>,
    /// `max_replicas`.
    max: Option<u32>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AutoscalingOf {
    application: String,
    deployment: String,
    #[serde(flatten)]
    now: view::Autoscaling,
    /// With what was supposed.
    what_if: Option<view::Supposed>,
}

/// How a deployment follows its load; with `target`, `min` or `max`, what it would do with those. Changes nothing.
#[utoipa::path(get, path = "/api/v1/autoscaling/{application}/{deployment}", tag = "applications",
    params(("application" = String, Path), ("deployment" = String, Path), Suppositions), responses(
    (status = 200, body = AutoscalingOf),
    (status = 400, body = Refusal),
    (status = 404, body = Refusal),
    (status = 409, body = Refusal, description = "It has no autoscaling_config"),
))]
pub(crate) async fn autoscaling(
    State(state): State<Arc<state::State>>,
    Names((application, deployment)): Names<(String, String)>,
    Parameters(suppositions): Parameters<Suppositions>,
) -> Result<Json<AutoscalingOf>, Refusal> {
    if suppositions
        .target
        .is_some_and(|target| !target.is_finite())
    {
        // JSON has no such number.
        return Err(Refusal::invalid("target is not a finite number"));
    }
    let request = api_request::Body::WhatIf(WhatIf {
        application: application.clone(),
        deployment: deployment.clone(),
        changes: suppositions.changes(),
    });
    match state.call(request).await? {
        api_response::Body::WhatIf(answer) => Ok(Json(AutoscalingOf {
            application,
            deployment,
            now: answer.status.into(),
            what_if: answer.what_if.map(Into::into),
        })),
        _ => Err(Refusal::unexpected("what_if")),
    }
}

impl Suppositions {
    /// As keys of `autoscaling_config`; empty: none.
    fn changes(&self) -> String {
        let pairs = [
            ("target_ongoing_requests", self.target.map(|one| json!(one))),
            ("min_replicas", self.min.map(|one| json!(one))),
            ("max_replicas", self.max.map(|one| json!(one))),
        ];
        let stated: Map<String, Value> = pairs
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value?)))
            .collect();
        if stated.is_empty() {
            String::new()
        } else {
            Value::from(stated).to_string()
        }
    }
}
