//! What a stream of ours is shown on: a terminal of some width, with or without colours and signs, or nothing of the kind.
//!
//! Signs carry what colours only repeat, so nothing is lost where there are no colours; where the locale cannot show signs,
//! letters stand for them.

use std::io::{self, IsTerminal};

use eagleray_supervisor::environment::set;
use rustix::{fd::AsFd, termios::tcgetwinsize};
use unicode_width::UnicodeWidthChar;

/// Narrower than this nothing can be laid out.
const NARROWEST: usize = 20;
const USUAL: usize = 80;
/// Of what is no terminal: whoever reads it looks for words, which stay on their line.
const UNBOUNDED: usize = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is asked by itself")]
pub(crate) struct Screen {
    /// Somebody looks at it.
    pub(crate) terminal: bool,
    /// Lines can be drawn again in place.
    pub(crate) redraws: bool,
    pub(crate) colours: bool,
    pub(crate) signs: bool,
    pub(crate) width: usize,
    pub(crate) height: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Paint {
    Plain,
    Good,
    Warning,
    Bad,
    Faint,
    Bold,
}

impl Screen {
    pub(crate) fn of_output() -> Self {
        let stream = io::stdout();
        Self::of(&stream, stream.is_terminal())
    }

    pub(crate) fn of_errors() -> Self {
        let stream = io::stderr();
        Self::of(&stream, stream.is_terminal())
    }

    fn of(stream: &impl AsFd, terminal: bool) -> Self {
        let dumb = set("TERM").is_none_or(|term| term == "dumb");
        let size = tcgetwinsize(stream).ok().filter(|_| terminal);
        let size = size.filter(|size| size.ws_col > 0 && size.ws_row > 0);
        let columns = || set("COLUMNS")?.parse().ok();
        let width = if terminal {
            size.map(|size| usize::from(size.ws_col)).or_else(columns)
        } else {
            Some(UNBOUNDED)
        };
        Self {
            terminal,
            redraws: terminal && !dumb,
            colours: terminal && !dumb && set("NO_COLOR").is_none(),
            signs: is_utf8(set),
            width: width.unwrap_or(USUAL).max(NARROWEST),
            height: size.map_or(24, |size| usize::from(size.ws_row)),
        }
    }

    pub(crate) fn paint(&self, text: &str, paint: Paint) -> String {
        let code = match paint {
            _ if !self.colours || text.is_empty() => return text.to_owned(),
            Paint::Plain => return text.to_owned(),
            Paint::Good => "32",
            Paint::Warning => "33",
            Paint::Bad => "31",
            Paint::Faint => "2",
            Paint::Bold => "1",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }

    /// The sign of how it goes, with its colour for what stands beside it.
    pub(crate) fn sign(&self, paint: Paint) -> &'static str {
        match (paint, self.signs) {
            (Paint::Good, true) => "✔",
            (Paint::Good, false) => "+",
            (Paint::Warning, _) => "!",
            (Paint::Bad, true) => "✖",
            (Paint::Bad, false) => "x",
            (_, true) => "·",
            (_, false) => "-",
        }
    }

    pub(crate) fn arrow(&self) -> &'static str {
        if self.signs { "→" } else { "->" }
    }

    /// How much of `total` is done, in `cells` cells.
    pub(crate) fn bar(&self, done: u32, total: u32, cells: usize) -> String {
        let total = total.max(1);
        let full = (done.min(total) as usize * cells) / total as usize;
        let (on, off) = if self.signs {
            ("█", "░")
        } else {
            ("#", ".")
        };
        on.repeat(full) + &off.repeat(cells - full)
    }

    /// The characters that fit into a line, and a mark if some do not.
    pub(crate) fn clip(&self, text: &str) -> String {
        clip(text, self.width, if self.signs { "…" } else { "~" })
    }
}

/// As the C library reads it: the first of the three that is set, if it is not empty.
fn is_utf8(set: impl Fn(&str) -> Option<String>) -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set);
    let locale = locale.unwrap_or_default().to_ascii_lowercase();
    // Python's and musl's plain C locales are read as UTF-8 by now; a terminal of these days shows it.
    locale.contains("utf-8") || locale.contains("utf8")
}

/// The cells that a text takes; sequences that colour take none.
pub(crate) fn cells(text: &str) -> usize {
    let mut rest = text.chars();
    let mut count = 0;
    while let Some(character) = rest.next() {
        if character == '\u{1b}' {
            rest.by_ref().find(char::is_ascii_alphabetic);
        } else {
            count += character.width().unwrap_or(0);
        }
    }
    count
}

/// `text` in at most `width` cells, with `mark` at its end if something is missing.
pub(crate) fn clip(text: &str, width: usize, mark: &str) -> String {
    if cells(text) <= width {
        return text.to_owned();
    }
    let room = width.saturating_sub(cells(mark));
    let mut out = String::new();
    let mut taken = 0;
    let mut coloured = false;
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        if character == '\u{1b}' {
            coloured = true;
            out.push(character);
            for part in rest.by_ref() {
                out.push(part);
                if part.is_ascii_alphabetic() {
                    break;
                }
            }
            continue;
        }
        taken += character.width().unwrap_or(0);
        if taken > room {
            break;
        }
        out.push(character);
    }
    out.push_str(mark);
    if coloured {
        out.push_str("\u{1b}[0m");
    }
    out
}

/// The words of a text in lines of at most `width` cells. A word that is longer has a line of its own, as it is.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if cells(line) + 1 + cells(word) <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
pub(crate) fn plain(width: usize) -> Screen {
    Screen {
        terminal: true,
        redraws: true,
        colours: false,
        signs: true,
        width,
        height: 24,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_locale_that_is_set_decides() {
        let locale = |pairs: &'static [(&str, &str)]| {
            is_utf8(move |name| {
                let found = pairs.iter().find(|(key, _)| *key == name);
                found.map(|(_, value)| (*value).to_owned())
            })
        };
        assert!(locale(&[("LANG", "de_DE.UTF-8")]));
        assert!(locale(&[("LC_ALL", "C.utf8"), ("LANG", "C")]));
        assert!(!locale(&[("LC_ALL", "C"), ("LANG", "de_DE.UTF-8")]));
        assert!(!locale(&[("LANG", "de_DE.ISO-8859-1")]));
        assert!(!locale(&[]));
    }

    #[test]
    fn a_text_is_cut_where_the_line_ends_and_its_colour_with_it() {
        assert_eq!(clip("abcdef", 6, "…"), "abcdef");
        assert_eq!(clip("abcdefg", 6, "…"), "abcde…");
        // Two cells each.
        assert_eq!(clip("模型模型", 5, "…"), "模型…");
        assert_eq!(
            clip("\u{1b}[31mabcdef\u{1b}[0m", 3, "…"),
            "\u{1b}[31mab…\u{1b}[0m"
        );
    }

    #[test]
    fn words_go_to_the_next_line_whole() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("unbreakable a", 4), ["unbreakable", "a"]);
    }
}
