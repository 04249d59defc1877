//! `eagleray stack`: where a replica is just now, in all its threads.

use clap::Args;
use serde_json::{Value, json};

use crate::{
    api::{Api, escaped},
    exit::Exit,
    find::Where,
    output::say,
    trouble::{Outcome, Trouble},
};

#[derive(Debug, Args)]
pub struct StackArguments {
    /// Id of the replica, as `eagleray explain` and the logs name it.
    replica: String,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    place: Where,
}

pub(crate) fn run(arguments: &StackArguments) -> Outcome {
    let api = Api::of(&arguments.place)?;
    let path = format!("/api/v1/replicas/{}/stack", escaped(&arguments.replica));
    let answer: Value = api
        .post(&path, &json!({}), std::time::Duration::from_secs(35))
        .map_err(|trouble| {
            let missing = trouble.exit == Exit::Missing && trouble.help.is_empty();
            if missing {
                trouble.help("`eagleray status --json` names the replicas")
            } else {
                trouble
            }
        })?;
    if arguments.json {
        say(&answer.to_string());
        return Ok(Exit::Done);
    }
    let text = ["stacks", "stack"]
        .iter()
        .find_map(|key| answer.get(key)?.as_str());
    let Some(text) = text else {
        return Err(Trouble::new(
            Exit::Unknown,
            "answer",
            format!("the replica has said nothing of its stacks: {answer}"),
        ));
    };
    say(text.trim_end());
    Ok(Exit::Done)
}
