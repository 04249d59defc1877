//! The block on a terminal: each application with its deployments, drawn again as they change.

use std::{io, time::Duration};

use super::{Show, rows::Row, stage::Stage};
use crate::{
    live::Live,
    screen::{Paint, Screen},
    words::{duration, last_line},
};

const BAR: usize = 16;

#[derive(Debug, Default)]
pub(super) struct Block {
    live: Live,
}

impl Show for Block {
    fn rows(&mut self, rows: &[Row<'_>], waited: Duration, away: Option<&str>) {
        let screen = Screen::of_errors();
        let lines = lines(rows, waited, away, &screen);
        drop(self.live.draw(&mut io::stderr(), &screen, &lines));
    }

    fn done(&mut self) {
        drop(self.live.clear(&mut io::stderr()));
    }
}

fn lines(rows: &[Row<'_>], waited: Duration, away: Option<&str>, screen: &Screen) -> Vec<String> {
    let mut lines = Vec::new();
    for row in rows {
        lines.push(title(row, waited, screen));
        if let (Stage::Building, Some(deploy)) = (row.stage, row.deploy) {
            let mut what = "building";
            for line in &deploy.printed {
                let text = format!("  {what:8}  {}", last_line(line));
                lines.push(screen.paint(&screen.clip(&text), Paint::Faint));
                what = "";
            }
            if deploy.printed.is_empty() {
                lines.push(screen.paint("  building", Paint::Faint));
            }
        }
        let widest = row
            .deployments
            .iter()
            .map(|part| part.name.len())
            .max()
            .unwrap_or(0);
        for part in &row.deployments {
            let name = format!("{:widest$}", part.name);
            lines.push(if part.done {
                let sign = screen.paint(screen.sign(Paint::Good), Paint::Good);
                format!("  {sign} {name}  {}/{}", part.ready, part.wanted)
            } else {
                let bar = screen.bar(part.ready, part.wanted, BAR);
                let mark = screen.sign(Paint::Faint);
                format!(
                    "  {mark} {name}  {bar} {}/{}  {}",
                    part.ready, part.wanted, part.why
                )
            });
        }
    }
    if let Some(away) = away {
        lines.push(screen.paint(
            &format!("{away}; requests are served meanwhile"),
            Paint::Warning,
        ));
    }
    lines.push(screen.paint("Ctrl-C leaves it running", Paint::Faint));
    lines
}

fn title(row: &Row<'_>, waited: Duration, screen: &Screen) -> String {
    let from = row.deploy.and_then(|deploy| deploy.from);
    let number = row.deploy.and_then(|deploy| deploy.number);
    let revisions = match (from, number) {
        (Some(from), Some(number)) => format!(" r{from} {} r{number}", screen.arrow()),
        (None, Some(number)) => format!(" r{number}"),
        _ => String::new(),
    };
    let (word, paint) = match row.stage {
        Stage::Taken | Stage::Building | Stage::Rolling => (String::new(), Paint::Plain),
        Stage::Up => (" is up".to_owned(), Paint::Good),
        other => (format!(" {}", other.word()), Paint::Bad),
    };
    let time = duration(waited.as_secs_f64());
    format!(
        "{}{revisions}{}  {time}",
        screen.paint(row.name, Paint::Bold),
        screen.paint(&word, paint)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{screen::plain, wait::tests::rolling};

    #[test]
    fn a_rollout_shows_how_far_each_deployment_is() {
        let (status, watched) = rolling();
        let rows: Vec<Row<'_>> = watched.iter().map(|one| Row::of(one, &status)).collect();
        assert_eq!(
            lines(&rows, Duration::from_millis(6400), None, &plain(80)),
            [
                "shop r14 → r15  6.4 s",
                "  ✔ Gate  4/4",
                "  · Rank  ██████████░░░░░░ 5/8  q3kd91 imports torch",
                "Ctrl-C leaves it running",
            ]
        );
    }
}
