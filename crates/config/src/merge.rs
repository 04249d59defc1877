//! A config over the options in the code of an application.
//!
//! Key by key: what the config does not state stays as the code has it, in `ray_actor_options`, `autoscaling_config` and
//! every other object of ours too. A value that is the user's own, such as `user_config`, is one value. A key that the
//! next config leaves out is the code's again, since nothing is kept of an earlier merge.

use std::collections::BTreeMap;

use eagleray_types::{
    control::DeploymentOptions,
    options::{DeploymentOption, Value as OptionValue},
};
use serde_json::{Map, Value as Json, json};

use crate::{
    check::Check,
    model::{Application, Deployment},
    nearest::nearest,
    node::{Node, quoted},
    problem::{Path, Problem, Problems, Stage},
    shape::{Object, Takes},
    table,
};

/// Options that somebody stated, by name; those of [`table::DEPLOYMENT`] but `name`.
pub type Options = Map<String, Json>;

/// The options of one deployment, the config's over the code's: checked, and together.
#[derive(Clone, Debug, PartialEq)]
pub struct Merged {
    /// All that is stated by either. `num_replicas` is a number or left out, never `auto`.
    pub stated: Options,
    /// What is right, and yet to be said: keys that nothing obeys yet. Those of the config are in its own warnings too.
    pub warnings: Problems,
}

impl Application {
    /// The options of every deployment in the code, with what the config says over them.
    ///
    /// # Arguments
    /// `code`: what the code states of each deployment, by name.
    ///
    /// # Errors
    /// All that is wrong: names that the code does not have, and what contradicts itself once it is merged.
    pub fn over(
        &self,
        code: &BTreeMap<String, Options>,
    ) -> Result<BTreeMap<String, Merged>, Problems> {
        let mut problems = Problems::default();
        for deployment in &self.deployments {
            if !code.contains_key(&deployment.name) {
                problems.push(self.not_in_code(deployment, code));
            }
        }
        let mut merged = BTreeMap::new();
        for (name, options) in code {
            let own = self
                .deployments
                .iter()
                .find(|deployment| deployment.name == *name);
            let stated = self.stated_with(options, own.map(|deployment| &deployment.options));
            let warnings = self.judge(name, &stated, own, &mut problems);
            merged.insert(name.clone(), Merged { stated, warnings });
        }
        problems.sort();
        if problems.is_empty() {
            Ok(merged)
        } else {
            Err(problems)
        }
    }

    fn stated_with(&self, code: &Options, own: Option<&Options>) -> Options {
        let none = Options::new();
        let mut stated = replicas(code, own.unwrap_or(&none));
        let of_application = |key| self.stated.get(key).filter(|value| !value.is_null());
        if let Some(Json::Object(environment)) = of_application("runtime_env") {
            let actor = stated
                .entry("ray_actor_options")
                .or_insert_with(|| json!({}));
            if actor.is_null() {
                *actor = json!({});
            }
            if let Json::Object(actor) = actor {
                let over = actor.get("runtime_env").and_then(Json::as_object);
                let both = merge(&table::RUNTIME_ENV, environment, over.unwrap_or(&none));
                actor.insert("runtime_env".to_owned(), both.into());
            }
        }
        let logs = stated
            .get("logging_config")
            .is_some_and(|value| !value.is_null());
        if let Some(logging) = of_application("logging_config").filter(|_| !logs) {
            stated.insert("logging_config".to_owned(), logging.clone());
        }
        stated
    }

    /// Whether the options are right now that they are one. Returns what is to be said of those that are.
    fn judge(
        &self,
        name: &str,
        stated: &Options,
        own: Option<&Deployment>,
        problems: &mut Problems,
    ) -> Problems {
        let mut whole = table::DEPLOYMENT.with_defaults(stated);
        for (key, value) in stated {
            whole.entry(key.clone()).or_insert_with(|| value.clone());
        }
        whole.insert("name".to_owned(), name.into());
        if stated.get("num_replicas").is_none_or(Json::is_null) {
            // A default beside autoscaling would contradict it.
            whole.remove("num_replicas");
        }
        let mut check = Check::default();
        check.object(
            &table::DEPLOYMENT,
            &Node::of_json(&whole.into()),
            &Path::Root,
        );
        let path = own.map_or(&self.path, |deployment| &deployment.path);
        let placed = |problem: &Problem| {
            let option = problem.path.split(['.', '[']).next().unwrap_or_default();
            let place = own.and_then(|own| own.places.get(option).copied().or(own.place));
            Problem {
                stage: if problem.stage == Stage::Support {
                    Stage::Support
                } else {
                    Stage::Code
                },
                path: format!("{path}.{}", problem.path),
                place: place.or(self.place),
                message: format!("{}, in the deployment {}", problem.message, quoted(name)),
                help: problem.help.clone(),
            }
        };
        for problem in check.problems.iter().chain(&too_many_on_a_node(stated)) {
            problems.push(placed(problem));
        }
        let mut warnings = Problems::default();
        for warning in check.warnings.iter() {
            warnings.push(placed(warning));
        }
        warnings
    }

    fn not_in_code(&self, deployment: &Deployment, code: &BTreeMap<String, Options>) -> Problem {
        let names = || code.keys().map(String::as_str);
        let help = match nearest(&deployment.name, names()) {
            Some(near) => format!("did you mean {near:?}?"),
            None => format!("it has {}", names().collect::<Vec<_>>().join(", ")),
        };
        Problem {
            stage: Stage::Code,
            path: format!("{}.name", deployment.path),
            place: deployment.places.get("name").copied().or(deployment.place),
            message: format!(
                "the application {} has no deployment {}",
                quoted(&self.name),
                quoted(&deployment.name)
            ),
            help,
        }
    }
}

/// `over` over `under`, key by key.
pub fn merge(object: &Object, under: &Options, over: &Options) -> Options {
    let mut merged = under.clone();
    for (key, value) in over {
        let takes = object.key(key).map(|key| key.takes);
        let value = match (takes.as_ref().map(Takes::inner), merged.get(key), value) {
            (Some(Takes::Object(inner)), Some(Json::Object(under)), Json::Object(over)) => {
                merge(inner, under, over).into()
            }
            (Some(Takes::Named(..)), Some(Json::Object(under)), Json::Object(over)) => {
                let mut both = under.clone();
                both.extend(over.clone());
                both.into()
            }
            _ => value.clone(),
        };
        merged.insert(key.clone(), value);
    }
    merged
}

/// All options of the code and of the config, of which the last word on the number of replicas is one: a number, or
/// bounds between which it moves.
fn replicas(code: &Options, own: &Options) -> Options {
    let mut merged = automatic(code.clone());
    let bounds = |options: &Options| {
        options
            .get("autoscaling_config")
            .is_some_and(|value| !value.is_null())
    };
    let number = |options: &Options| options.get("num_replicas").is_some_and(Json::is_number);
    if number(own) {
        // What was automatic is so no more.
        merged.insert("autoscaling_config".to_owned(), Json::Null);
    } else if bounds(own) || own.get("num_replicas") == Some(&Json::from("auto")) {
        merged.remove("num_replicas");
    }
    automatic(merge(&table::DEPLOYMENT, &merged, own))
}

/// `num_replicas: auto` as what it stands for: from 1 to 100 replicas, where nothing else is said.
fn automatic(mut options: Options) -> Options {
    if options.get("num_replicas") != Some(&Json::from("auto")) {
        return options;
    }
    options.remove("num_replicas");
    let mut bounds =
        json!({"min_replicas": 1, "max_replicas": 100, "target_ongoing_requests": 2.0});
    if let (Json::Object(bounds), Some(Json::Object(stated))) =
        (&mut bounds, options.get("autoscaling_config"))
    {
        bounds.extend(stated.clone());
    }
    options.insert("autoscaling_config".to_owned(), bounds);
    options
}

/// How many replicas run: as stated, or where a deployment that would be scaled holds.
fn held_replicas(stated: &Options) -> u64 {
    let Some(Json::Object(bounds)) = stated.get("autoscaling_config") else {
        return stated
            .get("num_replicas")
            .and_then(Json::as_u64)
            .unwrap_or(1);
    };
    let bounds = table::AUTOSCALING.with_defaults(bounds);
    let count = |key| bounds.get(key).and_then(Json::as_u64);
    count("initial_replicas")
        .or(count("min_replicas"))
        .unwrap_or(1)
        .max(1)
}

fn too_many_on_a_node(stated: &Options) -> Option<Problem> {
    let most = stated.get("max_replicas_per_node").and_then(Json::as_u64)?;
    let wanted = held_replicas(stated);
    (wanted > most).then(|| Problem {
        stage: Stage::Support,
        path: "max_replicas_per_node".to_owned(),
        place: None,
        message: format!(
            "there is one node, and {wanted} replicas are wanted of which it may run {most}"
        ),
        help: "raise the one or lower the other".to_owned(),
    })
}

impl Merged {
    /// What a running system obeys of it.
    ///
    /// # Errors
    /// An option does not fit its type, which a check has let through.
    pub fn options(&self) -> Result<DeploymentOptions, String> {
        let complete = table::DEPLOYMENT.with_defaults(&self.stated);
        let mut options = DeploymentOptions::standard();
        for option in DeploymentOption::ALL {
            if let Some(value) = self.option(option, &complete) {
                option.give(&mut options, value)?;
            }
        }
        Ok(options)
    }

    /// The value of one option, where it is not the standard one.
    fn option(&self, option: &DeploymentOption, complete: &Options) -> Option<OptionValue> {
        let within = |object: &str, key: &str| match complete.get(object) {
            Some(Json::Object(map)) => map.get(key).filter(|value| !value.is_null()),
            _ => None,
        };
        let number = |json: Option<&Json>| json.and_then(Json::as_f64).map(OptionValue::Number);
        match option.key {
            "num_replicas" => Some(OptionValue::Whole(held_replicas(&self.stated).into())),
            "user_config" => {
                let stated = complete.get("user_config").filter(|value| !value.is_null());
                stated.map(|value| OptionValue::Text(value.to_string()))
            }
            "resources" => Some(OptionValue::Numbers(self.resources())),
            "environment" => {
                let environment = within("ray_actor_options", "runtime_env");
                let variables = environment.and_then(|environment| environment.get("env_vars"));
                let texts = variables.and_then(Json::as_object).into_iter().flatten();
                let text = |(name, value): (&String, &Json)| {
                    Some((name.clone(), value.as_str()?.to_owned()))
                };
                Some(OptionValue::Texts(texts.filter_map(text).collect()))
            }
            "access_log" => within("logging_config", "enable_access_log")
                .and_then(Json::as_bool)
                .map(OptionValue::Flag),
            "logging" => self.logging().map(OptionValue::Text),
            "backpressure_status" => within("backpressure_config", "status_code")
                .and_then(Json::as_u64)
                .map(|status| OptionValue::Whole(status.into())),
            "backpressure_retry_after_s" => number(within("backpressure_config", "retry_after_s")),
            key => match (option.of(&DeploymentOptions::standard()), complete.get(key)) {
                (OptionValue::Whole(_), Some(Json::Number(whole))) => {
                    whole.as_i64().map(|whole| OptionValue::Whole(whole.into()))
                }
                (OptionValue::Number(_), found @ Some(Json::Number(_))) => number(found),
                // Null is no limit, which is zero.
                (OptionValue::Number(_), Some(Json::Null)) => Some(OptionValue::Number(0.0)),
                _ => None,
            },
        }
    }

    fn resources(&self) -> BTreeMap<String, f64> {
        let Some(Json::Object(actor)) = self.stated.get("ray_actor_options") else {
            return BTreeMap::new();
        };
        let named = ["num_cpus", "memory"]
            .into_iter()
            .filter_map(|key| Some((key, actor.get(key)?)));
        let gpus = actor
            .get("num_gpus")
            .filter(|gpus| gpus.as_f64() > Some(0.0));
        let named = named.chain(gpus.map(|gpus| ("num_gpus", gpus)));
        let custom = actor
            .get("resources")
            .and_then(Json::as_object)
            .into_iter()
            .flatten();
        named
            .chain(custom.map(|(key, amount)| (key.as_str(), amount)))
            .filter_map(|(key, amount)| Some((key.to_owned(), amount.as_f64()?)))
            .collect()
    }

    /// JSON of `logging_config` as far as a replica obeys it; none for defaults.
    fn logging(&self) -> Option<String> {
        let obeyed = |given: &Options| -> Options {
            let complete = table::LOGGING.with_defaults(given);
            let names = ["encoding", "log_level", "additional_log_standard_attrs"];
            let value = |name: &str| Some((name.to_owned(), complete.get(name)?.clone()));
            names.into_iter().filter_map(value).collect()
        };
        let stated = obeyed(self.stated.get("logging_config")?.as_object()?);
        (stated != obeyed(&Options::new())).then(|| Json::from(stated).to_string())
    }
}
