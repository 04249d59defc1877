//! Searches over files as a node leaves them, each compared with one that reads everything.

use std::{fmt::Write as _, fs};

use super::*;
use crate::{Level, refresh};

/// Two replicas that log in turn, one of them turned over, and an access log; times overlap.
fn logs() -> tempfile::TempDir {
    let logs = tempfile::tempdir().unwrap();
    let mut clock = Clock::default();
    let (mut a, mut b, mut access) = (String::new(), String::new(), String::new());
    for number in 0..6_000_i64 {
        let time = 1_764_579_600_000 + 10 * number;
        let text = clock.print_local(time).to_owned();
        let level = if number % 1_000 == 7 { "ERROR" } else { "INFO" };
        writeln!(
            a,
            "{level} {text} shop/Rank aaaa r1 id-{number} -- did {number}"
        )
        .unwrap();
        if level == "ERROR" {
            a.push_str("Traceback (most recent call last):\nValueError: bad\n");
        }
        writeln!(
            b,
            "INFO {text} shop/Gate bbbb r1 id-{number} source=stdout -- saw {number}"
        )
        .unwrap();
        writeln!(
            access,
            "2025-12-01T09:{:02}:{:02}.{:03}Z [id-{number}] GET / 200 1.0ms",
            number / 6_000,
            number / 100 % 60,
            number % 100 * 10
        )
        .unwrap();
    }
    let half = a[..a.len() / 2].rfind('\n').unwrap() + 1;
    let write = |name: &str, text: &str| fs::write(logs.path().join(name), text).unwrap();
    write("replica_shop_Rank_aaaa.log.1", &a[..half]);
    write("replica_shop_Rank_aaaa.log", &a[half..]);
    write("replica_shop_Gate_bbbb.log", &b);
    write("access.log", &access);
    write("notes.txt", &a);
    logs
}

fn found(logs: &Path, query: &Query) -> Vec<(i64, String)> {
    search(logs, query.clone())
        .map(|record| (record.time_ms, record.message))
        .collect()
}

#[test]
fn one_request_is_found_in_every_file_with_and_without_an_index() {
    let logs = logs();
    let query = Query {
        request: "id-4321".into(),
        ..Query::default()
    };
    let without = found(logs.path(), &query);
    assert_eq!(without.len(), 3);
    refresh(logs.path(), u64::MAX).unwrap();
    assert_eq!(found(logs.path(), &query), without);
    let planned = search(logs.path(), query).blocks.len();
    let all = search(logs.path(), Query::default()).blocks.len();
    assert!(planned <= 4 && all > 15, "{planned} of {all}");
}

#[test]
fn everything_comes_once_and_in_the_order_of_time() {
    let logs = logs();
    refresh(logs.path(), u64::MAX).unwrap();
    let records: Vec<Record> = search(logs.path(), Query::default()).collect();
    assert_eq!(records.len(), 18_000);
    assert!(records.is_sorted());
    let ids: std::collections::HashSet<String> = records.iter().map(Record::id).collect();
    assert_eq!(ids.len(), records.len());
}

#[test]
fn the_newest_are_those_that_a_search_of_all_ends_with() {
    let logs = logs();
    for limit in [1, 10, 700, 50_000] {
        for level in [None, Some(Level::Error)] {
            let all = Query {
                level,
                application: "shop".into(),
                ..Query::default()
            };
            let newest = Query {
                limit: Some(limit),
                ..all.clone()
            };
            let all = found(logs.path(), &all);
            assert_eq!(
                found(logs.path(), &newest),
                all[all.len().saturating_sub(limit)..]
            );
        }
    }
}

#[test]
fn conditions_are_met_together_and_a_traceback_comes_with_its_record() {
    let logs = logs();
    refresh(logs.path(), u64::MAX).unwrap();
    let query = Query {
        level: Some(Level::Error),
        text: "ValueError".into(),
        since_ms: Some(1_764_579_600_000 + 20_000),
        until_ms: Some(1_764_579_600_000 + 50_000),
        ..Query::default()
    };
    let found = found(logs.path(), &query);
    assert_eq!(found.len(), 3);
    assert_eq!(
        found[0].1,
        "did 2007\nTraceback (most recent call last):\nValueError: bad"
    );
}

#[test]
fn a_file_that_is_turned_over_meanwhile_is_found_and_one_that_goes_is_passed_over() {
    let logs = logs();
    let path = logs.path().join("replica_shop_Gate_bbbb.log");
    let mut search_it = search(logs.path(), Query::default());
    let first = search_it.next().unwrap();
    fs::rename(&path, path.with_extension("log.1")).unwrap();
    fs::write(&path, "INFO 2030-01-01T00:00:00Z node -- new\n").unwrap();
    fs::remove_file(logs.path().join("access.log")).unwrap();
    let rest: Vec<Record> = search_it.collect();
    let gate = rest
        .iter()
        .filter(|record| record.deployment == "Gate")
        .count();
    assert_eq!(gate + usize::from(first.deployment == "Gate"), 6_000);
    assert!(rest.iter().all(|record| record.message != "new"));
}

#[test]
fn a_directory_that_is_not_there_has_nothing() {
    assert!(
        search(Path::new("/nonexistent"), Query::default())
            .next()
            .is_none()
    );
}
