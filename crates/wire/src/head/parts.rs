//! What heads are made of: numbers, and byte strings with their length before them.

use bytes::{BufMut, BytesMut};

use super::{HeadError, MAX_HEAD_BYTES};

pub(super) fn put_short(
    out: &mut BytesMut,
    text: &[u8],
    field: &'static str,
) -> Result<(), HeadError> {
    let length = u16::try_from(text.len()).map_err(|_| too_long(field, text.len()))?;
    out.reserve(2 + text.len());
    out.put_u16_le(length);
    out.put_slice(text);
    Ok(())
}

pub(super) fn fits(length: usize) -> Result<u32, HeadError> {
    if length > MAX_HEAD_BYTES {
        return Err(HeadError::TooLong {
            field: "head",
            length,
            limit: MAX_HEAD_BYTES,
        });
    }
    Ok(length as u32)
}

pub(super) const fn too_long(field: &'static str, length: usize) -> HeadError {
    HeadError::TooLong {
        field,
        length,
        limit: u16::MAX as usize,
    }
}

/// Reads from the front of a slice; never past its end.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(
        &mut self,
        length: usize,
        field: &'static str,
    ) -> Result<&'a [u8], HeadError> {
        let (taken, rest) = self
            .0
            .split_at_checked(length)
            .ok_or(HeadError::Truncated { field })?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(
        &mut self,
        field: &'static str,
    ) -> Result<[u8; N], HeadError> {
        let (taken, rest) = self
            .0
            .split_first_chunk::<N>()
            .ok_or(HeadError::Truncated { field })?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(super) fn u8(&mut self, field: &'static str) -> Result<u8, HeadError> {
        self.array::<1>(field).map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self, field: &'static str) -> Result<u16, HeadError> {
        self.array(field).map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self, field: &'static str) -> Result<u32, HeadError> {
        self.array(field).map(u32::from_le_bytes)
    }

    pub(super) fn short(&mut self, field: &'static str) -> Result<&'a [u8], HeadError> {
        let length = self.u16(field)?;
        self.take(length.into(), field)
    }
}
