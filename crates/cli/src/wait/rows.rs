//! What is to be shown of each application that is waited for.

use super::stage::{Stage, Watched};
use crate::{
    answers::{Application, Deploy, Deployment, Status},
    words::{first_line, plain},
};

#[derive(Debug)]
pub(super) struct Row<'a> {
    pub(super) name: &'a str,
    pub(super) stage: Stage,
    pub(super) deploy: Option<&'a Deploy>,
    pub(super) deployments: Vec<Part<'a>>,
}

/// A deployment on its way.
#[derive(Debug)]
pub(super) struct Part<'a> {
    pub(super) name: &'a str,
    pub(super) ready: u32,
    pub(super) wanted: u32,
    /// It is where it shall be.
    pub(super) done: bool,
    /// What it waits for, if that is known.
    pub(super) why: String,
}

impl<'a> Row<'a> {
    pub(super) fn of(watched: &'a Watched, status: &'a Status) -> Self {
        let application = status
            .applications
            .iter()
            .find(|one| one.name == watched.name);
        let deploy = application.and_then(|one| one.deploy.as_ref());
        let shown = matches!(watched.stage, Stage::Rolling | Stage::Up);
        let deployments = application.filter(|_| shown).map(|one| parts(one, deploy));
        Self {
            name: &watched.name,
            stage: watched.stage,
            deploy: deploy.filter(|_| watched.stage != Stage::Taken),
            deployments: deployments.unwrap_or_default(),
        }
    }

    /// `shop r15`, or `shop` before it has a revision.
    pub(super) fn title(&self) -> String {
        match self.deploy.and_then(|deploy| deploy.number) {
            Some(number) => format!("{} r{number}", self.name),
            None => self.name.to_owned(),
        }
    }
}

fn parts<'a>(application: &'a Application, deploy: Option<&Deploy>) -> Vec<Part<'a>> {
    let number = deploy.and_then(|deploy| deploy.number);
    application
        .deployments
        .iter()
        .map(|one| Part::of(one, number))
        .collect()
}

impl<'a> Part<'a> {
    fn of(deployment: &'a Deployment, revision: Option<u64>) -> Self {
        let done = deployment.status == "HEALTHY";
        let new = |number: Option<u64>| number.is_none() || number == revision;
        let ready = deployment
            .replicas
            .iter()
            .filter(|one| one.state == "RUNNING" && new(one.revision_number));
        let ready = if deployment.replicas.is_empty() {
            deployment.running()
        } else {
            u32::try_from(ready.count()).unwrap_or(u32::MAX)
        };
        Self {
            name: &deployment.name,
            ready: ready.min(deployment.target_replicas.max(1)),
            wanted: deployment.target_replicas,
            done,
            why: if done { String::new() } else { why(deployment) },
        }
    }
}

/// The first of its sentences, else what a replica that starts says it does.
fn why(deployment: &Deployment) -> String {
    if let Some(why) = deployment.why.first() {
        return plain(&why.sentence);
    }
    let starting = deployment
        .replicas
        .iter()
        .find(|one| one.state != "RUNNING" && !one.message.is_empty());
    match starting {
        Some(replica) => format!("{} {}", replica.replica_id, first_line(&replica.message)),
        None => first_line(&deployment.message),
    }
}
