//! What is said to a client that breaks a rule.

use super::code;
use crate::websocket::{deflate::Garbage, utf8::NotUtf8};

/// A client that breaks a rule: the code and the words it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    pub(crate) code: u16,
    pub(crate) reason: &'static str,
}

pub(super) const TOO_LONG: Broken = Broken {
    code: code::TOO_LONG,
    reason: "the message is longer than websocket_message_bytes",
};

pub(super) const fn broken(reason: &'static str) -> Broken {
    Broken {
        code: code::PROTOCOL_ERROR,
        reason,
    }
}

impl From<NotUtf8> for Broken {
    fn from(NotUtf8: NotUtf8) -> Self {
        Self {
            code: code::NOT_UTF8,
            reason: "text is not UTF-8",
        }
    }
}

impl From<Garbage> for Broken {
    fn from(Garbage: Garbage) -> Self {
        Self {
            code: code::NOT_UTF8,
            reason: "the message is not compressed as it must be",
        }
    }
}
