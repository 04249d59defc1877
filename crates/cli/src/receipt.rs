//! How a deploy has ended, for people: what was restarted, how long it took, what it has cost; and what went wrong if it did.

use crate::{
    answers::{Application, Deploy, Failure, PlannedDeployment, Receipt},
    screen::{Paint, Screen, wrap},
    words::{count, duration, plain, plural},
};

/// Of a traceback, and of what was printed: its end. So the whole stays within a screen.
const MOST_LINES: usize = 8;

/// It is up.
pub(crate) fn up(name: &str, deploy: &Deploy, now: f64, screen: &Screen) -> Vec<String> {
    let revision = revision(deploy.number);
    let mut lines = Vec::new();
    let Some(receipt) = &deploy.receipt else {
        return vec![format!("{name}{revision} RUNNING")];
    };
    let changes = changes(&receipt.deployments);
    if !changes.is_empty() {
        lines.push(format!("{name}{revision} {changes}"));
    }
    let ended = if receipt.ended_at_s > 0.0 {
        receipt.ended_at_s
    } else {
        now
    };
    let took = duration(ended - receipt.began_at_s);
    let skipped = if receipt.build_skipped {
        " (not built anew: nothing that it reads has changed)"
    } else {
        ""
    };
    let sign = if screen.terminal {
        format!("{} ", screen.paint(screen.sign(Paint::Good), Paint::Good))
    } else {
        String::new()
    };
    lines.push(format!(
        "{sign}{name}{revision} RUNNING after {took}{skipped}; {}",
        cost(receipt)
    ));
    lines
}

/// It was up before, as it is declared now.
pub(crate) fn unchanged(name: &str, deploy: &Deploy) -> Vec<String> {
    let revision = revision(deploy.number);
    let skipped = deploy
        .receipt
        .as_ref()
        .is_some_and(|receipt| receipt.build_skipped);
    let why = if skipped {
        " (not built anew: nothing that it reads has changed)"
    } else {
        ""
    };
    vec![format!(
        "{name} unchanged,{revision} is what runs already{why}"
    )]
}

/// `0 of 17,408 requests failed meanwhile`
pub(crate) fn cost(receipt: &Receipt) -> String {
    let total = receipt.answered + receipt.failed + receipt.running;
    if total == 0 {
        return "no request came meanwhile".to_owned();
    }
    let running = match receipt.running {
        0 => String::new(),
        running => format!(", {} still run", count(running)),
    };
    let requests = if total == 1 { "request" } else { "requests" };
    format!(
        "{} of {} {requests} failed meanwhile{running}",
        count(receipt.failed),
        count(total)
    )
}

/// `restart Rank (code models/rank.py); in place Gate; untouched Embed`
pub(crate) fn changes(deployments: &[PlannedDeployment]) -> String {
    let mut groups = Vec::new();
    for (change, word) in [
        ("new", "new"),
        ("restart", "restart"),
        ("in_place", "in place"),
        ("delete", "delete"),
        ("untouched", "untouched"),
    ] {
        let names: Vec<String> = deployments
            .iter()
            .filter(|one| one.change == change)
            .map(|one| match one.reasons.as_slice() {
                [] => one.name.clone(),
                _ if change == "untouched" || change == "new" => one.name.clone(),
                reasons => format!("{} ({})", one.name, plain(&reasons.join(", "))),
            })
            .collect();
        if !names.is_empty() {
            groups.push(format!("{word} {}", names.join(", ")));
        }
    }
    groups.join("; ")
}

pub(crate) fn superseded(name: &str, screen: &Screen) -> Vec<String> {
    let sign = screen.paint(screen.sign(Paint::Warning), Paint::Warning);
    vec![
        format!("{sign} {name}: another deploy has taken the place of this one before it was up"),
        "  help     eagleray history shows them".to_owned(),
    ]
}

/// It did not come up: what serves now, what went wrong, where, and what to do.
pub(crate) fn failed(
    name: &str,
    deploy: &Deploy,
    application: Option<&Application>,
    screen: &Screen,
) -> Vec<String> {
    let revision = revision(deploy.number);
    let what = if deploy.number.is_some() {
        "did not come up"
    } else {
        "was not built"
    };
    let sign = screen.paint(screen.sign(Paint::Bad), Paint::Bad);
    let serves = match deploy.from {
        Some(from) => format!(" r{from} serves{}.", replicas(application)),
        None => " Nothing of it served before.".to_owned(),
    };
    let cost = deploy
        .receipt
        .as_ref()
        .filter(|receipt| receipt.answered + receipt.failed > 0);
    let cost = cost.map_or_else(String::new, |receipt| {
        format!(" {}.", upper(&self::cost(receipt)))
    });
    let mut lines = vec![format!("{sign} {name}{revision} {what}.{serves}{cost}")];
    match &deploy.failure {
        Some(failure) => lines.extend(reason(failure, &deploy.printed, screen)),
        None => lines.push(String::new()),
    }
    // A build that failed says nothing of what it would have changed.
    let receipt = deploy.receipt.as_ref().filter(|_| deploy.number.is_some());
    let changed = receipt.map_or_else(String::new, |receipt| changes(&receipt.deployments));
    if !changed.is_empty() {
        lines.push(format!("  changed  {changed}"));
    }
    if let Some(failure) = &deploy.failure {
        lines.extend(advice(failure, screen));
    }
    for help in helps(name, deploy) {
        lines.push(format!("  help     {help}"));
    }
    lines
}

pub(crate) fn because(failure: &Failure, printed: &[String], screen: &Screen) -> Vec<String> {
    let mut lines = reason(failure, printed, screen);
    lines.extend(advice(failure, screen));
    lines
}

/// What went wrong, and where: nothing of it twice.
fn reason(failure: &Failure, printed: &[String], screen: &Screen) -> Vec<String> {
    let message = plain(&failure.message);
    let mut rest: Vec<&str> = message
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.is_empty())
        .collect();
    let printed: Vec<&str> = printed
        .iter()
        .map(|line| line.trim_end())
        .filter(|line| !line.is_empty() && !rest.contains(line))
        .collect();
    let title = title(&mut rest).unwrap_or("no reason is known");
    let mut lines = vec![String::new()];
    let code = if failure.code.is_empty() {
        String::new()
    } else {
        format!("[{}]", failure.code)
    };
    let head = screen.paint(&format!("error{code}:"), Paint::Bad);
    lines.push(format!("{head} {title}"));
    if !failure.place.is_empty() {
        let here = std::env::current_dir().unwrap_or_default();
        let place = nearby(&failure.place, &here.to_string_lossy());
        lines.push(format!("  where    {place}"));
    }
    for (label, all) in [("why", rest), ("printed", printed)] {
        if !all.is_empty() {
            lines.extend(block(label, &all));
        }
    }
    lines
}

/// Takes the line that says what happened out of a message: the first, but of a traceback the last.
fn title<'a>(lines: &mut Vec<&'a str>) -> Option<&'a str> {
    let traceback = |line: &&str| line.starts_with("Traceback (most recent call last)");
    let last = lines.last()?;
    // Here the reason is below.
    if let Some(title) = last.strip_suffix(", for the reason above") {
        lines.pop();
        return Some(title);
    }
    if lines.first().is_some_and(traceback) {
        return lines.pop();
    }
    Some(lines.remove(0))
}

/// A place in a file as whoever stands in that directory writes it.
fn nearby<'a>(place: &'a str, directory: &str) -> &'a str {
    let inside = place
        .strip_prefix(directory)
        .and_then(|rest| rest.strip_prefix('/'));
    inside.unwrap_or(place)
}

fn advice(failure: &Failure, screen: &Screen) -> Vec<String> {
    let mut lines = Vec::new();
    for help in failure.help.clone().lines() {
        for (at, line) in wrap(&help, screen.width.saturating_sub(11))
            .iter()
            .enumerate()
        {
            lines.push(format!("  {:<9}{line}", if at == 0 { "help" } else { "" }));
        }
    }
    lines
}

/// The last lines, and how many there are before them.
fn block(label: &str, all: &[&str]) -> Vec<String> {
    let left_out = all.len().saturating_sub(MOST_LINES);
    let mut lines = Vec::new();
    if left_out > 0 {
        lines.push(format!("({} before)", plural(left_out, "line")));
    }
    lines.extend(all.iter().skip(left_out).map(|line| plain(line)));
    let label = |at: usize| if at == 0 { label } else { "" };
    lines
        .iter()
        .enumerate()
        .map(|(at, line)| format!("  {:<9}{line}", label(at)))
        .collect()
}

fn helps(name: &str, deploy: &Deploy) -> Vec<String> {
    let mut helps = Vec::new();
    if let (Some(from), Some(number)) = (deploy.from, deploy.number) {
        helps.push(format!(
            "eagleray diff {name} --from r{from} --to r{number}"
        ));
    }
    helps.push(format!("eagleray logs {name}"));
    helps
}

fn replicas(application: Option<&Application>) -> String {
    let Some(application) = application.filter(|one| !one.deployments.is_empty()) else {
        return String::new();
    };
    let running: u32 = application
        .deployments
        .iter()
        .map(crate::answers::Deployment::running)
        .sum();
    let wanted: u32 = application
        .deployments
        .iter()
        .map(|one| one.target_replicas)
        .sum();
    if running >= wanted {
        format!(" at full size ({wanted}/{wanted})")
    } else {
        format!(" with {running} of {wanted}")
    }
}

fn revision(number: Option<u64>) -> String {
    number.map_or_else(String::new, |number| format!(" r{number}"))
}

fn upper(text: &str) -> String {
    let mut rest = text.chars();
    rest.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(rest).collect()
    })
}

#[cfg(test)]
mod tests;
