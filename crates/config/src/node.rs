//! A value with the place where it was written: what both formats are read into, and what is checked.
//!
//! A node is at most [`MOST_DEPTH`] deep and a text makes at most [`MOST_NODES`] of them, aliases counted as often as
//! they are used, so all that walks over one may recurse, and takes a bounded time.

use std::fmt;

/// How deep values may nest. A config's own nest to 8; the rest is for what user code gets.
pub const MOST_DEPTH: usize = 64;

/// How many values one text may have.
pub const MOST_NODES: usize = 50_000;

/// Where something is written: line and column, from 1, the column in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub line: u32,
    pub column: u32,
}

impl Place {
    pub const START: Self = Self { line: 1, column: 1 };

    /// The place of the byte `at` of `text`, which may be its end. A line ends as in YAML: with `\n`, `\r` or both.
    pub(crate) fn of_byte(text: &[u8], at: usize) -> Self {
        let mut place = Self::START;
        for (index, byte) in text.iter().enumerate().take(at) {
            match byte {
                b'\r' if text.get(index + 1) == Some(&b'\n') => {}
                b'\n' | b'\r' => {
                    place.line += 1;
                    place.column = 1;
                }
                // What follows the first byte of a character.
                0x80..0xC0 => {}
                _ => place.column += 1,
            }
        }
        place
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.line, self.column)
    }
}

/// A value and where it begins; values that were made by code have no place.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub place: Option<Place>,
    pub value: Value,
    /// How a scalar that is no text was written, where that is not how it is shown: `yes`, `010`.
    pub written: Option<Box<str>>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Flag(bool),
    /// From -2⁶³ to 2⁶⁴ - 1.
    Whole(i128),
    /// Finite.
    Number(f64),
    Text(String),
    List(Vec<Node>),
    /// In the order of the text, each key once.
    Map(Vec<Entry>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub key: String,
    pub place: Option<Place>,
    pub value: Node,
}

impl Node {
    pub fn new(place: Place, value: Value) -> Self {
        Self {
            place: Some(place),
            value,
            written: None,
        }
    }

    /// A value that code has made.
    pub fn of_json(value: &serde_json::Value) -> Self {
        use serde_json::Value as Json;
        let value = match value {
            Json::Null => Value::Null,
            Json::Bool(flag) => Value::Flag(*flag),
            Json::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(whole), _) => Value::Whole(whole.into()),
                (_, Some(whole)) => Value::Whole(whole.into()),
                _ => Value::Number(number.as_f64().unwrap_or(0.0)),
            },
            Json::String(text) => Value::Text(text.clone()),
            Json::Array(list) => Value::List(list.iter().map(Self::of_json).collect()),
            Json::Object(map) => Value::Map(
                map.iter()
                    .map(|(key, value)| Entry {
                        key: key.clone(),
                        place: None,
                        value: Self::of_json(value),
                    })
                    .collect(),
            ),
        };
        Self {
            place: None,
            value,
            written: None,
        }
    }

    /// The same without places. Maps come out sorted by key.
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match &self.value {
            Value::Null => Json::Null,
            Value::Flag(flag) => Json::Bool(*flag),
            Value::Whole(whole) => whole_json(*whole),
            Value::Number(number) => Json::from(*number),
            Value::Text(text) => Json::String(text.clone()),
            Value::List(list) => list.iter().map(Self::to_json).collect(),
            Value::Map(entries) => entries
                .iter()
                .map(|entry| (entry.key.clone(), entry.value.to_json()))
                .collect::<serde_json::Map<_, _>>()
                .into(),
        }
    }

    pub fn get(&self, key: &str) -> Option<&Self> {
        let Value::Map(entries) = &self.value else {
            return None;
        };
        let found = entries.iter().find(|entry| entry.key == key);
        found.map(|entry| &entry.value)
    }

    /// Whether it says something: null, false, zero and what is empty are the same as nothing.
    pub fn says_something(&self) -> bool {
        match &self.value {
            Value::Null => false,
            Value::Flag(flag) => *flag,
            Value::Whole(whole) => *whole != 0,
            Value::Number(number) => *number != 0.0,
            Value::Text(text) => !text.is_empty(),
            Value::List(list) => !list.is_empty(),
            Value::Map(entries) => entries.iter().any(|entry| entry.value.says_something()),
        }
    }

    /// The value as messages show it: its kind, and a scalar itself, as it was written and never long.
    pub fn shown(&self) -> String {
        let kind = match &self.value {
            Value::Null => return "null".to_owned(),
            Value::List(list) => return format!("a list of {}", list.len()),
            Value::Map(entries) => return format!("a mapping of {} keys", entries.len()),
            Value::Text(text) => return format!("the text {}", quoted(text)),
            Value::Flag(true) => "true",
            Value::Flag(false) => "false",
            Value::Whole(whole) => &whole.to_string(),
            Value::Number(number) => &number.to_string(),
        };
        match &self.written {
            Some(written) if **written != *kind => format!("{kind} (written {})", quoted(written)),
            _ => kind.to_owned(),
        }
    }
}

pub(crate) fn whole_json(whole: i128) -> serde_json::Value {
    match (i64::try_from(whole), u64::try_from(whole)) {
        (Ok(whole), _) => whole.into(),
        (_, Ok(whole)) => whole.into(),
        _ => (whole as f64).into(),
    }
}

/// A text in quotes, for a message: without what a terminal would obey, and cut where it is long.
pub(crate) fn quoted(text: &str) -> String {
    const MOST: usize = 60;
    let short: String = text.chars().take(MOST).collect();
    let more = if short.len() < text.len() { "..." } else { "" };
    format!("{short:?}{more}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_counts_lines_and_characters_from_one() {
        let text = "a\nbä€c\r\n\rd".as_bytes();
        let places = [0, 1, 2, 3, 5, 8, 11, 12, 99].map(|at| Place::of_byte(text, at).to_string());
        assert_eq!(
            places,
            [
                "1:1", "1:2", "2:1", "2:2", "2:3", "2:4", "3:1", "4:1", "4:2"
            ]
        );
    }

    #[test]
    fn what_a_message_shows_is_short_and_obeyed_by_no_terminal() {
        let text = Node::of_json(&"\u{1b}[31m".repeat(100).into()).shown();
        assert!(text.len() < 1_000 && !text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn json_survives_being_a_node() {
        let json = serde_json::json!({"b": [1, -1, 18_446_744_073_709_551_615_u64, 1.5, null], "a": {"c": "d", "e": true}});
        assert_eq!(Node::of_json(&json).to_json(), json);
    }
}
