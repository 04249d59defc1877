//! Scenario 37: HTTP/1.1 as it must be understood, and what would be understood in two ways refused.
//!
//! Each case of the table is sent as the first request of a connection, as the second, and in one write between two
//! others. What comes back is compared, and so is what the replica saw: the requests that were meant, in order, and
//! not one more.

mod behind;
mod cases;

use std::{
    fmt::Write,
    sync::{Arc, Mutex},
};

use eagleray_wire::{Kind, RequestHead};

use crate::support::{Client, Connection, Proxy, Replica, record, sync_target};
use cases::{Case, Expected};

const MAX_BODY: u64 = 1024 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Position {
    First,
    Second,
    Pipelined,
}

/// Paths, in the order in which they came.
type Seen = Arc<Mutex<Vec<String>>>;

fn recording(seen: Seen) -> impl Fn(Connection) + Send + Sync + Clone + 'static {
    move |mut connection| {
        while let Some(frame) = connection.try_frame() {
            if frame.header.kind != Kind::Request || !connection.start(&frame) {
                continue;
            }
            connection.body(&frame);
            let Ok((RequestHead::Http(head), _)) = RequestHead::decode(&frame.payload) else {
                panic!("not http")
            };
            let path = String::from_utf8_lossy(head.path).into_owned();
            seen.lock().unwrap().push(path);
            connection.answer(&frame, 200, &[], b"ok");
        }
    }
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n")
}

/// Sends the case and says what came back.
fn run(proxy: &Proxy, case: &Case, position: Position) -> Result<Expected, String> {
    let mut client = proxy.client();
    let expect = |client: &mut Client, what: &str| match client.status() {
        Some(200) => Ok(()),
        other => Err(format!("{what} got {other:?}")),
    };
    match position {
        Position::First => client.send_all(&case.bytes),
        Position::Second => {
            client.send_all(get("/before").as_bytes());
            expect(&mut client, "the request before")?;
            client.send_all(&case.bytes);
        }
        Position::Pipelined => {
            let (before, after) = (get("/before"), get("/after"));
            client.send_all(&[before.as_bytes(), &case.bytes, after.as_bytes()].concat());
            expect(&mut client, "the request before")?;
        }
    }
    let Some(status) = client.status() else {
        return Err("closed without an answer".to_owned());
    };
    let is_told = client.is_told_to_end;
    if matches!(case.expected, Expected::Kept(_)) {
        if is_told {
            return Err(format!("{status}, which says that the connection ends"));
        }
        if position != Position::Pipelined {
            client.send_all(get("/after").as_bytes());
        }
        expect(&mut client, "the request after")?;
        client.send_all(get("/end").as_bytes());
        expect(&mut client, "the last request")?;
        return Ok(Expected::Kept(status));
    }
    match client.status() {
        None if is_told => Ok(Expected::Closed(status)),
        None => Err(format!("{status}, and then an end that it did not say")),
        Some(more) => Err(format!("{status}, and then another answer: {more}")),
    }
}

/// What a replica must have seen.
fn meant(case: &Case, position: Position, seen: &[String]) -> bool {
    let (status, kept) = match case.expected {
        Expected::Kept(status) => (status, true),
        Expected::Closed(status) => (status, false),
    };
    let mut rest = seen.iter().map(String::as_str);
    if position != Position::First && rest.next() != Some("/before") {
        return false;
    }
    if status == 200
        && rest
            .next()
            .is_none_or(|path| ["/before", "/after", "/evil"].contains(&path))
    {
        return false;
    }
    if kept && (rest.next() != Some("/after") || rest.next() != Some("/end")) {
        return false;
    }
    rest.next().is_none()
}

#[test]
fn every_rule_holds_for_the_first_request_the_second_and_a_pipelined_one() {
    let seen = Seen::default();
    let replica = Replica::serving("a", 100, recording(Arc::clone(&seen)));
    let mut proxy = Proxy::serving(sync_target("D", &[&replica], MAX_BODY));
    let cases = cases::all();
    let (mut table, mut wrong, mut requests) = (String::new(), Vec::new(), 0);
    for case in &cases {
        let mut answers = Vec::new();
        for position in [Position::First, Position::Second, Position::Pipelined] {
            let got = run(&proxy, case, position);
            let saw = std::mem::take(&mut *seen.lock().unwrap());
            requests += saw.len();
            let right = got == Ok(case.expected) && meant(case, position, &saw);
            let got = match got {
                Ok(got) => format!("{got:?}"),
                Err(text) => text,
            };
            if !right {
                wrong.push(format!(
                    "{position:?} {}: {}: wanted {:?}, got {got}; the replica saw {saw:?}",
                    case.rule,
                    shown(&case.bytes),
                    case.expected
                ));
            }
            answers.push(got);
        }
        answers.dedup();
        writeln!(
            table,
            "| {} | `{}` | {:?} | {} |",
            case.rule,
            shown(&case.bytes).replace('|', "\\|"),
            case.expected,
            answers.join("; ")
        )
        .unwrap();
    }
    write_table(&table);
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(cases.len() >= 150, "{}", cases.len());
    assert_eq!(proxy.counter("panics"), 0);
    record::scenario(
        37,
        "HTTP/1.1 rules and smuggling, each case first, second and pipelined",
        &[
            ("cases", cases.len()),
            ("places in a connection", 3),
            ("requests meant", requests),
            ("requests seen beside these", 0),
            ("panics", 0),
        ],
    );
}

fn shown(bytes: &[u8]) -> String {
    const MOST: usize = 160;
    let text = bytes.escape_ascii().to_string();
    match text.get(..MOST) {
        Some(start) if text.len() > MOST => format!("{start}... ({} bytes)", bytes.len()),
        _ => text,
    }
}

fn write_table(table: &str) {
    let head = "| rule | sent | expected | got |\n|---|---|---|---|\n";
    if crate::OVER_TLS {
        // Written by the run over plain sockets.
        return;
    }
    std::fs::create_dir_all(record::build()).unwrap();
    std::fs::write(
        record::build().join("http1-rules.md"),
        format!("{head}{table}"),
    )
    .unwrap();
}
