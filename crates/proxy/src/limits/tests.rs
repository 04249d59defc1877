//! The table is sound, a user's values are checked, and the page says what the code does.

use std::{collections::BTreeSet, fmt::Write, path::Path};

use super::*;
use crate::Counters;

#[test]
fn defaults_are_in_their_ranges_and_limits_with_an_answer_are_counted() {
    let counters: BTreeSet<_> = Counters::default().all().map(|(name, _)| name).collect();
    for limit in Limits::ALL {
        assert!(limit.takes(limit.default), "{}", limit.key);
        assert!(
            limit.counter.is_empty() || counters.contains(limit.counter),
            "{} names the counter {:?}, which there is not",
            limit.key,
            limit.counter
        );
    }
}

#[test]
fn what_a_user_gives_is_taken_or_every_problem_is_named() {
    let mut limits = Limits::default();
    limits
        .set([("uri_bytes", 100.0), ("header_read_s", 0.5)])
        .unwrap();
    assert_eq!(limits.uri_bytes, 100);
    assert_eq!(limits.header_read_s, Duration::from_millis(500));
    let before = limits.clone();
    let problems = limits
        .set([
            ("header_byte", 9000.0),
            ("header_count", 0.0),
            ("uri_bytes", 1.5),
            ("connections", f64::NAN),
            ("memory_shed_percent", 99.0),
        ])
        .unwrap_err();
    assert_eq!(limits, before);
    let text = problems.join("\n");
    assert_eq!(problems.len(), 5, "{text}");
    for part in [
        "\"header_bytes\"",
        "header_count must be a whole number from 1 to 10000, got 0",
        "uri_bytes must be a whole number",
        "connections must",
        "must not fall",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

/// `EAGLERAY_WRITE_DOCS=1` writes the page anew.
#[test]
fn the_page_of_limits_says_what_the_code_does() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/limits.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once("<!-- table -->\n").unwrap();
    let (_, after) = rest.split_once("<!-- end -->\n").unwrap();
    let wanted = format!("{before}<!-- table -->\n{}<!-- end -->\n{after}", table());
    if std::env::var_os("EAGLERAY_WRITE_DOCS").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    assert!(
        page == wanted,
        "docs/limits.md is old: run this test with EAGLERAY_WRITE_DOCS=1"
    );
}

fn table() -> String {
    let mut text = String::from(
        "| key | default | from | to | bounds | answer | counter |\n|---|---|---|---|---|---|---|\n",
    );
    for limit in Limits::ALL {
        let counter = match limit.counter {
            "" => String::new(),
            name => format!("`{name}`"),
        };
        let (key, says, answer) = (limit.key, limit.says, limit.answer);
        let (default, minimum, maximum) = (limit.default, limit.minimum, limit.maximum);
        writeln!(
            text,
            "| `{key}` | {default} | {minimum} | {maximum} | {says} | {answer} | {counter} |"
        )
        .unwrap();
    }
    text
}
