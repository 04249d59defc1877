//! What a table of keys is made of: objects, their keys, and what each key takes.
//!
//! The tables themselves are in [`crate::table`]. From them come the checks, the defaults, how an override is merged, and
//! the JSON schema; nothing else lists keys.

use eagleray_types::{
    control::DeploymentOptions,
    options::{DeploymentOption, Takes as Range, Value as OptionValue},
};
use serde_json::{Map, Value as Json};

use crate::together::Together;

/// A mapping whose keys are known.
#[derive(Debug)]
pub struct Object {
    /// How messages name it: the key that holds it, mostly.
    pub name: &'static str,
    pub help: &'static str,
    pub keys: &'static [Key],
    /// Old names of keys, and today's of the same meaning.
    pub renamed: &'static [(&'static str, &'static str)],
    /// What people write here that belongs elsewhere or is gone, and what to do instead.
    pub instead: &'static [(&'static str, &'static str)],
    /// Whether keys that begin with `x-` are passed over: a place for what YAML's anchors are set on.
    pub own_keys: bool,
    /// Rules across keys, asked after each of them; one that is wrong by itself may have any type.
    pub(crate) together: fn(&mut Together<'_>),
}

/// One row of a table.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    pub name: &'static str,
    pub takes: Takes,
    pub default: Default,
    pub standing: Standing,
    /// One line for people; that of [`DeploymentOption`] where this is one.
    pub help: &'static str,
}

/// What holds where a key is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Default {
    /// It must not be left out.
    Required,
    /// JSON.
    Is(&'static str),
    /// That of the option of the same name.
    Options,
}

/// What becomes of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Obeyed,
    /// It is checked and kept, and nothing obeys it yet: said in a warning, with what happens instead.
    Kept(&'static str),
    /// Refused, since the wrong thing would run without it; unless it says nothing, or is one of the default's names.
    Later {
        instead: &'static str,
        unless: &'static [&'static str],
    },
}

/// The values that a key takes.
#[derive(Clone, Copy, Debug)]
pub enum Takes {
    Flag,
    /// From the first to the second.
    Whole(i64, i64),
    /// From the first to the second.
    Within(f64, f64),
    /// Finite and above zero.
    Positive,
    /// One of these numbers.
    Choice(&'static [i64]),
    Text(Rule),
    /// One of these words, in any case of letters if `any_case`.
    Word {
        words: &'static [&'static str],
        any_case: bool,
    },
    /// A level of Python's `logging`: a name in any case of letters, or a number.
    Level,
    /// What the row of the same name among the options of deployments takes; zero only if `zero`, and a number that is
    /// written as text only if `as_text`.
    Option {
        zero: bool,
        as_text: bool,
    },
    /// As [`Takes::Option`] without text, or the word `auto`.
    OptionOrAuto,
    List(&'static Takes),
    /// A mapping of names that are the user's.
    Named(Rule, &'static Takes),
    Object(&'static Object),
    /// The user's own: whatever JSON can hold.
    Json,
    /// The user's own mapping.
    JsonObject,
    OrNull(&'static Takes),
}

/// What a text must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    Any,
    NotEmpty,
    /// Of an application or a deployment.
    Name,
    RoutePrefix,
    RootPath,
    /// `module:attribute`, or `module.attribute`.
    ImportPath,
    RemoteUri,
    EnvironmentVariable,
    Resource,
}

/// The values of a number, for messages and for the schema.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    pub least: f64,
    pub most: f64,
    /// Whether zero is left out though it lies between.
    pub not_zero: bool,
    pub whole: bool,
}

impl Object {
    pub fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// `given`, and the defaults of all that it leaves out, in nested objects too.
    pub fn with_defaults(&self, given: &Map<String, Json>) -> Map<String, Json> {
        let complete = |key: &Key| {
            let value = match given.get(key.name) {
                Some(value) => value.clone(),
                None => key.default_value()?,
            };
            let value = match (key.takes.object(), value) {
                (Some(object), Json::Object(map)) => object.with_defaults(&map).into(),
                (_, value) => value,
            };
            Some((key.name.to_owned(), value))
        };
        self.keys.iter().filter_map(complete).collect()
    }
}

impl Key {
    /// None where there is no default.
    pub fn default_value(&self) -> Option<Json> {
        match self.default {
            Default::Required => None,
            // The tables are ours, and a test reads every default.
            Default::Is(json) => Some(serde_json::from_str(json).unwrap_or(Json::Null)),
            Default::Options => {
                self.option()
                    .map(|option| match option.of(&DeploymentOptions::standard()) {
                        OptionValue::Whole(whole) => crate::node::whole_json(whole),
                        OptionValue::Number(number) => number.into(),
                        OptionValue::Flag(flag) => flag.into(),
                        OptionValue::Text(text) => text.into(),
                        OptionValue::Numbers(_) | OptionValue::Texts(_) => Json::Object(Map::new()),
                    })
            }
        }
    }

    /// The row of the same name among the options of deployments.
    pub fn option(&self) -> Option<&'static DeploymentOption> {
        DeploymentOption::ALL
            .iter()
            .find(|option| option.key == self.name)
    }

    pub fn help(&self) -> &'static str {
        match self.option() {
            Some(option) if self.help.is_empty() => option.help,
            _ => self.help,
        }
    }
}

impl Takes {
    /// Without what makes null a value too.
    pub fn inner(&self) -> &Self {
        match self {
            Self::OrNull(inner) => inner.inner(),
            other => other,
        }
    }

    pub fn object(&self) -> Option<&'static Object> {
        match self.inner() {
            Self::Object(object) => Some(object),
            _ => None,
        }
    }

    /// Of what takes numbers. `key` is the row that has it.
    pub fn bounds(&self, key: &Key) -> Option<Bounds> {
        let bounds = |least, most, not_zero, whole| Bounds {
            least,
            most,
            not_zero,
            whole,
        };
        Some(match *self.inner() {
            Self::Whole(least, most) => bounds(least as f64, most as f64, false, true),
            Self::Within(least, most) => bounds(least, most, false, false),
            Self::Positive => bounds(0.0, f64::INFINITY, true, false),
            Self::Option { zero, .. } => option_bounds(key.option()?, !zero),
            Self::OptionOrAuto => option_bounds(key.option()?, true),
            _ => return None,
        })
    }
}

/// Up to here every whole number is exact in JSON: 2⁵³.
pub(crate) const EXACT: f64 = 9_007_199_254_740_992.0;

fn option_bounds(option: &DeploymentOption, not_zero: bool) -> Bounds {
    let (least, most) = match option.takes {
        Range::Within(least, most) => (least, most),
        Range::MoreThanZero(most) => (0.0, most),
        Range::Anything | Range::OneOf(_) => (f64::NEG_INFINITY, f64::INFINITY),
    };
    // As far as its type goes, and a number of JSON is exact.
    let holds = |whole| {
        option
            .give(
                &mut DeploymentOptions::standard(),
                OptionValue::Whole(whole),
            )
            .is_ok()
    };
    let most = match (option.of(&DeploymentOptions::standard()), holds(1 << 32)) {
        (OptionValue::Whole(_), true) => most.min(EXACT),
        (OptionValue::Whole(_), false) => most.min(f64::from(u32::MAX)),
        _ => most,
    };
    let of_zero = matches!(option.takes, Range::MoreThanZero(_)) || not_zero;
    Bounds {
        least,
        most,
        not_zero: of_zero,
        whole: matches!(
            option.of(&DeploymentOptions::standard()),
            OptionValue::Whole(_)
        ),
    }
}

impl Bounds {
    pub fn take(&self, number: f64) -> bool {
        (self.least..=self.most).contains(&number) && !(self.not_zero && number == 0.0)
    }
}

impl std::fmt::Display for Bounds {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = if self.whole {
            "a whole number"
        } else {
            "a number"
        };
        // A whole number above zero is one at least.
        let least = if self.not_zero && self.least == 0.0 && self.whole {
            1.0
        } else {
            self.least
        };
        let above = self.not_zero && least == 0.0;
        let bounded = self.most < EXACT;
        match (above, bounded) {
            (true, false) => write!(formatter, "{kind} above 0"),
            (true, true) => write!(formatter, "{kind} above 0 and at most {}", self.most),
            (false, _) if least <= f64::MIN => formatter.write_str(kind),
            (false, false) => write!(formatter, "{kind} of at least {least}"),
            (false, true) => write!(formatter, "{kind} from {least} to {}", self.most),
        }?;
        if self.not_zero && self.least < 0.0 {
            formatter.write_str(", not 0")?;
        }
        Ok(())
    }
}
