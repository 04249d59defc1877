//! A session as routers know it: requests with one session id go to one replica, as long as that has room.
//!
//! Routers keep 64 bits of an id, as of a model's. Two sessions with the same hash prefer the same replica, nothing else.

use std::num::NonZeroU64;

use crate::model::fnv1a;

/// The HTTP header that names a request's session; `-` and `_` are the same in it.
pub const SESSION_HEADER: &str = "x-session-id";

/// Whether a header, in lower case, is [`SESSION_HEADER`].
pub fn is_session_header(name: &[u8]) -> bool {
    let same = |(a, b): (&u8, u8)| *a == b || (*a == b'_' && b == b'-');
    name.len() == SESSION_HEADER.len() && name.iter().zip(SESSION_HEADER.bytes()).all(same)
}

/// The hash of a session's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionKey(NonZeroU64);

impl SessionKey {
    /// `None`: the id is empty, so it names no session.
    pub fn of(id: &[u8]) -> Option<Self> {
        (!id.is_empty()).then(|| Self(NonZeroU64::new(fnv1a(id)).unwrap_or(NonZeroU64::MIN)))
    }

    pub const fn get(self) -> u64 {
        self.0.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_may_be_written_with_underscores() {
        assert!(is_session_header(b"x-session-id"));
        assert!(is_session_header(b"x_session_id"));
        assert!(!is_session_header(b"x-session-ie"));
        assert!(!is_session_header(b"x-request-id"));
        assert_eq!(SessionKey::of(b""), None);
        assert_eq!(
            SessionKey::of(b"a").map(SessionKey::get),
            Some(0xaf63_dc4c_8601_ec8c)
        );
    }
}
