//! The body of a call: bytes that are there, or segments of which some are answers of calls that still run.
//!
//! The layout is that of `eagleray._values`: a bare pickle, or an envelope with a table of segments. An answer becomes a
//! segment as it came, without anybody having unpickled it.

use std::{collections::VecDeque, sync::Arc};

use bytes::{BufMut, Bytes, BytesMut};
use pyo3::{exceptions::PyTypeError, prelude::*, types::PyBytes};

use super::{
    call::Call,
    state::{Outcome, State},
};

const ENVELOPE: u8 = 1;

#[derive(Debug)]
pub(super) enum Arguments {
    Whole(Bytes),
    /// Kinds and contents of segments.
    Segments(Vec<(u8, Segment)>),
}

#[derive(Debug)]
pub(super) enum Segment {
    Bytes(Bytes),
    Answer(Arc<State>),
}

impl Arguments {
    /// From `bytes`, or from a list of `(kind, bytes or Call)`.
    pub(super) fn from_python(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        if let Ok(bytes) = value.cast::<PyBytes>() {
            return Ok(Self::Whole(Bytes::copy_from_slice(bytes.as_bytes())));
        }
        let mut segments = Vec::new();
        for entry in value.try_iter()? {
            let (kind, content): (u8, Bound<'_, PyAny>) = entry?.extract()?;
            let segment = if let Ok(bytes) = content.cast::<PyBytes>() {
                Segment::Bytes(Bytes::copy_from_slice(bytes.as_bytes()))
            } else if let Ok(call) = content.cast::<Call>() {
                Segment::Answer(Arc::clone(call.get().state()))
            } else {
                return Err(PyTypeError::new_err("a segment is bytes or a Call"));
            };
            segments.push((kind, segment));
        }
        Ok(Self::Segments(segments))
    }

    /// Waits for the answers that are part of it; the chunks of the body. An error: the segment, counted among the
    /// answers, that has none.
    pub(super) async fn resolve(self) -> Result<VecDeque<Bytes>, usize> {
        let segments = match self {
            Self::Whole(bytes) => return Ok(VecDeque::from([bytes])),
            Self::Segments(segments) => segments,
        };
        let mut answers = 0;
        let mut kinds = Vec::with_capacity(segments.len());
        let mut chunks = VecDeque::with_capacity(segments.len() + 1);
        for (kind, segment) in segments {
            kinds.push(kind);
            match segment {
                Segment::Bytes(bytes) => chunks.push_back(bytes),
                Segment::Answer(state) => {
                    let Outcome::Answer(bytes, false) = state.ended().await else {
                        return Err(answers);
                    };
                    chunks.push_back(bytes);
                    answers += 1;
                }
            }
        }
        chunks.push_front(table(&kinds, &chunks));
        Ok(chunks)
    }
}

fn table(kinds: &[u8], segments: &VecDeque<Bytes>) -> Bytes {
    let mut table = BytesMut::with_capacity(5 + 9 * kinds.len());
    table.put_u8(ENVELOPE);
    table.put_u32_le(kinds.len() as u32);
    for (kind, segment) in kinds.iter().zip(segments) {
        table.put_u8(*kind);
        table.put_u64_le(segment.len() as u64);
    }
    table.freeze()
}
