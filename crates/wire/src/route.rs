//! The routes of user code inside an application, as routers know them: `/items/{item_id}`.
//!
//! A replica that knows which of its routes takes a request says so by a number in the head of the answer. The routes
//! themselves go once, in ROUTES, in the order of their numbers. So metrics and log lines have them for a few bytes, and
//! there are no more of them than user code has.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use crate::MAX_DATA_PAYLOAD;

/// Most routes in a list; others have no number.
pub const MOST_ROUTES: usize = 1000;
/// Longest route, in bytes.
pub const LONGEST_ROUTE: usize = 512;

const _: () = assert!(MOST_ROUTES * (2 + LONGEST_ROUTE) <= MAX_DATA_PAYLOAD as usize);

/// The payload of a ROUTES frame. Of more than [`MOST_ROUTES`] the first; one that is too long is empty in it, and a request
/// that it takes counts as one of no known route.
pub fn encode_routes<'r>(routes: impl IntoIterator<Item = &'r str>) -> Bytes {
    let mut payload = BytesMut::new();
    for route in routes.into_iter().take(MOST_ROUTES) {
        let route = if route.len() <= LONGEST_ROUTE {
            route
        } else {
            ""
        };
        // Fits: bounded above.
        payload.put_u16_le(route.len() as u16);
        payload.put_slice(route.as_bytes());
    }
    payload.freeze()
}

/// What a ROUTES frame says. `None`: it cannot be read.
pub fn decode_routes(mut payload: &[u8]) -> Option<Vec<Arc<str>>> {
    let mut routes = Vec::new();
    while !payload.is_empty() {
        let (length, rest) = payload.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_le_bytes(*length));
        if length > LONGEST_ROUTE || routes.len() == MOST_ROUTES {
            return None;
        }
        let (route, rest) = rest.split_at_checked(length)?;
        routes.push(std::str::from_utf8(route).ok()?.into());
        payload = rest;
    }
    Some(routes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_arrive_in_their_order() {
        let long = "/x".repeat(LONGEST_ROUTE);
        let payload = encode_routes(["/", "/items/{item_id}", &long, "/é"]);
        let decoded = decode_routes(&payload).unwrap();
        let decoded: Vec<&str> = decoded.iter().map(|route| &**route).collect();
        assert_eq!(decoded, ["/", "/items/{item_id}", "", "/é"]);
        assert!(decode_routes(b"").unwrap().is_empty());
    }

    #[test]
    fn a_list_has_an_end() {
        let payload = encode_routes(std::iter::repeat_n("/a", MOST_ROUTES + 1));
        assert_eq!(decode_routes(&payload).unwrap().len(), MOST_ROUTES);
        let more = [&payload[..], &[2, 0, b'/', b'b']].concat();
        assert!(decode_routes(&more).is_none());
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for broken in [&b"\x01"[..], b"\x02\x00/", b"\x01\x00\xff", b"\xff\xff/"] {
            assert!(decode_routes(broken).is_none(), "{broken:?}");
        }
    }
}
