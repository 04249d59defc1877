//! A multiplexed model as routers know it.
//!
//! Routers only compare: they ask whether a replica holds the model that a request names. So they keep 64 bits of each
//! id, the FNV-1a hash of its bytes, which both ends of a connection compute alike. Two ids with the same hash cost a
//! load that was not necessary, nothing else.

use std::num::NonZeroU64;

use bytes::{BufMut, BytesMut};

use crate::MAX_DATA_PAYLOAD;

/// The HTTP header that names a request's model; `-` and `_` are the same in it.
pub const MODEL_HEADER: &str = "serve_multiplexed_model_id";

/// Whether a header, in lower case, is [`MODEL_HEADER`].
pub fn is_model_header(name: &[u8]) -> bool {
    let same = |(a, b): (&u8, u8)| *a == b || (*a == b'-' && b == b'_');
    name.len() == MODEL_HEADER.len() && name.iter().zip(MODEL_HEADER.bytes()).all(same)
}

const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// FNV-1a.
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(OFFSET, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(PRIME)
    })
}

/// The hash of a model's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModelKey(NonZeroU64);

impl ModelKey {
    /// Most models in one frame.
    pub const MOST: usize = MAX_DATA_PAYLOAD as usize / 8;

    /// `None`: the id is empty, so it names no model.
    pub fn of(id: &[u8]) -> Option<Self> {
        if id.is_empty() {
            return None;
        }
        Some(Self(NonZeroU64::new(fnv1a(id)).unwrap_or(NonZeroU64::MIN)))
    }

    /// The payload of a MODELS frame; of more than [`Self::MOST`], the first.
    pub fn encode(models: impl IntoIterator<Item = Self>, out: &mut BytesMut) {
        for model in models.into_iter().take(Self::MOST) {
            out.put_u64_le(model.0.get());
        }
    }

    /// What a MODELS frame says. `None`: it cannot be read.
    pub fn decode(payload: &[u8]) -> Option<Vec<Self>> {
        let (words, rest) = payload.as_chunks::<8>();
        if !rest.is_empty() {
            return None;
        }
        words
            .iter()
            .map(|word| NonZeroU64::new(u64::from_le_bytes(*word)).map(Self))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_the_hash_that_the_protocol_names() {
        let value = |id: &[u8]| ModelKey::of(id).map(|key| key.0.get());
        assert_eq!(value(b""), None);
        assert_eq!(value(b"a"), Some(0xaf63_dc4c_8601_ec8c));
        assert_eq!(value(b"foobar"), Some(0x8594_4171_f739_67e8));
    }

    #[test]
    fn the_header_may_be_written_with_dashes() {
        assert!(is_model_header(b"serve_multiplexed_model_id"));
        assert!(is_model_header(b"serve-multiplexed_model-id"));
        assert!(!is_model_header(b"serve_multiplexed_model_ie"));
        assert!(!is_model_header(b"serve"));
    }

    #[test]
    fn a_frame_of_models_is_read_as_it_was_written() {
        let models: Vec<_> = ["a", "b", "model-7"]
            .iter()
            .filter_map(|id| ModelKey::of(id.as_bytes()))
            .collect();
        let mut out = BytesMut::new();
        ModelKey::encode(models.iter().copied(), &mut out);
        assert_eq!(ModelKey::decode(&out), Some(models));
        assert_eq!(ModelKey::decode(&[]), Some(Vec::new()));
        assert_eq!(ModelKey::decode(&out[..9]), None);
        assert_eq!(ModelKey::decode(&[0; 8]), None);
    }
}
