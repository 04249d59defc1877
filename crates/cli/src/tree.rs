//! A status as text: mappings in their order, as YAML or JSON. Just enough of both to print; nothing is read.

use std::fmt::Write;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Tree {
    Null,
    Text(String),
    Number(f64),
    Count(u64),
    /// A number as JSON writes it.
    Other(String),
    List(Vec<Tree>),
    Map(Vec<(String, Tree)>),
}

impl Tree {
    pub(crate) fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }

    /// Keys in the order that the value has them in.
    pub(crate) fn of_json(value: &serde_json::Value) -> Self {
        use serde_json::Value;
        match value {
            Value::Null => Self::Null,
            Value::String(text) => Self::text(text),
            Value::Bool(_) | Value::Number(_) => Self::Other(value.to_string()),
            Value::Array(list) => Self::List(list.iter().map(Self::of_json).collect()),
            Value::Object(map) => Self::Map(
                map.iter()
                    .map(|(key, value)| (key.clone(), Self::of_json(value)))
                    .collect(),
            ),
        }
    }

    /// Of a map, at the top.
    pub(crate) fn sort_by_key(&mut self, place: impl Fn(&str) -> usize) {
        if let Self::Map(entries) = self {
            entries.sort_by_key(|(key, _)| place(key));
        }
    }

    /// Of a map, at the top.
    pub(crate) fn get_mut(&mut self, key: &str) -> Option<&mut Self> {
        let Self::Map(entries) = self else {
            return None;
        };
        let found = entries.iter_mut().find(|(name, _)| name == key);
        found.map(|(_, value)| value)
    }

    pub(crate) fn map<'a>(entries: impl IntoIterator<Item = (&'a str, Tree)>) -> Self {
        Self::Map(
            entries
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect(),
        )
    }

    /// With an empty line between the entries at the top if `spaced`.
    pub(crate) fn yaml(&self, spaced: bool) -> String {
        let mut out = String::new();
        let Self::Map(entries) = self else { return out };
        for (at, (key, value)) in entries.iter().enumerate() {
            if spaced && at > 0 {
                out.push('\n');
            }
            value.yaml_entry(key, 0, &mut out);
        }
        out
    }

    fn yaml_entry(&self, key: &str, depth: usize, out: &mut String) {
        let indent = "  ".repeat(depth);
        out.push_str(&indent);
        out.push_str(&yaml_scalar(key));
        out.push(':');
        match self {
            Self::Map(entries) if !entries.is_empty() => {
                out.push('\n');
                for (key, value) in entries {
                    value.yaml_entry(key, depth + 1, out);
                }
                return;
            }
            Self::Map(_) => out.push_str(" {}"),
            Self::List(items) if !items.is_empty() => {
                out.push('\n');
                for item in items {
                    item.yaml_item(depth, out);
                }
                return;
            }
            Self::List(_) => out.push_str(" []"),
            // Lines that can stand as they are; others are quoted.
            Self::Text(text) if text.contains('\n') && is_printable(text) => {
                // `|-`: no newline at the end; `|2`: the text itself begins with a space.
                let end = if text.ends_with('\n') { "" } else { "-" };
                let start = if text.starts_with([' ', '\n']) {
                    "2"
                } else {
                    ""
                };
                write!(out, " |{start}{end}").unwrap_or_default();
                for line in text.trim_end_matches('\n').split('\n') {
                    out.push('\n');
                    if !line.is_empty() {
                        out.push_str(&indent);
                        out.push_str("  ");
                        out.push_str(line);
                    }
                }
            }
            Self::Text(text) => {
                out.push(' ');
                out.push_str(&yaml_scalar(text));
            }
            scalar => {
                out.push(' ');
                out.push_str(&scalar.json());
            }
        }
        out.push('\n');
    }

    /// One of a list, whose dash stands where its key does.
    fn yaml_item(&self, depth: usize, out: &mut String) {
        let mut inner = String::new();
        match self {
            Self::Map(entries) if !entries.is_empty() => {
                for (key, value) in entries {
                    value.yaml_entry(key, depth + 1, &mut inner);
                }
            }
            Self::List(items) if !items.is_empty() => {
                for item in items {
                    item.yaml_item(depth + 1, &mut inner);
                }
            }
            // As the value of a key, without the key.
            scalar => {
                scalar.yaml_entry("x", depth, &mut inner);
                let value = inner.split_off("  ".repeat(depth).len() + "x:".len());
                inner = format!("{}  {}", "  ".repeat(depth), value.trim_start_matches(' '));
            }
        }
        let indent = "  ".repeat(depth);
        out.push_str(&indent);
        out.push_str("- ");
        out.push_str(inner.get(indent.len() + 2..).unwrap_or_default());
    }

    pub(crate) fn json(&self) -> String {
        let mut out = String::new();
        self.json_at(0, &mut out);
        out
    }

    fn json_at(&self, depth: usize, out: &mut String) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Text(text) => out.push_str(&serde_json::Value::from(text.as_str()).to_string()),
            Self::Number(number) => out.push_str(&serde_json::Value::from(*number).to_string()),
            Self::Count(count) => out.push_str(&count.to_string()),
            Self::Other(number) => out.push_str(number),
            Self::List(items) => {
                let items: Vec<String> = items.iter().map(Tree::json).collect();
                out.extend(["[", &items.join(", "), "]"]);
            }
            Self::Map(entries) if entries.is_empty() => out.push_str("{}"),
            Self::Map(entries) => {
                for (at, (key, value)) in entries.iter().enumerate() {
                    out.push_str(if at == 0 { "{\n" } else { ",\n" });
                    out.push_str(&"  ".repeat(depth + 1));
                    out.push_str(&serde_json::Value::from(key.as_str()).to_string());
                    out.push_str(": ");
                    value.json_at(depth + 1, out);
                }
                out.push('\n');
                out.push_str(&"  ".repeat(depth));
                out.push('}');
            }
        }
    }
}

/// A text as it stands if nobody could read it as something else, else in quotes.
fn yaml_scalar(text: &str) -> String {
    let bare = text.starts_with(|first: char| first.is_ascii_alphabetic() || "_/".contains(first))
        && text
            .chars()
            .all(|c| c.is_alphanumeric() || "_-./() ,:".contains(c))
        // A colon before a blank makes a key.
        && !text.contains(": ")
        && !text.ends_with([' ', ':'])
        && !["true", "false", "yes", "no", "on", "off", "null", "y", "n"]
            .contains(&text.to_ascii_lowercase().as_str());
    if bare {
        return text.to_owned();
    }
    // A node id is hex: bare unless a reader would take it for a number.
    let hex = text.len() >= 4 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte.eq_ignore_ascii_case(&b'e'));
    if hex && !number {
        return text.to_owned();
    }
    if is_printable(text) && !text.contains('\n') {
        return format!("'{}'", text.replace('\'', "''"));
    }
    // JSON strings are YAML strings.
    serde_json::Value::from(text).to_string()
}

fn is_printable(text: &str) -> bool {
    text.chars()
        .all(|character| character == '\n' || !character.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_mean_something_else_are_quoted() {
        for (text, expected) in [
            ("", "''"),
            ("RUNNING", "RUNNING"),
            ("it's: so", "'it''s: so'"),
            ("shop:app", "shop:app"),
            ("/", "/"),
            ("a: b", "'a: b'"),
            ("a:", "'a:'"),
            ("true", "'true'"),
            ("12", "'12'"),
            ("12e4", "'12e4'"),
            ("ab12", "ab12"),
            ("a\tb", "\"a\\tb\""),
        ] {
            assert_eq!(yaml_scalar(text), expected);
        }
    }

    #[test]
    fn a_message_of_many_lines_is_a_block() {
        let tree = Tree::map([("message", Tree::text("Traceback:\n  line 1\n\nValueError"))]);
        assert_eq!(
            tree.yaml(false),
            "message: |-\n  Traceback:\n    line 1\n\n  ValueError\n"
        );
    }

    #[test]
    fn a_config_reads_as_it_is_written() {
        let config = serde_json::json!({
            "name": "shop", "args": {}, "flag": true, "hosts": [],
            "deployments": [{"name": "Rank", "num_replicas": 2, "user_config": {"a": [1, "yes", [2]]}}, {"name": "Gate"}],
        });
        let text = Tree::of_json(&config).yaml(false);
        let expected = "\
name: shop
args: {}
flag: true
hosts: []
deployments:
- name: Rank
  num_replicas: 2
  user_config:
    a:
    - 1
    - 'yes'
    - - 2
- name: Gate
";
        let sorted = |text: &str| {
            let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        // Maps of JSON may be sorted here.
        assert_eq!(sorted(&text), sorted(expected), "{text}");
        let parsed = eagleray_config::values(&text, eagleray_config::Format::Yaml).expect("YAML");
        assert_eq!(parsed.to_json(), config);
    }
}
