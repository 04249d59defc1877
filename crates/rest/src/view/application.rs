//! An application, as its status says it.

use std::collections::BTreeMap;

use eagleray_types::control::{ApplicationStatus, DeployStatus};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{Deployment, Failure, Receipt, Why, json, number, some, time};

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Application {
    pub(crate) name: String,
    /// `DEPLOYING`, `RUNNING`, `DEPLOY_FAILED`, `UNHEALTHY` or `DELETING`.
    pub(crate) status: String,
    pub(crate) message: String,
    /// Wall clock, seconds.
    pub(crate) last_deployed_time_s: f64,
    /// Null: not reachable over HTTP.
    pub(crate) route_prefix: Option<String>,
    /// Hash of the revision that is the target.
    pub(crate) revision: Option<String>,
    /// Its number: 12 is shown as `r12`.
    pub(crate) revision_number: Option<u64>,
    pub(crate) ingress: String,
    /// `declarative` (a file, REST) or `imperative` (`serve.run`).
    pub(crate) source: String,
    /// What was declared last; null for an imperative one.
    #[schema(value_type = Object)]
    pub(crate) config: Value,
    /// The newest deploy.
    pub(crate) deploy: Option<Deploy>,
    /// One for each thing that is not fine.
    pub(crate) why: Vec<Why>,
    /// Where the documentation of a `FastAPI` application is.
    pub(crate) docs_path: Option<String>,
    /// Which routes of a `FastAPI` ingress are answered without its machinery; null: it is none.
    pub(crate) compiled_routes: Option<CompiledRoutes>,
    /// By deployment, those that it calls.
    pub(crate) calls: BTreeMap<String, Vec<String>>,
    pub(crate) deployments: Vec<Deployment>,
}

/// A deploy, on its way or ended.
#[derive(Debug, Serialize, ToSchema)]
#[expect(clippy::struct_field_names, reason = "the names of the message")]
pub(crate) struct Deploy {
    /// The number that `POST /api/v1/deploys` has answered; 0 of a deploy that was not declared.
    pub(crate) deploy: u64,
    /// `building`, `failed` (the build, so there is no revision), `rolling`, `done` or `rolled_back`.
    pub(crate) state: String,
    /// Number of its revision; null before it is built.
    pub(crate) number: Option<u64>,
    /// Number of the revision before.
    pub(crate) from: Option<u64>,
    pub(crate) began_at_s: Option<f64>,
    pub(crate) failure: Option<Failure>,
    pub(crate) receipt: Option<Receipt>,
    /// The last lines that the build printed.
    pub(crate) printed: Vec<String>,
}

/// Of a `FastAPI` ingress, as its newest replica says.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CompiledRoutes {
    /// How many are compiled.
    pub(crate) compiled: u32,
    /// How many others are called as ASGI.
    pub(crate) as_asgi: u32,
    /// Why none is compiled; null: some may be.
    pub(crate) reason: Option<String>,
    /// The first of those that are called as ASGI.
    pub(crate) others: Vec<OtherRoute>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OtherRoute {
    pub(crate) path: String,
    /// Why it is not compiled, in a few words.
    pub(crate) reason: String,
}

impl From<eagleray_types::control::CompiledRoutes> for CompiledRoutes {
    fn from(routes: eagleray_types::control::CompiledRoutes) -> Self {
        let others = routes.others.into_iter().map(|one| OtherRoute {
            path: one.path,
            reason: one.reason,
        });
        Self {
            compiled: routes.compiled,
            as_asgi: routes.as_asgi,
            reason: some(routes.reason),
            others: others.collect(),
        }
    }
}

impl From<ApplicationStatus> for Application {
    fn from(status: ApplicationStatus) -> Self {
        let calls = status.calls.into_iter();
        Self {
            name: status.name,
            status: status.status,
            message: status.message,
            last_deployed_time_s: status.last_deployed_time_s,
            route_prefix: some(status.route_prefix),
            revision: some(status.revision),
            revision_number: number(status.revision_number),
            ingress: status.ingress,
            source: status.source,
            config: json(&status.config),
            deploy: status.deploy.map(Into::into),
            why: status.why.into_iter().map(Into::into).collect(),
            docs_path: some(status.docs_path),
            compiled_routes: status.compiled_routes.map(Into::into),
            calls: calls.map(|one| (one.deployment, one.calls)).collect(),
            deployments: status.deployments.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<DeployStatus> for Deploy {
    fn from(status: DeployStatus) -> Self {
        Self {
            deploy: status.deploy,
            state: status.state,
            number: number(status.number),
            from: number(status.from),
            began_at_s: time(status.began_at_s),
            failure: status.failure.map(Into::into),
            receipt: status.receipt.map(Into::into),
            printed: status.printed,
        }
    }
}
