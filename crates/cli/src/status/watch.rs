//! `eagleray status --watch`: the table again and again, with what has happened below it, or a line for each change.

use std::{collections::BTreeMap, io, thread, time::Duration};

use super::{curves::Curves, of, table};
use crate::{
    answers::Status,
    api::Api,
    exit::Exit,
    interrupt,
    live::Live,
    output::{complain, told},
    screen::Screen,
    trouble::Outcome,
    words::{clock, now},
};

const EVERY: Duration = Duration::from_secs(1);

pub(super) fn run(api: &Api, name: Option<&str>) -> Outcome {
    interrupt::ends_with(String::new());
    // What is there is shown first; a node that cannot be asked is no reason to wait for one.
    let mut status = of(api, name)?;
    let mut curves = Curves::ask(api, name);
    let mut live = Live::default();
    let mut known = BTreeMap::new();
    let mut away = None;
    loop {
        let screen = Screen::of_output();
        let goes_on = if screen.redraws {
            let mut lines = table::lines(&status, curves.as_ref(), &screen, now());
            lines.extend(away.clone());
            lines.extend(below(curves.as_ref()));
            live.draw(&mut io::stdout(), &screen, &lines).is_ok()
        } else {
            let lines = changes(&status, curves.as_ref(), &mut known);
            lines.iter().all(|line| told(line))
        };
        if !goes_on {
            return Ok(Exit::Done);
        }
        thread::sleep(EVERY);
        curves = Curves::ask(api, name);
        match of(api, name) {
            Ok(now) => (status, away) = (now, None),
            Err(trouble) if trouble.exit == Exit::Unknown => {
                if away.is_none() && !screen.redraws {
                    complain(&trouble.message);
                }
                away = Some(format!("not the newest: {}", trouble.message));
            }
            Err(trouble) => return Err(trouble),
        }
    }
}

/// What has happened, below the table.
fn below(curves: Option<&Curves>) -> Vec<String> {
    let marks = curves.map_or_else(Vec::new, Curves::marks);
    let gap = (!marks.is_empty()).then(String::new);
    gap.into_iter().chain(marks).collect()
}

/// A line for each row that is not as it was, with what was measured: that alone, which always changes, makes no line.
fn changes(
    status: &Status,
    curves: Option<&Curves>,
    known: &mut BTreeMap<String, String>,
) -> Vec<String> {
    let mut rows = BTreeMap::new();
    let mut measured = BTreeMap::new();
    for application in &status.applications {
        let revision = application
            .revision_number
            .map_or_else(String::new, |number| format!(" r{number}"));
        rows.insert(
            application.name.clone(),
            format!("{}{revision}", application.status),
        );
        for deployment in &application.deployments {
            let state = format!(
                "{} {}/{}",
                deployment.status,
                deployment.running(),
                deployment.target_replicas
            );
            let row = format!("{}/{}", application.name, deployment.name);
            if let Some(curves) = curves {
                let words = curves.words(&application.name, &deployment.name);
                measured.insert(row.clone(), words);
            }
            rows.insert(row, state);
        }
    }
    let time = clock(now());
    let mut lines = Vec::new();
    for gone in known.keys().filter(|name| !rows.contains_key(*name)) {
        lines.push(format!("{time} {gone} is gone"));
    }
    for (name, state) in &rows {
        if known.get(name) != Some(state) {
            let measured = measured.get(name).map_or("", String::as_str);
            lines.push(format!("{time} {name} {state}{measured}"));
        }
    }
    *known = rows;
    lines
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_changes_is_said() {
        let status = |running: u32| -> Status {
            let deployment = json!({"name": "Rank", "status": "HEALTHY", "replica_states": {"RUNNING": running}, "target_replicas": 2});
            let status = json!({"applications": [{"name": "shop", "status": "RUNNING", "deployments": [deployment]}]});
            serde_json::from_value(status).expect("as the node says it")
        };
        let mut known = BTreeMap::new();
        let words = |lines: Vec<String>| {
            lines
                .iter()
                .map(|line| line[9..].to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            words(changes(&status(2), None, &mut known)),
            ["shop RUNNING", "shop/Rank HEALTHY 2/2"]
        );
        assert!(changes(&status(2), None, &mut known).is_empty());
        assert_eq!(
            words(changes(&status(1), None, &mut known)),
            ["shop/Rank HEALTHY 1/2"]
        );
        assert_eq!(
            words(changes(&Status::default(), None, &mut known)),
            ["shop is gone", "shop/Rank is gone"]
        );
    }
}
