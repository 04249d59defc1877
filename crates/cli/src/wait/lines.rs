//! Elsewhere than on a terminal: one line on standard error for each change, and a heartbeat when nothing changes.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{Show, rows::Row, stage::Stage};
use crate::{
    output::remark,
    words::{clock, duration, last_line, now},
};

/// Silence is not longer than this.
const HEARTBEAT: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub(super) struct Lines {
    known: BTreeMap<String, String>,
    said: Option<Instant>,
    away: bool,
}

impl Show for Lines {
    fn rows(&mut self, rows: &[Row<'_>], waited: Duration, away: Option<&str>) {
        let mut lines = self.changes(rows);
        if let Some(away) = away.filter(|_| !self.away) {
            lines.push(format!("{away}; requests are served meanwhile"));
        }
        self.away = away.is_some();
        let silent = self.said.is_none_or(|said| said.elapsed() >= HEARTBEAT);
        if lines.is_empty() && silent && self.said.is_some() {
            lines = heartbeat(rows, waited);
        }
        if lines.is_empty() {
            return;
        }
        self.said = Some(Instant::now());
        let time = clock(now());
        let separator = format!("\n{time} ");
        remark(&format!("{time} {}\n", lines.join(&separator)));
    }
}

impl Lines {
    fn changes(&mut self, rows: &[Row<'_>]) -> Vec<String> {
        let mut lines = Vec::new();
        for row in rows {
            let title = row.title();
            // How it ended is said by the last words.
            let state = match row.stage {
                Stage::Building => "is being built",
                Stage::Rolling => "is rolled out",
                _ => "",
            };
            self.note(
                &mut lines,
                row.name,
                format!("{title} {state}"),
                !state.is_empty(),
            );
            let printed = row.deploy.filter(|_| row.stage == Stage::Building);
            if let Some(line) = printed.and_then(|deploy| deploy.printed.last()) {
                let key = format!("{} prints", row.name);
                let line = format!("{title} prints: {}", last_line(line));
                self.note(&mut lines, &key, line, true);
            }
            for part in &row.deployments {
                let key = format!("{}/{}", row.name, part.name);
                let ready = format!("{title} {} {}/{} ready", part.name, part.ready, part.wanted);
                self.note(&mut lines, &key, ready, true);
            }
        }
        lines
    }

    fn note(&mut self, lines: &mut Vec<String>, key: &str, line: String, worth_saying: bool) {
        if self.known.get(key) == Some(&line) {
            return;
        }
        self.known.insert(key.to_owned(), line.clone());
        if worth_saying {
            lines.push(line);
        }
    }
}

fn heartbeat(rows: &[Row<'_>], waited: Duration) -> Vec<String> {
    let waited = duration(waited.as_secs_f64());
    let open = rows.iter().filter(|row| !row.stage.is_end());
    let line = |row: &Row<'_>| {
        let parts = row.deployments.iter().filter(|part| !part.done);
        let parts: Vec<String> = parts
            .map(|part| {
                let why = if part.why.is_empty() {
                    String::new()
                } else {
                    format!(": {}", part.why)
                };
                format!("{} {}/{}{why}", part.name, part.ready, part.wanted)
            })
            .collect();
        let what = if parts.is_empty() {
            match row.deploy.and_then(|deploy| deploy.printed.last()) {
                Some(line) => format!("its build, which printed last: {}", last_line(line)),
                None => "its build".to_owned(),
            }
        } else {
            parts.join("; ")
        };
        format!("{} still waits for {what} ({waited})", row.title())
    };
    open.map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait::tests::rolling;

    #[test]
    fn what_a_slow_build_prints_is_said_once() {
        let (mut status, mut watched) = rolling();
        let deploy = status.applications[0]
            .deploy
            .as_mut()
            .expect("there is one");
        (deploy.state, deploy.number) = ("building".to_owned(), None);
        deploy.printed = vec!["downloads weights".to_owned(), "40 % of 2 GB".to_owned()];
        watched[0] = crate::wait::stage::Watched::new("shop", crate::wait::Goal::Deploy(7));
        watched[0].look(&status);
        let rows: Vec<Row<'_>> = watched.iter().map(|one| Row::of(one, &status)).collect();
        let mut lines = Lines::default();
        assert_eq!(
            lines.changes(&rows),
            ["shop is being built", "shop prints: 40 % of 2 GB"]
        );
        assert!(lines.changes(&rows).is_empty());
        assert_eq!(
            heartbeat(&rows, Duration::from_secs(32)),
            ["shop still waits for its build, which printed last: 40 % of 2 GB (32.0 s)"]
        );
    }

    #[test]
    fn a_change_is_said_once_and_silence_names_what_is_waited_for() {
        let (status, watched) = rolling();
        let rows: Vec<Row<'_>> = watched.iter().map(|one| Row::of(one, &status)).collect();
        let mut lines = Lines::default();
        assert_eq!(
            lines.changes(&rows),
            [
                "shop r15 is rolled out",
                "shop r15 Gate 4/4 ready",
                "shop r15 Rank 5/8 ready"
            ]
        );
        assert!(lines.changes(&rows).is_empty());
        assert_eq!(
            heartbeat(&rows, Duration::from_secs(32)),
            ["shop r15 still waits for Rank 5/8: q3kd91 imports torch (32.0 s)"]
        );
    }
}
