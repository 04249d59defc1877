//! What is wrong with a config, or to be said about it: all of it at once, each with its place and what to do.

use std::fmt;

use crate::node::Place;

/// How many problems are kept; of the rest it is said how many there are.
pub const MOST_PROBLEMS: usize = 100;

/// What found a problem. A later stage is not reached while an earlier one has any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The file cannot be read, or is none.
    Read,
    /// The text is no YAML or JSON, or more of it than is taken.
    Syntax,
    /// A key is not known, a value not taken, or two things contradict each other.
    Schema,
    /// What is asked for is valid, and this release cannot do it.
    Support,
    /// The config does not fit the application's code.
    Code,
}

/// One thing that is wrong, or, as a warning, worth knowing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub stage: Stage,
    /// Where in the config: `applications[0].deployments[1].num_replicas`; empty for the whole.
    pub path: String,
    /// Where in the text; none if the config was made by code.
    pub place: Option<Place>,
    /// What is wrong, in one line. It does not repeat the path.
    pub message: String,
    /// What to do instead, in one line; may be empty.
    pub help: String,
}

/// Everything that is wrong, in the order of the text. Not empty where it is an error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems {
    list: Vec<Problem>,
    more: usize,
}

impl Problems {
    pub fn one(problem: Problem) -> Self {
        Self {
            list: vec![problem],
            more: 0,
        }
    }

    pub fn push(&mut self, problem: Problem) {
        if self.list.len() < MOST_PROBLEMS {
            self.list.push(problem);
        } else {
            self.more += 1;
        }
    }

    /// Whether no more are kept; then one more is counted, so that its text need not be made.
    pub(crate) fn counts_only(&mut self) -> bool {
        let full = self.list.len() == MOST_PROBLEMS;
        self.more += usize::from(full);
        full
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Up to [`MOST_PROBLEMS`] of them.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Problem> {
        self.list.iter()
    }

    /// How many were found beyond those.
    pub fn more(&self) -> usize {
        self.more
    }

    pub(crate) fn sort(&mut self) {
        self.list.sort_by_key(|problem| problem.place);
    }

    /// For a terminal: a line `FILE:LINE:COLUMN: PATH: MESSAGE` for each, and one with help below it.
    ///
    /// # Arguments
    /// `file`: how the text is named, such as the path that the user gave.
    pub fn render(&self, file: &str) -> String {
        self.lines(file, "")
    }

    /// As [`Problems::render`], of what is no mistake: each line says that it is a warning.
    pub fn render_warnings(&self, file: &str) -> String {
        self.lines(file, "warning: ")
    }

    fn lines(&self, file: &str, kind: &str) -> String {
        let more =
            (self.more > 0).then(|| format!("{file}: {kind}{} more like these\n", self.more));
        let lines = self.list.iter().map(|problem| problem.render(file, kind));
        lines.chain(more).collect()
    }
}

impl Problem {
    fn render(&self, file: &str, kind: &str) -> String {
        let place = self
            .place
            .map_or_else(String::new, |place| format!(":{place}"));
        let help = match self.help.as_str() {
            "" => String::new(),
            help => format!("  help: {help}\n"),
        };
        format!("{file}{place}: {kind}{self}\n{help}")
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(formatter, "{}: ", self.path)?;
        }
        formatter.write_str(&self.message)
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.render("config").trim_end())
    }
}

impl std::error::Error for Problems {}

/// A path from the root of a config to a value, made while walking and written out only for a problem.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Path<'a> {
    Root,
    Key(&'a Path<'a>, &'a str),
    Index(&'a Path<'a>, usize),
}

impl<'a> Path<'a> {
    pub(crate) fn key(&'a self, key: &'a str) -> Self {
        Self::Key(self, key)
    }

    pub(crate) fn index(&'a self, index: usize) -> Self {
        Self::Index(self, index)
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_name = |key: &str| {
            let word = |character: char| character.is_alphanumeric() || "_-".contains(character);
            (1..=60).contains(&key.len()) && key.chars().all(word)
        };
        match self {
            Self::Root => Ok(()),
            Self::Index(parent, index) => write!(formatter, "{parent}[{index}]"),
            Self::Key(parent, key) if !is_name(key) => {
                write!(formatter, "{parent}[{}]", crate::node::quoted(key))
            }
            Self::Key(Path::Root, key) => formatter.write_str(key),
            Self::Key(parent, key) => write!(formatter, "{parent}.{key}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_written_as_one_would_say_it() {
        let root = Path::Root;
        let (applications, environment) = (root.key("applications"), root.key("env_vars"));
        let (second, odd) = (applications.index(1), environment.key("a b"));
        assert_eq!(second.key("name").to_string(), "applications[1].name");
        assert_eq!(odd.to_string(), "env_vars[\"a b\"]");
    }

    #[test]
    fn a_terminal_gets_place_message_and_help_and_the_number_of_what_is_left_out() {
        let problem = Problem {
            stage: Stage::Schema,
            path: "applications[0].nam".to_owned(),
            place: Some(Place { line: 3, column: 5 }),
            message: "unknown key".to_owned(),
            help: "did you mean \"name\"?".to_owned(),
        };
        let mut problems = Problems::one(problem.clone());
        for _ in 0..MOST_PROBLEMS + 4 {
            problems.push(problem.clone());
        }
        let text = problems.render("app.yaml");
        let mut lines = text.lines();
        assert_eq!(
            lines.next(),
            Some("app.yaml:3:5: applications[0].nam: unknown key")
        );
        assert_eq!(lines.next(), Some("  help: did you mean \"name\"?"));
        assert_eq!(lines.next_back(), Some("app.yaml: 5 more like these"));
    }
}
