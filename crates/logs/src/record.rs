//! One entry of a log: its head, its message with the lines that belong to it, and where it stands.

use std::cmp::Ordering;

use crate::{
    Clock, Level, Source, block,
    head::{Head, is_of_lost_lines},
    push_json_string,
};

/// As a search finds it. Empty: not said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Milliseconds since the epoch. Of what has no head: that of the one before it.
    pub time_ms: i64,
    /// Inode of its file and its place there: they stay when the log is turned over.
    pub place: (u64, u64),
    pub level: Level,
    pub source: Source,
    /// `replica`, `node`, `controller` or `proxy`.
    pub component: String,
    pub application: String,
    pub deployment: String,
    pub replica: String,
    pub revision: String,
    pub request_id: String,
    pub trace_id: String,
    /// All its lines.
    pub message: String,
    /// Lines that were skipped before it, since whoever follows did not keep up.
    pub lost: u64,
}

impl Record {
    fn of(head: &Head<'_>, place: (u64, u64)) -> Self {
        Self {
            time_ms: head.time_ms,
            place,
            level: head.level,
            source: head.source,
            component: (*head.component).to_owned(),
            application: (*head.application).to_owned(),
            deployment: (*head.deployment).to_owned(),
            replica: (*head.replica).to_owned(),
            revision: (*head.revision).to_owned(),
            request_id: (*head.request_id).to_owned(),
            trace_id: (*head.trace_id).to_owned(),
            message: (*head.message).to_owned(),
            lost: 0,
        }
    }

    /// What names it wherever it is met again.
    pub fn id(&self) -> String {
        format!("{:x}-{:x}", self.place.0, self.place.1)
    }

    /// One object, without a newline.
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256 + self.message.len());
        let (second, rest) = (self.time_ms.div_euclid(1000), self.time_ms.rem_euclid(1000));
        out.extend(format!("{{\"time_s\":{second}.{rest:03}").bytes());
        for (name, text) in [
            ("id", self.id().as_str()),
            ("level", self.level.name()),
            ("source", self.source.name()),
            ("component", &self.component),
            ("application", &self.application),
            ("deployment", &self.deployment),
            ("replica", &self.replica),
            ("revision", &self.revision),
            ("request_id", &self.request_id),
            ("trace_id", &self.trace_id),
            ("message", &self.message),
        ] {
            out.extend(format!(",\"{name}\":").bytes());
            push_json_string(&mut out, text);
        }
        if self.lost > 0 {
            out.extend(format!(",\"lost\":{}", self.lost).bytes());
        }
        out.push(b'}');
        out
    }

    fn key(&self) -> (i64, (u64, u64)) {
        (self.time_ms, self.place)
    }
}

/// By time, then by place.
impl Ord for Record {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl PartialOrd for Record {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Gives each record within `bytes`, of the file `inode` from `offset` on, that `wanted` likes by its head to `take`.
/// What stands before the first head has `before_ms`.
pub(crate) fn each(
    bytes: &[u8],
    (inode, offset): (u64, u64),
    before_ms: i64,
    clock: &mut Clock,
    wanted: impl Fn(&Head<'_>) -> bool,
    mut take: impl FnMut(Record),
) {
    let mut open: Option<Record> = None;
    let mut last = Head {
        time_ms: before_ms,
        ..Head::default()
    };
    let mut begun = false;
    for (at, line) in block::lines(bytes) {
        let place = (inode, offset + at as u64);
        let head = match Head::read(line, clock) {
            Some(head) => head,
            None if is_of_lost_lines(line) => Head {
                level: Level::Warning,
                source: Source::System,
                request_id: "".into(),
                trace_id: "".into(),
                message: String::from_utf8_lossy(line),
                ..last.clone()
            },
            None if !begun => Head {
                message: String::from_utf8_lossy(line),
                ..last.clone()
            },
            None => {
                if let Some(record) = &mut open {
                    record.message.push('\n');
                    record.message.push_str(&String::from_utf8_lossy(line));
                }
                continue;
            }
        };
        begun = true;
        open.take().into_iter().for_each(&mut take);
        open = wanted(&head).then(|| Record::of(&head, place));
        last = head;
    }
    open.into_iter().for_each(take);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_without_a_head_belong_to_the_one_before() {
        let text = "of old\nINFO 1970-01-01T00:00:05Z node -- x\nmore\n\nINFO 1970-01-01T00:00:06Z node -- y\n";
        let mut found = Vec::new();
        let mut clock = Clock::default();
        each(
            text.as_bytes(),
            (9, 100),
            7,
            &mut clock,
            |_| true,
            |record| found.push(record),
        );
        let seen: Vec<_> = found
            .iter()
            .map(|record| (record.time_ms, record.place.1, record.message.as_str()))
            .collect();
        assert_eq!(
            seen,
            [
                (7, 100, "of old"),
                (5000, 107, "x\nmore\n"),
                (6000, 149, "y")
            ]
        );
    }

    #[test]
    fn lines_of_one_that_is_not_wanted_are_not_either() {
        let text =
            "INFO 1970-01-01T00:00:05Z node -- x\nmore\nINFO 1970-01-01T00:00:06Z proxy -- y\n";
        let mut found = Vec::new();
        let wanted = |head: &Head<'_>| head.component == "proxy";
        each(
            text.as_bytes(),
            (9, 0),
            0,
            &mut Clock::default(),
            wanted,
            |record| found.push(record),
        );
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].message, "y");
    }

    #[test]
    fn the_word_of_lost_lines_is_a_record_of_the_same_replica() {
        let text = "INFO 1970-01-01 00:00:05,000 a/D id r1 req -- x\n... 7 lines lost: the disk did not keep up\n";
        let mut found = Vec::new();
        let mut clock = Clock::default();
        each(
            text.as_bytes(),
            (9, 0),
            0,
            &mut clock,
            |_| true,
            |record| found.push(record),
        );
        assert_eq!(found.len(), 2);
        let note = &found[1];
        assert_eq!(note.message, "... 7 lines lost: the disk did not keep up");
        assert_eq!((note.level, note.source), (Level::Warning, Source::System));
        assert_eq!(
            (note.replica.as_str(), note.request_id.as_str()),
            ("id", "")
        );
        assert_eq!(note.time_ms, found[0].time_ms);
        let block = block::Block::of(0, text.as_bytes(), 0, &mut clock);
        assert_eq!(block.levels, 0b110);
    }

    #[test]
    fn json_has_every_key_and_keeps_hostile_text_within() {
        let record = Record {
            time_ms: 1_500,
            place: (31, 255),
            message: "a\"b\nc".into(),
            lost: 3,
            ..Record::default()
        };
        let value: serde_json::Value = serde_json::from_slice(&record.to_json()).unwrap();
        assert_eq!(value["time_s"], 1.5);
        assert_eq!(value["id"], "1f-ff");
        assert_eq!(value["message"], "a\"b\nc");
        assert_eq!(
            (&value["level"], &value["lost"]),
            (&"INFO".into(), &3.into())
        );
    }
}
