//! Waiting for a deploy or a rollback: what is shown meanwhile, and how it ends.
//!
//! The node decides and times; here it is only looked at. So Ctrl-C, a time limit and a lost connection end the looking, and
//! say so.

mod lines;
mod live;
mod printed;
mod rows;
mod stage;
mod stream;

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

pub(crate) use self::stage::Goal;
use self::{
    printed::Printed,
    rows::Row,
    stage::{Stage, Watched},
};
use crate::{
    answers::{Deploy, Status},
    api::Api,
    exit::Exit,
    interrupt,
    output::{named, say, say_all},
    receipt,
    screen::Screen,
    status,
    trouble::{Outcome, Trouble},
    words::{duration, now},
};

/// Looked at often at first, since what changes little is up at once.
const SOON: Duration = Duration::from_millis(50);
const LATER: Duration = Duration::from_millis(200);
/// A controller that was killed is back within seconds, a node that is gone is not.
const AWAY_WITHIN: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct Wait<'a> {
    pub(crate) api: &'a Api,
    pub(crate) goal: Goal,
    pub(crate) names: Vec<String>,
    pub(crate) view: View,
    pub(crate) timeout: Option<Duration>,
    /// What was up before it was asked for: where that is what is up in the end, nothing was changed.
    pub(crate) before: Before,
}

/// Numbers of the revisions that are up, by application.
pub(crate) type Before = BTreeMap<String, u64>;

pub(crate) fn before(status: &Status) -> Before {
    let applications = status.applications.iter();
    let up = applications.filter_map(|one| {
        let deploy = one.deploy.as_ref().filter(|deploy| deploy.state == "done");
        let number = deploy.and(one.revision_number)?;
        Some((one.name.clone(), number))
    });
    up.collect()
}

/// How it looks meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    Live,
    Lines,
    Json,
}

impl View {
    /// On a terminal a block that is drawn again; elsewhere a line for each change.
    pub(crate) fn chosen(as_json: bool) -> Self {
        match Screen::of_errors() {
            _ if as_json => Self::Json,
            screen if screen.redraws => Self::Live,
            _ => Self::Lines,
        }
    }
}

/// Who shows it. An error is that nobody reads any more, which ends nothing.
trait Show {
    fn rows(&mut self, rows: &[Row<'_>], waited: Duration, away: Option<&str>);
    /// Before the last words.
    fn done(&mut self) {}
}

pub(crate) fn run(wait: &Wait<'_>) -> Outcome {
    if wait.view != View::Json {
        let words = last_words(&wait.names, &wait.before);
        interrupt::ends_with(named(&words).into_owned());
    } else {
        interrupt::ends_with(String::new());
    }
    let mut show: Box<dyn Show> = match wait.view {
        View::Live => Box::new(live::Block::default()),
        View::Lines => Box::new(lines::Lines::default()),
        View::Json => Box::new(stream::Stream::default()),
    };
    let looked = look(wait, show.as_mut());
    show.done();
    let (status, watched) = looked?;
    Ok(tell(wait, &status, &watched))
}

/// Going back without a number may mean another revision while this one is built, so what was up is named.
fn last_words(names: &[String], before: &Before) -> String {
    let up = names
        .iter()
        .find_map(|name| Some((name, before.get(name)?)));
    let undo = up.map_or_else(String::new, |(name, number)| {
        format!("  undo it: eagleray rollback {name} r{number}\n")
    });
    format!(
        "\nnobody waits any more, and the node goes on with it\n  look at it: eagleray status --watch\n{undo}"
    )
}

/// Until all have ended.
fn look(wait: &Wait<'_>, show: &mut dyn Show) -> Outcome<(Status, Vec<Watched>)> {
    let began = Instant::now();
    let mut watched: Vec<Watched> = wait
        .names
        .iter()
        .map(|name| Watched::new(name, wait.goal))
        .collect();
    let only = match wait.names.as_slice() {
        [only] => Some(only.as_str()),
        _ => None,
    };
    let mut status = Status::default();
    let mut printed = Printed::default();
    let mut away: Option<(Instant, Trouble)> = None;
    loop {
        match status::of(wait.api, only) {
            Ok(now) => (status, away) = (now, None),
            // The application is not there yet, or not any more: that is for the stages to say.
            Err(trouble) if trouble.exit == Exit::Missing => {
                (status, away) = (Status::default(), None);
            }
            Err(trouble) if trouble.exit == Exit::Unknown => {
                let since = away.as_ref().map_or_else(Instant::now, |(since, _)| *since);
                if since.elapsed() > AWAY_WITHIN {
                    return Err(trouble.help("the node goes on with the deploy if it runs"));
                }
                away = Some((since, trouble));
            }
            Err(trouble) => return Err(trouble),
        }
        if wait.view != View::Json {
            printed.add(wait.api, &mut status);
        }
        for one in &mut watched {
            one.look(&status);
        }
        let rows: Vec<Row<'_>> = watched.iter().map(|one| Row::of(one, &status)).collect();
        let gone = away.as_ref().map(|(_, trouble)| trouble.message.as_str());
        show.rows(&rows, began.elapsed(), gone);
        if watched.iter().all(|one| one.stage.is_end()) {
            return Ok((status, watched));
        }
        if wait.timeout.is_some_and(|limit| began.elapsed() >= limit) {
            return Err(late(&watched, began.elapsed()));
        }
        thread::sleep(if began.elapsed() < Duration::from_secs(2) {
            SOON
        } else {
            LATER
        });
    }
}

fn late(watched: &[Watched], waited: Duration) -> Trouble {
    let open = watched.iter().filter(|one| !one.stage.is_end());
    let names: Vec<&str> = open.map(|one| one.name.as_str()).collect();
    let message = format!(
        "{} not up after {}; the node goes on with it",
        names.join(", "),
        duration(waited.as_secs_f64())
    );
    Trouble::new(Exit::Unknown, "timeout", message)
        .help("look at it: eagleray status --watch")
        .help(format!(
            "why: eagleray explain {}",
            names.first().unwrap_or(&"")
        ))
}

fn is_unchanged(before: &Before, name: &str, deploy: &Deploy) -> bool {
    deploy.number.is_some() && before.get(name).copied() == deploy.number
}

/// The last words of each, and how the command ends.
fn tell(wait: &Wait<'_>, status: &Status, watched: &[Watched]) -> Exit {
    let mut exit = Exit::Done;
    if wait.view == View::Json {
        stream::results(watched, status, &wait.before);
    }
    for one in watched {
        let application = status
            .applications
            .iter()
            .find(|application| application.name == one.name);
        let deploy = application.and_then(|application| application.deploy.as_ref());
        let up = one.stage == Stage::Up;
        if !up {
            exit = Exit::Failed;
        }
        if wait.view == View::Json {
            continue;
        }
        let screen = if up {
            Screen::of_output()
        } else {
            Screen::of_errors()
        };
        let lines = match (one.stage, deploy) {
            (Stage::Up, Some(deploy)) if is_unchanged(&wait.before, &one.name, deploy) => {
                receipt::unchanged(&one.name, deploy)
            }
            (Stage::Up, Some(deploy)) => receipt::up(&one.name, deploy, now(), &screen),
            (Stage::Superseded, _) => receipt::superseded(&one.name, &screen),
            (_, Some(deploy)) => receipt::failed(&one.name, deploy, application, &screen),
            (_, None) => Vec::new(),
        };
        if up {
            say_all(&lines);
        } else {
            crate::output::remark(&(lines.join("\n") + "\n"));
        }
    }
    if watched.is_empty() && wait.view != View::Json {
        say("nothing had to be built");
    }
    exit
}

#[cfg(test)]
mod tests;
