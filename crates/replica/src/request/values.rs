//! Answers to calls through handles: one value, or items.

use eagleray_wire::{Flags, region::Attachment};

use super::{Request, Room};

/// The body of a value on its way out.
#[derive(Clone, Debug)]
pub enum Payload<'a> {
    Bytes(&'a [u8]),
    /// It goes in shared memory where it can.
    Region(Attachment),
}

impl Request {
    /// The pickled result of a call, or with `is_error` its pickled exception; the slot is free with it.
    pub fn answer_value(&self, value: Payload<'_>, is_error: bool) -> Room {
        let last = Flags::END.with(Flags::DONE);
        let flags = if is_error {
            last.with(Flags::ERROR)
        } else {
            last
        };
        self.send_payload(value, flags)
    }

    /// One item of a call whose result is iterated over.
    pub fn send_item(&self, item: Payload<'_>) -> Room {
        self.send_payload(item, Flags::END_OF_MESSAGE)
    }

    /// The end of the items; the slot is free with it.
    pub fn end_items(&self) {
        self.send(&[], Flags::END.with(Flags::DONE));
    }

    /// The answer breaks off here, and whoever reads it can tell; the slot is free.
    pub fn abort(&self) {
        self.send(&[], Flags::END.with(Flags::DONE).with(Flags::ERROR));
    }

    fn send_payload(&self, payload: Payload<'_>, flags: Flags) -> Room {
        match payload {
            Payload::Bytes(data) => self.send(data, flags),
            Payload::Region(attachment) => self.send_attached(attachment, flags),
        }
    }
}
