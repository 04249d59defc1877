//! The body of a value, wherever it is: in bytes, or in a region of shared memory.

use bytes::Bytes;
use eagleray_wire::region::{Attachment, CHARGE_BYTES};

/// The body of a value.
#[derive(Clone, Debug)]
pub enum Content {
    Bytes(Bytes),
    Region(Attachment),
}

impl Content {
    /// The body of a message. One that is empty, with one attachment beside it, is that attachment; what is left over
    /// are the attachments that its segments name.
    pub fn of(data: Bytes, mut attachments: Vec<Attachment>) -> (Self, Vec<Attachment>) {
        if !data.is_empty() || attachments.len() != 1 {
            return (Self::Bytes(data), attachments);
        }
        match attachments.pop() {
            None => (Self::Bytes(data), attachments),
            Some(Attachment::Data(data)) => (Self::Bytes(data), attachments),
            Some(region) => (Self::Region(region), attachments),
        }
    }

    /// What it weighs while it waits in this process.
    pub(crate) fn weight(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Region(attachment) => attachment.length().min(CHARGE_BYTES) as usize,
        }
    }
}
