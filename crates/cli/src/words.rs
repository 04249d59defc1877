//! Times, numbers and texts as people write them.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::{Timestamp, Zoned, tz::TimeZone};

/// `6 d`, `3 h 20 min`, `34.0 s`, `0.2 s`.
pub(crate) fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0) as u64;
    match whole {
        0..60 => format!("{:.1} s", seconds.max(0.0)),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        3600..86_400 => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
        _ => format!("{} d {} h", whole / 86_400, whole % 86_400 / 3600),
    }
}

pub(crate) fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}

fn local(seconds: f64) -> Option<Zoned> {
    let nanoseconds = (seconds * 1e9) as i128;
    let time = Timestamp::from_nanosecond(nanoseconds).ok()?;
    Some(time.to_zoned(TimeZone::try_system().unwrap_or(TimeZone::UTC)))
}

/// `12:04:35`, of this machine's zone.
pub(crate) fn clock(seconds: f64) -> String {
    local(seconds).map_or_else(String::new, |time| time.strftime("%H:%M:%S").to_string())
}

/// `12:04:35.318`
pub(crate) fn precise_clock(seconds: f64) -> String {
    local(seconds).map_or_else(String::new, |time| {
        time.strftime("%H:%M:%S.%3f").to_string()
    })
}

/// `today 12:04`, `yesterday 17:31`, `2026-11-03 09:12`.
pub(crate) fn day(seconds: f64, now: f64) -> String {
    let (Some(time), Some(today)) = (local(seconds), local(now)) else {
        return String::new();
    };
    let clock = time.strftime("%H:%M");
    if time.date() == today.date() {
        return format!("today {clock}");
    }
    match today.date().yesterday() {
        Ok(yesterday) if yesterday == time.date() => format!("yesterday {clock}"),
        _ => format!("{} {clock}", time.date()),
    }
}

/// `17,408`
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

pub(crate) fn plural(number: usize, one: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{number} {one}{s}")
}

/// Without the escape sequences that colour a terminal, and what else would move its cursor: what user code prints, and what
/// strangers send, is not to write over what is ours.
pub(crate) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        if character == '\u{1b}' {
            if rest.next() == Some('[') {
                // Parameters, up to the letter that ends the sequence.
                rest.by_ref().find(char::is_ascii_alphabetic);
            }
        } else if character == '\n' || character == '\t' || !character.is_control() {
            out.push(character);
        }
    }
    out
}

/// The first line of a text that has any, plain.
pub(crate) fn first_line(text: &str) -> String {
    let text = plain(text);
    let line = text.lines().map(str::trim).find(|line| !line.is_empty());
    line.unwrap_or_default().to_owned()
}

/// The last line: where a traceback says what happened.
pub(crate) fn last_line(text: &str) -> String {
    let text = plain(text);
    let line = text
        .lines()
        .rev()
        .map(str::trim)
        .find(|line| !line.is_empty());
    line.unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_one_or_two_units() {
        for (seconds, expected) in [
            (0.04, "0.0 s"),
            (34.02, "34.0 s"),
            (61.0, "1 min 1 s"),
            (12_000.0, "3 h 20 min"),
            (6.0 * 86_400.0, "6 d 0 h"),
            (-1.0, "0.0 s"),
        ] {
            assert_eq!(duration(seconds), expected);
        }
    }

    #[test]
    fn thousands_are_parted() {
        for (number, expected) in [
            (0, "0"),
            (999, "999"),
            (4180, "4,180"),
            (1_000_000, "1,000,000"),
        ] {
            assert_eq!(count(number), expected);
        }
    }

    #[test]
    fn the_day_is_named_as_far_as_it_has_a_name() {
        let noon = 1_700_000_000.0;
        assert!(day(noon, noon + 1.0).starts_with("today "));
        assert!(day(noon, noon + 86_400.0).starts_with("yesterday "));
        assert!(day(noon, noon + 10.0 * 86_400.0).starts_with("2023-11-1"));
    }

    #[test]
    fn what_moves_a_cursor_is_taken_out() {
        assert_eq!(plain("\u{1b}[31mred\u{1b}[0m text\r\u{8}\u{7}"), "red text");
        assert_eq!(
            last_line("Traceback:\n  x\nValueError: no\n\n"),
            "ValueError: no"
        );
    }
}
