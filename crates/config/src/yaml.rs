//! YAML as nodes.
//!
//! The events come from a parser that bounds how deep flow collections nest; what is built from them is bounded here,
//! with aliases counted as often as they are used, so that a small text cannot stand for a large value. One document,
//! each key once. The stack is ours: no text makes this recurse.

use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError};

use crate::{
    node::{Entry, MOST_DEPTH, MOST_NODES, Node, Place, Value, quoted},
    problem::{Problem, Problems, Stage},
    scalar,
};

/// # Errors
/// The text is no YAML, or has what a config cannot hold. The first is all that can be said: what follows a mistake
/// in the syntax has no certain meaning.
pub(crate) fn parse(text: &str) -> Result<Node, Problems> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    printable(text)
        .and_then(|()| few_commas(text))
        .and_then(|()| Builder::default().run(text))
        .map_err(Problems::one)
}

/// The parser reads a flow collection of one line to its end before it says that it begins, which might be a key. So what
/// is long in this way is refused before.
fn few_commas(text: &str) -> Result<(), Problem> {
    const MOST: usize = 2 * MOST_NODES;
    let place = || {
        let (at, _) = text.match_indices(',').nth(MOST)?;
        Some(Place::of_byte(text.as_bytes(), at))
    };
    match place() {
        None => Ok(()),
        Some(place) => {
            let message =
                format!("more than {MOST} commas, which are more values than a config has");
            Err(syntax(place, &message, ""))
        }
    }
}

/// Characters that YAML does not have: the parser passes some of them on.
fn printable(text: &str) -> Result<(), Problem> {
    let is_printable = |character: char| match character {
        '\t' | '\n' | '\r' | '\u{85}' => true,
        '\u{fffe}' | '\u{ffff}' => false,
        other => !other.is_control(),
    };
    match text
        .char_indices()
        .find(|(_, character)| !is_printable(*character))
    {
        None => Ok(()),
        Some((at, character)) => {
            let message = format!(
                "the character U+{:04X}, which YAML does not take",
                u32::from(character)
            );
            Err(syntax(Place::of_byte(text.as_bytes(), at), &message, ""))
        }
    }
}

/// A text that is longer counts as more than one value, so that aliases of long texts are bounded too.
const BYTES_OF_ONE: usize = 256;

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    /// Finished values that have an anchor, and how many each counts as.
    anchors: HashMap<usize, (Node, usize)>,
    /// How many values were made, copies for aliases among them.
    made: usize,
    root: Option<Node>,
}

/// A collection whose end has not been read.
struct Open {
    place: Place,
    anchor: usize,
    made_before: usize,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    Map(Mapping),
}

#[derive(Default)]
struct Mapping {
    entries: Vec<Entry>,
    seen: HashMap<String, Option<Place>>,
    /// The key whose value comes next.
    key: Option<(Key, Place)>,
    /// What `<<` named, first to last.
    merged: Vec<Vec<Entry>>,
}

enum Key {
    Merge,
    Text(String),
}

impl Builder {
    fn run(mut self, text: &str) -> Result<Node, Problem> {
        let mut documents = 0;
        let characters = text.chars().count();
        for event in Parser::new_from_str(text) {
            let (event, span) = event.map_err(|error| malformed(text, &error))?;
            let place = place(&span.start);
            match event {
                Event::DocumentStart(_) => {
                    documents += 1;
                    if documents > 1 {
                        let help =
                            "put each into a file of its own, or all applications into one list";
                        return Err(syntax(place, "a second document begins", help));
                    }
                }
                Event::Alias(anchor) => self.alias(place, anchor)?,
                Event::Scalar(value, style, anchor, tag) => {
                    let plain = style == ScalarStyle::Plain;
                    let tag = scalar_tag(place, tag.as_deref())?;
                    let ends_text = span.end.index() >= characters && !text.ends_with('\n');
                    let block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
                    // A last line without its end has none in the value either.
                    let value = match value.strip_suffix('\n') {
                        Some(bare) if block && ends_text => bare,
                        _ => &value,
                    };
                    self.scalar(place, value, plain, tag, anchor)?;
                }
                Event::SequenceStart(anchor, tag) => {
                    collection_tag(place, tag.as_deref(), "seq")?;
                    self.begin(place, anchor, Content::List(Vec::new()))?;
                }
                Event::MappingStart(anchor, tag) => {
                    collection_tag(place, tag.as_deref(), "map")?;
                    self.begin(place, anchor, Content::Map(Mapping::default()))?;
                }
                Event::SequenceEnd | Event::MappingEnd => self.end()?,
                Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
            }
        }
        Ok(self.root.unwrap_or(Node::new(Place::START, Value::Null)))
    }

    fn scalar(
        &mut self,
        place: Place,
        text: &str,
        plain: bool,
        tag: Option<scalar::Tag>,
        anchor: usize,
    ) -> Result<(), Problem> {
        if plain && tag.is_none() && text == "<<" && self.awaits_key() {
            return self.merge_key(place);
        }
        let value = match tag {
            Some(tag) => scalar::tagged(tag, text),
            // As a key the special value is text.
            None if plain && !(text == "=" && self.awaits_key()) => scalar::plain(text),
            None => Ok(Value::Text(text.to_owned())),
        };
        let value = value.map_err(|why| syntax(place, &format!("{} {why}", quoted(text)), ""))?;
        let written = match value {
            Value::Text(_) => None,
            _ => Some(text.into()),
        };
        let size = 1 + text.len() / BYTES_OF_ONE;
        self.count(place, size)?;
        let node = Node {
            place: Some(place),
            value,
            written,
        };
        self.keep(anchor, &node, size)?;
        self.put(node)
    }

    fn begin(&mut self, place: Place, anchor: usize, content: Content) -> Result<(), Problem> {
        self.count(place, 1)?;
        if self.open.len() == MOST_DEPTH {
            return Err(too_deep(place));
        }
        if self.awaits_key() {
            let help = "keys are texts; write it in quotes if it is meant as one";
            return Err(syntax(place, "a list or a mapping cannot be a key", help));
        }
        self.open.push(Open {
            place,
            anchor,
            made_before: self.made - 1,
            content,
        });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Problem> {
        let Some(open) = self.open.pop() else {
            return Ok(());
        };
        let value = match open.content {
            Content::List(list) => Value::List(list),
            Content::Map(mapping) => Value::Map(mapping.finish()),
        };
        let node = Node::new(open.place, value);
        self.keep(open.anchor, &node, self.made - open.made_before)?;
        self.put(node)
    }

    fn alias(&mut self, place: Place, anchor: usize) -> Result<(), Problem> {
        let Some((_, size)) = self.anchors.get(&anchor) else {
            return Err(syntax(
                place,
                "this alias is part of what it stands for",
                "",
            ));
        };
        self.count(place, *size)?;
        let node = self.anchors[&anchor].0.clone();
        if self.open.len() + depth(&node) > MOST_DEPTH {
            return Err(too_deep(place));
        }
        self.put(node)
    }

    /// Keeps a copy of what has an anchor. It counts as often as it is copied.
    fn keep(&mut self, anchor: usize, node: &Node, size: usize) -> Result<(), Problem> {
        if anchor > 0 {
            self.count(node.place.unwrap_or(Place::START), size)?;
            self.anchors.insert(anchor, (node.clone(), size));
        }
        Ok(())
    }

    fn count(&mut self, place: Place, nodes: usize) -> Result<(), Problem> {
        self.made += nodes;
        if self.made > MOST_NODES {
            let message = format!(
                "more than {MOST_NODES} values, those that aliases stand for counted each time"
            );
            return Err(syntax(
                place,
                &message,
                "split the file, or leave out what no application needs",
            ));
        }
        Ok(())
    }

    fn awaits_key(&self) -> bool {
        match self.open.last() {
            Some(Open {
                content: Content::Map(mapping),
                ..
            }) => mapping.key.is_none(),
            _ => false,
        }
    }

    fn merge_key(&mut self, place: Place) -> Result<(), Problem> {
        if let Some(Open {
            content: Content::Map(mapping),
            ..
        }) = self.open.last_mut()
        {
            if !mapping.merged.is_empty() {
                let help = "give one a list: `<<: [*first, *second]`";
                return Err(syntax(place, "a second `<<` in one mapping", help));
            }
            mapping.key = Some((Key::Merge, place));
        }
        Ok(())
    }

    /// Puts a finished value where it belongs: into the collection that is open, as key or value.
    fn put(&mut self, node: Node) -> Result<(), Problem> {
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut open.content {
            Content::List(list) => list.push(node),
            Content::Map(mapping) => match mapping.key.take() {
                None => mapping.begin(&node)?,
                Some((Key::Merge, place)) => mapping.merged = merged(place, node)?,
                Some((Key::Text(key), place)) => mapping.entries.push(Entry {
                    key,
                    place: Some(place),
                    value: node,
                }),
            },
        }
        Ok(())
    }
}

impl Mapping {
    fn begin(&mut self, key: &Node) -> Result<(), Problem> {
        let place = key.place.unwrap_or(Place::START);
        let name = match &key.value {
            Value::Text(text) => text.clone(),
            // As everywhere where a config goes as JSON: `1: a` is `"1": a`.
            Value::Null => "null".to_owned(),
            Value::Flag(flag) => flag.to_string(),
            Value::Whole(whole) => whole.to_string(),
            Value::Number(number) => serde_json::Value::from(*number).to_string(),
            Value::List(_) | Value::Map(_) => {
                return Err(syntax(
                    place,
                    "a list or a mapping cannot be a key",
                    "keys are texts",
                ));
            }
        };
        if let Some(first) = self.seen.insert(name.clone(), Some(place)) {
            let at = first.map_or_else(String::new, |first| {
                format!(", first on line {}", first.line)
            });
            let message = format!("the key {} stands twice in one mapping{at}", quoted(&name));
            return Err(syntax(place, &message, "leave one of them out"));
        }
        self.key = Some((Key::Text(name), place));
        Ok(())
    }

    /// All entries: those that were merged first, the mapping's own over them, and of several merged ones the first's.
    fn finish(self) -> Vec<Entry> {
        let mut entries = Vec::new();
        let mut taken = self.seen;
        for merged in self.merged {
            for entry in merged {
                if !taken.contains_key(&entry.key) {
                    taken.insert(entry.key.clone(), entry.place);
                    entries.push(entry);
                }
            }
        }
        entries.extend(self.entries);
        entries
    }
}

/// The mappings that `<<` names.
fn merged(place: Place, node: Node) -> Result<Vec<Vec<Entry>>, Problem> {
    let wrong = |place| syntax(place, "`<<` takes a mapping, or a list of mappings", "");
    match node.value {
        Value::Map(entries) => Ok(vec![entries]),
        Value::List(list) => list
            .into_iter()
            .map(|item| match item.value {
                Value::Map(entries) => Ok(entries),
                _ => Err(wrong(place)),
            })
            .collect(),
        _ => Err(wrong(place)),
    }
}

fn depth(node: &Node) -> usize {
    match &node.value {
        Value::List(list) => 1 + list.iter().map(depth).max().unwrap_or(0),
        Value::Map(entries) => {
            1 + entries
                .iter()
                .map(|entry| depth(&entry.value))
                .max()
                .unwrap_or(0)
        }
        _ => 0,
    }
}

fn scalar_tag(
    place: Place,
    tag: Option<&saphyr_parser::Tag>,
) -> Result<Option<scalar::Tag>, Problem> {
    let Some(tag) = tag else {
        return Ok(None);
    };
    match core_tag(tag) {
        Some("!") => Ok(None),
        Some("str") => Ok(Some(scalar::Tag::Text)),
        Some("int") => Ok(Some(scalar::Tag::Whole)),
        Some("float") => Ok(Some(scalar::Tag::Number)),
        Some("bool") => Ok(Some(scalar::Tag::Flag)),
        Some("null") => Ok(Some(scalar::Tag::Null)),
        _ => Err(unknown_tag(place, tag)),
    }
}

fn collection_tag(
    place: Place,
    tag: Option<&saphyr_parser::Tag>,
    own: &str,
) -> Result<(), Problem> {
    match tag {
        Some(tag) if !core_tag(tag).is_some_and(|name| name == own || name == "!") => {
            Err(unknown_tag(place, tag))
        }
        _ => Ok(()),
    }
}

/// The name of a tag of YAML's own; `!` for the tag that is `!` alone.
fn core_tag(tag: &saphyr_parser::Tag) -> Option<&str> {
    if tag.is_yaml_core_schema() {
        return Some(&tag.suffix);
    }
    match (tag.handle.as_str(), tag.suffix.as_str()) {
        ("", "!") | ("!", "") => Some("!"),
        ("", suffix) => suffix.strip_prefix("tag:yaml.org,2002:"),
        _ => None,
    }
}

fn unknown_tag(place: Place, tag: &saphyr_parser::Tag) -> Problem {
    let message = format!("the tag {} is not taken", quoted(&tag.to_string()));
    syntax(
        place,
        &message,
        "leave it out, or write the value in quotes",
    )
}

fn malformed(text: &str, error: &ScanError) -> Problem {
    // The parser sees one more line at the end.
    let end = Place::of_byte(text.as_bytes(), text.len());
    let place = place(error.marker()).min(end);
    if error.info() == "recursion limit exceeded" {
        // Its own bound is further out than ours.
        return too_deep(place);
    }
    let help = if error.info().contains("tab") {
        "indent with spaces; YAML takes no tabs there"
    } else {
        ""
    };
    syntax(place, &format!("no YAML: {}", error.info()), help)
}

fn place(marker: &Marker) -> Place {
    Place {
        line: marker.line() as u32,
        column: marker.col() as u32 + 1,
    }
}

fn too_deep(place: Place) -> Problem {
    syntax(
        place,
        &format!("values nest more than {MOST_DEPTH} deep"),
        "",
    )
}

fn syntax(place: Place, message: &str, help: &str) -> Problem {
    Problem {
        stage: Stage::Syntax,
        path: String::new(),
        place: Some(place),
        message: message.to_owned(),
        help: help.to_owned(),
    }
}
