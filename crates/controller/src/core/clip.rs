//! Texts of any length, cut to one that can be kept, sent and read.

use std::borrow::Cow;

/// Bytes of an error in a status message.
pub(super) const IN_MESSAGE: usize = 16 * 1024;
/// Bytes of a message in the log.
pub(super) const IN_LOG: usize = 3 * 1024;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_keeps_its_beginning_and_its_end() {
        assert_eq!(clip("short", 5), "short");
        let text = format!("begin{}end", "ü".repeat(10_000));
        let clipped = clip(&text, 101);
        assert!(clipped.starts_with("begin") && clipped.ends_with("end"));
        assert!(clipped.len() < 160 && clipped.contains("bytes left out"));
    }
}
