//! What a line of a log file says of itself.
//!
//! Every record begins with a line that has a head. These are the forms, the first three as text and the last as JSON:
//!
//! | written by | form |
//! |---|---|
//! | replica, and the node for what a replica prints | `LEVEL TIME APP/DEPLOYMENT REPLICA REVISION [REQUEST] [NAME=VALUE]... -- MESSAGE` |
//! | node, controller, proxy | `LEVEL TIME ROLE -- MESSAGE` |
//! | proxy, of requests | `TIME APP/DEPLOYMENT [REQUEST] METHOD ROUTE STATUS LATENCYms`, without the name if it goes to no application |
//! | all of them | one object a line, with the keys of Ray Serve |
//!
//! A line without one belongs to the record before it: a traceback, a message of many lines.

use std::borrow::Cow;

use serde::Deserialize;

use crate::{Clock, Level, Source};

/// Ends the head of a text line.
const END: &[u8] = b" -- ";
/// No head is longer, but for the values of attributes that users add.
const LONGEST: usize = 2048;

/// Whether a line is the writer's word that lines are missing where it stands: a record without a head.
pub(crate) fn is_of_lost_lines(line: &[u8]) -> bool {
    line.starts_with(b"... ") && memchr::memmem::find(line, b" lines lost: ").is_some()
}

/// The parts of a head, and what follows it. Empty: not said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head<'a> {
    pub(crate) time_ms: i64,
    pub(crate) level: Level,
    pub(crate) source: Source,
    /// `replica`, `node`, `controller`, `proxy`.
    pub(crate) component: Cow<'a, str>,
    pub(crate) application: Cow<'a, str>,
    pub(crate) deployment: Cow<'a, str>,
    pub(crate) replica: Cow<'a, str>,
    pub(crate) revision: Cow<'a, str>,
    pub(crate) request_id: Cow<'a, str>,
    pub(crate) trace_id: Cow<'a, str>,
    pub(crate) message: Cow<'a, str>,
}

impl<'a> Head<'a> {
    /// Of a line without its newline; none if it has no head.
    pub(crate) fn read(line: &'a [u8], clock: &mut Clock) -> Option<Self> {
        match line.first()? {
            b'{' => Self::json(line, clock),
            b'0'..=b'9' => Self::access(line, clock),
            b'A'..=b'Z' => Self::text(line, clock),
            _ => None,
        }
    }

    fn text(line: &'a [u8], clock: &mut Clock) -> Option<Self> {
        let space = line.iter().take(9).position(|byte| *byte == b' ')?;
        let (level, rest) = line.split_at_checked(space)?;
        let level = Level::parse(std::str::from_utf8(level).ok()?)?;
        // Some loggers pad the level.
        let rest = rest.trim_ascii_start();
        let (time_ms, length) = clock.read(rest)?;
        let rest = rest.get(length..)?.strip_prefix(b" ")?;
        let near = rest.get(..LONGEST).unwrap_or(rest);
        let end = memchr::memmem::find(near, END)?;
        let who = std::str::from_utf8(rest.get(..end)?).ok()?;
        let mut head = Head {
            time_ms,
            level,
            message: lossy(rest.get(end + END.len()..)?),
            ..Head::default()
        };
        let mut words = who.split(' ');
        let first = words.next()?;
        let Some((application, deployment)) = first.split_once('/') else {
            head.component = first.into();
            head.source = Source::System;
            return Some(head);
        };
        head.component = "replica".into();
        head.application = application.into();
        head.deployment = deployment.into();
        head.replica = words.next().unwrap_or_default().into();
        head.revision = words.next().unwrap_or_default().into();
        for (at, word) in words.enumerate() {
            match word.split_once('=') {
                Some(("source", name)) => head.source = Source::parse(name).unwrap_or_default(),
                Some(("request_id", id)) => head.request_id = id.into(),
                Some(("trace_id", id)) => head.trace_id = id.into(),
                Some(_) => {}
                None if at == 0 => head.request_id = word.into(),
                None => {}
            }
        }
        if head.source == Source::User && head.message.starts_with("CALL ") {
            head.source = Source::Access;
        }
        Some(head)
    }

    fn access(line: &'a [u8], clock: &mut Clock) -> Option<Self> {
        let (time_ms, length) = clock.read(line)?;
        let rest = line.get(length..)?;
        let near = rest.get(..LONGEST).unwrap_or(rest);
        let begin = memchr::memmem::find(near, b" [")?;
        let (whose, rest) = rest.split_at_checked(begin)?;
        let rest = rest.strip_prefix(b" [")?;
        let end = memchr::memmem::find(rest.get(..LONGEST).unwrap_or(rest), b"] ")?;
        let whose = std::str::from_utf8(whose).ok()?;
        let (application, deployment) = match whose.strip_prefix(' ') {
            Some(name) => name.rsplit_once('/')?,
            None if whose.is_empty() => ("", ""),
            None => return None,
        };
        Some(Head {
            time_ms,
            source: Source::Access,
            component: "proxy".into(),
            application: application.into(),
            deployment: deployment.into(),
            request_id: lossy(rest.get(..end)?),
            message: lossy(rest.get(end + 2..)?),
            ..Head::default()
        })
    }

    fn json(line: &'a [u8], clock: &mut Clock) -> Option<Self> {
        let json: Json<'a> = serde_json::from_slice(line).ok()?;
        let (time_ms, _) = clock.read(json.asctime.as_bytes())?;
        let source = if json.serve_access_log || json.message.starts_with("CALL ") {
            Source::Access
        } else if !matches!(&*json.component_name, "replica" | "") {
            Source::System
        } else {
            Source::parse(&json.source).unwrap_or_default()
        };
        let message = match (&*json.exc_text, &*json.stack_info) {
            ("", "") => json.message,
            (error, stack) => {
                let parts = [&*json.message, error, stack];
                let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
                parts.join("\n").into()
            }
        };
        Some(Head {
            time_ms,
            level: Level::parse(&json.levelname)?,
            source,
            component: json.component_name,
            application: json.application,
            deployment: json.deployment,
            replica: json.replica,
            revision: json.revision,
            request_id: json.request_id,
            trace_id: json.trace_id,
            message,
        })
    }
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Json<'a> {
    #[serde(borrow)]
    levelname: Cow<'a, str>,
    #[serde(borrow)]
    asctime: Cow<'a, str>,
    #[serde(borrow)]
    message: Cow<'a, str>,
    #[serde(borrow)]
    exc_text: Cow<'a, str>,
    #[serde(borrow)]
    stack_info: Cow<'a, str>,
    #[serde(borrow)]
    component_name: Cow<'a, str>,
    #[serde(borrow)]
    application: Cow<'a, str>,
    #[serde(borrow)]
    deployment: Cow<'a, str>,
    #[serde(borrow)]
    replica: Cow<'a, str>,
    #[serde(borrow)]
    revision: Cow<'a, str>,
    #[serde(borrow)]
    request_id: Cow<'a, str>,
    #[serde(borrow)]
    trace_id: Cow<'a, str>,
    #[serde(borrow)]
    source: Cow<'a, str>,
    serve_access_log: bool,
}

fn lossy(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Option<Head<'_>> {
        Head::read(line.as_bytes(), &mut Clock::default())
    }

    #[test]
    fn a_line_of_a_replica_says_all_of_it() {
        let head = read(
            "ERROR 2026-12-01 09:00:00,123 shop/Rank q3kd91 r15 5f0c-21 lineno=7 -- slow -- very\u{e9}",
        )
        .unwrap();
        assert_eq!((head.level, head.source), (Level::Error, Source::User));
        assert_eq!((&*head.application, &*head.deployment), ("shop", "Rank"));
        assert_eq!((&*head.replica, &*head.revision), ("q3kd91", "r15"));
        assert_eq!(
            (&*head.request_id, &*head.message),
            ("5f0c-21", "slow -- veryé")
        );
        assert_eq!(head.time_ms % 1000, 123);
    }

    #[test]
    fn outside_of_a_request_there_is_none_and_what_is_printed_says_where() {
        let head = read("INFO 2026-12-01 09:00:00,000 a/D id r1 source=stdout -- x").unwrap();
        assert_eq!((&*head.request_id, head.source), ("", Source::Stdout));
        let head = read("INFO 2026-12-01 09:00:00,000 a/D id r1 request_id=a=b source=stderr -- x")
            .unwrap();
        assert_eq!((&*head.request_id, head.source), ("a=b", Source::Stderr));
        let head = read("INFO 2026-12-01 09:00:00,000 a/D id r1 abc -- CALL f OK 0.1ms").unwrap();
        assert_eq!(head.source, Source::Access);
    }

    #[test]
    fn lines_of_processes_and_requests_are_read() {
        let head =
            read("WARN 2026-12-01T09:00:00.123456Z controller -- replica died replica=x").unwrap();
        assert_eq!(
            (&*head.component, head.source, head.level),
            ("controller", Source::System, Level::Warning)
        );
        let head = read("2026-12-01T09:00:00.123Z [a]b] GET /x 200 0.9ms").unwrap();
        assert_eq!(
            (&*head.request_id, &*head.message),
            ("a]b", "GET /x 200 0.9ms")
        );
        assert_eq!((&*head.application, &*head.deployment), ("", ""));
        let head = read("2026-12-01T09:00:00.123Z shop/Front [a] GET /[x] 200 0.9ms").unwrap();
        assert_eq!(
            (&*head.application, &*head.deployment, &*head.request_id),
            ("shop", "Front", "a")
        );
        assert_eq!(&*head.message, "GET /[x] 200 0.9ms");
    }

    #[test]
    fn json_is_read_with_its_traceback() {
        let head = read(
            r#"{"levelname":"ERROR","asctime":"2026-12-01 09:00:00,123","message":"a\"b","component_name":"replica","application":"shop","deployment":"Rank","replica":"q","revision":"r1","request_id":"i","trace_id":"t","exc_text":"Traceback","mine":[1]}"#,
        )
        .unwrap();
        assert_eq!(&*head.message, "a\"b\nTraceback");
        assert_eq!((&*head.request_id, &*head.trace_id), ("i", "t"));
    }

    #[test]
    fn what_has_no_head_is_none() {
        for line in [
            "",
            "Traceback (most recent call last):",
            "  File \"x\", line 1",
            "ValueError: INFO 2026-12-01 09:00:00,123 a/D id r1 -- x",
            "INFO words",
            "INFO 2026-12-01 09:00:00,123 no end",
            "{\"levelname\":\"INFO\"}",
            "{'a': 1}",
            "2026 was a year",
            "2026-12-01T09:00:00.123Z words [a] x",
            "2026-12-01T09:00:00.123Zshop/Front [a] GET /x 200 0.9ms",
            "... 3 lines lost: No space left on device",
        ] {
            assert_eq!(read(line), None, "{line:?}");
        }
    }
}
