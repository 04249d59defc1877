//! From a config to a deploy: what is declared, and what its builds have said.

use std::collections::{BTreeMap, BTreeSet};

use eagleray_config::Config;
use eagleray_types::control::{ApiError, Applied, Apply, Built, Empty, Failure, api_response};
use serde_json::{Map, Value};

use super::{
    Core,
    command::Level,
    effect::Answer,
    event::{CallId, Origin, Request, Source},
    http_options,
    outbox::{About, EventLevel},
    planning::{judged, leaves},
    requests::{deploy, unchanged},
    validate::api_error,
};
use crate::books::{
    Books,
    declared::{BuildResult, Declared, Step},
    desired::Change,
    events::EventKind,
};

/// What of a config concerns more than its applications, and stays until it is stated anew.
const KEPT_BESIDE: [&str; 2] = ["http_options", "target_capacity"];

impl Core {
    /// What an apply changes, and what its client is told when that is durable.
    pub(super) fn declare(&self, apply: &Apply) -> Result<(Change, Answer), ApiError> {
        let wall_time_s = self.out.wall_now_s;
        let config = checked(apply)?;
        let before = &self.books.desired.declared;
        let names: BTreeSet<&str> = config
            .applications
            .iter()
            .map(|one| one.name.as_str())
            .collect();
        let left_out = before
            .iter()
            .map(|one| one.application.clone())
            .filter(|name| apply.whole && !names.contains(name.as_str()));
        let deleted: Vec<String> = left_out.collect();
        check_declared_routes(&self.books, &config, &deleted)?;

        let stated = http_options::stated(&config.node);
        http_options::check(&stated, &self.out.options.http)
            .map_err(|message| api_error("invalid", message))?;
        let mut warnings: Vec<String> = config.warnings.iter().map(ToString::to_string).collect();
        warnings.extend(http_options::warning(&stated, &self.out.options.http));
        let node_options = stated_beside(apply, &config, before.node_options());
        let options_then = match &node_options {
            Some(stated) => stated,
            None => before.node_options(),
        };

        let deploy = before.next_deploy();
        let mut build = before.next_build();
        let mut applications = Vec::new();
        for one in &config.applications {
            let mut declared = Declared {
                application: one.name.clone(),
                config: one.canonical(),
                place: apply.place.clone(),
                node_options: options_then.to_owned(),
                author: apply.author.clone(),
                message: apply.message.clone(),
                deploy,
                build,
                rebuild: apply.rebuild,
                began_at_s: wall_time_s,
                built: None,
                failure: None,
            };
            let running = before.get(&one.name).filter(|before| {
                before.is_building() && before.builds_as(&declared) && !apply.rebuild
            });
            match running {
                Some(running) => declared.build = running.build,
                None => build += 1,
            }
            applications.push(declared);
        }
        let answer = Applied {
            deploy,
            building: names.into_iter().map(str::to_owned).collect(),
            warnings,
            deleted: deleted.clone(),
        };
        let delete = |application| Change::Delete {
            application,
            wall_time_s,
        };
        let change = Change::Declared {
            step: Step::Declare {
                deploy,
                applications,
                node_options,
                whole: apply.whole,
            },
            beside: deleted.into_iter().map(delete).collect(),
        };
        Ok((change, Answer::Applied(answer)))
    }

    /// What the end of a build changes; `None`: nothing, since nobody asks for it any more, or a plan does.
    pub(super) fn built(&mut self, built: Built) -> Option<Change> {
        if self.plannings.on_built(&built) {
            return None;
        }
        let build = built.build;
        let declared = self.books.desired.declared.of_build(build)?.clone();
        let application = declared.application.clone();
        for warning in &built.warnings {
            let message = format!("application '{application}': {warning}");
            self.out.log(Level::Warning, message);
            let about = About::application(&application);
            self.out
                .event(EventKind::Build, EventLevel::Warning, about, warning);
        }
        let all = &self.books.desired.declared;
        let leaves = |other: &str, prefix: &str| leaves(all.get(other).into_iter(), other, prefix);
        if let Err(failure) = judged(&self.books, &declared, &built, leaves) {
            let step = Step::Failed {
                application,
                build,
                failure,
            };
            let beside = Vec::new();
            return Some(Change::Declared { step, beside });
        }
        let how = if built.skipped {
            "is as it was"
        } else {
            "is built"
        };
        let took = built.took_milliseconds;
        let message = format!("application '{application}' {how}, in {took} ms");
        self.out.log(Level::Info, message);
        let about = About::application(&application);
        let message = format!("{how}, in {took} ms");
        self.out
            .event(EventKind::Build, EventLevel::Info, about, &message);
        let (result, deploy) = self.result_of(&declared, built);
        let step = Step::Built {
            application,
            build,
            result,
        };
        let beside = deploy.into_iter().collect();
        Some(Change::Declared { step, beside })
    }

    /// How a build went that may be deployed, and the deploy, unless all is as it was.
    pub(super) fn result_of(
        &self,
        declared: &Declared,
        built: Built,
    ) -> (BuildResult, Option<Change>) {
        let spec = built.spec.unwrap_or_default();
        // What is stated beside it goes with its revision, so that a rollback can take it back.
        let unchanged = unchanged(&self.books, &spec).is_some()
            && !http_options::are_new(&self.books, &spec.name, &declared.node_options);
        let wall_time_s = self.out.wall_now_s;
        let result = BuildResult {
            skipped: built.skipped,
            milliseconds: built.took_milliseconds,
            unchanged,
            ended_at_s: wall_time_s,
        };
        let origin = Origin {
            source: Source::Declarative,
            author: declared.author.clone(),
            message: declared.message.clone(),
            config: declared.config.clone(),
            node_options: declared.node_options.clone(),
            rollback_of: 0,
            build_skipped: result.skipped,
            build_milliseconds: result.milliseconds,
        };
        let deploys = || deploy(&self.books, spec, origin, wall_time_s);
        (result, (!unchanged).then(deploys))
    }

    /// A change of what is declared is durable.
    pub(super) fn declared(
        &mut self,
        call: CallId,
        step: &Step,
        beside: &[Change],
        answer: Answer,
    ) {
        let before = self.books.desired.declared.capacity();
        self.books.desired.declared.apply(step);
        self.resize(before);
        if let Step::Declare {
            node_options: Some(_),
            ..
        } = step
        {
            // Whoever deploys the same again has renewed a certificate, perhaps.
            self.settings.say_again();
        }
        let mut deployed = None;
        for change in beside {
            match change {
                Change::Deploy { revision, entry } => {
                    deployed = Some(self.deploy(change, revision, entry));
                }
                _ => self.delete(change),
            }
        }
        if let Step::Failed {
            application,
            failure,
            ..
        } = step
        {
            self.say_failed(application, failure);
        }
        if let Answer::Applied(applied) = &answer {
            for warning in &applied.warnings {
                self.out.log(Level::Warning, warning.clone());
                self.out.event(
                    EventKind::Config,
                    EventLevel::Warning,
                    About::default(),
                    warning,
                );
            }
        }
        let is_client = matches!(step, Step::Forget { .. } | Step::Restore { .. });
        let body = match (answer, deployed) {
            (Answer::Applied(applied), _) => api_response::Body::Applied(applied),
            (_, Some(deployed)) if is_client => api_response::Body::Deployed(deployed),
            _ => api_response::Body::Done(Empty {}),
        };
        self.out.reply(call, body);
    }

    /// A process is gone that was no replica. If it was a build that has said nothing, that is how it ended.
    pub(super) fn on_build_ended(&mut self, step: Option<Step>) {
        let Some(step) = step else {
            return;
        };
        if let Step::Failed { build, failure, .. } = &step {
            let failure = Some(failure.clone());
            let built = Built {
                build: *build,
                failure,
                ..Built::default()
            };
            // Its result has come and is about to be durable: that is how it ended.
            if self.plannings.on_built(&built) || self.is_saving_result_of(*build) {
                return;
            }
        }
        // Of a build that is asked for no more, nothing comes. Losing this costs another build.
        if self.books.desired.declared.apply(&step) {
            self.out.want_save();
            if let Step::Failed {
                application,
                failure,
                ..
            } = &step
            {
                self.say_failed(application, failure);
            }
        }
    }

    /// Whether what this build has said is with the store, or waits for it.
    fn is_saving_result_of(&self, build: u64) -> bool {
        let waits = self
            .requests
            .iter()
            .any(|(_, request)| matches!(request, Request::Built(built) if built.build == build));
        waits
            || self
                .saving
                .as_ref()
                .is_some_and(|saving| saving.ends_build(build))
    }

    fn say_failed(&mut self, application: &str, failure: &Failure) {
        let message = format!(
            "application '{application}' was not built: {}",
            failure.message
        );
        self.out.log(Level::Warning, message);
        let about = About::application(application);
        let message = format!("was not built: {}", failure.message);
        self.out
            .event(EventKind::Build, EventLevel::Error, about, &message);
    }
}

/// What is stated beside applications from now on; `None`: part of a config says nothing of what it leaves out.
fn stated_beside(apply: &Apply, config: &Config, before: &str) -> Option<String> {
    if apply.whole {
        return Some(apply.node_options.clone());
    }
    let mut all: Map<String, Value> = serde_json::from_str(before).unwrap_or_default();
    let says = config
        .node
        .iter()
        .filter(|(key, _)| KEPT_BESIDE.contains(&key.as_str()));
    let said: Vec<_> = says
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let any = !said.is_empty();
    all.extend(said);
    any.then(|| Value::Object(all).to_string())
}

/// The config of an apply: whoever sends it has checked it, or should have.
fn checked(apply: &Apply) -> Result<Config, ApiError> {
    let read = |what: &str, text: &str| -> Result<Value, ApiError> {
        serde_json::from_str(text)
            .map_err(|error| api_error("invalid", format!("{what} is no JSON: {error}")))
    };
    let mut whole = match apply.node_options.as_str() {
        "" => Map::new(),
        text => match read("node_options", text)? {
            Value::Object(map) => map,
            _ => return Err(api_error("invalid", "node_options is no object")),
        },
    };
    let applications = apply.applications.iter();
    let applications: Result<Vec<Value>, ApiError> = applications
        .map(|one| read(&format!("the config of '{}'", one.name), &one.config))
        .collect();
    whole.insert("applications".to_owned(), applications?.into());
    Config::of_json(&whole.into()).map_err(|problems| api_error("invalid", problems.to_string()))
}

/// No two applications at one prefix, of those that are declared and of those that others have deployed. What is about to
/// go, or to move, is not in the way.
fn check_declared_routes(
    books: &Books,
    config: &Config,
    deleted: &[String],
) -> Result<(), ApiError> {
    let named: BTreeMap<&str, Option<&str>> = config
        .applications
        .iter()
        .map(|one| (one.name.as_str(), one.route_prefix.as_deref()))
        .collect();
    let stays = |name: &String| !named.contains_key(name.as_str()) && !deleted.contains(name);
    for (other, plan) in books.desired.plans().filter(|(name, _)| stays(name)) {
        let prefix = plan.aim().spec.route_prefix.as_str();
        let taken = named
            .iter()
            .find(|(_, wanted)| !prefix.is_empty() && **wanted == Some(prefix));
        if let Some((name, _)) = taken {
            let message = format!(
                "route_prefix '{prefix}' is used by application '{other}', so '{name}' was not deployed; give one of \
                 them another route_prefix, or delete '{other}' first"
            );
            return Err(api_error("conflict", message));
        }
    }
    Ok(())
}
