//! What a build that takes its time has printed, while it runs: an import that hangs says what it waits for there, if
//! anywhere. The status has that only when the build has ended; until then it is in the log.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde::Deserialize;

use crate::{
    answers::{Deploy, Status},
    api::Api,
    words::now,
};

/// Builds that end sooner are not asked about.
const AFTER_S: f64 = 1.0;
/// How often the log is searched.
const EVERY: Duration = Duration::from_secs(1);
/// Lines that are shown.
const SHOWN: usize = 3;
/// Among so many of the application's newest lines: its replicas print too.
const AMONG: &str = "200";

/// By application: the last lines of its build.
#[derive(Debug, Default)]
pub(super) struct Printed {
    looked: Option<Instant>,
    known: BTreeMap<String, Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Entry {
    /// Empty: a build's.
    deployment: String,
    message: String,
}

impl Printed {
    /// Adds to the status what builds have printed so far.
    pub(super) fn add(&mut self, api: &Api, status: &mut Status) {
        let due = self.looked.is_none_or(|at| at.elapsed() >= EVERY);
        for application in &mut status.applications {
            let Some(deploy) = application
                .deploy
                .as_mut()
                .filter(|one| is_slow(one, now()))
            else {
                self.known.remove(&application.name);
                continue;
            };
            if due {
                self.looked = Some(Instant::now());
                let lines = search(api, &application.name, deploy);
                self.known.insert(application.name.clone(), lines);
            }
            if let Some(lines) = self.known.get(&application.name) {
                deploy.printed.clone_from(lines);
            }
        }
    }
}

fn is_slow(deploy: &Deploy, now: f64) -> bool {
    let began_s = deploy.began_at_s.unwrap_or(now);
    deploy.state == "building" && now - began_s > AFTER_S
}

/// Nothing, if the log cannot be searched: the deploy goes on all the same.
fn search(api: &Api, application: &str, deploy: &Deploy) -> Vec<String> {
    let since = deploy.began_at_s.unwrap_or_default().to_string();
    let query = [
        ("application", application),
        ("source", "stdout,stderr"),
        ("since", since.as_str()),
        ("limit", AMONG),
    ];
    let Ok(lines) = api.lines("/api/v1/logs", &query) else {
        return Vec::new();
    };
    let lines: Vec<String> = lines.map_while(Result::ok).collect();
    last_of_builds(&lines)
}

fn last_of_builds(lines: &[String]) -> Vec<String> {
    let entries = lines.iter().rev();
    let entries = entries.filter_map(|line| serde_json::from_str::<Entry>(line).ok());
    let mut last: Vec<String> = entries
        .filter(|entry| entry.deployment.is_empty() && !entry.message.trim().is_empty())
        .map(|entry| entry.message)
        .take(SHOWN)
        .collect();
    last.reverse();
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_build_has_printed_counts_and_only_the_last_of_it() {
        let line = |deployment: &str, message: &str| {
            serde_json::json!({"deployment": deployment, "message": message}).to_string()
        };
        let lines = [
            line("", "one"),
            line("", "two"),
            line("Rank", "of a replica"),
            line("", " "),
            line("", "three"),
            line("", "four"),
            "no json".to_owned(),
        ];
        assert_eq!(last_of_builds(&lines), ["two", "three", "four"]);
    }

    #[test]
    fn a_build_that_is_quick_is_not_asked_about() {
        let mut deploy = Deploy {
            state: "building".to_owned(),
            began_at_s: Some(100.0),
            ..Deploy::default()
        };
        assert!(!is_slow(&deploy, 100.5) && is_slow(&deploy, 101.5));
        deploy.state = "rolling".to_owned();
        assert!(!is_slow(&deploy, 101.5));
    }
}
