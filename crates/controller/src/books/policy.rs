//! What says how many replicas a deployment needs, where that is code of the user's and not its load.
//!
//! Its number counts until it says another. Once it says none that can be meant, or does not answer, nothing of it counts: the
//! number of replicas stays, within its bounds, and the status says why.

use eagleray_autoscaler::Wish;
use eagleray_types::control::{ApplicationSpec, DeploymentSpec};
use serde_json::{Map, Value};

use super::revision::{Revision, VersionSpec};

/// As of `num_replicas`: who asks for more does not mean it.
const MOST_REPLICAS: f64 = 10_000.0;

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Policy {
    /// As people know it.
    pub(crate) name: String,
    asked: Option<f64>,
    /// Empty: nothing is wrong.
    pub(crate) error: String,
}

impl Policy {
    /// That of a deployment which scales; `None`: its load says how many it needs.
    pub(crate) fn of(target: &VersionSpec) -> Option<Self> {
        let name = name_of(target.application(), target.deployment())?;
        Some(Self {
            name,
            ..Self::default()
        })
    }

    pub(crate) const fn wish(&self) -> Wish {
        Wish::OfPolicy(self.asked)
    }

    /// It has said a number, nothing (`Ok(None)`), or has failed. Returns whether that is another failure than before.
    pub(crate) fn hear(&mut self, said: Result<Option<f64>, String>) -> bool {
        match said {
            Ok(asked) => {
                self.error.clear();
                self.asked = asked;
                false
            }
            Err(error) => {
                self.asked = None;
                let is_new = self.error != error;
                self.error = error;
                is_new
            }
        }
    }
}

/// A number as a policy host writes it.
pub(crate) fn number(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().unwrap_or(f64::NAN);
    if (0.0..=MOST_REPLICAS).contains(&number) {
        Ok(number)
    } else {
        Err(format!(
            "it returned {text}, which is no number of replicas from 0 to {MOST_REPLICAS}"
        ))
    }
}

/// Whether something of it has to be asked how many replicas it needs.
pub(crate) fn is_asked(revision: &Revision) -> bool {
    let spec = &revision.spec;
    let mut deployments = spec.deployments.iter();
    deployments.any(|one| name_of(spec, one).is_some())
}

fn name_of(application: &ApplicationSpec, deployment: &DeploymentSpec) -> Option<String> {
    if deployment.autoscaling_config.is_empty() {
        return None;
    }
    let function = |policy: &Value| policy.get("policy_function")?.as_str().map(str::to_owned);
    if !application.autoscaling_policy.is_empty() {
        return function(&serde_json::from_str(&application.autoscaling_policy).ok()?);
    }
    let keys: Map<String, Value> = serde_json::from_str(&deployment.autoscaling_config).ok()?;
    function(keys.get("policy")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_meant_is_a_number() {
        for (text, expected) in [("3", 3.0), ("2.5", 2.5), ("0", 0.0), ("10000.0", 10_000.0)] {
            assert_eq!(number(text), Ok(expected));
        }
        for text in [
            "-1",
            "nan",
            "inf",
            "-inf",
            "1e9",
            "1000000000",
            "three",
            "",
            "None",
        ] {
            let error = number(text).unwrap_err();
            assert!(error.contains("no number of replicas"), "{text}: {error}");
        }
    }

    #[test]
    fn the_last_number_counts_until_it_fails() {
        let mut policy = Policy::default();
        assert_eq!(policy.wish(), Wish::OfPolicy(None));
        assert!(!policy.hear(Ok(Some(3.0))));
        assert_eq!(policy.wish(), Wish::OfPolicy(Some(3.0)));
        assert!(policy.hear(Err("a".into())) && !policy.hear(Err("a".into())));
        assert_eq!(policy.wish(), Wish::OfPolicy(None));
        assert!(policy.hear(Err("b".into())));
        assert!(!policy.hear(Ok(Some(1.0))) && policy.error.is_empty());
    }
}
