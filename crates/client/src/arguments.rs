//! The body of a call: bytes that are there, or segments of which some are answers of calls that still run.
//!
//! The layout is that of `eagleray._values`: a bare pickle, or an envelope with a table of segments. An answer becomes a
//! segment as it came, without anybody having unpickled it.

use std::{collections::VecDeque, sync::Arc};

use bytes::{BufMut, Bytes, BytesMut};
use eagleray_wire::region::{Attachment, Pool};

use crate::{
    call::{Call, Outcome},
    content::Content,
};

const ENVELOPE: u8 = 1;
/// In a kind: the segment is the number (u32) of an attachment, where its bytes are.
const ATTACHED: u8 = 0x80;

/// The arguments of a call.
#[derive(Debug)]
pub enum Arguments {
    Whole(Content),
    /// Kinds and contents of segments.
    Segments(Vec<(u8, Segment)>),
}

/// A part of them: what is there, or the answer of a call.
#[derive(Debug)]
pub enum Segment {
    Content(Content),
    Answer(Arc<Call>),
}

/// A body that is there: its chunks, and what goes beside them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Resolved {
    pub(crate) chunks: VecDeque<Bytes>,
    pub(crate) attachments: Vec<Attachment>,
}

impl Arguments {
    /// Whether some of it is the answer of another call.
    pub(crate) fn has_answers(&self) -> bool {
        let Self::Segments(segments) = self else {
            return false;
        };
        let mut kinds = segments.iter().map(|(_, segment)| segment);
        kinds.any(|segment| matches!(segment, Segment::Answer(_)))
    }

    /// Waits for the answers that are part of it. At most `regions` contents stay regions; the others become part of the
    /// body. An error: the segment, counted among the answers, that has none.
    pub(crate) async fn resolve(self, pool: &Arc<Pool>, regions: usize) -> Result<Resolved, usize> {
        let segments = match self {
            Self::Whole(Content::Bytes(bytes)) => {
                return Ok(Resolved {
                    chunks: VecDeque::from([bytes]),
                    attachments: Vec::new(),
                });
            }
            Self::Whole(Content::Region(region)) if regions > 0 => {
                return Ok(Resolved {
                    chunks: VecDeque::new(),
                    attachments: vec![region.sendable(pool)],
                });
            }
            Self::Whole(Content::Region(region)) => {
                return Ok(Resolved {
                    chunks: VecDeque::from([region.data().map_err(|_| 0_usize)?]),
                    attachments: Vec::new(),
                });
            }
            Self::Segments(segments) => segments,
        };
        let mut answers = 0;
        let mut kinds = Vec::with_capacity(segments.len());
        let mut resolved = Resolved::default();
        for (kind, segment) in segments {
            let content = match segment {
                Segment::Content(content) => content,
                Segment::Answer(state) => {
                    let Outcome::Answer(content, false) = state.ended().await else {
                        return Err(answers);
                    };
                    answers += 1;
                    content
                }
            };
            let beside = match content {
                Content::Bytes(bytes) => Err(bytes),
                Content::Region(region) if resolved.attachments.len() < regions => {
                    Ok(region.sendable(pool))
                }
                // Lost, or no memory for its page tables: as if the answer had not come.
                Content::Region(region) => {
                    Err(region.data().map_err(|_| answers.saturating_sub(1))?)
                }
            };
            match beside {
                Err(bytes) => {
                    kinds.push(kind);
                    resolved.chunks.push_back(bytes);
                }
                Ok(region) => {
                    let number = resolved.attachments.len() as u32;
                    kinds.push(kind | ATTACHED);
                    resolved
                        .chunks
                        .push_back(Bytes::copy_from_slice(&number.to_le_bytes()));
                    resolved.attachments.push(region);
                }
            }
        }
        let table = table(&kinds, &resolved.chunks);
        resolved.chunks.push_front(table);
        Ok(resolved)
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
