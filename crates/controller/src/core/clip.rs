//! Texts of any length, cut to one that can be kept, sent and read.

use std::borrow::Cow;

/// Bytes of an error in a status message.
pub(super) const IN_MESSAGE: usize = 16 * 1024;
/// Bytes of a message in the log.
pub(super) const IN_LOG: usize = 3 * 1024;
/// Bytes of each part of a line.
const IN_LINE: usize = 1024;
const TRACEBACK: &str = "Traceback (most recent call last)";

/// `text` within about `most` bytes: its beginning, and more of its end, where a traceback says what it is about.
pub(super) fn clip(text: &str, most: usize) -> Cow<'_, str> {
    if text.len() <= most {
        return Cow::Borrowed(text);
    }
    // A character takes four bytes at most, so a boundary is near.
    let boundary = |near: usize| (0..=near).rev().find(|at| text.is_char_boundary(*at));
    let head = boundary(most / 4).unwrap_or(0);
    let tail = boundary(text.len() - (most - most / 4)).unwrap_or(head);
    let (head, left_out, tail) = (&text[..head], tail - head, &text[tail..]);
    Cow::Owned(format!("{head}\n... {left_out} bytes left out ...\n{tail}"))
}

/// `text` as one line: what it says first, and the error at its end. Where that leaves something out, it says where all of
/// it is.
pub(super) fn one_line(text: &str, application: &str) -> String {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default();
    let mut rest = lines;
    let error = if text.contains(TRACEBACK) {
        rest.next_back()
    } else {
        rest.next()
    };
    let cut = rest.next().is_some();
    let first = first.strip_suffix(" Error:").unwrap_or(first);
    let mut line = clip(first, IN_LINE).replace('\n', " ");
    if let Some(error) = error {
        let joint = if line.ends_with(['.', ':', ';']) {
            " "
        } else {
            ": "
        };
        line.push_str(joint);
        line.push_str(&clip(error, IN_LINE).replace('\n', " "));
    }
    if cut && !application.is_empty() && !first.contains(" is in ") {
        line.push_str(" (all of it: eagleray logs ");
        line.push_str(application);
        line.push(')');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_says_what_happened_and_the_error_and_where_the_rest_is() {
        assert_eq!(one_line("starts", "shop"), "starts");
        let message = "it failed. What it wrote is in /a.log. Error:\nTraceback (most recent call last):\n  File \"x\"\nValueError: no\n";
        assert_eq!(
            one_line(message, "shop"),
            "it failed. What it wrote is in /a.log. ValueError: no"
        );
        let message = "r2 did not come up: Rank: 3 tries\nValueError: no\nand more\n";
        assert_eq!(
            one_line(message, "shop"),
            "r2 did not come up: Rank: 3 tries: ValueError: no (all of it: eagleray logs shop)"
        );
        let long = one_line(&"x".repeat(100_000), "shop");
        assert!(long.len() < 2 * IN_LINE && !long.contains('\n'));
    }

    #[test]
    fn a_long_text_keeps_its_beginning_and_its_end() {
        assert_eq!(clip("short", 5), "short");
        let text = format!("begin{}end", "ü".repeat(10_000));
        let clipped = clip(&text, 101);
        assert!(clipped.starts_with("begin") && clipped.ends_with("end"));
        assert!(clipped.len() < 160 && clipped.contains("bytes left out"));
    }
}
