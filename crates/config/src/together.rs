//! What a rule across the keys of an object sees, and how it says that something is wrong.

use serde_json::{Map, Value as Json};

use crate::{
    node::{Node, Value},
    problem::{Path, Problem, Problems, Stage},
};

/// An object, for rules across its keys. Those that are wrong by themselves are there as they were written.
pub(crate) struct Together<'a> {
    pub(crate) map: &'a Map<String, Json>,
    pub(crate) node: &'a Node,
    pub(crate) path: &'a Path<'a>,
    pub(crate) problems: &'a mut Problems,
}

impl Together<'_> {
    pub(crate) fn number(&self, key: &str) -> Option<f64> {
        self.map.get(key).and_then(Json::as_f64)
    }

    /// Whether the key stands there and is not null.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.map.get(key).is_some_and(|value| !value.is_null())
    }

    /// Something is wrong with the value of `key`, seen with the others.
    pub(crate) fn wrong(&mut self, key: &str, message: String, help: &str) {
        self.wrong_at(&[], key, message, help);
    }

    /// The same, of a value within lists: `(list, index)` for each on the way to the object that has `key`.
    pub(crate) fn wrong_at(
        &mut self,
        within: &[(&str, usize)],
        key: &str,
        message: String,
        help: &str,
    ) {
        let mut node = self.node;
        let mut path = self.path.to_string();
        for (list, index) in within {
            if !path.is_empty() {
                path.push('.');
            }
            path = format!("{path}{list}[{index}]");
            match node.get(list).map(|node| &node.value) {
                Some(Value::List(items)) if *index < items.len() => node = &items[*index],
                _ => break,
            }
        }
        let separator = if path.is_empty() || key.is_empty() {
            ""
        } else {
            "."
        };
        let place = node.get(key).and_then(|value| value.place).or(node.place);
        self.problems.push(Problem {
            stage: Stage::Schema,
            path: format!("{path}{separator}{key}"),
            place,
            message,
            help: help.to_owned(),
        });
    }
}
