//! Times as people say them when they ask for logs.

use crate::Clock;

const UNITS: [(char, i64); 4] = [
    ('s', 1_000),
    ('m', 60_000),
    ('h', 3_600_000),
    ('d', 86_400_000),
];

/// Milliseconds since the epoch of `text`: `5m`, `2h`, `1d` ago; seconds since the epoch; or a time as lines have it, such as
/// `2026-01-31T12:00:00Z`, or `2026-01-31 12:00:00` in local time.
///
/// # Errors
/// What may be said, for whoever said something else.
pub fn parse_time(text: &str, now_ms: i64) -> Result<i64, String> {
    let text = text.trim();
    let wrong = || {
        format!(
            "{text:?} is no time: `5m`, `2h`, `1d` ago, seconds since 1970, `2026-01-31T12:00:00Z`, or `2026-01-31 12:00:00`"
        )
    };
    if let Some((count, unit)) = UNITS
        .iter()
        .find_map(|(name, unit)| Some((text.strip_suffix(*name)?, unit)))
    {
        let count: u32 = count.parse().map_err(|_| wrong())?;
        return Ok(now_ms - i64::from(count) * unit);
    }
    if let Ok(seconds) = text.parse::<f64>() {
        let is_time = seconds.is_finite() && seconds.abs() < 1e11;
        return is_time
            .then_some((seconds * 1000.0).round() as i64)
            .ok_or_else(wrong);
    }
    match Clock::default().read(text.as_bytes()) {
        Some((milliseconds, length)) if length == text.len() => Ok(milliseconds),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_said_in_many_ways() {
        for (text, expected) in [
            ("5m", 700_000),
            ("10s", 990_000),
            ("2h", 1_000_000 - 7_200_000),
            ("1d", 1_000_000 - 86_400_000),
            ("1.5", 1_500),
            ("1764579600.123", 1_764_579_600_123),
            ("1970-01-01T00:00:01Z", 1_000),
        ] {
            assert_eq!(parse_time(text, 1_000_000), Ok(expected), "{text}");
        }
        let local = Clock::default().print_local(1_764_579_600_000).to_owned();
        assert_eq!(parse_time(&local, 0), Ok(1_764_579_600_000));
        assert_eq!(parse_time(&local[..19], 0), Ok(1_764_579_600_000));
    }

    #[test]
    fn anything_else_is_refused_with_what_may_be_said() {
        for text in [
            "",
            "m",
            "5 m",
            "-5m",
            "yesterday",
            "nan",
            "inf",
            "1e300",
            "2026-01-31",
            "1970-01-01T00:00:01Zx",
        ] {
            let error = parse_time(text, 0).unwrap_err();
            assert!(error.contains("`5m`"), "{text:?}: {error}");
        }
    }
}
