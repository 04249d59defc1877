//! What configs declare: which applications shall be, and how far each is on its way from a config to a revision.
//!
//! A declaration is durable before it is built, so a controller that begins anew knows what to build. It names the one
//! build that counts: what any other says is about a config that nobody asks for any more. Once a build is done, its
//! revision is in the plan like one that a script has deployed, and the declaration is what people are shown of its
//! origin.

use std::collections::BTreeMap;

use eagleray_autoscaler::Capacity;
use eagleray_types::control::{BuildPlace, Failure};

use super::capacity;

/// The newest config of one application; also how the checkpoint keeps it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Declared {
    #[prost(string, tag = "1")]
    pub application: String,
    /// All that is stated of it, as canonical JSON.
    #[prost(string, tag = "2")]
    pub config: String,
    #[prost(message, required, tag = "3")]
    pub place: BuildPlace,
    /// What was stated beside the applications, as JSON.
    #[prost(string, tag = "4")]
    pub node_options: String,
    #[prost(string, tag = "5")]
    pub author: String,
    #[prost(string, tag = "6")]
    pub message: String,
    /// The apply that asked for it last.
    #[prost(uint64, tag = "7")]
    pub deploy: u64,
    /// The build that counts.
    #[prost(uint64, tag = "8")]
    pub build: u64,
    /// Import the code whatever the last build has read.
    #[prost(bool, tag = "9")]
    pub rebuild: bool,
    /// Wall-clock seconds, only shown.
    #[prost(double, tag = "10")]
    pub began_at_s: f64,
    /// It is built: the newest revision is what came of it.
    #[prost(message, optional, tag = "11")]
    pub built: Option<BuildResult>,
    /// Why it could not be built.
    #[prost(message, optional, tag = "12")]
    pub failure: Option<Failure>,
}

/// How a build went.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct BuildResult {
    /// Nothing was imported.
    #[prost(bool, tag = "1")]
    pub skipped: bool,
    #[prost(uint64, tag = "2")]
    pub milliseconds: u64,
    /// What came of it was there already, so no revision was made.
    #[prost(bool, tag = "3")]
    pub unchanged: bool,
    /// Wall-clock seconds, only shown.
    #[prost(double, tag = "4")]
    pub ended_at_s: f64,
}

impl Declared {
    pub(crate) fn is_building(&self) -> bool {
        self.built.is_none() && self.failure.is_none()
    }

    /// Where the application shall be reachable; empty: nowhere.
    pub(crate) fn route_prefix(&self) -> String {
        let config: serde_json::Value = serde_json::from_str(&self.config).unwrap_or_default();
        match config.get("route_prefix") {
            None => "/".to_owned(),
            Some(stated) => stated.as_str().unwrap_or_default().to_owned(),
        }
    }

    /// Whether a build of the one is a build of the other.
    pub(crate) fn builds_as(&self, other: &Self) -> bool {
        self.config == other.config && self.place == other.place
    }
}

/// All declarations; also how the checkpoint keeps them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Declarations {
    applications: BTreeMap<String, Declared>,
    last_deploy: u64,
    last_build: u64,
    /// What is stated beside the applications, as JSON, by the last config that says so or was gone back to; empty: none.
    node_options: String,
    /// Part of that, and where it is going.
    capacity: Capacity,
}

/// One step of what is declared.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// These are declared from now on, under this number.
    Declare {
        deploy: u64,
        applications: Vec<Declared>,
        /// `None`: as before.
        node_options: Option<String>,
        /// They are all that is declared.
        whole: bool,
    },
    /// A revision has come of this build.
    Built {
        application: String,
        build: u64,
        result: BuildResult,
    },
    /// This build has come to nothing.
    Failed {
        application: String,
        build: u64,
        failure: Failure,
    },
    /// What was declared once is what runs, as somebody went back to it. A build does not count any more.
    Restore {
        application: String,
        config: String,
        node_options: String,
    },
    /// It is declared no more.
    Forget { application: String },
}

impl Step {
    /// What a revision that was not built means: it was declared once, or a script made it.
    pub(crate) fn follow(application: &str, config: &str, node_options: &str) -> Self {
        let application = application.to_owned();
        match config {
            "" => Self::Forget { application },
            config => Self::Restore {
                application,
                config: config.to_owned(),
                node_options: node_options.to_owned(),
            },
        }
    }
}

impl Declarations {
    pub(crate) fn node_options(&self) -> &str {
        &self.node_options
    }

    /// Which share of all replicas shall run.
    pub(crate) const fn capacity(&self) -> Capacity {
        self.capacity
    }

    pub(crate) fn get(&self, application: &str) -> Option<&Declared> {
        self.applications.get(application)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Declared> {
        self.applications.values()
    }

    /// The one whose build this is, as long as that counts.
    pub(crate) fn of_build(&self, build: u64) -> Option<&Declared> {
        self.iter()
            .find(|one| one.build == build && one.is_building())
    }

    pub(crate) fn building(&self) -> impl Iterator<Item = &Declared> {
        self.iter().filter(|one| one.is_building())
    }

    pub(crate) const fn next_deploy(&self) -> u64 {
        self.last_deploy + 1
    }

    pub(crate) const fn next_build(&self) -> u64 {
        self.last_build + 1
    }

    /// Returns whether it is another now.
    pub(crate) fn apply(&mut self, step: &Step) -> bool {
        match step {
            Step::Declare {
                deploy,
                applications,
                node_options,
                whole,
            } => {
                self.last_deploy = self.last_deploy.max(*deploy);
                if let Some(stated) = node_options {
                    let known = |one: &Declared| self.applications.contains_key(&one.application);
                    let same = applications.iter().all(known)
                        && (!whole || applications.len() == self.applications.len());
                    self.capacity = capacity::next(self.capacity, same, capacity::stated(stated));
                    self.node_options.clone_from(stated);
                }
                for one in applications {
                    self.last_build = self.last_build.max(one.build);
                    self.applications
                        .insert(one.application.clone(), one.clone());
                }
                true
            }
            Step::Built {
                application,
                build,
                result,
            } => self.end_build(application, *build, Ok(*result)),
            Step::Failed {
                application,
                build,
                failure,
            } => self.end_build(application, *build, Err(failure)),
            Step::Restore {
                application,
                config,
                node_options,
            } => {
                let kept = capacity::kept(node_options, &self.node_options);
                let is_new = self.node_options != kept;
                self.node_options = kept;
                let declared = self.applications.entry(application.clone()).or_default();
                let is_it = declared.config == *config && declared.node_options == *node_options;
                if is_it && declared.built.is_some() {
                    return false;
                }
                let restored = Declared {
                    application: application.clone(),
                    config: config.clone(),
                    node_options: node_options.clone(),
                    built: Some(BuildResult::default()),
                    failure: None,
                    ..declared.clone()
                };
                std::mem::replace(declared, restored.clone()) != restored || is_new
            }
            Step::Forget { application } => self.forget(application),
        }
    }

    fn end_build(
        &mut self,
        application: &str,
        build: u64,
        result: Result<BuildResult, &Failure>,
    ) -> bool {
        let declared = self.applications.get_mut(application);
        let Some(declared) = declared.filter(|one| one.build == build && one.is_building()) else {
            return false;
        };
        declared.built = result.ok();
        declared.failure = result.err().cloned();
        true
    }

    /// Returns whether it was declared.
    pub(crate) fn forget(&mut self, application: &str) -> bool {
        self.applications.remove(application).is_some()
    }

    pub(crate) fn forget_all(&mut self) -> bool {
        let any = !self.applications.is_empty() || !self.node_options.is_empty();
        self.applications.clear();
        self.node_options.clear();
        self.capacity = Capacity::default();
        any
    }

    /// As the checkpoint keeps them: those that are declared, the last apply, the last build.
    pub(crate) fn root(&self) -> (Vec<Declared>, u64, u64) {
        let all = self.applications.values().cloned().collect();
        (all, self.last_deploy, self.last_build)
    }

    pub(crate) fn restore(
        stored: &[Declared],
        last_deploy: u64,
        last_build: u64,
        node_options: String,
        capacity: Capacity,
    ) -> Self {
        let by_name = |one: &Declared| (one.application.clone(), one.clone());
        Self {
            applications: stored.iter().map(by_name).collect(),
            last_deploy,
            last_build,
            node_options,
            capacity,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared(build: u64) -> Declared {
        Declared {
            application: "a".into(),
            build,
            ..Declared::default()
        }
    }

    fn declare(build: u64) -> Step {
        Step::Declare {
            deploy: build,
            applications: vec![declared(build)],
            node_options: None,
            whole: false,
        }
    }

    fn built(build: u64) -> Step {
        let application = "a".into();
        let result = BuildResult::default();
        Step::Built {
            application,
            build,
            result,
        }
    }

    #[test]
    fn only_the_build_that_was_asked_for_last_counts() {
        let mut all = Declarations::default();
        all.apply(&declare(1));
        all.apply(&declare(2));
        assert!(!all.apply(&built(1)));
        assert!(all.of_build(1).is_none() && all.of_build(2).is_some());
        assert!(all.apply(&built(2)));
        assert!(!all.apply(&built(2)), "it has ended");
        assert!(all.get("a").unwrap().built.is_some());
        assert_eq!((all.next_deploy(), all.next_build()), (3, 3));
    }

    #[test]
    fn numbers_go_on_when_nothing_is_declared_any_more() {
        let mut all = Declarations::default();
        all.apply(&declare(7));
        let forget = Step::Forget {
            application: "a".into(),
        };
        assert!(all.apply(&forget) && !all.apply(&forget));
        let (stored, deploy, build) = all.root();
        let restored =
            Declarations::restore(&stored, deploy, build, String::new(), Capacity::default());
        assert_eq!((&restored, restored.next_build()), (&all, 8));
    }

    #[test]
    fn a_rollback_ends_a_build_and_takes_its_failure_away() {
        let mut all = Declarations::default();
        all.apply(&declare(1));
        let settle = Step::follow("a", "{}", "");
        assert!(all.apply(&settle) && !all.apply(&settle));
        assert!(all.of_build(1).is_none());
        all.apply(&declare(2));
        all.apply(&Step::Failed {
            application: "a".into(),
            build: 2,
            failure: Failure::default(),
        });
        assert!(all.apply(&settle));
        let declared = all.get("a").unwrap();
        assert_eq!((&declared.failure, declared.config.as_str()), (&None, "{}"));
    }
}
