//! A set of keys that may say yes too often and never no: a Bloom filter, as large as its keys ask for.
//!
//! Twelve bits a key and five looks: about one wrong yes in three hundred.

use std::collections::HashSet;

const BITS_A_KEY: usize = 12;
const LOOKS: u64 = 5;

/// What a query may ask a block for without reading it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Key<'a> {
    Application(&'a str),
    Deployment(&'a str),
    Replica(&'a str),
    /// Of a request, or of its trace.
    Request(&'a str),
}

impl Key<'_> {
    /// FNV-1a, stirred once more so that each half is worth using. Whoever chooses keys to make it say yes too often
    /// makes searches for those keys slow, and nothing else.
    pub(crate) fn hash(self) -> u64 {
        let (kind, text) = match self {
            Self::Application(text) => (b'a', text),
            Self::Deployment(text) => (b'd', text),
            Self::Replica(text) => (b'r', text),
            Self::Request(text) => (b'q', short(text).unwrap_or(text)),
        };
        let hash = std::iter::once(kind)
            .chain(text.bytes())
            .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            });
        let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash ^ (hash >> 33)
    }
}

/// The first eight digits of an id that begins like a UUID: people copy no more of one, and it is found by them as well.
pub(crate) fn short(id: &str) -> Option<&str> {
    let (short, rest) = id.split_at_checked(8)?;
    let is_hex = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f');
    (short.bytes().all(is_hex) && (rest.is_empty() || rest.starts_with('-'))).then_some(short)
}

/// The words of a filter of `keys`.
pub(crate) fn of(keys: &HashSet<u64>) -> Vec<u64> {
    let mut words = vec![0_u64; (keys.len() * BITS_A_KEY).div_ceil(64).max(1)];
    #[expect(
        clippy::iter_over_hash_type,
        reason = "the same bits are set in any order"
    )]
    for key in keys {
        for bit in bits(*key, words.len()) {
            if let Some(word) = words.get_mut(bit / 64) {
                *word |= 1 << (bit % 64);
            }
        }
    }
    words
}

/// Whether `words`, little-endian, may have `key`.
pub(crate) fn may_have(words: &[u8], key: u64) -> bool {
    bits(key, words.len() / 8).all(|bit| {
        words
            .get(bit / 8)
            .is_some_and(|byte| byte >> (bit % 8) & 1 == 1)
    })
}

fn bits(key: u64, words: usize) -> impl Iterator<Item = usize> {
    let (first, step) = (key & 0xffff_ffff, key >> 32 | 1);
    let count = (64 * words.max(1)) as u64;
    (0..LOOKS).map(move |look| (first.wrapping_add(look.wrapping_mul(step)) % count) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_in_is_there_and_little_else() {
        let key = |number: usize| Key::Request(&format!("request-{number}")).hash();
        let words = of(&(0..700).map(key).collect());
        assert!(words.len() * 8 < 1100);
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        assert!((0..700).all(|number| may_have(&bytes, key(number))));
        let wrong = (700..100_700).filter(|number| may_have(&bytes, key(*number)));
        assert!(wrong.count() < 1000);
    }

    #[test]
    fn the_same_text_as_another_kind_is_another_key() {
        assert_ne!(Key::Replica("a").hash(), Key::Application("a").hash());
        assert!(!may_have(&[0; 8], Key::Replica("a").hash()));
    }
}
