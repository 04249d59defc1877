//! Lines on a terminal that are drawn again in place.

use std::io::{self, Write};

use crate::screen::{Screen, cells};

/// A block of lines at the end of the screen. Its cursor always stands below it, so that whatever is written next, by whomever,
/// comes after it.
#[derive(Debug, Default)]
pub(crate) struct Live {
    /// How many lines stand there.
    drawn: usize,
    last: Vec<String>,
}

impl Live {
    /// Puts these lines in the place of the last ones. Those that do not fit the screen are left out.
    pub(crate) fn draw(
        &mut self,
        out: &mut dyn Write,
        screen: &Screen,
        lines: &[String],
    ) -> io::Result<()> {
        let room = screen.height.saturating_sub(1).max(1);
        let lines: Vec<String> = lines
            .iter()
            .take(room)
            .map(|line| screen.clip(line))
            .collect();
        if lines == self.last && self.drawn == lines.len() {
            return Ok(());
        }
        let mut text = String::new();
        if self.drawn > 0 {
            // Up to its first line, and clear all from there.
            text.extend(["\r\u{1b}[", &self.drawn.to_string(), "A\u{1b}[J"]);
        }
        for line in &lines {
            debug_assert!(cells(line) <= screen.width, "a line that wraps is two");
            text += line;
            text.push('\n');
        }
        self.drawn = lines.len();
        self.last = lines;
        // At once, so that no other writer comes between.
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    /// Takes the block away.
    pub(crate) fn clear(&mut self, out: &mut dyn Write) -> io::Result<()> {
        if self.drawn > 0 {
            write!(out, "\r\u{1b}[{}A\u{1b}[J", self.drawn)?;
        }
        *self = Self::default();
        out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::screen::plain;

    #[test]
    fn lines_are_drawn_over_the_last_ones_and_not_if_they_are_the_same() {
        let (mut live, mut out) = (Live::default(), Vec::new());
        let screen = plain(20);
        let lines = |text: &[&str]| {
            text.iter()
                .map(|line| (*line).to_owned())
                .collect::<Vec<_>>()
        };
        live.draw(&mut out, &screen, &lines(&["one", "two"]))
            .expect("memory");
        live.draw(&mut out, &screen, &lines(&["one", "two"]))
            .expect("memory");
        live.draw(&mut out, &screen, &lines(&["three"]))
            .expect("memory");
        live.clear(&mut out).expect("memory");
        let text = String::from_utf8(out).expect("text");
        assert_eq!(
            text,
            "one\ntwo\n\r\u{1b}[2A\u{1b}[Jthree\n\r\u{1b}[1A\u{1b}[J"
        );
    }
}
