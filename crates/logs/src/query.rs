//! What is looked for.

use crate::{
    Level, Source,
    filter::{Key, may_have, short},
    head::Head,
    index::BlockRef,
    record::Record,
};

/// All of it must hold; what is empty or none holds for every record.
#[derive(Clone, Debug, Default)]
pub struct Query {
    pub application: String,
    pub deployment: String,
    pub replica: String,
    /// As the lines have it, or a longer form of the same hash.
    pub revision: String,
    /// Id of a request, or of its trace. Eight digits or more of a UUID are enough.
    pub request: String,
    /// In any line of the message.
    pub text: String,
    /// This or worse.
    pub level: Option<Level>,
    /// Milliseconds since the epoch; included.
    pub since_ms: Option<i64>,
    /// Not included.
    pub until_ms: Option<i64>,
    /// One of these; empty: any.
    pub sources: Vec<Source>,
    /// The newest so many; none: all of them.
    pub limit: Option<usize>,
}

impl Query {
    /// Whether a record with this head is wanted, as far as its head tells.
    pub(crate) fn wants(&self, head: &Head<'_>) -> bool {
        let is = |wanted: &str, said: &str| wanted.is_empty() || wanted == said;
        self.level.is_none_or(|level| head.level >= level)
            && self.since_ms.is_none_or(|since| head.time_ms >= since)
            && self.until_ms.is_none_or(|until| head.time_ms < until)
            && self.wants_request(head)
            && is(
                &as_in_lines(&self.application),
                &as_in_lines(&head.application),
            )
            && is(
                &as_in_lines(&self.deployment),
                &as_in_lines(&head.deployment),
            )
            && is(&self.replica, &head.replica)
            && (self.sources.is_empty() || self.sources.contains(&head.source))
            && self.wants_revision(&head.revision)
    }

    fn wants_request(&self, head: &Head<'_>) -> bool {
        self.request.is_empty()
            || self.request == head.request_id
            || self.request == head.trace_id
            || (short(&self.request).is_some()
                && short(&head.request_id).is_some()
                && head.request_id.starts_with(&self.request))
    }

    fn wants_revision(&self, said: &str) -> bool {
        self.revision.is_empty()
            || (!said.is_empty() && (self.revision.starts_with(said) || said == self.revision))
    }

    /// Whether the whole record is.
    pub(crate) fn wants_all_of(&self, record: &Record) -> bool {
        self.text.is_empty() || record.message.contains(&self.text)
    }

    /// Whether a block with this may have one that is wanted.
    pub(crate) fn may_be_in(&self, block: &BlockRef<'_>, keys: &[u64]) -> bool {
        self.since_ms.is_none_or(|since| block.last_ms >= since)
            && self.until_ms.is_none_or(|until| block.first_ms < until)
            && self
                .level
                .is_none_or(|level| u32::from(block.levels) >> level as u8 != 0)
            && keys.iter().all(|key| may_have(block.filter, *key))
    }

    /// What a block's filter is asked for.
    pub(crate) fn keys(&self) -> Vec<u64> {
        let application = as_in_lines(&self.application);
        let deployment = as_in_lines(&self.deployment);
        let named = [
            (&*application, Key::Application as fn(_) -> _),
            (&*deployment, Key::Deployment),
            (&self.replica, Key::Replica),
            (&self.request, Key::Request),
        ];
        named
            .into_iter()
            .filter(|(text, _)| !text.is_empty())
            .map(|(text, key)| key(text).hash())
            .collect()
    }

    /// Whether the bytes of a block can have it: much quicker than reading them line by line.
    pub(crate) fn may_be_among(&self, bytes: &[u8]) -> bool {
        // JSON writes some characters in another way.
        let plain = |text: &str| {
            text.bytes()
                .all(|byte| byte.is_ascii_graphic() && !b"\"\\/".contains(&byte))
        };
        let found = |text: &str| {
            text.is_empty()
                || !plain(text)
                || memchr::memmem::find(bytes, text.as_bytes()).is_some()
        };
        found(&self.request) && found(&self.text)
    }
}

/// A name with a space is written with `_` in the head of a line, since spaces part its words.
pub fn as_in_lines(name: &str) -> String {
    name.replace(char::is_whitespace, "_")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Clock, block::Block};

    const LINE: &str =
        "WARNING 1970-01-02 00:00:00,000 my_shop/Rank q3kd91 0a1b2c3d id-1 -- slow batch\n";

    fn finds(query: &Query) -> bool {
        let mut clock = Clock::default();
        let block = Block::of(0, LINE.as_bytes(), 0, &mut clock);
        let head = Head::read(LINE.trim_end().as_bytes(), &mut clock).unwrap();
        let may =
            query.may_be_in(&(&block).into(), &query.keys()) && query.may_be_among(LINE.as_bytes());
        let does = query.wants(&head);
        assert!(may || !does, "a block that has it is never passed over");
        does
    }

    #[test]
    fn each_condition_holds_for_what_it_names_and_for_nothing_else() {
        type Set = fn(&mut Query);
        let table: [(Set, bool); 16] = [
            (|_| {}, true),
            (|query| query.application = "my shop".into(), true),
            (|query| query.application = "shop".into(), false),
            (|query| query.deployment = "Rank".into(), true),
            (|query| query.deployment = "Ran".into(), false),
            (|query| query.replica = "q3kd91".into(), true),
            (|query| query.replica = "q3kd92".into(), false),
            (|query| query.revision = "0a1b2c3d4e5f".into(), true),
            (|query| query.revision = "0a1b2c3e".into(), false),
            (|query| query.request = "id-1".into(), true),
            (|query| query.request = "id-2".into(), false),
            (|query| query.level = Some(Level::Warning), true),
            (|query| query.level = Some(Level::Error), false),
            (|query| query.since_ms = Some(i64::MAX), false),
            (|query| query.until_ms = Some(0), false),
            (|query| query.sources = vec![Source::Stdout], false),
        ];
        for (at, (set, expected)) in table.into_iter().enumerate() {
            let mut query = Query::default();
            set(&mut query);
            assert_eq!(finds(&query), expected, "{at}: {query:?}");
        }
    }

    #[test]
    fn eight_digits_of_a_uuid_are_enough_and_other_ids_are_whole() {
        let line = |id: &str| format!("INFO 1970-01-02 00:00:00,000 a/D r1 - {id} -- x\n");
        let uuid = "5f0c21e1-aaaa-4bbb-8ccc-ddddeeeeffff";
        for (said, id, expected) in [
            ("5f0c21e1", uuid, true),
            ("5f0c21e1-aa", uuid, true),
            (uuid, uuid, true),
            ("5f0c21e1-ab", uuid, false),
            ("5f0c21e", uuid, false),
            ("deadbeef", "deadbeef", true),
            ("deadbeef", "deadbeef-1", true),
            ("deadbeef-1", "deadbeef-1", true),
            ("deadbeef-1", "deadbeef", false),
            ("request-", "request-1", false),
            ("request-1", "request-1", true),
            ("deadbeef1", "deadbeef1", true),
            ("deadbeef", "deadbeef1", false),
        ] {
            let query = Query {
                request: said.into(),
                ..Query::default()
            };
            let text = line(id);
            let mut clock = Clock::default();
            let block = Block::of(0, text.as_bytes(), 0, &mut clock);
            let head = Head::read(text.trim_end().as_bytes(), &mut clock).unwrap();
            let may = query.may_be_in(&(&block).into(), &query.keys());
            assert_eq!(may && query.wants(&head), expected, "{said} {id}");
        }
    }
}
