//! Revisions of applications, going back to one, and their end.

use std::sync::Arc;

use axum::{Json, extract::State, response::Response};
use eagleray_types::control::{
    Compare, History, RevisionRecord, Rollback as RollbackMessage, api_request, api_response,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{
    errors::Refusal,
    extract::{self, Names, Parameters, accepted},
    state, view,
};

/// Every revision that is kept, of all applications, newest first.
#[utoipa::path(get, path = "/api/v1/revisions", tag = "history", responses(
    (status = 200, body = view::Revisions),
))]
pub(crate) async fn all_revisions(
    State(state): State<Arc<state::State>>,
) -> Result<Json<view::Revisions>, Refusal> {
    Ok(Json(history(&state, String::new()).await?.into()))
}

/// The revisions of one application, newest first.
#[utoipa::path(get, path = "/api/v1/applications/{application}/revisions", tag = "history",
    params(("application" = String, Path)), responses(
    (status = 200, body = view::Revisions),
    (status = 404, body = Refusal),
))]
pub(crate) async fn revisions(
    State(state): State<Arc<state::State>>,
    Names(application): Names<String>,
) -> Result<Json<view::Revisions>, Refusal> {
    Ok(Json(known(&state, application).await?.into()))
}

/// One revision: by its number (`12` or `r12`) or its hash.
#[utoipa::path(get, path = "/api/v1/applications/{application}/revisions/{revision}", tag = "history",
    params(("application" = String, Path), ("revision" = String, Path)), responses(
    (status = 200, body = view::Revision),
    (status = 404, body = Refusal),
))]
pub(crate) async fn revision(
    State(state): State<Arc<state::State>>,
    Names((application, wanted)): Names<(String, String)>,
) -> Result<Json<view::Revision>, Refusal> {
    let history = known(&state, application.clone()).await?;
    let mut found = history.revisions.into_iter();
    match found.find(|record| is_meant(record, &wanted)) {
        Some(record) => Ok(Json(record.into())),
        None => Err(Refusal::not_found(
            format!("application {application:?} has no revision {wanted:?}"),
            "GET /api/v1/applications/APPLICATION/revisions lists those that are kept",
        )),
    }
}

/// Which two revisions are compared.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Ends {
    /// `r12`, `12` or a hash.
    from: String,
    /// The same.
    to: String,
}

/// What leads from one revision to another.
#[utoipa::path(get, path = "/api/v1/applications/{application}/diff", tag = "history",
    params(("application" = String, Path), Ends), responses(
    (status = 200, body = view::Planned),
    (status = 404, body = Refusal),
))]
pub(crate) async fn diff(
    State(state): State<Arc<state::State>>,
    Names(application): Names<String>,
    Parameters(ends): Parameters<Ends>,
) -> Result<Json<view::Planned>, Refusal> {
    let request = api_request::Body::Compare(Compare {
        application,
        from: ends.from,
        to: ends.to,
    });
    match state.call(request).await? {
        api_response::Body::Planned(planned) => Ok(Json(planned.into())),
        _ => Err(Refusal::unexpected("planned")),
    }
}

fn is_meant(record: &RevisionRecord, wanted: &str) -> bool {
    let digits = wanted.strip_prefix('r').unwrap_or(wanted);
    record.revision == wanted || digits.parse() == Ok(record.number)
}

async fn known(state: &state::State, application: String) -> Result<History, Refusal> {
    let history = history(state, application.clone()).await?;
    if history.revisions.is_empty() {
        return Err(nothing_of(&application));
    }
    Ok(history)
}

async fn history(state: &state::State, application: String) -> Result<History, Refusal> {
    match state.call(api_request::Body::History(application)).await? {
        api_response::Body::History(history) => Ok(history),
        _ => Err(Refusal::unexpected("history")),
    }
}

fn nothing_of(application: &str) -> Refusal {
    Refusal::not_found(
        format!("nothing is known of an application {application:?}"),
        "GET /api/v1/status lists those that are deployed",
    )
}

/// Where to go back to.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Rollback {
    /// `r12`, `12` or a hash; left out: the one before the present one.
    revision: Option<String>,
    /// Who asks, for the history.
    author: String,
    /// Why, for the history.
    message: String,
}

/// A rollback that has begun: a deploy of what was before.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RolledBack {
    /// The number of the revision that it makes.
    revision: Option<u64>,
    /// The number that it goes back to.
    rollback_of: Option<u64>,
    /// Which deployments roll and why, for people.
    notes: Vec<String>,
}

/// Goes back to a revision, code and all.
#[utoipa::path(post, path = "/api/v1/applications/{application}/rollback", tag = "history",
    params(("application" = String, Path)), request_body = Rollback, responses(
    (status = 202, body = RolledBack),
    (status = 404, body = Refusal),
    (status = 409, body = Refusal),
))]
pub(crate) async fn rollback(
    State(state): State<Arc<state::State>>,
    Names(application): Names<String>,
    extract::Json(wanted): extract::Json<Rollback>,
) -> Result<Response, Refusal> {
    let revision = wanted.revision.unwrap_or_default();
    let is_number = !revision.is_empty() && revision.bytes().all(|byte| byte.is_ascii_digit());
    let request = api_request::Body::Rollback(RollbackMessage {
        application,
        revision: if is_number && revision.len() < 20 {
            format!("r{revision}")
        } else {
            revision
        },
        author: wanted.author,
        message: wanted.message,
    });
    let api_response::Body::Deployed(deployed) = state.call(request).await? else {
        return Err(Refusal::unexpected("deployed"));
    };
    let number = |number: u64| Some(number).filter(|number| *number > 0);
    Ok(accepted(RolledBack {
        revision: number(deployed.number),
        rollback_of: number(deployed.rollback_of),
        notes: deployed.notes,
    }))
}

/// The application that is being deleted.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Deleting {
    deleting: String,
}

/// Deletes an application. Answers once that is durable; its replicas finish what they work on.
#[utoipa::path(delete, path = "/api/v1/applications/{application}", tag = "applications",
    params(("application" = String, Path)), responses(
    (status = 202, body = Deleting),
    (status = 404, body = Refusal),
))]
pub(crate) async fn delete(
    State(state): State<Arc<state::State>>,
    Names(application): Names<String>,
) -> Result<Response, Refusal> {
    let status = state.status().await?;
    if !status
        .applications
        .iter()
        .any(|one| one.name == application)
    {
        return Err(nothing_of(&application));
    }
    match state
        .call(api_request::Body::BeginDelete(application.clone()))
        .await?
    {
        api_response::Body::Done(_) => Ok(accepted(Deleting {
            deleting: application,
        })),
        _ => Err(Refusal::unexpected("done")),
    }
}
