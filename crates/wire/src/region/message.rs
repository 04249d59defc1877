//! What a message says of its regions, and how a value that could not go by descriptor goes as DATA.
//!
//! A message names its **attachments** in a table: for each a number (u64) and a length (u64), little-endian. Number 0:
//! the bytes come as DATA, after the body of the message and in the order of the table; so they are cut off its end.

use std::{io, sync::Arc};

use bytes::{BufMut, Bytes, BytesMut};

use super::{Lent, Pool, Received};

/// One entry of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named {
    /// Of the region; 0: it comes as DATA.
    pub number: u64,
    pub length: u64,
}

impl Named {
    pub const BYTES: usize = 16;

    pub(crate) fn encode(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.number.to_le_bytes());
        bytes[8..].copy_from_slice(&self.length.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: [u8; Self::BYTES]) -> Self {
        let number = |at: usize| {
            let mut eight = [0; 8];
            eight.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(eight)
        };
        Self {
            number: number(0),
            length: number(8),
        }
    }

    /// The entries of a table; bytes after the last whole one are ignored.
    pub fn read(table: &[u8]) -> impl Iterator<Item = Self> {
        let (entries, _) = table.as_chunks::<{ Self::BYTES }>();
        entries.iter().map(|entry| Self::decode(*entry))
    }
}

/// Appends a table.
pub fn encode_named(out: &mut BytesMut, entries: impl IntoIterator<Item = Named>) {
    for entry in entries {
        out.put_slice(&entry.encode());
    }
}

/// Bytes of a value beside a message, wherever they are.
#[derive(Clone, Debug)]
pub enum Attachment {
    /// In a region that this process made.
    Lent(Arc<Lent>),
    /// In a region that came.
    Received(Arc<Received>),
    /// They came as DATA.
    Data(Bytes),
    /// The descriptor was lost on its way, because this process may not have one more.
    Lost,
}

impl Attachment {
    pub fn length(&self) -> u64 {
        match self {
            Self::Lent(lent) => lent.length() as u64,
            Self::Received(received) => received.length(),
            Self::Data(data) => data.len() as u64,
            Self::Lost => 0,
        }
    }

    /// As it can be sent on: one that was mapped has no descriptor any more, and is copied, if `pool` has credit for it.
    #[must_use]
    pub fn sendable(self, pool: &Arc<Pool>) -> Self {
        let Self::Received(received) = &self else {
            return self;
        };
        if received.descriptor().is_some() {
            return self;
        }
        let copy = received
            .map()
            .ok()
            .and_then(|map| pool.lend(&[map.bytes()]));
        copy.map_or(self, Self::Lent)
    }

    pub(super) fn spoil(&self) {
        match self {
            Self::Lent(lent) => lent.spoil(),
            Self::Received(received) => received.spoil(),
            Self::Data(_) | Self::Lost => {}
        }
    }

    /// Its bytes; a region that came is mapped for that.
    ///
    /// # Errors
    /// It cannot be mapped, or was lost.
    pub fn data(&self) -> io::Result<Bytes> {
        struct View(Arc<Received>);
        impl AsRef<[u8]> for View {
            fn as_ref(&self) -> &[u8] {
                self.0.map().map_or(&[], super::Mapping::bytes)
            }
        }
        Ok(match self {
            Self::Lent(lent) => Bytes::from_owner(LentBytes(Arc::clone(lent))),
            Self::Received(received) => {
                received.map()?;
                Bytes::from_owner(View(Arc::clone(received)))
            }
            Self::Data(data) => data.clone(),
            Self::Lost => return Err(io::Error::other("the value was lost")),
        })
    }
}

struct LentBytes(Arc<Lent>);

impl AsRef<[u8]> for LentBytes {
    fn as_ref(&self) -> &[u8] {
        (*self.0).as_ref()
    }
}

/// An attachment of a message that is to be sent, under the number by which the message names it.
#[derive(Clone, Debug)]
pub struct Attached {
    /// From [`Pool::number`](super::Pool::number).
    pub number: u64,
    pub attachment: Attachment,
}

impl Attached {
    pub fn named(&self) -> Named {
        Named {
            number: self.number,
            length: self.attachment.length(),
        }
    }
}

/// The same message without descriptors: the new table, and the bytes that follow its body.
///
/// # Errors
/// A region that came cannot be mapped.
pub fn inline(attached: &[Attached]) -> io::Result<(Vec<Named>, Vec<Bytes>)> {
    let mut named = Vec::with_capacity(attached.len());
    let mut bytes = Vec::with_capacity(attached.len());
    for one in attached {
        let data = one.attachment.data()?;
        named.push(Named {
            number: 0,
            length: data.len() as u64,
        });
        bytes.push(data);
    }
    Ok((named, bytes))
}

/// An attachment of a message that is still coming.
#[derive(Clone, Debug)]
pub enum Arrival {
    Region(Arc<Received>),
    /// So many bytes at the end of the body.
    Data(u64),
    /// Its descriptor was lost on the way.
    Lost(Named),
}

/// What a frame of an answer with these regions costs of its credit.
pub fn charge(named: impl IntoIterator<Item = Named>) -> u64 {
    let bytes = named
        .into_iter()
        .filter(|one| one.number != 0)
        .fold(0_u64, |sum, one| sum.saturating_add(one.length));
    bytes.min(super::CHARGE_BYTES)
}

/// Takes a whole body apart: the body proper, and the attachments. `None`: it is shorter than its table says.
pub fn assemble(mut body: Bytes, arrivals: Vec<Arrival>) -> Option<(Bytes, Vec<Attachment>)> {
    let mut attachments = Vec::with_capacity(arrivals.len());
    for arrival in arrivals.into_iter().rev() {
        attachments.push(match arrival {
            Arrival::Region(received) => Attachment::Received(received),
            Arrival::Lost(_) => Attachment::Lost,
            Arrival::Data(length) => {
                let start = body.len().checked_sub(usize::try_from(length).ok()?)?;
                Attachment::Data(body.split_off(start))
            }
        });
    }
    attachments.reverse();
    Some((body, attachments))
}
