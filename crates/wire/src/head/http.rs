//! What the parts of an HTTP request mean.

use std::borrow::Cow;

use super::HttpHead;

impl<'a> HttpHead<'a> {
    /// The subprotocols that the client of a WebSocket offers, in its order.
    pub fn subprotocols(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.headers
            .iter()
            .filter(|(name, _)| *name == b"sec-websocket-protocol")
            .flat_map(|(_, value)| value.split(|byte| *byte == b','))
            .map(<[u8]>::trim_ascii)
    }
}

/// A path without its escapes (RFC 3986, section 2.1). Never an error: what is no escape stays as it is.
pub fn percent_decoded(raw: &[u8]) -> Cow<'_, [u8]> {
    if !raw.contains(&b'%') {
        return Cow::Borrowed(raw);
    }
    let mut decoded = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%'
            && let Some((&[high, low], behind)) = after.split_first_chunk::<2>()
            && let (Some(high), Some(low)) = (digit(high), digit(low))
        {
            decoded.push(high << 4 | low);
            rest = behind;
        } else {
            decoded.push(*first);
            rest = after;
        }
    }
    Cow::Owned(decoded)
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_decoded_and_what_is_none_stays() {
        let cases: [(&[u8], &[u8]); 8] = [
            (b"/plain", b"/plain"),
            (b"", b""),
            (b"/a%20b", b"/a b"),
            (b"%c3%A4", "\u{e4}".as_bytes()),
            (b"%25%32%30", b"%20"),
            (b"/%00", b"/\0"),
            (b"100%", b"100%"),
            (b"%4%zz%+1%", b"%4%zz%+1%"),
        ];
        for (raw, decoded) in cases {
            assert_eq!(&*percent_decoded(raw), decoded);
        }
    }
}
