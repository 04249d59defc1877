//! A table on a terminal: columns as wide as they must be, and a last one of free text that takes what is left.

use crate::screen::{Paint, Screen, cells, wrap};

/// Less than this is no room for a sentence: it goes to lines of its own.
const LEAST_FOR_TEXT: usize = 28;
const GAP: &str = "  ";

#[derive(Clone, Debug)]
pub(crate) struct Cell {
    text: String,
    paint: Paint,
}

impl Cell {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self::painted(text, Paint::Plain)
    }

    pub(crate) fn painted(text: impl Into<String>, paint: Paint) -> Self {
        Self {
            text: text.into(),
            paint,
        }
    }
}

/// A head of columns; `>` before a name puts what is in it to the right. The last is free text.
#[derive(Debug)]
pub(crate) struct Table {
    heads: Vec<(String, bool)>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    pub(crate) fn new(heads: &[&str]) -> Self {
        let heads = heads.iter().map(|head| match head.strip_prefix('>') {
            Some(name) => (name.to_owned(), true),
            None => ((*head).to_owned(), false),
        });
        Self {
            heads: heads.collect(),
            rows: Vec::new(),
        }
    }

    /// A row of as many cells as there are heads.
    pub(crate) fn row(&mut self, cells: Vec<Cell>) {
        debug_assert_eq!(cells.len(), self.heads.len(), "a cell for each head");
        self.rows.push(cells);
    }

    pub(crate) fn lines(&self, screen: &Screen) -> Vec<String> {
        let last = self.heads.len().saturating_sub(1);
        let widths: Vec<usize> = (0..last)
            .map(|column| {
                let texts = self.rows.iter().filter_map(|row| row.get(column));
                let widest = texts.map(|cell| cells(&cell.text)).max().unwrap_or(0);
                widest.max(cells(&self.heads[column].0))
            })
            .collect();
        let before: usize = widths.iter().map(|width| width + GAP.len()).sum();
        let room = screen.width.saturating_sub(before);
        let mut lines = Vec::new();
        let heads = self
            .heads
            .iter()
            .map(|(name, _)| Cell::painted(name.clone(), Paint::Faint));
        self.lay(
            screen,
            &widths,
            room,
            &heads.collect::<Vec<_>>(),
            &mut lines,
        );
        for row in &self.rows {
            self.lay(screen, &widths, room, row, &mut lines);
        }
        lines.iter().map(|line| screen.clip(line)).collect()
    }

    fn lay(
        &self,
        screen: &Screen,
        widths: &[usize],
        room: usize,
        row: &[Cell],
        lines: &mut Vec<String>,
    ) {
        let mut line = String::new();
        for ((width, cell), (_, right)) in widths.iter().zip(row).zip(&self.heads) {
            let blank = " ".repeat(width - cells(&cell.text).min(*width));
            let text = screen.paint(&cell.text, cell.paint);
            line += &if *right { blank + &text } else { text + &blank };
            line += GAP;
        }
        let Some(free) = row.get(widths.len()).filter(|cell| !cell.text.is_empty()) else {
            lines.push(line.trim_end().to_owned());
            return;
        };
        if room < LEAST_FOR_TEXT && cells(&free.text) > room {
            lines.push(line.trim_end().to_owned());
            let text = wrap(&free.text, screen.width.saturating_sub(4));
            lines.extend(
                text.iter()
                    .map(|text| format!("    {}", screen.paint(text, free.paint))),
            );
            return;
        }
        let indent = " ".repeat(cells(&line));
        for (at, text) in wrap(&free.text, room).iter().enumerate() {
            let start = if at == 0 { &line } else { &indent };
            lines.push(format!("{start}{}", screen.paint(text, free.paint)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::screen::plain;

    fn table() -> Table {
        let mut table = Table::new(&["APP", ">REPLICAS", "WHY"]);
        table.row(vec![Cell::new("shop"), Cell::new("4/4"), Cell::new("")]);
        let why = Cell::new("q7f2 has not turned for 14 s, in tokenizer.py:88");
        table.row(vec![Cell::new("chat"), Cell::new("0/2"), why]);
        table
    }

    #[test]
    fn free_text_takes_what_is_left_and_goes_on_below_itself() {
        assert_eq!(
            table().lines(&plain(52)),
            [
                "APP   REPLICAS  WHY",
                "shop       4/4",
                "chat       0/2  q7f2 has not turned for 14 s, in",
                "                tokenizer.py:88",
            ]
        );
    }

    #[test]
    fn on_a_narrow_terminal_it_has_lines_of_its_own() {
        assert_eq!(
            table().lines(&plain(30)),
            [
                "APP   REPLICAS  WHY",
                "shop       4/4",
                "chat       0/2",
                "    q7f2 has not turned for 14",
                "    s, in tokenizer.py:88",
            ]
        );
    }
}
