//! Agreeing on `permessage-deflate`: RFC 7692, section 7.1.
//!
//! The first offer that can be met is taken, and the answer says of it what the client asked and nothing else. What is
//! not understood (a parameter of another extension, one that stands there twice, a number that is none) makes an offer
//! one that cannot be met, and never a request that fails: without an extension a WebSocket works as well.

use http::{HeaderMap, HeaderValue, header};

/// The largest window of DEFLATE is 32 KiB: two to the power of this.
const MOST_BITS: u8 = 15;
/// The smallest that the protocol knows. zlib cannot compress with it, so an offer that asks us to is not met.
const LEAST_BITS: u8 = 8;

/// What both sides do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Agreed {
    /// Asked of us, and so answered. We keep nothing from one message to the next whether asked or not.
    server_no_context_takeover: bool,
    /// The client refers to nothing before the message.
    pub(super) client_no_context_takeover: bool,
    /// Asked of us.
    server_max_window_bits: Option<u8>,
    /// How far back the client refers at most. Its own word: not answered, so that it may still choose.
    client_max_window_bits: u8,
}

impl Agreed {
    /// How far back we may refer, in bits.
    pub(super) fn server_bits(self) -> u8 {
        self.server_max_window_bits.unwrap_or(MOST_BITS)
    }

    /// Bytes before a message that the client may refer to.
    pub(super) fn client_window(self) -> usize {
        1 << self.client_max_window_bits
    }

    /// The field of the answer.
    pub(super) fn answer(self) -> HeaderValue {
        let mut text = String::from("permessage-deflate");
        if self.server_no_context_takeover {
            text += "; server_no_context_takeover";
        }
        if self.client_no_context_takeover {
            text += "; client_no_context_takeover";
        }
        if let Some(bits) = self.server_max_window_bits {
            text += "; server_max_window_bits=";
            text += &bits.to_string();
        }
        HeaderValue::from_str(&text).expect("a field may have these characters")
    }
}

/// The first offer of the client that can be met.
pub(super) fn agree(headers: &HeaderMap) -> Option<Agreed> {
    headers
        .get_all(header::SEC_WEBSOCKET_EXTENSIONS)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| split(value, ','))
        .find_map(meet)
}

fn meet(offer: &str) -> Option<Agreed> {
    let mut parts = split(offer, ';').map(str::trim);
    if !parts.next()?.eq_ignore_ascii_case("permessage-deflate") {
        return None;
    }
    let mut agreed = Agreed {
        server_no_context_takeover: false,
        client_no_context_takeover: false,
        server_max_window_bits: None,
        client_max_window_bits: MOST_BITS,
    };
    let mut names = Vec::new();
    for part in parts {
        let (name, value) = match part.split_once('=') {
            Some((name, value)) => (name.trim_end(), Some(unquoted(value.trim_start()))),
            None => (part, None),
        };
        if names.contains(&name) {
            return None;
        }
        match (name, value) {
            ("server_no_context_takeover", None) => agreed.server_no_context_takeover = true,
            ("client_no_context_takeover", None) => agreed.client_no_context_takeover = true,
            ("server_max_window_bits", Some(value)) => {
                let bits = bits(value).filter(|bits| *bits > LEAST_BITS)?;
                agreed.server_max_window_bits = Some(bits);
            }
            ("client_max_window_bits", None) => {}
            ("client_max_window_bits", Some(value)) => agreed.client_max_window_bits = bits(value)?,
            _ => return None,
        }
        names.push(name);
    }
    Some(agreed)
}

/// The parts of a list. What stands in quotes is of one part.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut is_quoted = false;
    text.split(move |character| {
        is_quoted ^= character == '"';
        character == separator && !is_quoted
    })
}

fn unquoted(value: &str) -> &str {
    value
        .strip_prefix('"')
        .and_then(|value| value.strip_suffix('"'))
        .unwrap_or(value)
}

/// A number of bits as it must be written: without a sign, without zeros before it.
fn bits(text: &str) -> Option<u8> {
    (LEAST_BITS..=MOST_BITS).find(|bits| bits.to_string() == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The answer to these fields; `None`: none.
    fn answer(fields: &[&'static str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for field in fields {
            let value = HeaderValue::from_static(field);
            headers.append(header::SEC_WEBSOCKET_EXTENSIONS, value);
        }
        Some(agree(&headers)?.answer().to_str().unwrap().to_owned())
    }

    #[test]
    fn the_answer_says_what_was_asked_and_nothing_else() {
        for (offer, wanted) in [
            ("permessage-deflate", "permessage-deflate"),
            (
                "permessage-deflate; client_max_window_bits",
                "permessage-deflate",
            ),
            (
                "permessage-deflate;client_max_window_bits=10",
                "permessage-deflate",
            ),
            (
                "permessage-deflate; server_no_context_takeover",
                "permessage-deflate; server_no_context_takeover",
            ),
            (
                "permessage-deflate; client_no_context_takeover; server_max_window_bits=\"9\"",
                "permessage-deflate; client_no_context_takeover; server_max_window_bits=9",
            ),
            (
                "Permessage-Deflate ; server_max_window_bits = 15 ; server_no_context_takeover",
                "permessage-deflate; server_no_context_takeover; server_max_window_bits=15",
            ),
        ] {
            assert_eq!(answer(&[offer]).as_deref(), Some(wanted), "{offer}");
        }
    }

    #[test]
    fn an_offer_that_cannot_be_met_is_passed_over() {
        for offer in [
            "",
            "x-webkit-deflate-frame",
            "permessage-bzip2; permessage-deflate",
            "permessage-deflate; mode=fast",
            "permessage-deflate; server_no_context_takeover=1",
            "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_max_window_bits=8",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; server_max_window_bits=09",
            "permessage-deflate; server_max_window_bits=+9",
            "permessage-deflate; server_max_window_bits=\"9",
            "permessage-deflate; client_max_window_bits=7",
            "permessage-deflate; client_max_window_bits=",
            "permessage-deflate; client_max_window_bits=10; client_max_window_bits=10",
            "permessage-deflate;",
            "x; text=\", permessage-deflate\"",
        ] {
            assert_eq!(answer(&[offer]), None, "{offer}");
        }
    }

    #[test]
    fn the_first_offer_that_can_be_met_is_taken() {
        let wanted = Some("permessage-deflate; server_max_window_bits=10".to_owned());
        let two = "permessage-deflate; server_max_window_bits=8, permessage-deflate; server_max_window_bits=10";
        assert_eq!(answer(&[two]), wanted);
        let fields = [
            "x-mine, permessage-deflate; server_max_window_bits=8",
            "permessage-deflate; server_max_window_bits=10, permessage-deflate",
        ];
        assert_eq!(answer(&fields), wanted);
    }
}
