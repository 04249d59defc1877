//! The body of a request that is made of messages (WebSocket), on its way out.
//!
//! Nothing of it is ever sent again: the answer has begun when the first message comes. What waits is one buffer and the
//! ends of the messages in it, so many small pieces cost no more than their bytes, and an empty message costs what credit
//! counts for it.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use eagleray_wire::{Flags, MESSAGE_COST};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Messages {
    /// What is not sent of all of them, one after the other: many small pieces cost no more than their bytes.
    bytes: BytesMut,
    /// Length (what is left of it) and whether it is text, of each that is complete.
    complete: VecDeque<(usize, bool)>,
    /// The same of the one after them.
    begun: usize,
    begun_is_text: bool,
    /// The data of the frame that ends the body.
    pub(super) last: Bytes,
}

impl Messages {
    pub(super) fn push(&mut self, data: &[u8], is_text: bool, is_complete: bool) {
        self.bytes.extend_from_slice(data);
        self.begun += data.len();
        self.begun_is_text = is_text;
        if is_complete {
            self.complete
                .push_back((std::mem::take(&mut self.begun), is_text));
        }
    }

    /// What they take of credit.
    pub(super) fn cost(&self) -> usize {
        self.bytes.len() + self.complete.len() * MESSAGE_COST
    }

    /// The next frame of a message: flags and at most `most` bytes of data.
    pub(super) fn next(&mut self, most: usize) -> (Flags, BytesMut) {
        let Some((left, is_text)) = self.complete.front_mut() else {
            let length = self.begun.min(most);
            self.begun -= length;
            return (text(self.begun_is_text), self.bytes.split_to(length));
        };
        let length = (*left).min(most);
        *left -= length;
        let mut flags = text(*is_text);
        if *left == 0 {
            flags = flags.with(Flags::END_OF_MESSAGE);
            self.complete.pop_front();
        }
        (flags, self.bytes.split_to(length))
    }
}

const fn text(is_text: bool) -> Flags {
    if is_text { Flags::TEXT } else { Flags::NONE }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(messages: &mut Messages, most: usize) -> Vec<(Flags, Vec<u8>)> {
        let mut frames = Vec::new();
        while messages.cost() > 0 {
            let (flags, data) = messages.next(most);
            frames.push((flags, data.to_vec()));
        }
        frames
    }

    #[test]
    fn a_frame_holds_bytes_of_one_message_and_says_its_kind_and_end() {
        let mut messages = Messages::default();
        messages.push(b"abc", true, false);
        messages.push(b"de", true, true);
        messages.push(b"", false, true);
        messages.push(b"fg", false, false);
        assert_eq!(messages.cost(), 7 + 2 * MESSAGE_COST);
        let text_end = Flags::TEXT.with(Flags::END_OF_MESSAGE);
        assert_eq!(
            frames(&mut messages, 3),
            [
                (Flags::TEXT, b"abc".to_vec()),
                (text_end, b"de".to_vec()),
                (Flags::END_OF_MESSAGE, Vec::new()),
                (Flags::NONE, b"fg".to_vec()),
            ]
        );
    }

    #[test]
    fn a_message_may_end_after_all_its_bytes_have_been_sent() {
        let mut messages = Messages::default();
        messages.push(b"abc", true, false);
        assert_eq!(frames(&mut messages, 9), [(Flags::TEXT, b"abc".to_vec())]);
        messages.push(b"", true, true);
        let text_end = Flags::TEXT.with(Flags::END_OF_MESSAGE);
        assert_eq!(frames(&mut messages, 9), [(text_end, Vec::new())]);
    }
}
