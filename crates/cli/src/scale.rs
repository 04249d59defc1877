//! `eagleray scale`: another number of replicas, until a deploy states another.

use clap::Args;
use serde_json::{Value, json};

use crate::{
    api::{Api, escaped},
    exit::Exit,
    find::Where,
    output::say,
    status,
    trouble::{Outcome, Trouble},
};

#[derive(Debug, Args)]
pub struct ScaleArguments {
    /// Which deployment.
    #[arg(value_name = "APP/DEPLOYMENT")]
    deployment: String,
    /// How many replicas, or how many more or less.
    #[arg(value_name = "N|+N|-N", allow_hyphen_values = true)]
    replicas: String,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    place: Where,
}

/// A number, or a step from what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Exactly(u32),
    By(i64),
}

pub(crate) fn run(arguments: &ScaleArguments) -> Outcome {
    let wanted = parse(&arguments.replicas)?;
    let (application, name) = parted(&arguments.deployment)?;
    let api = Api::of(&arguments.place)?;
    let status = status::of(&api, Some(application))?;
    let deployments = status.applications.iter().flat_map(|one| &one.deployments);
    let names: Vec<&str> = deployments.clone().map(|one| one.name.as_str()).collect();
    let Some(deployment) = deployments.clone().find(|one| one.name == name) else {
        let message = format!("{application} has no deployment {name:?}");
        return Err(Trouble::new(Exit::Missing, "no_deployment", message)
            .help(format!("it has: {}", names.join(", "))));
    };
    let before = deployment.target_replicas;
    let replicas = wanted.from(before);
    let path = format!(
        "/api/v1/applications/{}/deployments/{}/scale",
        escaped(application),
        escaped(name)
    );
    let body = json!({"target_num_replicas": replicas});
    let _: Value = api
        .post(&path, &body, std::time::Duration::from_secs(35))
        .map_err(not_by_hand)?;
    if arguments.json {
        say(&json!({"application": application, "deployment": name, "before": before, "replicas": replicas}).to_string());
    } else {
        say(&format!(
            "{application}/{name} {before} -> {replicas}, until a deploy states another"
        ));
    }
    Ok(Exit::Done)
}

fn not_by_hand(trouble: Trouble) -> Trouble {
    if trouble.exit == Exit::Refused && trouble.help.is_empty() {
        return trouble.help("write num_replicas, or min_replicas and max_replicas of autoscaling_config, into the file and deploy it");
    }
    trouble
}

fn parse(text: &str) -> Outcome<Wanted> {
    let wrong = || {
        Trouble::new(
            Exit::Usage,
            "usage",
            format!("{text:?} is no number of replicas: write 3, +1 or -1"),
        )
    };
    let step = || {
        text.trim_start_matches('+')
            .parse::<i32>()
            .ok()
            .map(|step| Wanted::By(step.into()))
    };
    let wanted = if text.starts_with(['+', '-']) {
        step()
    } else {
        text.parse().ok().map(Wanted::Exactly)
    };
    wanted.ok_or_else(wrong)
}

/// `APP/DEPLOYMENT`. The name of an application may have a `/`; that of a deployment, being the last, may not.
pub(crate) fn parted(text: &str) -> Outcome<(&str, &str)> {
    match text.rsplit_once('/') {
        Some((application, deployment)) if !application.is_empty() && !deployment.is_empty() => {
            Ok((application, deployment))
        }
        _ => Err(Trouble::new(
            Exit::Usage,
            "usage",
            format!("{text:?} is no deployment: write APP/DEPLOYMENT"),
        )),
    }
}

impl Wanted {
    fn from(self, before: u32) -> u32 {
        match self {
            Self::Exactly(number) => number,
            Self::By(step) => u32::try_from((i64::from(before) + step).max(0)).unwrap_or(u32::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_absolute_and_a_sign_makes_it_a_step() {
        let from_four = |text: &str| parse(text).map(|wanted| wanted.from(4));
        assert_eq!(from_four("3"), Ok(3));
        assert_eq!(from_four("+2"), Ok(6));
        assert_eq!(from_four("-1"), Ok(3));
        assert_eq!(from_four("-9"), Ok(0));
        for wrong in ["", "x", "1.5", "+", "--1"] {
            assert!(from_four(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_deployment_is_named_with_its_application() {
        assert_eq!(parted("shop/Rank"), Ok(("shop", "Rank")));
        assert!(parted("shop").is_err() && parted("/Rank").is_err() && parted("shop/").is_err());
    }
}
