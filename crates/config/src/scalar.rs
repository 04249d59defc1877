//! What a plain scalar of YAML means: YAML 1.1, as `PyYAML`'s `SafeLoader` reads it, since that is what reads the same
//! file elsewhere.
//!
//! So `yes` is a flag, `010` is eight, `1:30` is ninety and `1e3` is a text. What has no place in JSON is refused, and
//! not passed on as something else: dates, NaN and infinity, integers over 64 bits.

use crate::node::Value;

/// The type that a tag (`!!int`) asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tag {
    Null,
    Flag,
    Whole,
    Number,
    Text,
}

/// The value of a scalar without quotes and without a tag.
///
/// # Errors
/// It is of a type that a config cannot hold; the text goes on after the scalar's own.
pub(crate) fn plain(text: &str) -> Result<Value, &'static str> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Value::Null),
        "<<" => {
            return Err("is the merge key of YAML, which stands before a mapping's values only");
        }
        "=" => return Err("is a special value of YAML; write it in quotes if it is meant as text"),
        _ => {}
    }
    if let Some(flag) = flag(text) {
        return Ok(Value::Flag(flag));
    }
    let Some(first) = text.bytes().next() else {
        return Ok(Value::Null);
    };
    if matches!(first, b'0'..=b'9' | b'+' | b'-' | b'.') {
        if is_number(text) {
            return number(text);
        }
        if is_whole(text) {
            return whole(text);
        }
        if is_time(text) {
            return Err("is a date in YAML, which a config cannot hold; write it in quotes");
        }
    }
    Ok(Value::Text(text.to_owned()))
}

/// The value of a scalar that has a tag, whether in quotes or not.
///
/// # Errors
/// As [`plain`], or the text is none of that type.
pub(crate) fn tagged(tag: Tag, text: &str) -> Result<Value, &'static str> {
    match tag {
        Tag::Text => Ok(Value::Text(text.to_owned())),
        Tag::Null => Ok(Value::Null),
        Tag::Flag => flag(&text.to_lowercase())
            .map(Value::Flag)
            .ok_or("is no !!bool"),
        Tag::Whole => whole(text),
        Tag::Number => number(text),
    }
}

fn flag(text: &str) -> Option<bool> {
    match text {
        "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Some(true),
        "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Some(false),
        _ => None,
    }
}

const NO_WHOLE: &str = "is no integer";
const TOO_LARGE: &str =
    "is an integer of more than 64 bits, which a config cannot hold; write it in quotes";
const NO_NUMBER: &str = "is no number";
const NOT_FINITE: &str =
    "is no finite number, and a config can hold no other; leave it out, or write it in quotes";

fn whole(text: &str) -> Result<Value, &'static str> {
    let bare: String = text.chars().filter(|character| *character != '_').collect();
    let (negative, digits) = signed(&bare);
    let value = if digits == "0" {
        0
    } else if let Some(binary) = digits.strip_prefix("0b") {
        in_base(binary, 2)?
    } else if let Some(hexadecimal) = digits.strip_prefix("0x") {
        in_base(hexadecimal, 16)?
    } else if digits.starts_with('0') {
        in_base(digits, 8)?
    } else {
        // Base 60 where there are colons: `1:30`.
        let mut value: i128 = 0;
        for part in digits.split(':') {
            let scaled = value.checked_mul(60).ok_or(TOO_LARGE)?;
            value = scaled.checked_add(in_base(part, 10)?).ok_or(TOO_LARGE)?;
        }
        value
    };
    let value = if negative { -value } else { value };
    if value < i64::MIN.into() || value > u64::MAX.into() {
        return Err(TOO_LARGE);
    }
    Ok(Value::Whole(value))
}

fn in_base(digits: &str, base: u32) -> Result<i128, &'static str> {
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(base)) {
        return Err(NO_WHOLE);
    }
    i128::from_str_radix(digits, base).map_err(|_| TOO_LARGE)
}

fn number(text: &str) -> Result<Value, &'static str> {
    let bare: String = text.chars().filter(|character| *character != '_').collect();
    let (negative, digits) = signed(&bare);
    if !digits.contains(|character: char| character.is_ascii_digit()) {
        let special = matches!(digits.to_ascii_lowercase().as_str(), ".inf" | ".nan");
        return Err(if special { NOT_FINITE } else { NO_NUMBER });
    }
    let mut value = 0.0;
    for part in digits.split(':') {
        value = value * 60.0 + part.parse::<f64>().map_err(|_| NO_NUMBER)?;
    }
    if !f64::is_finite(value) {
        return Err(NOT_FINITE);
    }
    Ok(Value::Number(if negative { -value } else { value }))
}

fn signed(text: &str) -> (bool, &str) {
    match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    }
}

/// Takes apart what looks like a number. Each part says whether there was one.
struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn new(text: &str) -> Cursor<'_> {
        Cursor(text.as_bytes())
    }

    fn one(&mut self, which: impl Fn(u8) -> bool) -> bool {
        match self.0.split_first() {
            Some((first, rest)) if which(*first) => {
                self.0 = rest;
                true
            }
            _ => false,
        }
    }

    fn many(&mut self, which: impl Fn(u8) -> bool) -> usize {
        let before = self.0.len();
        while self.one(&which) {}
        before - self.0.len()
    }

    fn words(&mut self, words: &[&str]) -> bool {
        let found = words
            .iter()
            .find(|word| self.0.starts_with(word.as_bytes()));
        if let Some(word) = found {
            self.0 = &self.0[word.len()..];
        }
        found.is_some()
    }

    fn sign(&mut self) -> bool {
        self.one(|byte| byte == b'+' || byte == b'-')
    }

    /// From `least` to `most` digits.
    fn digits(&mut self, least: usize, most: usize) -> bool {
        let found = self
            .0
            .iter()
            .take(most)
            .take_while(|byte| byte.is_ascii_digit());
        let count = found.count();
        self.0 = &self.0[count..];
        count >= least
    }

    /// `[0-9][0-9_]*`
    fn grouped(&mut self) -> bool {
        let begins = self.one(|byte| byte.is_ascii_digit());
        self.many(digit_or_line);
        begins
    }

    /// `(:[0-5]?[0-9])+`
    fn sixtieths(&mut self) -> bool {
        let mut count = 0;
        while self.one(|byte| byte == b':') {
            let first_of_two = matches!(self.0, [b'0'..=b'5', b'0'..=b'9', ..]);
            if !self.digits(1, if first_of_two { 2 } else { 1 }) {
                return false;
            }
            count += 1;
        }
        count > 0
    }

    fn ends(&self) -> bool {
        self.0.is_empty()
    }
}

fn digit_or_line(byte: u8) -> bool {
    byte.is_ascii_digit() || byte == b'_'
}

fn is_number(text: &str) -> bool {
    let exponent = |cursor: &mut Cursor<'_>| {
        !cursor.one(|byte| byte == b'e' || byte == b'E')
            || (cursor.sign() && cursor.digits(1, usize::MAX))
    };
    let mut cursor = Cursor::new(text);
    let signed = cursor.sign();
    if cursor.one(|byte| byte == b'.') {
        return if cursor.words(&["inf", "Inf", "INF"]) {
            cursor.ends()
        } else if cursor.words(&["nan", "NaN", "NAN"]) {
            !signed && cursor.ends()
        } else {
            !signed && cursor.grouped() && exponent(&mut cursor) && cursor.ends()
        };
    }
    if !cursor.grouped() {
        return false;
    }
    let sixty = cursor.0.first() == Some(&b':');
    if sixty && !cursor.sixtieths() {
        return false;
    }
    let point = cursor.one(|byte| byte == b'.');
    cursor.many(digit_or_line);
    point && (sixty || exponent(&mut cursor)) && cursor.ends()
}

fn is_whole(text: &str) -> bool {
    let mut cursor = Cursor::new(text);
    cursor.sign();
    if cursor.words(&["0b"]) {
        return cursor.many(|byte| matches!(byte, b'0' | b'1' | b'_')) > 0 && cursor.ends();
    }
    if cursor.words(&["0x"]) {
        return cursor.many(|byte| byte.is_ascii_hexdigit() || byte == b'_') > 0 && cursor.ends();
    }
    if cursor.words(&["0"]) {
        cursor.many(|byte| matches!(byte, b'0'..=b'7' | b'_'));
        return cursor.ends();
    }
    cursor.grouped() && (cursor.ends() || (cursor.sixtieths() && cursor.ends()))
}

fn is_time(text: &str) -> bool {
    let dash = |cursor: &mut Cursor<'_>| cursor.one(|byte| byte == b'-');
    let colon = |cursor: &mut Cursor<'_>| cursor.one(|byte| byte == b':');
    let blank = |byte: u8| byte == b' ' || byte == b'\t';
    let mut cursor = Cursor::new(text);
    let date = cursor.digits(4, 4)
        && dash(&mut cursor)
        && cursor.digits(1, 2)
        && dash(&mut cursor)
        && cursor.digits(1, 2);
    if !date {
        return false;
    }
    if cursor.ends() {
        return text.len() == "2000-01-01".len();
    }
    let begins = cursor.one(|byte| byte == b'T' || byte == b't') || cursor.many(blank) > 0;
    let time = begins
        && cursor.digits(1, 2)
        && colon(&mut cursor)
        && cursor.digits(2, 2)
        && colon(&mut cursor)
        && cursor.digits(2, 2);
    if !time {
        return false;
    }
    if cursor.one(|byte| byte == b'.') {
        cursor.many(|byte| byte.is_ascii_digit());
    }
    cursor.many(blank);
    if cursor.sign() {
        let minutes = cursor.digits(1, 2);
        return minutes && (!colon(&mut cursor) || cursor.digits(2, 2)) && cursor.ends();
    }
    cursor.one(|byte| byte == b'Z');
    cursor.ends()
}
