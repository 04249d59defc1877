//! Following files that grow, are turned over, come and go.

use std::{
    fs::{self, OpenOptions},
    io::Write,
};

use super::*;
use crate::search;

struct Logs(tempfile::TempDir);

impl Logs {
    fn append(&self, name: &str, text: &str) {
        let path = self.0.path().join(name);
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn log(&self, name: &str, number: i64) {
        self.append(
            name,
            &format!("INFO 1970-01-01T00:00:{number:02}Z node -- {number}\n"),
        );
    }
}

fn begin() -> (Logs, Follow) {
    let logs = Logs(tempfile::tempdir().unwrap());
    logs.log("node.log", 1);
    let mut found = search(logs.0.path(), Query::default());
    let follow = Follow::after(logs.0.path(), &found, Query::default());
    assert_eq!(found.next().unwrap().message, "1");
    (logs, follow)
}

/// Two looks: the second finds nothing new, so what waited is given.
fn told(follow: &mut Follow) -> Vec<String> {
    let mut records = follow.poll();
    records.extend(follow.poll());
    records.into_iter().map(|record| record.message).collect()
}

#[test]
fn what_comes_is_told_once_and_in_order() {
    let (logs, mut follow) = begin();
    assert!(told(&mut follow).is_empty());
    logs.log("replica_a.log", 4);
    logs.log("node.log", 3);
    logs.log("node.log", 5);
    // The last ones may go on.
    let first: Vec<String> = follow
        .poll()
        .into_iter()
        .map(|record| record.message)
        .collect();
    assert_eq!(first, ["3"]);
    assert_eq!(told(&mut follow), ["4", "5"]);
    assert!(told(&mut follow).is_empty());
}

#[test]
fn a_traceback_that_comes_in_pieces_is_one_record() {
    let (logs, mut follow) = begin();
    logs.log("node.log", 2);
    assert!(follow.poll().is_empty());
    logs.append("node.log", "Traceback\n  File");
    assert!(follow.poll().is_empty());
    logs.append("node.log", " x\n");
    assert_eq!(told(&mut follow), ["2\nTraceback\n  File x"]);
}

#[test]
fn a_file_that_is_turned_over_is_told_to_its_end_and_the_new_one_from_its_beginning() {
    let (logs, mut follow) = begin();
    let path = logs.0.path().join("node.log");
    logs.log("node.log", 2);
    fs::rename(&path, path.with_extension("log.1")).unwrap();
    logs.log("node.log", 3);
    assert_eq!(told(&mut follow), ["2", "3"]);
    fs::remove_file(&path).unwrap();
    assert!(told(&mut follow).is_empty());
    logs.log("node.log", 4);
    assert_eq!(told(&mut follow), ["4"]);
}

#[test]
fn whoever_is_far_behind_loses_lines_and_is_told_how_many() {
    let (logs, mut follow) = begin();
    let many = "INFO 1970-01-01T00:00:02Z node -- again\n".repeat(1 << 19);
    logs.append("node.log", &many);
    let mut lost = 0;
    let mut told = 0;
    loop {
        let records = follow.poll();
        if records.is_empty() {
            break;
        }
        told += records.len() as u64;
        lost += records.iter().map(|record| record.lost).sum::<u64>();
    }
    assert!(lost > 0);
    assert_eq!(told + lost, 1 << 19);
}

#[test]
fn only_what_is_wanted_is_told() {
    let (logs, mut follow) = begin();
    follow.query.text = "7".into();
    logs.log("node.log", 6);
    logs.log("node.log", 7);
    assert_eq!(told(&mut follow), ["7"]);
}
