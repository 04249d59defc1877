//! `eagleray shutdown`: ends all applications and the node, as `serve shutdown` does.

use std::{
    thread,
    time::{Duration, Instant},
};

use clap::Args;
use serde_json::{Value, json};

use crate::{
    api::Api,
    ask,
    exit::Exit,
    find::Where,
    output::say,
    trouble::{Outcome, Trouble},
};

/// Longer than a node takes that has to kill what it runs.
const END_WITHIN: Duration = Duration::from_secs(40);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

#[derive(Debug, Args)]
pub struct ShutdownArguments {
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    place: Where,
}

pub(crate) fn run(arguments: &ShutdownArguments) -> Outcome {
    let api = Api::of(&arguments.place)?;
    let address = &api.found.address;
    if !arguments.yes {
        match ask::yes(
            &format!("end the node at {address} and all its applications?"),
            false,
        ) {
            Some(true) => {}
            Some(false) => return Err(Trouble::new(Exit::Failed, "declined", "nothing was ended")),
            None => {
                let message = format!(
                    "this would end the node at {address} and all its applications; nothing was ended"
                );
                return Err(Trouble::new(Exit::Refused, "needs_yes", message)
                    .help("say --yes if that is meant"));
            }
        }
    }
    let asked: Outcome<Value> = api.post("/api/v1/shutdown", &json!({}), Duration::from_secs(35));
    // What would answer may have ended before it could: whether the node ends is seen below.
    let unsure = match asked {
        Ok(_) => None,
        Err(trouble) if trouble.exit == Exit::Unknown && trouble.code != "unreachable" => {
            Some(trouble)
        }
        Err(trouble) => return Err(trouble),
    };
    let began = Instant::now();
    // It has ended when nobody answers there any more.
    while answers(&api) {
        if began.elapsed() > END_WITHIN {
            if let Some(trouble) = unsure {
                return Err(trouble);
            }
            let message = format!(
                "the node at {address} has not ended within {} s",
                END_WITHIN.as_secs()
            );
            return Err(Trouble::new(Exit::Unknown, "timeout", message));
        }
        thread::sleep(LOOK_AGAIN);
    }
    say(&format!("the node at {address} has ended"));
    Ok(Exit::Done)
}

fn answers(api: &Api) -> bool {
    api.get::<Value>("/-/healthz", &[])
        .map_or_else(|trouble| trouble.code != "unreachable", |_| true)
}
