//! Frames to a client, appended to what waits to be sent.

use bytes::{BufMut, BytesMut};

use super::{
    code::may_be_sent,
    header::{BINARY, CLOSE, COMPRESSED, CONTINUATION, FINAL, MAX_CONTROL, PING, PONG, TEXT},
};

/// Longest reason: what a closing frame holds beside its code.
const MAX_REASON: usize = MAX_CONTROL - 2;

/// The first frame of a message to a client, or one that follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    First { is_text: bool, is_compressed: bool },
    Following,
}

impl Place {
    /// The same of a message that is not compressed after all.
    pub(crate) const fn uncompressed(self) -> Self {
        match self {
            Self::First { is_text, .. } => Self::First {
                is_text,
                is_compressed: false,
            },
            Self::Following => Self::Following,
        }
    }
}

/// Appends a frame of a message to a client: the last if the message `is_complete`.
pub(crate) fn put_data(out: &mut BytesMut, data: &[u8], place: Place, is_complete: bool) {
    let mut first = match place {
        Place::First { is_text: true, .. } => TEXT,
        Place::First { .. } => BINARY,
        Place::Following => CONTINUATION,
    };
    if matches!(
        place,
        Place::First {
            is_compressed: true,
            ..
        }
    ) {
        first |= COMPRESSED;
    }
    if is_complete {
        first |= FINAL;
    }
    put(out, first, data);
}

/// Appends a ping without payload.
pub(crate) fn put_ping(out: &mut BytesMut) {
    put(out, PING | FINAL, &[]);
}

/// Appends the answer to a ping.
pub(crate) fn put_pong(out: &mut BytesMut, payload: &[u8]) {
    put(out, PONG | FINAL, payload);
}

/// Appends a closing frame: a code that may be sent and as much of the reason as fits, or nothing.
pub(crate) fn put_close(out: &mut BytesMut, close: Option<(u16, &[u8])>) {
    let Some((code, reason)) = close.filter(|(code, _)| may_be_sent(*code)) else {
        return put(out, CLOSE | FINAL, &[]);
    };
    let mut payload = code.to_be_bytes().to_vec();
    payload.extend_from_slice(fitting(reason));
    put(out, CLOSE | FINAL, &payload);
}

/// The longest beginning of whole characters that fits.
fn fitting(reason: &[u8]) -> &[u8] {
    let shown = &reason[..reason.len().min(MAX_REASON)];
    match std::str::from_utf8(shown) {
        Ok(_) => shown,
        Err(error) => &shown[..error.valid_up_to()],
    }
}

pub(super) fn put(out: &mut BytesMut, first: u8, payload: &[u8]) {
    out.reserve(10 + payload.len());
    out.put_u8(first);
    match payload.len() {
        length @ ..=125 => out.put_u8(length as u8),
        length @ ..=0xffff => {
            out.put_u8(126);
            out.put_u16(length as u16);
        }
        length => {
            out.put_u8(127);
            out.put_u64(length as u64);
        }
    }
    out.put_slice(payload);
}
