//! What a deploy has begun, and what one would do.

use eagleray_types::control::{
    Applied as AppliedMessage, Failure as FailureMessage, Planned as PlannedMessage,
    PlannedApplication as ApplicationMessage, PlannedDeployment as DeploymentMessage,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::number;
use crate::errors::lines;

/// A deploy that has begun. Its applications say how it goes, in their status.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Applied {
    /// Its number, which `deploy.deploy` of the applications names.
    pub(crate) deploy: u64,
    /// Applications that are being built.
    pub(crate) building: Vec<String>,
    pub(crate) deleted: Vec<String>,
    pub(crate) warnings: Vec<String>,
}

/// What a deploy would do.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Planned {
    /// `plan` of a deploy that shall do exactly this.
    pub(crate) plan: String,
    pub(crate) applications: Vec<PlannedApplication>,
    pub(crate) warnings: Vec<String>,
    /// What of `http_options` would hold anew, for people: `request_timeout_s 10 -> 30`.
    pub(crate) http_options: Vec<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PlannedApplication {
    pub(crate) name: String,
    /// `new`, `update`, `unchanged`, `delete` or `failed`.
    pub(crate) change: String,
    /// Number of the present revision.
    pub(crate) from: Option<u64>,
    pub(crate) deployments: Vec<PlannedDeployment>,
    /// Files and options of the application that changed, for people.
    pub(crate) changed: Vec<String>,
    pub(crate) failure: Option<Failure>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PlannedDeployment {
    pub(crate) name: String,
    /// `new`, `restart`, `in_place`, `untouched` or `delete`.
    pub(crate) change: String,
    /// For people: `code models/rank.py`, `max_ongoing_requests 5 -> 20`.
    pub(crate) reasons: Vec<String>,
    pub(crate) replicas_before: u32,
    pub(crate) replicas_after: u32,
}

/// What went wrong.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Failure {
    /// A stable word, such as `import_failed`.
    pub(crate) code: String,
    pub(crate) message: String,
    /// `models/rank.py:41`, or empty.
    #[serde(rename = "where")]
    pub(crate) place: String,
    /// What to do next, one a line.
    pub(crate) help: Vec<String>,
}

impl From<AppliedMessage> for Applied {
    fn from(message: AppliedMessage) -> Self {
        Self {
            deploy: message.deploy,
            building: message.building,
            deleted: message.deleted,
            warnings: message.warnings,
        }
    }
}

impl From<PlannedMessage> for Planned {
    fn from(message: PlannedMessage) -> Self {
        let applications = message.applications.into_iter();
        Self {
            plan: message.plan,
            applications: applications.map(Into::into).collect(),
            warnings: message.warnings,
            http_options: message.http_options,
        }
    }
}

impl From<ApplicationMessage> for PlannedApplication {
    fn from(message: ApplicationMessage) -> Self {
        Self {
            name: message.name,
            change: message.change,
            from: number(message.from),
            deployments: message.deployments.into_iter().map(Into::into).collect(),
            changed: message.changed,
            failure: message.failure.map(Into::into),
        }
    }
}

impl From<DeploymentMessage> for PlannedDeployment {
    fn from(message: DeploymentMessage) -> Self {
        Self {
            name: message.name,
            change: message.change,
            reasons: message.reasons,
            replicas_before: message.replicas_before,
            replicas_after: message.replicas_after,
        }
    }
}

impl From<FailureMessage> for Failure {
    fn from(message: FailureMessage) -> Self {
        Self {
            code: message.code,
            message: message.message,
            place: message.place,
            help: lines(&message.help),
        }
    }
}
