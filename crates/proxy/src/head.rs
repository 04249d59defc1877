//! Heads, from HTTP to the wire ([`request`]) and back ([`response`]).

mod request;
mod response;

pub(crate) use request::{Encoded, Scratch, TRACEPARENT, encode_request, own_timeout};
pub(crate) use response::{Unsendable, copy_fields, decode_response};

use http::{HeaderName, header};

/// Whether a field is about one connection and ends with it.
fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        *name,
        header::CONNECTION
            | header::TE
            | header::TRAILER
            | header::TRANSFER_ENCODING
            | header::UPGRADE
    ) || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}
