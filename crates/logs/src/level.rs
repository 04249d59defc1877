//! How much a line matters, and who wrote it.

/// In order. Python's names; those of the native processes are read too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Debug,
    #[default]
    Info,
    Warning,
    Error,
    Critical,
}

impl Level {
    /// In any case.
    pub fn parse(text: &str) -> Option<Self> {
        const NAMES: [(&str, Level); 9] = [
            ("INFO", Level::Info),
            ("WARNING", Level::Warning),
            ("ERROR", Level::Error),
            ("DEBUG", Level::Debug),
            ("CRITICAL", Level::Critical),
            ("WARN", Level::Warning),
            ("FATAL", Level::Critical),
            ("TRACE", Level::Debug),
            ("NOTSET", Level::Debug),
        ];
        NAMES
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(text))
            .map(|(_, level)| *level)
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warning => "WARNING",
            Self::Error => "ERROR",
            Self::Critical => "CRITICAL",
        }
    }

    /// Of a line that a program printed in the manner of a logger: `WARNING:root:words`, `ERROR words`.
    pub fn of_printed(line: &[u8]) -> Self {
        let end = line
            .iter()
            .take(9)
            .position(|byte| !byte.is_ascii_uppercase())
            .unwrap_or(0);
        let is_word = end > 0 && matches!(line.get(end), Some(b':' | b' '));
        let word = line
            .get(..end)
            .and_then(|word| std::str::from_utf8(word).ok());
        word.filter(|_| is_word)
            .and_then(Self::parse)
            .unwrap_or_default()
    }
}

/// Where a line comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// User code, through `logging`; and what Eagleray says of it in the same file.
    #[default]
    User,
    Stdout,
    Stderr,
    /// A line for a request or a call.
    Access,
    /// Node, controller and proxy.
    System,
}

impl Source {
    pub fn parse(text: &str) -> Option<Self> {
        [
            Self::User,
            Self::Stdout,
            Self::Stderr,
            Self::Access,
            Self::System,
        ]
        .into_iter()
        .find(|source| source.name() == text)
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Access => "access",
            Self::System => "system",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_known_by_all_their_names_and_in_order() {
        assert_eq!(Level::parse("warn"), Some(Level::Warning));
        assert_eq!(Level::parse("FATAL"), Some(Level::Critical));
        assert_eq!(Level::parse("loud"), None);
        assert!(Level::Debug < Level::Info && Level::Error < Level::Critical);
    }

    #[test]
    fn what_is_printed_like_a_log_line_has_its_level() {
        assert_eq!(Level::of_printed(b"WARNING:root:words"), Level::Warning);
        assert_eq!(Level::of_printed(b"ERROR words"), Level::Error);
        for plain in [&b"ERRORS"[..], b"", b"words", b"A b", b"CRITICAL"] {
            assert_eq!(Level::of_printed(plain), Level::Info);
        }
    }
}
