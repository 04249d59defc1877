//! Replicas, of all applications in one list, dead ones too.

use std::sync::Arc;

use axum::{Json, extract::State};
use eagleray_types::control::{api_request, api_response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{
    errors::Refusal,
    extract::{Names, Parameters},
    state, view,
};

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Selection {
    application: Option<String>,
    deployment: Option<String>,
    /// In any case of letters; `STOPPED` are dead ones, of which the last ten of each deployment are known.
    state: Option<String>,
    /// At most so many.
    limit: Option<usize>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Replicas {
    replicas: Vec<ReplicaOf>,
}

/// A replica, and what it is a replica of.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReplicaOf {
    application: String,
    deployment: String,
    #[serde(flatten)]
    replica: view::Replica,
}

/// Replicas; without `state`, those that are not dead.
#[utoipa::path(get, path = "/api/v1/replicas", tag = "replicas", params(Selection), responses(
    (status = 200, body = Replicas),
    (status = 400, body = Refusal),
))]
pub(crate) async fn list(
    State(state): State<Arc<state::State>>,
    Parameters(wanted): Parameters<Selection>,
) -> Result<Json<Replicas>, Refusal> {
    let is =
        |wanted: &Option<String>, name: &str| wanted.as_deref().is_none_or(|wanted| wanted == name);
    let mut found = replicas(&state).await?;
    found.retain(|one| {
        is(&wanted.application, &one.application)
            && is(&wanted.deployment, &one.deployment)
            && match &wanted.state {
                Some(wanted) => wanted.eq_ignore_ascii_case(&one.replica.state),
                None => one.replica.state != "STOPPED",
            }
    });
    found.truncate(wanted.limit.unwrap_or(usize::MAX));
    Ok(Json(Replicas { replicas: found }))
}

/// One replica, also one that has died a while ago.
#[utoipa::path(get, path = "/api/v1/replicas/{replica}", tag = "replicas",
    params(("replica" = String, Path)), responses(
    (status = 200, body = ReplicaOf),
    (status = 404, body = Refusal),
))]
pub(crate) async fn one(
    State(state): State<Arc<state::State>>,
    Names(id): Names<String>,
) -> Result<Json<ReplicaOf>, Refusal> {
    let found = replicas(&state).await?;
    match found.into_iter().find(|one| one.replica.replica_id == id) {
        Some(found) => Ok(Json(found)),
        None => Err(Refusal::not_found(
            format!("there is no replica {id:?}"),
            "GET /api/v1/replicas lists those that run; the last ten dead ones of each deployment are known too",
        )),
    }
}

/// What the threads of a replica are doing.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StacksOf {
    replica_id: String,
    /// The thread of the event loop first, in each the innermost call first.
    stacks: String,
    /// Wall clock, seconds.
    at_s: f64,
}

/// What the threads of a replica are doing now, whether or not its event loop turns.
#[utoipa::path(post, path = "/api/v1/replicas/{replica}/stack", tag = "replicas",
    params(("replica" = String, Path)), responses(
    (status = 200, body = StacksOf),
    (status = 404, body = Refusal),
    (status = 503, body = Refusal),
))]
pub(crate) async fn stack(
    State(state): State<Arc<state::State>>,
    Names(id): Names<String>,
) -> Result<Json<StacksOf>, Refusal> {
    match state.call(api_request::Body::Stacks(id)).await? {
        api_response::Body::Stacks(said) => Ok(Json(StacksOf {
            replica_id: said.replica_id,
            stacks: said.stacks,
            at_s: said.at_s,
        })),
        _ => Err(Refusal::unexpected("stacks")),
    }
}

async fn replicas(state: &state::State) -> Result<Vec<ReplicaOf>, Refusal> {
    let mut found = Vec::new();
    for application in state.status().await?.applications {
        for deployment in application.deployments {
            let all = deployment.replicas.into_iter();
            for replica in all.chain(deployment.dead_replicas) {
                found.push(ReplicaOf {
                    application: application.name.clone(),
                    deployment: deployment.name.clone(),
                    replica: replica.into(),
                });
            }
        }
    }
    Ok(found)
}
