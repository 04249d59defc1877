//! Why a command cannot go on: what happened, where, and what to do next.

use std::ops::{Deref, DerefMut};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    exit::Exit,
    output::{complain, remark, say},
};

/// What a verb comes to.
pub(crate) type Outcome<T = Exit> = Result<T, Trouble>;

/// The one error object of the command line and of REST, and how the command ends by it.
///
/// Behind a pointer, since it is rare and what is returned beside it is small.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Trouble(Box<Words>);

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Words {
    pub(crate) exit: Exit,
    /// A stable word.
    pub(crate) code: String,
    pub(crate) message: String,
    /// `shop.yaml:9:5`; or empty.
    pub(crate) place: String,
    /// What to do next, a line each.
    pub(crate) help: Vec<String>,
    pub(crate) problems: Vec<Flaw>,
}

/// One of several things that are wrong with what was sent.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Flaw {
    pub(crate) message: String,
    #[serde(rename = "where")]
    pub(crate) place: String,
    pub(crate) path: String,
    pub(crate) help: Help,
}

/// Lines of help, which some write as one text.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub(crate) enum Help {
    One(String),
    Many(Vec<String>),
}

impl Default for Help {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl Help {
    pub(crate) fn lines(self) -> Vec<String> {
        let lines = match self {
            Self::One(text) => vec![text],
            Self::Many(lines) => lines,
        };
        lines.into_iter().filter(|line| !line.is_empty()).collect()
    }
}

impl Trouble {
    pub(crate) fn new(exit: Exit, code: &str, message: impl Into<String>) -> Self {
        Self(Box::new(Words {
            exit,
            code: code.to_owned(),
            message: message.into(),
            place: String::new(),
            help: Vec::new(),
            problems: Vec::new(),
        }))
    }

    pub(crate) fn help(mut self, line: impl Into<String>) -> Self {
        self.help.push(line.into());
        self
    }

    /// On standard error; as JSON on standard output if that is what is read there.
    pub(crate) fn tell(&self, as_json: bool) {
        if as_json {
            say(&self.json().to_string());
            return;
        }
        remark(&self.flaws());
        complain(&self.text());
    }

    fn json(&self) -> Value {
        let mut object = json!({"code": self.code, "message": self.message, "where": self.place, "help": self.help});
        if !self.problems.is_empty()
            && let Some(object) = object.as_object_mut()
        {
            let problems = self.problems.iter().map(|flaw| {
                json!({"message": flaw.message, "where": flaw.place, "path": flaw.path, "help": flaw.help.clone().lines()})
            });
            object.insert("problems".to_owned(), problems.collect());
        }
        object
    }

    /// As `eagleray config check` writes what is wrong with a file.
    fn flaws(&self) -> String {
        let mut out = String::new();
        for flaw in &self.problems {
            let parts = [&flaw.place, &flaw.path, &flaw.message];
            let parts: Vec<&str> = parts
                .into_iter()
                .map(String::as_str)
                .filter(|part| !part.is_empty())
                .collect();
            out.push_str(&parts.join(": "));
            out.push('\n');
            for line in flaw.help.clone().lines() {
                out.extend(["  help: ", &line, "\n"]);
            }
        }
        out
    }

    fn text(&self) -> String {
        let mut out = self.message.trim_end().to_owned();
        if !self.place.is_empty() {
            out.extend(["\n  where: ", &self.place]);
        }
        for line in &self.help {
            out.extend(["\n  help: ", line]);
        }
        out
    }
}

impl Deref for Trouble {
    type Target = Words;

    fn deref(&self) -> &Words {
        &self.0
    }
}

impl DerefMut for Trouble {
    fn deref_mut(&mut self) -> &mut Words {
        &mut self.0
    }
}

impl From<String> for Trouble {
    fn from(message: String) -> Self {
        Trouble::new(Exit::Failed, "failed", message)
    }
}
