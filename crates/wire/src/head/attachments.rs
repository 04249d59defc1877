//! The table of what goes beside a message.

use bytes::BytesMut;

use super::{HeadError, parts::Reader};
use crate::region::{self, MOST_ATTACHMENTS, Named};

/// The table of a message's attachments, borrowed. See [`region`](crate::region).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attachments<'a>(&'a [u8]);

impl<'a> Attachments<'a> {
    /// Encodes a table into `table` (cleared first) and borrows it.
    ///
    /// # Errors
    /// More entries than a message may have.
    pub fn build(
        table: &'a mut BytesMut,
        entries: impl IntoIterator<Item = Named>,
    ) -> Result<Self, HeadError> {
        table.clear();
        region::encode_named(table, entries);
        let count = table.len() / Named::BYTES;
        if count > MOST_ATTACHMENTS {
            return Err(HeadError::TooLong {
                field: "attachments",
                length: count,
                limit: MOST_ATTACHMENTS,
            });
        }
        Ok(Self(table))
    }

    /// Cuts a table of `count` entries off the front of `bytes`.
    ///
    /// # Errors
    /// There are not so many, or more than a message may have.
    pub fn split(count: usize, bytes: &'a [u8]) -> Result<(Self, &'a [u8]), HeadError> {
        let mut reader = Reader(bytes);
        let table = Self::read(&mut reader, count)?;
        Ok((table, reader.0))
    }

    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = Named> + use<'a> {
        Named::read(self.0)
    }

    /// Reads a table of `count` entries off the front.
    pub(super) fn read(reader: &mut Reader<'a>, count: usize) -> Result<Self, HeadError> {
        if count > MOST_ATTACHMENTS {
            return Err(HeadError::TooLong {
                field: "attachments",
                length: count,
                limit: MOST_ATTACHMENTS,
            });
        }
        reader.take(count * Named::BYTES, "attachments").map(Self)
    }

    /// Encoded.
    pub(super) const fn as_bytes(&self) -> &'a [u8] {
        self.0
    }
}
