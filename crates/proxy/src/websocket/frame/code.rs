//! Codes of a closing frame: RFC 6455, section 7.4.1, and the registry that continues it.

pub(crate) const PROTOCOL_ERROR: u16 = 1002;
/// Never sent: there was no code.
pub(crate) const NONE: u16 = 1005;
/// Never sent: there was no closing frame.
pub(crate) const BROKEN_OFF: u16 = 1006;
pub(crate) const NOT_UTF8: u16 = 1007;
pub(crate) const TOO_LONG: u16 = 1009;
pub(crate) const INTERNAL_ERROR: u16 = 1011;
pub(crate) const RESTART: u16 = 1012;

/// Whether a closing frame may hold this code.
pub(crate) const fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}
