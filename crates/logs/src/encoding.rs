//! Text for people, or JSON for machines.

use std::str;

use serde::{Deserialize, Serialize};

/// How the lines of a log are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Encoding {
    #[default]
    Text,
    /// One object a line, with the keys of Ray Serve: `levelname`, `asctime`, `message`, `component_name` and so on.
    Json,
}

impl str::FromStr for Encoding {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_uppercase().as_str() {
            "TEXT" => Ok(Self::Text),
            "JSON" => Ok(Self::Json),
            _ => Err(format!("must be TEXT or JSON, got {text:?}")),
        }
    }
}

/// Adds `text` as a JSON string, quotes and all.
pub fn push_json_string(line: &mut Vec<u8>, text: &str) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    line.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => line.extend([b'\\', byte]),
            b'\n' => line.extend(b"\\n"),
            b'\r' => line.extend(b"\\r"),
            b'\t' => line.extend(b"\\t"),
            0..0x20 | 0x7f => {
                line.extend(b"\\u00");
                line.extend([byte >> 4, byte & 15].map(|half| DIGITS[usize::from(half)]));
            }
            _ => line.push(byte),
        }
    }
    line.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_stays_within_its_string() {
        let mut line = Vec::new();
        push_json_string(&mut line, "a\"b\\c\n\u{1b}[31m é");
        assert_eq!(
            String::from_utf8(line).unwrap(),
            r#""a\"b\\c\n\u001b[31m é""#
        );
    }

    #[test]
    fn an_encoding_is_named_in_any_case() {
        assert_eq!("json".parse(), Ok(Encoding::Json));
        assert_eq!("Text".parse(), Ok(Encoding::Text));
        assert!("xml".parse::<Encoding>().unwrap_err().contains("\"xml\""));
    }
}
