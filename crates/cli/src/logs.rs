//! `eagleray logs`: what was written, by whom, when and for which request; on and on with `-f`.

use std::{collections::HashSet, thread, time::Duration};

use clap::Args;
use serde::Deserialize;

use crate::{
    api::Api,
    exit::Exit,
    find::Where,
    interrupt,
    output::{complain, told},
    screen::{Paint, Screen},
    trouble::{Outcome, Trouble},
    words::{now, plain, plural, precise_clock},
};

const USUAL: usize = 200;
/// After a connection is lost.
const AGAIN: Duration = Duration::from_millis(500);
/// Lines of the last moment before a connection was lost are asked for again, and told apart by their ids.
const OVERLAP_S: f64 = 2.0;
const MOST_KNOWN: usize = 10_000;

#[derive(Debug, Args)]
pub struct LogsArguments {
    /// Of this application, or of this deployment of it, only.
    #[arg(value_name = "APP[/DEPLOYMENT]")]
    about: Option<String>,
    /// Go on with what is written, until Ctrl-C.
    #[arg(short, long)]
    follow: bool,
    /// At most so many entries, the newest [default: 200; with --request or --since: all].
    #[arg(short = 'n', long, value_name = "COUNT")]
    limit: Option<usize>,
    /// From then on: an age such as 5m, 2h or 1d, seconds since 1970, or 2026-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Until then.
    #[arg(long, value_name = "TIME", conflicts_with = "follow")]
    until: Option<String>,
    /// This level or a worse one: debug, info, warning, error, critical.
    #[arg(long)]
    level: Option<String>,
    /// Entries that have this text in them.
    #[arg(long, value_name = "TEXT")]
    grep: Option<String>,
    /// Of this request, or of this trace, in all processes.
    #[arg(long, value_name = "ID")]
    request: Option<String>,
    /// Of this replica; also of one that is dead.
    #[arg(long, value_name = "ID")]
    replica: Option<String>,
    /// Of replicas of this revision.
    #[arg(long, value_name = "REV")]
    revision: Option<String>,
    /// From where: user, stdout, stderr, access, system; several between commas.
    #[arg(long, value_name = "SOURCES")]
    source: Option<String>,
    /// Print JSON, one entry a line, as the node sends it.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    place: Where,
}

/// An entry, as far as it is shown.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Entry {
    id: String,
    time_s: f64,
    level: String,
    application: String,
    deployment: String,
    replica: String,
    request_id: String,
    component: String,
    message: String,
    /// So many could not be sent before this one.
    lost: u64,
}

pub(crate) fn run(arguments: &LogsArguments) -> Outcome {
    let mut query = query(arguments);
    if !arguments.follow {
        let lines = Api::of(&arguments.place)?.lines("/api/v1/logs", &borrowed(&query))?;
        for line in lines {
            let line = line.map_err(|error| broken(&error))?;
            if !tell(&line, arguments.json) {
                break;
            }
        }
        return Ok(Exit::Done);
    }
    interrupt::ends_with(String::new());
    query.push(("follow", "true".to_owned()));
    follow(&arguments.place, query, arguments.json)
}

/// A connection that is lost is made again, and goes on where it was. The node is looked for anew each time: one that was
/// restarted has another token, and may have another port.
fn follow(place: &Where, mut query: Vec<(&'static str, String)>, as_json: bool) -> Outcome {
    let mut known = HashSet::new();
    let mut newest = now();
    let mut away = false;
    // That the node cannot be asked at all is said at once.
    let mut lines = Some(Api::of(place)?.lines("/api/v1/logs", &borrowed(&query))?);
    loop {
        for line in lines.take().into_iter().flatten() {
            let Ok(line) = line else {
                break;
            };
            let entry: Entry = serde_json::from_str(&line).unwrap_or_default();
            newest = newest.max(entry.time_s);
            if known.len() > MOST_KNOWN {
                known.clear();
            }
            if !entry.id.is_empty() && !known.insert(entry.id) {
                continue;
            }
            if !tell(&line, as_json) {
                return Ok(Exit::Done);
            }
        }
        thread::sleep(AGAIN);
        query.retain(|(key, _)| !matches!(*key, "since" | "limit"));
        query.push(("since", (newest - OVERLAP_S).to_string()));
        let asked = Api::of(place).and_then(|api| api.lines("/api/v1/logs", &borrowed(&query)));
        lines = match asked {
            Ok(lines) => {
                away = false;
                Some(lines)
            }
            Err(trouble) if matches!(trouble.exit, Exit::Unknown | Exit::Missing) => {
                if !away {
                    complain(&format!(
                        "{}; what is written meanwhile is shown when it is back",
                        trouble.message
                    ));
                }
                away = true;
                None
            }
            Err(trouble) => return Err(trouble),
        };
    }
}

fn broken(error: &std::io::Error) -> Trouble {
    Trouble::new(
        Exit::Unknown,
        "broken_off",
        format!("the answer broke off: {error}"),
    )
}

fn borrowed<'a>(query: &'a [(&'static str, String)]) -> Vec<(&'a str, &'a str)> {
    query
        .iter()
        .map(|(key, value)| (*key, value.as_str()))
        .collect()
}

fn query(arguments: &LogsArguments) -> Vec<(&'static str, String)> {
    let mut query = Vec::new();
    if let Some(about) = &arguments.about {
        let (application, deployment) = about
            .rsplit_once('/')
            .map_or((about.as_str(), None), |(one, two)| (one, Some(two)));
        query.push(("application", application.to_owned()));
        query.extend(deployment.map(|name| ("deployment", name.to_owned())));
    }
    for (key, given) in [
        ("level", &arguments.level),
        ("grep", &arguments.grep),
        ("request", &arguments.request),
        ("replica", &arguments.replica),
        ("revision", &arguments.revision),
        ("source", &arguments.source),
        // The node's clock is what ages are told by.
        ("since", &arguments.since),
        ("until", &arguments.until),
    ] {
        query.extend(given.clone().map(|value| (key, value)));
    }
    let all = arguments.request.is_some() || arguments.since.is_some();
    let limit = arguments.limit.or_else(|| (!all).then_some(USUAL));
    query.extend(limit.map(|limit| ("limit", limit.to_string())));
    query
}

fn tell(line: &str, as_json: bool) -> bool {
    if line.is_empty() {
        return true;
    }
    if as_json {
        return told(line);
    }
    let entry: Entry = serde_json::from_str(line).unwrap_or_default();
    if entry.lost > 0 {
        complain(&format!(
            "{} were not shown: this side did not keep up",
            plural(usize::try_from(entry.lost).unwrap_or(usize::MAX), "entry")
        ));
    }
    told(&shown(&entry, &Screen::of_output()))
}

/// `12:04:07.318 WARN  shop/Rank q3kd91 5f0c21e1  slow batch: 31 items`. Further lines of an entry stand below it, as they are.
fn shown(entry: &Entry, screen: &Screen) -> String {
    let (level, paint) = match entry.level.to_ascii_uppercase().as_str() {
        "WARNING" | "WARN" => ("WARN", Paint::Warning),
        "ERROR" => ("ERROR", Paint::Bad),
        "CRITICAL" => ("CRIT", Paint::Bad),
        "DEBUG" => ("DEBUG", Paint::Faint),
        _ => ("INFO", Paint::Plain),
    };
    let who = match (entry.application.as_str(), entry.deployment.as_str()) {
        ("", "") => entry.component.clone(),
        (application, "") => application.to_owned(),
        (application, deployment) => format!("{application}/{deployment}"),
    };
    let short = |id: &str| id.chars().take(8).collect::<String>();
    let ids: Vec<String> = [entry.replica.clone(), short(&entry.request_id)]
        .into_iter()
        .filter(|id| !id.is_empty())
        .collect();
    let message = plain(entry.message.trim_end());
    format!(
        "{} {} {} {}  {message}",
        screen.paint(&precise_clock(entry.time_s), Paint::Faint),
        screen.paint(&format!("{level:5}"), paint),
        screen.paint(&who, Paint::Bold),
        screen.paint(&ids.join(" "), Paint::Faint),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::screen;

    #[test]
    fn an_entry_says_when_who_and_for_which_request() {
        let entry = Entry {
            time_s: 1_700_000_000.318,
            level: "WARNING".to_owned(),
            application: "shop".to_owned(),
            deployment: "Rank".to_owned(),
            replica: "q3kd91".to_owned(),
            request_id: "5f0c21e1-aaaa".to_owned(),
            message: "slow\nsecond line\n".to_owned(),
            ..Entry::default()
        };
        let expected = format!(
            "{} WARN  shop/Rank q3kd91 5f0c21e1  slow\nsecond line",
            precise_clock(1_700_000_000.318)
        );
        assert_eq!(shown(&entry, &screen::plain(80)), expected);
    }
}
