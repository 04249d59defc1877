//! YAML means what `PyYAML`'s `SafeLoader` makes of it: a table of snippets that `scripts/yaml_table.py` writes.
//!
//! Where the two differ, the snippet stands below with the way in which it does, so that no other difference comes in
//! unseen. The parser follows YAML 1.2 in what is text and what is structure; scalars are read as in 1.1.

use eagleray_config::{Format, values};
use serde_json::Value;

/// Snippets that are taken here and refused there.
const TAKEN: [&str; 24] = [
    // White space: tabs where they indent nothing.
    "-\ta",
    "a: b\t",
    "\ta: 1",
    "a: 1\t# x",
    "a: [1,\t2]",
    // In flow collections, `:` and `?` within a word are part of it.
    "[:30]",
    "{:30: 1}",
    "[:a]",
    "[a?b]",
    "[a ? b]",
    // A key that is left out is null.
    ": a",
    ": a\nb: c",
    "{: 1}",
    // A tag or an anchor without a value.
    "[!]",
    "[!!str]",
    "[!!null]",
    "&: a",
    "&: 1",
    "{&: 1}",
    "a: &x&y 1",
    // An anchor may be set anew.
    "a: &x 1\nb: &x 2\nc: *x",
    "...",
    "%YAML 2.0\n---\na",
    // There the flag and the number are one key.
    "{1: a, 2.5: b, ~: c, yes: d}",
];

/// Snippets that are refused here and taken there.
const REFUSED: [&str; 12] = [
    "[-]",
    "?",
    "- ?",
    // Half of a character each.
    "\"\\ud83d\\ude00\"",
    "key: \"\\ud83d\\ude00\"",
    "- \"\\ud83d\\ude00\"",
    "[\"\\ud83d\\ude00\"]",
    "{\"\\ud83d\\ude00\": 1}",
    "\"\\ud83d\\ude00\": 1",
    // Two ways to write one key.
    "yes: 1\ntrue: 2",
    // A text in quotes goes on further to the left.
    "a: 'b\nc'",
    "a: b\u{85}c: d",
];

/// Snippets that mean something else, and what they mean here.
const OTHER: [(&str, &str); 5] = [
    ("{1.e-5: 1}", "{\"0.00001\":1}"),
    ("1.e-5: 1", "{\"0.00001\":1}"),
    ("[?]", "[\"?\"]"),
    ("{?: 1}", "{\"?\":1}"),
    ("[?a]", "[\"?a\"]"),
];

// contract: 5/yaml
#[test]
fn snippets_are_read_as_pyyaml_reads_them() {
    let rows: Vec<Value> = serde_json::from_str(include_str!("pyyaml.json")).unwrap();
    assert!(rows.len() > 2_000);
    let mut unknown = Vec::new();
    let mut known = 0;
    for row in rows {
        let text = row["yaml"].as_str().unwrap();
        let found = values(text, Format::Yaml).map(|node| node.to_json());
        let json = row.get("json");
        let same = match &found {
            Ok(found) => json == Some(found),
            Err(_) => json.is_none(),
        };
        if same {
            continue;
        }
        let listed = match &found {
            Ok(found) => {
                TAKEN.contains(&text) || OTHER.contains(&(text, found.to_string().as_str()))
            }
            Err(_) => REFUSED.contains(&text),
        };
        if listed {
            known += 1;
        } else {
            let found = found.map_err(|problems| problems.render("yaml"));
            unknown.push(format!("{text:?}: {json:?} there, {found:?} here"));
        }
    }
    assert!(unknown.is_empty(), "{}", unknown.join("\n"));
    assert_eq!(
        known,
        TAKEN.len() + REFUSED.len() + OTHER.len(),
        "one differs no longer"
    );
}
