//! Short pieces of data that wait: each is copied, and they are put together, so that many cost no more than their bytes.

use bytes::{Bytes, BytesMut};

/// Data that is shorter is copied, so that it does not keep the read buffer that it came in.
pub(super) const COPY_BELOW: usize = 4096;
/// Short pieces that wait are put together up to this length.
pub(super) const PIECE_BYTES: usize = 16 * 1024;

/// Adds a short piece to one that waits. False: it does not fit.
pub(super) fn append(last: &mut Bytes, piece: &[u8]) -> bool {
    if piece.len() >= COPY_BELOW || last.len() + piece.len() > PIECE_BYTES {
        return false;
    }
    let mut joined = std::mem::take(last)
        .try_into_mut()
        .unwrap_or_else(|shared| {
            let mut own = BytesMut::with_capacity(COPY_BELOW.max(2 * shared.len()));
            own.extend_from_slice(&shared);
            own
        });
    joined.extend_from_slice(piece);
    *last = joined.freeze();
    true
}
