//! The user-visible id of a request: the client's own `x-request-id` if it is safe to print, else a fresh UUID4.

use http::{HeaderName, HeaderValue};

/// The field that names it, in requests, answers and calls.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest id that is taken from a client.
const MAX_BYTES: usize = 128;

/// Takes the client's id if it is 1 to 128 printable ASCII characters without spaces: it goes into headers and logs.
pub(crate) fn from_client(value: &HeaderValue) -> Option<HeaderValue> {
    let bytes = value.as_bytes();
    let safe = (1..=MAX_BYTES).contains(&bytes.len())
        && bytes.iter().all(|byte| (0x21..=0x7e).contains(byte));
    safe.then(|| value.clone())
}

/// A random UUID, version 4, as text. Unique, not secret: the generator is fast and not cryptographic.
pub(crate) fn fresh(random: &mut fastrand::Rng) -> HeaderValue {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut bytes = random.u128(..).to_be_bytes();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut text = [b'-'; 36];
    let mut at = 0;
    for (index, byte) in bytes.into_iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            at += 1;
        }
        text[at] = DIGITS[usize::from(byte >> 4)];
        text[at + 1] = DIGITS[usize::from(byte & 15)];
        at += 2;
    }
    HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_id_is_a_version_4_uuid() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..1000 {
            let id = fresh(&mut random);
            let text = id.to_str().unwrap();
            assert_eq!(text.len(), 36, "{text}");
            assert_eq!(&text[14..15], "4", "{text}");
            assert!(matches!(&text[19..20], "8" | "9" | "a" | "b"), "{text}");
            assert_eq!(
                text.match_indices('-')
                    .map(|(at, _)| at)
                    .collect::<Vec<_>>(),
                [8, 13, 18, 23]
            );
        }
    }

    #[test]
    fn a_client_id_that_could_break_a_log_line_is_not_taken() {
        assert!(from_client(&HeaderValue::from_static("abc-123")).is_some());
        assert!(from_client(&HeaderValue::from_static("")).is_none());
        assert!(from_client(&HeaderValue::from_static("a b")).is_none());
        assert!(from_client(&HeaderValue::from_bytes(b"a\xff").unwrap()).is_none());
        assert!(from_client(&HeaderValue::from_str(&"a".repeat(129)).unwrap()).is_none());
    }
}
