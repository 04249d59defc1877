//! How far one application is with one deploy, by what its status says.

use crate::answers::{Application, Deploy, Status};

/// Which deploy is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Goal {
    /// By its own number, before there is a revision.
    Deploy(u64),
    /// By the number of its revision.
    Revision(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The node has taken it, and its status does not show it yet.
    Taken,
    Building,
    Rolling,
    Up,
    /// It was not built.
    NotBuilt,
    /// It did not come up, and what was there before serves.
    RolledBack,
    /// Another deploy came before it had ended.
    Superseded,
}

impl Stage {
    pub(super) fn is_end(self) -> bool {
        !matches!(self, Self::Taken | Self::Building | Self::Rolling)
    }

    /// For programs.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Building => "building",
            Self::Rolling => "rolling",
            Self::Up => "done",
            Self::NotBuilt => "failed",
            Self::RolledBack => "rolled_back",
            Self::Superseded => "superseded",
        }
    }
}

/// One application, from look to look.
#[derive(Clone, Debug)]
pub(super) struct Watched {
    pub(super) name: String,
    pub(super) stage: Stage,
    goal: Goal,
    seen: bool,
}

impl Watched {
    pub(super) fn new(name: &str, goal: Goal) -> Self {
        Self {
            name: name.to_owned(),
            stage: Stage::Taken,
            goal,
            seen: false,
        }
    }

    /// An end stays what it is: a deploy that comes later does not change what became of this one.
    pub(super) fn look(&mut self, status: &Status) {
        if self.stage.is_end() {
            return;
        }
        let application = status.applications.iter().find(|one| one.name == self.name);
        let deploy = application.and_then(|one| one.deploy.as_ref());
        self.stage = match deploy {
            Some(deploy) if self.is_meant(deploy) => {
                self.seen = true;
                stage(deploy, application)
            }
            Some(deploy) if self.seen || self.is_later(deploy) => Stage::Superseded,
            // It was deleted after it had been there. An answer that names no application at all may be an old one.
            None if self.seen && application.is_none() && !status.node.name.is_empty() => {
                Stage::Superseded
            }
            _ => self.stage,
        };
    }

    fn is_meant(&self, deploy: &Deploy) -> bool {
        match self.goal {
            Goal::Deploy(number) => deploy.deploy == number,
            Goal::Revision(number) => deploy.number == Some(number),
        }
    }

    fn is_later(&self, deploy: &Deploy) -> bool {
        match self.goal {
            Goal::Deploy(number) => deploy.deploy > number,
            Goal::Revision(number) => deploy.number.is_some_and(|later| later > number),
        }
    }
}

fn stage(deploy: &Deploy, application: Option<&Application>) -> Stage {
    match deploy.state.as_str() {
        "building" => Stage::Building,
        "done" => Stage::Up,
        "failed" if deploy.number.is_none() => Stage::NotBuilt,
        // The first of its kind has nothing to go back to.
        "failed" | "rolled_back" => Stage::RolledBack,
        "superseded" => Stage::Superseded,
        _ if application.is_some_and(|one| one.status == "DELETING") => Stage::Superseded,
        _ => Stage::Rolling,
    }
}
