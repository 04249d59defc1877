//! What a line of a replica is, and the head that it gets in the log.
//!
//! Lines of a replica's logger have a head already. What is printed gets one here, so that each line of a log says when
//! it was written, by which replica and in which request. A replica tells more about a line with a mark before it, which
//! goes no further than here: `eagleray._user_code.streams` and `.call_lines` write them. Native code and processes
//! that user code starts write none, and their lines are known by their pipe alone.

use std::{
    borrow::Cow,
    time::{SystemTime, UNIX_EPOCH},
};

use eagleray_logs::{Clock, Encoding, Level, as_in_lines, push_json_string};
use eagleray_types::DeploymentKey;

/// For the log only: lines of calls.
const LOG_ONLY: u8 = 0x1e;
/// It has its head, or belongs to a record that has.
const WITH_HEAD: u8 = 0x1d;
/// Printed by Python: the id of the request, a space, and the milliseconds since the epoch follow, ended by the same mark.
/// Twice: it is not the first line of what was printed.
const PRINTED: u8 = 0x1f;
/// What the lines from now on are to say: the encoding and the revision.
const FROM_NOW_ON: u8 = 0x1c;
/// As long as the ids that a proxy lets in.
const LONGEST_ID: usize = 128;
/// An id, and a time.
const LONGEST_MARK: usize = LONGEST_ID + 16;
/// Milliseconds that a line may say: from 1970 to 2286.
const TIMES: std::ops::Range<i64> = 0..10_000_000_000_000;

/// A line without its mark.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    LogOnly(&'a [u8]),
    WithHead(&'a [u8]),
    Printed(Printed<'a>),
    FromNowOn(&'a [u8]),
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Printed<'a> {
    pub(super) request_id: &'a str,
    /// None: as it is read.
    pub(super) time_ms: Option<i64>,
    pub(super) continues: bool,
    pub(super) text: &'a [u8],
}

impl<'a> Line<'a> {
    /// Of the marks only that of a request is known on stdout.
    pub(super) fn read(line: &'a [u8], stderr: bool) -> Self {
        match line.split_first() {
            Some((&LOG_ONLY, rest)) if stderr => Self::LogOnly(rest),
            Some((&WITH_HEAD, rest)) if stderr => Self::WithHead(rest),
            Some((&FROM_NOW_ON, rest)) if stderr => Self::FromNowOn(rest),
            Some((&PRINTED, rest)) => Self::printed(rest).unwrap_or(Self::plain(line)),
            _ => Self::plain(line),
        }
    }

    const fn plain(text: &'a [u8]) -> Self {
        Self::Printed(Printed {
            request_id: "",
            time_ms: None,
            continues: false,
            text,
        })
    }

    fn printed(rest: &'a [u8]) -> Option<Self> {
        let (continues, rest) = match rest.strip_prefix(&[PRINTED]) {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        let near = rest.get(..=LONGEST_MARK).unwrap_or(rest);
        let end = near.iter().position(|byte| *byte == PRINTED)?;
        let (mark, text) = rest.split_at_checked(end)?;
        let (request_id, time_ms) = std::str::from_utf8(mark).ok()?.split_once(' ')?;
        let is_id = request_id.bytes().all(|byte| byte.is_ascii_graphic());
        Some(Self::Printed(Printed {
            request_id: Some(request_id).filter(|_| is_id)?,
            time_ms: Some(time_ms.parse().ok().filter(|time| TIMES.contains(time))?),
            continues,
            text: text.get(1..)?,
        }))
    }
}

/// Gives lines their heads.
#[derive(Debug)]
pub(super) struct Heads {
    deployment: DeploymentKey,
    replica_id: String,
    revision: String,
    encoding: Encoding,
    clock: Clock,
}

impl Heads {
    pub(super) fn new(deployment: &DeploymentKey, replica_id: &str) -> Self {
        Self {
            deployment: deployment.clone(),
            replica_id: replica_id.to_owned(),
            revision: "-".to_owned(),
            encoding: Encoding::Text,
            clock: Clock::default(),
        }
    }

    /// Takes what the replica says that its lines are to have. What is no such thing changes nothing.
    pub(super) fn take_announcement(&mut self, said: &[u8]) {
        let words = std::str::from_utf8(said).unwrap_or_default();
        let Some((encoding, revision)) = words.split_once(' ') else {
            return;
        };
        let is_name = !revision.is_empty()
            && revision.len() <= LONGEST_ID
            && revision
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if let (Ok(encoding), true) = (encoding.parse(), is_name) {
            self.encoding = encoding;
            revision.clone_into(&mut self.revision);
        }
    }

    /// Adds a line that was printed, with its head, but for a newline.
    pub(super) fn add(&mut self, out: &mut Vec<u8>, printed: &Printed<'_>, stderr: bool) {
        let source = if stderr { "stderr" } else { "stdout" };
        match self.encoding {
            Encoding::Text if printed.continues => out.extend(printed.text),
            Encoding::Text => self.add_text(out, printed, source),
            Encoding::Json => self.add_json(out, printed, source),
        }
    }

    fn add_text(&mut self, out: &mut Vec<u8>, printed: &Printed<'_>, source: &str) {
        let level = Level::of_printed(printed.text).name();
        let in_request = match printed.request_id {
            "" => String::new(),
            // Else it would look like an attribute of another name.
            id if id.contains('=') => format!(" request_id={id}"),
            id => format!(" {id}"),
        };
        let head = format!(
            "{level} {} {}/{} {} {}{in_request} source={source} -- ",
            self.clock
                .print_local(printed.time_ms.unwrap_or_else(now_ms)),
            as_in_lines(&self.deployment.application),
            as_in_lines(&self.deployment.deployment),
            self.replica_id,
            self.revision,
        );
        out.extend(head.bytes());
        out.extend(printed.text);
    }

    fn add_json(&mut self, out: &mut Vec<u8>, printed: &Printed<'_>, source: &str) {
        let Self {
            deployment,
            replica_id,
            revision,
            clock,
            ..
        } = self;
        let text: Cow<'_, str> = String::from_utf8_lossy(printed.text);
        let time_ms = printed.time_ms.unwrap_or_else(now_ms);
        for (at, (name, value)) in [
            ("levelname", Level::of_printed(printed.text).name()),
            ("asctime", clock.print_local(time_ms)),
            ("message", &*text),
            ("component_name", "replica"),
            ("component_id", replica_id.as_str()),
            ("application", &deployment.application),
            ("deployment", &deployment.deployment),
            ("replica", replica_id.as_str()),
            ("revision", revision.as_str()),
            ("source", source),
            ("request_id", printed.request_id),
        ]
        .into_iter()
        .enumerate()
        {
            if name == "request_id" && value.is_empty() {
                continue;
            }
            out.push(if at == 0 { b'{' } else { b',' });
            push_json_string(out, name);
            out.push(b':');
            push_json_string(out, value);
        }
        out.push(b'}');
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed<'a>(request_id: &'a str, time_ms: i64, continues: bool, text: &'a str) -> Line<'a> {
        Line::Printed(Printed {
            request_id,
            time_ms: Some(time_ms).filter(|time| *time > 0),
            continues,
            text: text.as_bytes(),
        })
    }

    #[test]
    fn marks_are_read_and_what_only_looks_like_one_is_text() {
        for (line, stderr, expected) in [
            ("plain", true, printed("", 0, false, "plain")),
            ("\x1eCALL", true, Line::LogOnly(b"CALL")),
            ("\x1dINFO", true, Line::WithHead(b"INFO")),
            ("\x1cJSON r1", true, Line::FromNowOn(b"JSON r1")),
            ("\x1eCALL", false, printed("", 0, false, "\x1eCALL")),
            (
                "\x1fid-1 7\x1ftext",
                false,
                printed("id-1", 7, false, "text"),
            ),
            ("\x1f\x1fid-1 7\x1f", true, printed("id-1", 7, true, "")),
            ("\x1f 7\x1ftext", true, printed("", 7, false, "text")),
            (
                "\x1f\x1f\x1ftext",
                true,
                printed("", 0, false, "\x1f\x1f\x1ftext"),
            ),
            ("\x1fno end", true, printed("", 0, false, "\x1fno end")),
            (
                "\x1fa b 7\x1fx",
                true,
                printed("", 0, false, "\x1fa b 7\x1fx"),
            ),
            (
                "\x1fa -7\x1fx",
                true,
                printed("", 0, false, "\x1fa -7\x1fx"),
            ),
        ] {
            assert_eq!(Line::read(line.as_bytes(), stderr), expected, "{line:?}");
        }
        let long = format!("\x1f{} 7\x1fx", "a".repeat(LONGEST_MARK));
        assert_eq!(
            Line::read(long.as_bytes(), true),
            printed("", 0, false, &long)
        );
    }

    fn heads() -> Heads {
        Heads::new(&DeploymentKey::new("my app", "Rank"), "q3kd91")
    }

    fn line(heads: &mut Heads, text: &str, (request_id, continues): (&str, bool)) -> String {
        let mut out = Vec::new();
        let printed = Printed {
            request_id,
            time_ms: Some(1_764_579_600_007),
            continues,
            text: text.as_bytes(),
        };
        heads.add(&mut out, &printed, false);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_is_printed_says_where_when_and_in_which_request() {
        let mut heads = heads();
        let time = Clock::default().print_local(1_764_579_600_007).to_owned();
        assert_eq!(
            line(&mut heads, "words", ("", false)),
            format!("INFO {time} my_app/Rank q3kd91 - source=stdout -- words")
        );
        heads.take_announcement(b"TEXT r15");
        assert_eq!(
            line(&mut heads, "WARNING:root:x", ("id-1", false)),
            format!("WARNING {time} my_app/Rank q3kd91 r15 id-1 source=stdout -- WARNING:root:x")
        );
        assert_eq!(line(&mut heads, "  more", ("id-1", true)), "  more");
        assert!(line(&mut heads, "x", ("a=b", false)).contains(" r15 request_id=a=b source="));
        let mut out = Vec::new();
        heads.add(&mut out, &Printed::default(), true);
        assert!(out.starts_with(b"INFO 20"), "by this clock");
    }

    #[test]
    fn in_json_each_line_is_an_object() {
        let mut heads = heads();
        heads.take_announcement(b"JSON 0a1b");
        for request in [("id-1", false), ("id-1", true)] {
            let text = line(&mut heads, "a\"b", request);
            for part in [
                "{\"levelname\":\"INFO\",\"asctime\":\"20",
                "\"message\":\"a\\\"b\"",
                "\"application\":\"my app\"",
                "\"revision\":\"0a1b\"",
                "\"request_id\":\"id-1\"}",
            ] {
                assert!(text.contains(part), "{text}");
            }
        }
        assert!(!line(&mut heads, "x", ("", false)).contains("request_id"));
    }

    #[test]
    fn what_is_no_announcement_changes_nothing() {
        let mut heads = heads();
        for said in [
            &b"XML r1"[..],
            b"JSON",
            b"JSON ",
            b"JSON a b",
            b"JSON \x1b[31m",
            b"\xff",
        ] {
            heads.take_announcement(said);
        }
        assert!(line(&mut heads, "x", ("", false)).contains(" - source="));
    }
}
