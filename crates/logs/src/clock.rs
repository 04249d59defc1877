//! Times as log lines have them, to and from milliseconds since the epoch.
//!
//! Lines of replicas say the local time, as Python's `logging` and Ray Serve do; those of native processes and of HTTP
//! requests say UTC. A file has many lines of one hour, so what the zone makes of an hour is looked up once an hour.

use std::fmt::Write as _;

/// The times of a row of lines; keeps what it found out about the last hour.
#[derive(Debug, Default)]
pub struct Clock {
    hour: [u8; 13],
    hour_is_utc: bool,
    hour_ms: i64,
    second: Option<i64>,
    printed: String,
}

impl Clock {
    /// Reads `2026-01-31T12:00:00.123Z`, with any number of digits of the second, or `2026-01-31 12:00:00,123`, which
    /// is local. Says how many bytes it is long, too.
    pub(crate) fn read(&mut self, text: &[u8]) -> Option<(i64, usize)> {
        let (day, rest) = text.split_at_checked(10)?;
        let (is_utc, clock) = match rest.split_first()? {
            (b'T', clock) => (true, clock),
            (b' ', clock) => (false, clock),
            _ => return None,
        };
        if day.get(4) != Some(&b'-') || clock.get(2) != Some(&b':') || clock.get(5) != Some(&b':') {
            return None;
        }
        let minute = number(clock.get(3..5)?)?;
        let second = number(clock.get(6..8)?)?;
        let (milliseconds, fraction) = fraction(clock.get(8..)?, if is_utc { b'.' } else { b',' });
        let mut length = 19 + fraction;
        if is_utc {
            if text.get(length) != Some(&b'Z') {
                return None;
            }
            length += 1;
        }
        let hour = self.hour_of(text.get(..13)?, is_utc)?;
        Some((hour + (minute * 60 + second) * 1000 + milliseconds, length))
    }

    fn hour_of(&mut self, text: &[u8], is_utc: bool) -> Option<i64> {
        if self.hour != *text || self.hour_is_utc != is_utc {
            let (year, month) = (number(text.get(..4)?)?, number(text.get(5..7)?)?);
            let (day, hour) = (number(text.get(8..10)?)?, number(text.get(11..13)?)?);
            if !(1..=12).contains(&month)
                || !(1..=31).contains(&day)
                || hour > 23
                || text.get(7) != Some(&b'-')
            {
                return None;
            }
            self.hour_ms = 1000
                * if is_utc {
                    3600 * (24 * days_since_epoch(year, month, day) + hour)
                } else {
                    local_hour(year, month, day, hour)
                };
            self.hour.copy_from_slice(text);
            self.hour_is_utc = is_utc;
        }
        Some(self.hour_ms)
    }

    /// `2026-01-31 12:00:00,123` in local time.
    pub fn print_local(&mut self, milliseconds: i64) -> &str {
        let second = milliseconds.div_euclid(1000);
        if self.second != Some(second) {
            self.second = Some(second);
            self.printed = local_second(second);
        }
        self.printed.truncate(19);
        // A string takes all that is written to it.
        write!(self.printed, ",{:03}", milliseconds.rem_euclid(1000)).ok();
        &self.printed
    }
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |sum, digit| {
        digit
            .is_ascii_digit()
            .then(|| sum * 10 + i64::from(digit - b'0'))
    })
}

/// Milliseconds in `,123` or `.123456`, and how long that is.
fn fraction(text: &[u8], mark: u8) -> (i64, usize) {
    if text.first() != Some(&mark) {
        return (0, 0);
    }
    let digits = text.iter().skip(1).take_while(|byte| byte.is_ascii_digit());
    let (mut sum, mut count) = (0, 0);
    for digit in digits {
        if count < 3 {
            sum = sum * 10 + i64::from(digit - b'0');
        }
        count += 1;
    }
    for _ in count..3 {
        sum *= 10;
    }
    (sum, count + 1)
}

/// By the civil calendar: years begin in March, so that the leap day is the last.
const fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year - era * 400;
    let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Seconds since the epoch of a local hour. Of one that a change of the clocks repeats, the system's choice.
#[expect(
    unsafe_code,
    reason = "only the C library knows the zone; the structure is plain numbers, and lives on this stack"
)]
fn local_hour(year: i64, month: i64, day: i64, hour: i64) -> i64 {
    // SAFETY: all of its fields may be zero.
    let mut parts: libc::tm = unsafe { std::mem::zeroed() };
    parts.tm_year = (year - 1900) as i32;
    parts.tm_mon = (month - 1) as i32;
    parts.tm_mday = day as i32;
    parts.tm_hour = hour as i32;
    parts.tm_isdst = -1;
    // SAFETY: a valid structure that nobody else has.
    unsafe { libc::mktime(&raw mut parts) }
}

#[expect(
    unsafe_code,
    reason = "only the C library knows the zone; the structure is plain numbers, and lives on this stack"
)]
fn local_second(second: i64) -> String {
    // SAFETY: all of its fields may be zero.
    let mut parts: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both are valid, and nobody else has them.
    unsafe { libc::localtime_r(&raw const second, &raw mut parts) };
    format!(
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02}",
        parts.tm_year + 1900,
        parts.tm_mon + 1,
        parts.tm_mday,
        parts.tm_hour,
        parts.tm_min,
        parts.tm_sec
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<(i64, usize)> {
        Clock::default().read(text.as_bytes())
    }

    #[test]
    fn utc_is_read_with_any_fraction() {
        assert_eq!(read("1970-01-01T00:00:01.500Z x"), Some((1500, 24)));
        assert_eq!(
            read("2000-02-29T00:00:00.123456Z"),
            Some((951_782_400_123, 27))
        );
        assert_eq!(read("2100-03-01T00:00:00Z"), Some((4_107_542_400_000, 20)));
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in [
            "",
            "2026-01-31",
            "2026-01-31T12:00:00.1",
            "2026-13-31T12:00:00Z",
            "Traceback (most recent call last):",
            "2026-01-31x12:00:00,000",
            "aaaa-bb-cc dd:ee:ff,ggg",
        ] {
            assert_eq!(read(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_local_time_comes_back_as_it_was() {
        let mut clock = Clock::default();
        for milliseconds in [0, 1_764_579_600_007, 1_780_000_000_999] {
            let text = clock.print_local(milliseconds).to_owned();
            assert_eq!(text.len(), 23);
            assert_eq!(
                clock.read(text.as_bytes()),
                Some((milliseconds, 23)),
                "{text}"
            );
        }
    }
}
