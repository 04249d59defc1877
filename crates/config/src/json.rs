//! JSON as nodes.
//!
//! `serde_json` says whether it is JSON, and reads each text and number. It keeps no places, so what is between those
//! is walked here, in a text that is known to be right.

use std::collections::HashMap;

use serde::de::IgnoredAny;

use crate::{
    node::{Entry, MOST_DEPTH, MOST_NODES, Node, Place, Value, quoted},
    problem::{Problem, Problems, Stage},
};

/// # Errors
/// The text is no JSON, or has what a config cannot hold: the first of it.
pub(crate) fn parse(text: &str) -> Result<Node, Problems> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    serde_json::from_str::<IgnoredAny>(text).map_err(|error| Problems::one(malformed(&error)))?;
    let mut walk = Walk {
        rest: text,
        place: Place::START,
        made: 0,
    };
    walk.value(0).map_err(Problems::one)
}

/// What is left of the text, and where it begins.
struct Walk<'a> {
    rest: &'a str,
    place: Place,
    made: usize,
}

impl<'a> Walk<'a> {
    fn value(&mut self, depth: usize) -> Result<Node, Problem> {
        self.blank();
        let place = self.place;
        self.made += 1;
        if self.made > MOST_NODES {
            let message = format!("more than {MOST_NODES} values");
            return Err(syntax(place, message));
        }
        let value = match self.rest.bytes().next() {
            Some(b'{' | b'[') if depth == MOST_DEPTH => {
                let message = format!("values nest more than {MOST_DEPTH} deep");
                return Err(syntax(place, message));
            }
            Some(b'{') => self.map(depth + 1)?,
            Some(b'[') => self.list(depth + 1)?,
            Some(b'"') => Value::Text(self.text()?),
            _ => self.word()?,
        };
        Ok(Node::new(place, value))
    }

    fn map(&mut self, depth: usize) -> Result<Value, Problem> {
        let mut entries = Vec::new();
        let mut seen = HashMap::new();
        self.take(1);
        while !self.closes(b'}') {
            let place = self.place;
            let key = self.text()?;
            if let Some(first) = seen.insert(key.clone(), place) {
                let message = format!(
                    "the key {} stands twice in one object, first on line {}",
                    quoted(&key),
                    first.line
                );
                return Err(syntax(place, message));
            }
            self.blank();
            self.take(1); // the colon
            let value = self.value(depth)?;
            entries.push(Entry {
                key,
                place: Some(place),
                value,
            });
        }
        Ok(Value::Map(entries))
    }

    fn list(&mut self, depth: usize) -> Result<Value, Problem> {
        let mut list = Vec::new();
        self.take(1);
        while !self.closes(b']') {
            list.push(self.value(depth)?);
        }
        Ok(Value::List(list))
    }

    /// Passes over blanks and a comma; and over `end`, in which case it is true.
    fn closes(&mut self, end: u8) -> bool {
        self.blank();
        if self.rest.starts_with(',') {
            self.take(1);
            self.blank();
        }
        let closes = self.rest.bytes().next().is_none_or(|byte| byte == end);
        if closes {
            self.take(1);
        }
        closes
    }

    fn text(&mut self) -> Result<String, Problem> {
        let place = self.place;
        let mut escaped = false;
        let ends = |(_, byte): &(usize, u8)| {
            let end = *byte == b'"' && !escaped;
            escaped = *byte == b'\\' && !escaped;
            end
        };
        let end = self.rest.bytes().enumerate().skip(1).find(ends);
        let written = self.take(end.map_or(self.rest.len(), |(at, _)| at + 1));
        serde_json::from_str(written).map_err(|error| syntax(place, format!("no JSON: {error}")))
    }

    /// A number, `true`, `false` or `null`.
    fn word(&mut self) -> Result<Value, Problem> {
        let place = self.place;
        let ends = |byte: u8| matches!(byte, b',' | b']' | b'}' | b' ' | b'\t' | b'\n' | b'\r');
        let end = self.rest.bytes().position(ends).unwrap_or(self.rest.len());
        let word = self.take(end);
        match word {
            "null" => return Ok(Value::Null),
            "true" => return Ok(Value::Flag(true)),
            "false" => return Ok(Value::Flag(false)),
            _ => {}
        }
        if word.contains(['.', 'e', 'E']) {
            let number = word.parse().ok().filter(|number: &f64| number.is_finite());
            let message = || syntax(place, format!("{} is no finite number", quoted(word)));
            return number.map(Value::Number).ok_or_else(message);
        }
        let whole = word
            .parse()
            .ok()
            .filter(|whole| (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(whole));
        let message = || {
            syntax(
                place,
                format!("{} is an integer of more than 64 bits", quoted(word)),
            )
        };
        whole.map(Value::Whole).ok_or_else(message)
    }

    fn blank(&mut self) {
        let is_blank = |byte: u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        let end = self.rest.bytes().position(|byte| !is_blank(byte));
        self.take(end.unwrap_or(self.rest.len()));
    }

    fn take(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(bytes.min(self.rest.len()));
        self.rest = rest;
        for character in taken.chars() {
            if character == '\n' {
                self.place.line += 1;
                self.place.column = 1;
            } else {
                self.place.column += 1;
            }
        }
        taken
    }
}

fn malformed(error: &serde_json::Error) -> Problem {
    let place = Place {
        line: error.line().max(1) as u32,
        column: error.column().max(1) as u32,
    };
    let text = error.to_string();
    // Its own place is left out, since the problem has it.
    let message = text.split(" at line ").next().unwrap_or(&text);
    syntax(place, format!("no JSON: {message}"))
}

fn syntax(place: Place, message: String) -> Problem {
    Problem {
        stage: Stage::Syntax,
        path: String::new(),
        place: Some(place),
        message,
        help: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_serde_jsons_and_have_their_places() {
        let text = "{\"ä\": [1, -2.5e1, \"\\ud83d\\ude00\\\\\", null],\n  \"b\" : {\"c\":true} }";
        let node = parse(text).unwrap();
        let known: serde_json::Value = serde_json::from_str(text).unwrap();
        assert_eq!(node.to_json(), known);
        let c = node.get("b").and_then(|b| b.get("c")).unwrap();
        assert_eq!(c.place.unwrap().to_string(), "2:14");
        let Some(Value::List(list)) = node.get("ä").map(|node| &node.value) else {
            panic!("a list");
        };
        let places: Vec<_> = list
            .iter()
            .map(|item| item.place.unwrap().to_string())
            .collect();
        assert_eq!(places, ["1:8", "1:11", "1:19", "1:37"]);
    }

    #[test]
    fn a_mark_of_the_byte_order_is_no_part_of_the_text() {
        let node = parse("\u{feff}[true]").unwrap();
        assert_eq!(node.to_json(), serde_json::json!([true]));
    }

    #[test]
    fn what_a_config_cannot_hold_is_refused_at_its_place() {
        for (text, place, message) in [
            (
                "{\"a\": 1,\n \"a\": 2}",
                "2:2",
                "the key \"a\" stands twice in one object, first on line 1",
            ),
            (
                "[18446744073709551616]",
                "1:2",
                "\"18446744073709551616\" is an integer of more than 64 bits",
            ),
            ("[1e999]", "1:2", "\"1e999\" is no finite number"),
            ("[NaN]", "1:2", "no JSON: expected value"),
            ("[1,]", "1:4", "no JSON: expected value"),
            ("", "1:1", "no JSON: EOF while parsing a value"),
        ] {
            let problems = parse(text).unwrap_err();
            let problem = problems.iter().next().unwrap();
            assert_eq!(
                (
                    problem.place.unwrap().to_string().as_str(),
                    problem.message.as_str()
                ),
                (place, message)
            );
        }
        let deep = "[".repeat(65) + &"]".repeat(65);
        assert!(parse(&deep).is_err());
        assert!(parse(&deep[1..129]).is_ok());
    }
}
