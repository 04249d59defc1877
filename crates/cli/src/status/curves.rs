//! What the node has measured of late, for the columns beside each deployment. A node that measures nothing, or is of another release,
//! has none: then the table has no such columns.

use serde::Deserialize;

use crate::{
    api::Api,
    screen::{Paint, Screen},
    table::Cell,
    words::{clock, first_line},
};

const PATH: &str = "/api/v1/series";
/// The last minute.
const FROM: &str = "-60";
/// A rate of now is that of so many steps.
const NOW_STEPS: usize = 5;
const SPARKS: usize = 15;
/// Narrower terminals have no room for curves.
const WIDE: usize = 120;
/// What is shown of what has happened.
const MARKS: usize = 5;

#[derive(Debug, Default, Deserialize)]
pub(super) struct Curves {
    series: Vec<Curve>,
    marks: Vec<Mark>,
}

#[derive(Debug, Deserialize)]
struct Curve {
    application: String,
    deployment: String,
    requests_per_s: Vec<Option<f64>>,
    queued: Vec<Option<u64>>,
    total: Total,
}

#[derive(Debug, Deserialize)]
struct Total {
    requests: u64,
    errors: u64,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct Mark {
    time_s: f64,
    application: String,
    deployment: String,
    message: String,
}

impl Curves {
    /// What there is; none is no trouble.
    pub(super) fn ask(api: &Api, application: Option<&str>) -> Option<Self> {
        let mut query = vec![("from", FROM)];
        query.extend(application.map(|name| ("application", name)));
        api.get(PATH, &query).ok()
    }

    /// The heads of the columns.
    pub(super) fn heads(screen: &Screen) -> &'static [&'static str] {
        if screen.width >= WIDE && screen.signs {
            &[">REQ/S", "", ">FAIL", ">P50", ">P99", ">QUEUE"]
        } else {
            &[">REQ/S", ">FAIL", ">P50", ">P99", ">QUEUE"]
        }
    }

    /// The columns of a deployment.
    pub(super) fn cells(&self, screen: &Screen, application: &str, deployment: &str) -> Vec<Cell> {
        let count = Self::heads(screen).len();
        let Some(curve) = self.of(application, deployment) else {
            return vec![Cell::new("-"); count];
        };
        let total = &curve.total;
        let failing = if total.errors > 0 {
            Paint::Bad
        } else {
            Paint::Plain
        };
        let mut cells = vec![
            Cell::new(rate(curve.rate())),
            Cell::painted(share(total.errors, total.requests), failing),
            Cell::new(time(total.p50_ms)),
            Cell::new(time(total.p99_ms)),
            Cell::new(curve.queue().to_string()),
        ];
        if count > cells.len() {
            let sparks = Cell::painted(sparks(&curve.requests_per_s), Paint::Faint);
            cells.insert(1, sparks);
        }
        cells
    }

    /// The same in words, for a line; empty: there is nothing to say.
    pub(super) fn words(&self, application: &str, deployment: &str) -> String {
        let Some(curve) = self
            .of(application, deployment)
            .filter(|one| one.total.requests > 0)
        else {
            return String::new();
        };
        let total = &curve.total;
        format!(
            "  {} req/s  fail {}  p50 {}  p99 {}  queue {}",
            rate(curve.rate()),
            share(total.errors, total.requests),
            time(total.p50_ms),
            time(total.p99_ms),
            curve.queue()
        )
    }

    /// What has happened, oldest first.
    pub(super) fn marks(&self) -> Vec<String> {
        let newest = self.marks.len().saturating_sub(MARKS);
        let line = |mark: &Mark| {
            let of = match (mark.application.as_str(), mark.deployment.as_str()) {
                ("", _) => String::new(),
                (application, "") => format!("{application} "),
                (application, deployment) => format!("{application}/{deployment} "),
            };
            format!("{} {of}{}", clock(mark.time_s), first_line(&mark.message))
        };
        self.marks[newest..].iter().map(line).collect()
    }

    fn of(&self, application: &str, deployment: &str) -> Option<&Curve> {
        let is = |one: &&Curve| one.application == application && one.deployment == deployment;
        self.series.iter().find(is)
    }
}

impl Curve {
    /// Of now.
    fn rate(&self) -> f64 {
        let newest = self.requests_per_s.iter().rev().flatten().take(NOW_STEPS);
        let (sum, count) = newest.fold((0.0, 0.0), |(sum, count), rate| (sum + rate, count + 1.0));
        if count > 0.0 { sum / count } else { 0.0 }
    }

    fn queue(&self) -> u64 {
        let newest = self.queued.iter().rev().flatten();
        newest.copied().next().unwrap_or(0)
    }
}

fn rate(rate: f64) -> String {
    match rate {
        0.0 => "0".to_owned(),
        _ if rate < 9.95 => format!("{rate:.1}"),
        _ => format!("{rate:.0}"),
    }
}

/// In percent; of nothing there is no share.
fn share(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "-".to_owned();
    }
    let percent = part as f64 * 100.0 / whole as f64;
    match percent {
        0.0 => "0 %".to_owned(),
        _ if percent < 0.1 => "<0.1 %".to_owned(),
        _ if percent < 9.95 => format!("{percent:.1} %"),
        _ => format!("{percent:.0} %"),
    }
}

fn time(ms: Option<f64>) -> String {
    match ms {
        None => "-".to_owned(),
        Some(ms) if ms < 9.95 => format!("{ms:.1} ms"),
        Some(ms) if ms < 999.5 => format!("{ms:.0} ms"),
        Some(ms) => format!("{:.1} s", ms / 1000.0),
    }
}

/// A curve in so many cells, the newest to the right; a step without a value is empty.
fn sparks(values: &[Option<f64>]) -> String {
    const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let steps = values.len().div_ceil(SPARKS).max(1);
    let cells: Vec<Option<f64>> = values
        .rchunks(steps)
        .rev()
        .map(|chunk| chunk.iter().flatten().copied().reduce(f64::max))
        .collect();
    let most = cells.iter().flatten().copied().fold(0.0, f64::max);
    let level = |value: f64| {
        let place = if most > 0.0 { value / most * 7.0 } else { 0.0 };
        LEVELS[(place.round() as usize).min(7)]
    };
    cells.iter().map(|value| value.map_or(' ', level)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::screen;

    fn curves() -> Curves {
        let curve = |name: &str, rates: serde_json::Value, requests: u64, errors: u64| {
            json!({
                "application": "shop", "deployment": name, "requests_per_s": rates, "queued": [9, 12, null],
                "total": {"requests": requests, "errors": errors, "p50_ms": 18.2, "p99_ms": 2345.0},
            })
        };
        let rank = curve(
            "Rank",
            json!([null, 0.0, 128.0, 256.0, 512.0, 512.0, 512.0]),
            30_000,
            45,
        );
        let idle = curve("Gate", json!([0.0, 0.0]), 0, 0);
        let mark = json!({"time_s": 0.0, "application": "shop", "deployment": "Rank", "message": "8 to 10 replicas\nmore"});
        serde_json::from_value(json!({"series": [rank, idle], "marks": [mark], "step_s": 2.0}))
            .expect("as the node says it")
    }

    #[test]
    fn a_curve_is_as_high_as_its_highest_and_empty_where_nothing_was() {
        assert_eq!(sparks(&[None, Some(0.0), Some(4.0), Some(7.0)]), " ▁▅█");
        assert_eq!(sparks(&[Some(0.0); 3]), "▁▁▁");
        assert_eq!(sparks(&[]), "");
        // More steps than cells: each shows the most of its own, and the newest end is whole.
        let many: Vec<_> = (0..61).map(|step| Some(f64::from(step))).collect();
        assert_eq!(sparks(&many).chars().count(), 13);
        assert!(sparks(&many).ends_with('█'));
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!([rate(0.0), rate(0.54), rate(1234.6)], ["0", "0.5", "1235"]);
        assert_eq!(
            [
                share(0, 0),
                share(0, 5),
                share(1, 10_000),
                share(1, 40),
                share(1, 2)
            ],
            ["-", "0 %", "<0.1 %", "2.5 %", "50 %"]
        );
        assert_eq!(
            [
                time(None),
                time(Some(1.25)),
                time(Some(18.2)),
                time(Some(2345.0))
            ],
            ["-", "1.2 ms", "18 ms", "2.3 s"]
        );
    }

    #[test]
    fn a_line_says_what_was_measured_if_anything_was() {
        let curves = curves();
        assert_eq!(
            curves.words("shop", "Rank"),
            "  384 req/s  fail 0.1 %  p50 18 ms  p99 2.3 s  queue 12"
        );
        assert_eq!(curves.words("shop", "Gate"), "");
        assert_eq!(curves.words("chat", "Rank"), "");
        assert!(curves.marks()[0].ends_with(" shop/Rank 8 to 10 replicas"));
    }

    #[test]
    fn a_row_has_as_many_cells_as_there_are_heads() {
        for width in [80, 200] {
            let screen = screen::plain(width);
            let heads = Curves::heads(&screen).len();
            for name in ["Rank", "Gate", "Other"] {
                assert_eq!(curves().cells(&screen, "shop", name).len(), heads);
            }
        }
    }
}
