//! What happened when: deploys, scalings, crashes. Marks beside the curves, that say why one bends.
//!
//! A mark is one event of the controller, with the number that it has there: the number says its place in the ring, so the
//! same event written twice is there once, and the highest number is where to go on from.

use crate::{
    layout::MARK_BYTES,
    record::{checksum, push_name, take_name, u32_at, u64_at},
};

/// Longer texts are cut.
const LONGEST: usize = MARK_BYTES as usize;
const HEAD: usize = 24;

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// That of the event, from 1.
    pub number: u64,
    /// Since 1970.
    pub time_ms: u64,
    /// `deploy`, `scale`, `replica` and so on.
    pub kind: String,
    pub level: String,
    pub application: String,
    pub deployment: String,
    pub replica: String,
    pub message: String,
}

pub(crate) fn encode(mark: &Mark) -> Vec<u8> {
    let mut bytes = vec![0; HEAD];
    bytes[8..16].copy_from_slice(&mark.number.to_le_bytes());
    bytes[16..24].copy_from_slice(&mark.time_ms.to_le_bytes());
    // All five, and much of the message, fit.
    let names = [
        (&mark.kind, 16),
        (&mark.level, 16),
        (&mark.application, 100),
        (&mark.deployment, 100),
        (&mark.replica, 64),
    ];
    for (name, most) in names {
        push_name(&mut bytes, cut(name, most));
    }
    let room = LONGEST - bytes.len() - 2;
    push_name(&mut bytes, cut(&mark.message, room));
    let length = bytes.len() as u32;
    bytes[4..8].copy_from_slice(&length.to_le_bytes());
    let checksum = checksum(&bytes[4..]);
    bytes[..4].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

pub(crate) fn decode(bytes: &[u8]) -> Option<Mark> {
    let length = u32_at(bytes, 4)? as usize;
    let bytes = bytes.get(..length).filter(|bytes| bytes.len() >= HEAD)?;
    if u32_at(bytes, 0)? != checksum(&bytes[4..]) {
        return None;
    }
    let mut rest = &bytes[HEAD..];
    let mut name = || take_name(&mut rest).map(|name| name.to_string());
    Some(Mark {
        number: u64_at(bytes, 8)?,
        time_ms: u64_at(bytes, 16)?,
        kind: name()?,
        level: name()?,
        application: name()?,
        deployment: name()?,
        replica: name()?,
        message: name()?,
    })
}

fn cut(text: &str, most: usize) -> &str {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
