//! Nodes against a table: every mistake at once, and what is right as JSON.

use serde_json::{Map, Value as Json};

use crate::{
    nearest::nearest,
    node::{Entry, Node, Place, Value, quoted, whole_json},
    problem::{Path, Problem, Problems, Stage},
    shape::{Bounds, Key, Object, Rule, Standing, Takes},
    together::Together,
};

const LEVELS: [&str; 8] = [
    "CRITICAL", "FATAL", "ERROR", "WARN", "WARNING", "INFO", "DEBUG", "NOTSET",
];

/// What was found so far.
#[derive(Debug, Default)]
pub(crate) struct Check {
    pub(crate) problems: Problems,
    pub(crate) warnings: Problems,
}

impl Check {
    /// The object that `node` is, with the keys that it states; None if something is wrong with it.
    pub(crate) fn object(
        &mut self,
        object: &Object,
        node: &Node,
        path: &Path<'_>,
    ) -> Option<Map<String, Json>> {
        let Value::Map(entries) = &node.value else {
            let message = format!("must be a mapping of keys to values, got {}", node.shown());
            self.schema(path, node.place, message, String::new());
            return None;
        };
        let before = self.count();
        let mut map = Map::new();
        for entry in entries {
            if let Some((key, value)) = self.entry(object, entry, node, path) {
                map.insert(key.name.to_owned(), value);
            }
        }
        for key in object.keys {
            let required = key.default == crate::shape::Default::Required;
            if required && node.get(key.name).is_none() {
                let message = format!("{} is missing", quoted(key.name));
                self.schema(path, node.place, message, key.help().to_owned());
            }
        }
        // What is wrong in itself may contradict the rest too, and is seen as it was written.
        let mut seen = map.clone();
        if self.count() > before
            && let Json::Object(written) = node.to_json()
        {
            for (key, value) in written {
                seen.entry(key).or_insert(value);
            }
        }
        (object.together)(&mut Together {
            map: &seen,
            node,
            path,
            problems: &mut self.problems,
        });
        (self.count() == before).then_some(map)
    }

    fn entry(
        &mut self,
        object: &Object,
        entry: &Entry,
        node: &Node,
        path: &Path<'_>,
    ) -> Option<(&'static Key, Json)> {
        let path = path.key(&entry.key);
        if object.own_keys && entry.key.starts_with("x-") {
            return None;
        }
        if let Some(key) = object.key(&entry.key) {
            return self.key(key, &entry.value, &path).map(|value| (key, value));
        }
        let today = object.renamed.iter().find(|(old, _)| *old == entry.key);
        let Some((old, today)) = today else {
            self.unknown(object, entry, &path);
            return None;
        };
        if node.get(today).is_some() {
            let message = format!("{old} and {today} are one option");
            self.schema(
                &path,
                entry.place,
                message,
                format!("leave {old}, the old name, out"),
            );
            return None;
        }
        let message = "an old name".to_owned();
        self.warn(&path, entry.place, message, format!("write {today}"));
        let key = object.key(today)?;
        self.key(key, &entry.value, &path).map(|value| (key, value))
    }

    fn unknown(&mut self, object: &Object, entry: &Entry, path: &Path<'_>) {
        if self.problems.counts_only() {
            return;
        }
        let instead = object.instead.iter().find(|(key, _)| *key == entry.key);
        let help = match instead {
            Some((_, instead)) => (*instead).to_owned(),
            None => help(&entry.key, object),
        };
        let message = format!("unknown key {} in {}", quoted(&entry.key), object.name);
        self.schema(path, entry.place, message, help);
    }

    fn key(&mut self, key: &'static Key, node: &Node, path: &Path<'_>) -> Option<Json> {
        let value = self.value(&key.takes, key, node, path)?;
        match key.standing {
            Standing::Obeyed => {}
            Standing::Kept(instead) => {
                if node.says_something() && key.default_value().as_ref() != Some(&value) {
                    let message = "kept, and without effect in this release".to_owned();
                    self.warn(path, node.place, message, instead.to_owned());
                }
            }
            Standing::Later { instead, unless } => {
                let usual = key.default_value().as_ref() == Some(&value)
                    || value.as_str().is_some_and(|text| unless.contains(&text));
                if node.says_something() && !usual {
                    self.problems.push(Problem {
                        stage: Stage::Support,
                        path: path.to_string(),
                        place: node.place,
                        message: "not available in this release, and not ignored either".to_owned(),
                        help: instead.to_owned(),
                    });
                    return None;
                }
            }
        }
        Some(value)
    }

    fn value(
        &mut self,
        takes: &Takes,
        key: &'static Key,
        node: &Node,
        path: &Path<'_>,
    ) -> Option<Json> {
        match takes {
            Takes::OrNull(_) if node.value == Value::Null => Some(Json::Null),
            Takes::OrNull(inner) => self.value(inner, key, node, path),
            Takes::Flag => self.flag(node, path),
            Takes::Whole(..) | Takes::Within(..) | Takes::Positive => {
                self.number(takes, key, node, path, true)
            }
            Takes::Option { as_text, .. } => self.number(takes, key, node, path, *as_text),
            Takes::OptionOrAuto => match &node.value {
                Value::Text(word) if word == "auto" => Some(Json::from("auto")),
                _ => self.number(takes, key, node, path, false),
            },
            Takes::Choice(numbers) => match node.value {
                Value::Whole(whole)
                    if numbers.iter().any(|number| whole == i128::from(*number)) =>
                {
                    Some(whole_json(whole))
                }
                _ => {
                    let numbers: Vec<_> = numbers.iter().map(ToString::to_string).collect();
                    self.wrong(&format!("be {}", numbers.join(" or ")), node, path)
                }
            },
            Takes::Text(rule) => self.text(*rule, node, path),
            Takes::Word { words, any_case } => self.word(words, *any_case, node, path),
            Takes::Level => match node.value {
                Value::Whole(level) if (0..=i128::from(i32::MAX)).contains(&level) => {
                    Some(whole_json(level))
                }
                _ => self.word(&LEVELS, true, node, path),
            },
            Takes::List(each) => self.list(each, key, node, path),
            Takes::Named(rule, each) => self.named(*rule, each, key, node, path),
            Takes::Object(object) => self.object(object, node, path).map(Json::Object),
            Takes::Json => Some(node.to_json()),
            Takes::JsonObject => match &node.value {
                Value::Map(_) => Some(node.to_json()),
                _ => self.wrong("be a mapping", node, path),
            },
        }
    }

    fn flag(&mut self, node: &Node, path: &Path<'_>) -> Option<Json> {
        // The words that pydantic takes for flags, since that is what reads these files elsewhere.
        let flag = match &node.value {
            Value::Flag(flag) => Some(*flag),
            Value::Whole(0) => Some(false),
            Value::Whole(1) => Some(true),
            Value::Text(text) => match text.to_lowercase().as_str() {
                "true" | "t" | "yes" | "y" | "on" | "1" => Some(true),
                "false" | "f" | "no" | "n" | "off" | "0" => Some(false),
                _ => None,
            },
            _ => None,
        };
        match flag {
            Some(flag) => Some(Json::Bool(flag)),
            None => self.wrong("be true or false", node, path),
        }
    }

    fn number(
        &mut self,
        takes: &Takes,
        key: &'static Key,
        node: &Node,
        path: &Path<'_>,
        as_text: bool,
    ) -> Option<Json> {
        let bounds = takes.bounds(key)?;
        let found = match &node.value {
            Value::Whole(whole) if bounds.whole => Some(whole_json(*whole)),
            Value::Whole(whole) => Some(Json::from(*whole as f64)),
            Value::Number(number) => of_number(*number, &bounds),
            Value::Text(text) if as_text => text
                .trim()
                .parse()
                .ok()
                .and_then(|number: f64| of_number(number, &bounds)),
            _ => None,
        };
        let fits = |json: &Json| json.as_f64().is_some_and(|number| bounds.take(number));
        if let Some(json) = found.filter(fits) {
            return Some(json);
        }
        let auto = if matches!(takes.inner(), Takes::OptionOrAuto) {
            ", or \"auto\""
        } else {
            ""
        };
        self.wrong(&format!("be {bounds}{auto}"), node, path)
    }

    fn text(&mut self, rule: Rule, node: &Node, path: &Path<'_>) -> Option<Json> {
        let Value::Text(text) = &node.value else {
            return self.wrong("be a text", node, path);
        };
        if let Err((must, help)) = rule.check(text) {
            self.schema(path, node.place, format!("must {must}"), help.to_owned());
            return None;
        }
        Some(Json::from(text.as_str()))
    }

    fn word(
        &mut self,
        words: &[&'static str],
        any_case: bool,
        node: &Node,
        path: &Path<'_>,
    ) -> Option<Json> {
        if let Value::Text(text) = &node.value {
            let same =
                |word: &&&str| **word == text || (any_case && word.eq_ignore_ascii_case(text));
            if let Some(word) = words.iter().find(same) {
                return Some(Json::from(*word));
            }
            if self.problems.counts_only() {
                return None;
            }
            if let Some(near) = nearest(text, words.iter().copied()) {
                let message = format!("must be one of {}, got {}", words.join(", "), node.shown());
                self.schema(path, node.place, message, format!("did you mean {near:?}?"));
                return None;
            }
        }
        self.wrong(&format!("be one of {}", words.join(", ")), node, path)
    }

    fn list(
        &mut self,
        each: &Takes,
        key: &'static Key,
        node: &Node,
        path: &Path<'_>,
    ) -> Option<Json> {
        let Value::List(items) = &node.value else {
            return self.wrong("be a list", node, path);
        };
        let mut list = Vec::new();
        for (index, item) in items.iter().enumerate() {
            list.extend(self.value(each, key, item, &path.index(index)));
        }
        (list.len() == items.len()).then_some(Json::Array(list))
    }

    fn named(
        &mut self,
        rule: Rule,
        each: &Takes,
        key: &'static Key,
        node: &Node,
        path: &Path<'_>,
    ) -> Option<Json> {
        let Value::Map(entries) = &node.value else {
            return self.wrong("be a mapping", node, path);
        };
        let mut map = Map::new();
        for entry in entries {
            let path = path.key(&entry.key);
            if let Err((must, help)) = rule.check(&entry.key) {
                self.schema(
                    &path,
                    entry.place,
                    format!("the key must {must}"),
                    help.to_owned(),
                );
            } else if let Some(value) = self.value(each, key, &entry.value, &path) {
                map.insert(entry.key.clone(), value);
            }
        }
        (map.len() == entries.len()).then_some(Json::Object(map))
    }

    /// A value that is not what it must be.
    fn wrong(&mut self, must: &str, node: &Node, path: &Path<'_>) -> Option<Json> {
        let quote = must == "be a text"
            && !matches!(node.value, Value::Null | Value::List(_) | Value::Map(_));
        let help = match &node.written {
            Some(written) if quote && written.len() <= 60 => {
                format!("write it in quotes: \"{written}\"")
            }
            _ if quote => "write it in quotes".to_owned(),
            _ if node.value == Value::Null => "leave the key out for its default".to_owned(),
            _ => String::new(),
        };
        self.schema(
            path,
            node.place,
            format!("must {must}, got {}", node.shown()),
            help,
        );
        None
    }

    fn schema(&mut self, path: &Path<'_>, place: Option<Place>, message: String, help: String) {
        self.problems.push(Problem {
            stage: Stage::Schema,
            path: path.to_string(),
            place,
            message,
            help,
        });
    }

    fn warn(&mut self, path: &Path<'_>, place: Option<Place>, message: String, help: String) {
        self.warnings.push(Problem {
            stage: Stage::Support,
            path: path.to_string(),
            place,
            message,
            help,
        });
    }

    fn count(&self) -> usize {
        self.problems.iter().len() + self.problems.more()
    }
}

/// What to write instead of a key that `object` does not know.
fn help(written: &str, object: &Object) -> String {
    let names = || object.keys.iter().map(|key| key.name);
    if let Some(near) = nearest(written, names()) {
        return format!("did you mean {near:?}?");
    }
    format!("known are {}", names().collect::<Vec<_>>().join(", "))
}

/// A number where one within `bounds` is wanted: a whole one without a fraction.
fn of_number(number: f64, bounds: &Bounds) -> Option<Json> {
    if !bounds.whole {
        return number.is_finite().then(|| Json::from(number));
    }
    let exact = number.fract() == 0.0 && number.abs() < 2_f64.powi(53);
    exact.then(|| Json::from(number as i64))
}
