//! `eagleray events`: what has happened, in its order.

use std::{thread, time::Duration};

use clap::Args;
use serde_json::json;

use crate::{
    answers::{Event, Events},
    api::Api,
    exit::Exit,
    find::Where,
    interrupt,
    output::{complain, told},
    screen::{Paint, Screen},
    trouble::Outcome,
    words::{clock, day, now, plain, plural},
};

/// The newest that are shown unless asked otherwise.
const USUAL: usize = 50;
const EVERY: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
pub struct EventsArguments {
    /// Of this application only.
    application: Option<String>,
    /// Go on with what happens, until Ctrl-C.
    #[arg(short, long)]
    follow: bool,
    /// At most so many, the newest [default: 50].
    #[arg(short = 'n', long, value_name = "COUNT")]
    limit: Option<usize>,
    /// Print JSON, one event a line.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    place: Where,
}

pub(crate) fn run(arguments: &EventsArguments) -> Outcome {
    let api = Api::of(&arguments.place)?;
    let wanted = |event: &Event| {
        arguments.application.is_none() || event.application == arguments.application
    };
    let (mut all, mut next) = (Vec::new(), 0);
    // Each answer has a part, until one has none.
    loop {
        let part = ask(&api, next)?;
        let done = part.events.is_empty() || part.next <= next;
        next = part.next.max(next);
        all.extend(part.events);
        let most = arguments.limit.unwrap_or(USUAL);
        all.retain(wanted);
        all.drain(..all.len().saturating_sub(most));
        if done {
            break;
        }
    }
    if all.is_empty() && !arguments.json && !arguments.follow {
        complain("nothing has happened yet");
    }
    if !all.iter().all(|event| tell(event, arguments.json)) || !arguments.follow {
        return Ok(Exit::Done);
    }
    follow(&api, next, arguments.json, wanted)
}

fn follow(api: &Api, mut next: u64, as_json: bool, wanted: impl Fn(&Event) -> bool) -> Outcome {
    interrupt::ends_with(String::new());
    let mut away = false;
    loop {
        thread::sleep(EVERY);
        let part = match ask(api, next) {
            Ok(part) => part,
            Err(trouble) if trouble.exit == Exit::Unknown => {
                if !away {
                    complain(&format!(
                        "{}; what happens meanwhile is shown when it is back",
                        trouble.message
                    ));
                }
                away = true;
                continue;
            }
            Err(trouble) => return Err(trouble),
        };
        away = false;
        if part.lost > 0 && next > 0 {
            complain(&format!(
                "{} are not kept any more",
                plural(usize::try_from(part.lost).unwrap_or(usize::MAX), "event")
            ));
        }
        next = part.next.max(next);
        if !part
            .events
            .iter()
            .filter(|event| wanted(event))
            .all(|event| tell(event, as_json))
        {
            return Ok(Exit::Done);
        }
    }
}

fn ask(api: &Api, since: u64) -> Outcome<Events> {
    api.get("/api/v1/events", &[("since", &since.to_string())])
}

fn tell(event: &Event, as_json: bool) -> bool {
    if as_json {
        let line = json!({
            "number": event.number, "at_s": event.at_s, "kind": event.kind, "level": event.level,
            "application": event.application, "deployment": event.deployment, "replica_id": event.replica_id,
            "message": event.message,
        });
        return told(&line.to_string());
    }
    told(&line(event, &Screen::of_output(), now()))
}

fn line(event: &Event, screen: &Screen, now: f64) -> String {
    let day = day(event.at_s, now);
    let time = match day.strip_prefix("today ") {
        Some(_) => clock(event.at_s),
        None => format!(
            "{} {}",
            day.split(' ').next().unwrap_or_default(),
            clock(event.at_s)
        ),
    };
    let paint = match event.level.as_str() {
        "error" => Paint::Bad,
        "warning" => Paint::Warning,
        _ => Paint::Plain,
    };
    let names = [&event.application, &event.deployment]
        .into_iter()
        .flatten()
        .cloned()
        .collect::<Vec<_>>()
        .join("/");
    let names = if names.is_empty() {
        "node".to_owned()
    } else {
        names
    };
    let replica = event
        .replica_id
        .as_ref()
        .map_or_else(String::new, |id| format!(" {id}"));
    let message = plain(&event.message).lines().collect::<Vec<_>>().join(" ");
    format!(
        "{time} {:7} {}{replica}  {}",
        event.kind,
        screen.paint(&names, Paint::Bold),
        screen.paint(&message, paint)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::screen;

    #[test]
    fn an_event_is_one_line() {
        let event = Event {
            at_s: 1_700_000_000.0,
            kind: "replica".to_owned(),
            application: Some("shop".to_owned()),
            deployment: Some("Rank".to_owned()),
            replica_id: Some("q7f2".to_owned()),
            message: "died:\nkilled by signal 9".to_owned(),
            ..Event::default()
        };
        let expected = format!(
            "{} replica shop/Rank q7f2  died: killed by signal 9",
            clock(1_700_000_000.0)
        );
        assert_eq!(line(&event, &screen::plain(80), 1_700_000_001.0), expected);
    }
}
