//! Header fields: of requests, of responses, and the trailers of these.

use bytes::{BufMut, BytesMut};

use super::{
    HeadError,
    parts::{Reader, fits, too_long},
};

/// Header fields, in order, borrowed: `count` times name length (u16), value length (u32), name, value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers<'a> {
    count: u16,
    block: &'a [u8],
}

impl<'a> Headers<'a> {
    pub const fn len(&self) -> usize {
        self.count as usize
    }

    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Names (lower case) and values. The block was checked when the head was read.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        let mut reader = Reader(self.block);
        (0..self.count).map_while(move |_| field(&mut reader).ok())
    }

    /// The value of the first field whose name this is; empty if there is none.
    pub fn first(&self, is_name: impl Fn(&[u8]) -> bool) -> &'a [u8] {
        let named = self.iter().find(|(name, _)| is_name(name));
        named.map_or(b"", |(_, value)| value)
    }

    /// Encodes header fields into `block` (cleared first) and borrows them. Names must be lower case.
    ///
    /// # Errors
    /// More than 65,535 fields, or a name that long, do not fit.
    pub fn build<'f>(
        block: &'a mut BytesMut,
        fields: impl IntoIterator<Item = (&'f [u8], &'f [u8])>,
    ) -> Result<Self, HeadError> {
        block.clear();
        let count = put_headers(block, fields)?;
        Ok(Self { count, block })
    }
}

impl<'a> Headers<'a> {
    /// Reads a counted block off the front, and checks it.
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, HeadError> {
        let count = reader.u16("header count")?;
        let start = reader.0;
        for _ in 0..count {
            field(reader)?;
        }
        let block = &start[..start.len() - reader.0.len()];
        Ok(Self { count, block })
    }

    /// Appends the block with its count, as [`Headers::read`] takes it.
    pub(super) fn put(&self, out: &mut BytesMut) {
        out.put_u16_le(self.count);
        out.put_slice(self.block);
    }
}

fn field<'a>(reader: &mut Reader<'a>) -> Result<(&'a [u8], &'a [u8]), HeadError> {
    let name_length = reader.u16("header name")?;
    let value_length = reader.u32("header value")?;
    let name = reader.take(name_length.into(), "header name")?;
    let value = reader.take(value_length as usize, "header value")?;
    Ok((name, value))
}

/// The number of fields, then the fields.
pub(super) fn put_counted<'f>(
    out: &mut BytesMut,
    fields: impl IntoIterator<Item = (&'f [u8], &'f [u8])>,
) -> Result<(), HeadError> {
    let count_at = out.len();
    out.put_u16_le(0);
    let count = put_headers(out, fields)?;
    out[count_at..count_at + 2].copy_from_slice(&count.to_le_bytes());
    Ok(())
}

fn put_headers<'f>(
    out: &mut BytesMut,
    fields: impl IntoIterator<Item = (&'f [u8], &'f [u8])>,
) -> Result<u16, HeadError> {
    let start = out.len();
    let mut count: usize = 0;
    for (name, value) in fields {
        let name_length =
            u16::try_from(name.len()).map_err(|_| too_long("header name", name.len()))?;
        let value_length = fits(value.len())?;
        // Checked before the copy, so that a head that does not fit never grows past its limit.
        fits(out.len() - start + 6 + name.len() + value.len())?;
        out.reserve(6 + name.len() + value.len());
        out.put_u16_le(name_length);
        out.put_u32_le(value_length);
        out.put_slice(name);
        out.put_slice(value);
        count += 1;
    }
    u16::try_from(count).map_err(|_| too_long("header count", count))
}
