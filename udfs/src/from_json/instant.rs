//! Instants and dates from their text.
//!
//! ```text
//! 2026-11-08T14:03:22.120Z     the common shape, read by hand
//! anything else                chrono's RFC 3339: offsets, lower case, leap seconds
//! ```

use chrono::{DateTime, NaiveDate};

const SECOND: i64 = 1_000_000;

/// An RFC 3339 instant, in microseconds since 1970 UTC; digits beyond the microsecond are cut off. `None` for
/// other texts, such as those without an offset.
#[inline]
pub(super) fn instant(text: &str) -> Option<i64> {
    match utc(text.as_bytes()) {
        Some(instant) => Some(instant),
        None => DateTime::parse_from_rfc3339(text.trim_ascii()).ok().map(|instant| instant.timestamp_micros()),
    }
}

/// `YYYY-MM-DDTHH:MM:SS[.fraction]Z`; `None` for the others.
#[inline]
fn utc(text: &[u8]) -> Option<i64> {
    let (head, tail) = text.split_at_checked(19)?;
    let head = <&[u8; 19]>::try_from(head).ok()?;
    let days = day_number(head[..10].try_into().ok()?)?;
    if (head[10], head[13], head[16]) != (b'T', b':', b':') {
        return None;
    }
    let (hour, minute, second) = (two(head[11], head[12]), two(head[14], head[15]), two(head[17], head[18]));
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let seconds = days * 86_400 + i64::from(hour) * 3600 + i64::from(minute) * 60 + i64::from(second);
    Some(seconds * SECOND + fraction(tail)?)
}

/// `Z` or `.digitsZ`, in microseconds.
#[inline]
fn fraction(text: &[u8]) -> Option<i64> {
    if text == b"Z" {
        return Some(0);
    }
    let digits = text.strip_prefix(b".")?.strip_suffix(b"Z")?;
    if digits.is_empty() || digits.len() > 9 {
        return None;
    }
    let mut micros = 0;
    let mut unit = SECOND;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        unit /= 10;
        micros += unit * i64::from(digit - b'0');
    }
    Some(micros)
}

/// Two digits; 255 where they are none.
#[inline]
fn two(tens: u8, units: u8) -> u8 {
    if tens.is_ascii_digit() && units.is_ascii_digit() { (tens - b'0') * 10 + units - b'0' } else { u8::MAX }
}

/// The day number of `YYYY-MM-DD`, 1970-01-01 being 0.
#[inline]
fn day_number(text: &[u8; 10]) -> Option<i64> {
    let [y1, y2, y3, y4, dash, m1, m2, dash2, d1, d2] = *text;
    let (century, year, month, day) = (two(y1, y2), two(y3, y4), two(m1, m2), two(d1, d2));
    if century > 99 || year > 99 || (dash, dash2) != (b'-', b'-') || !(1..=12).contains(&month) {
        return None;
    }
    let year = i64::from(century) * 100 + i64::from(year);
    if day < 1 || day > month_days(year, month) {
        return None;
    }
    // Years begin in March here, so that the leap day is the last of its year.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * i64::from(month) + 2) / 5 + i64::from(day) - 1;
    Some(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
}

#[inline]
fn month_days(year: i64, month: u8) -> u8 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// `YYYY-MM-DD`, in days since 1970.
pub(super) fn date(text: &str) -> Option<i32> {
    let text = text.trim_ascii();
    match <&[u8; 10]>::try_from(text.as_bytes()) {
        Ok(digits) => i32::try_from(day_number(digits)?).ok(),
        Err(_) => NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().map(|date| date.to_epoch_days()),
    }
}

#[cfg(test)]
mod tests {
    use chrono::SecondsFormat;

    use super::*;

    #[test]
    fn the_common_shape_agrees_with_chrono() {
        let mut state = 1u64;
        for _ in 0..100_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // From the year 0 to the year 9999.
            let micros = ((u128::from(state) * 315_569_520_000_000_000) >> 64) as i64 - 62_167_219_200_000_000;
            let instant_of = DateTime::from_timestamp_micros(micros).unwrap();
            for format in [SecondsFormat::Micros, SecondsFormat::Millis, SecondsFormat::Secs] {
                let text = instant_of.to_rfc3339_opts(format, true);
                let expected = DateTime::parse_from_rfc3339(&text).unwrap().timestamp_micros();
                assert_eq!(utc(text.as_bytes()), Some(expected), "{text}");
            }
        }
    }

    #[test]
    fn other_shapes_go_to_chrono() {
        let expected = instant("2026-11-08T14:03:22Z");
        assert_eq!(expected, Some(1_794_146_602_000_000));
        assert_eq!(instant("2026-11-08T19:33:22+05:30"), expected);
        assert_eq!(instant("2026-11-08t14:03:22z"), expected);
        assert_eq!(instant(" 2026-11-08T14:03:22.0000000009Z "), expected);
        assert_eq!(instant("2016-12-31T23:59:60Z"), instant("2017-01-01T00:00:00Z"));
    }

    #[test]
    fn what_is_no_instant_is_none() {
        for text in [
            "",
            "yesterday",
            "2026-11-08",
            "2026-11-08T14:03:22",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-11-08T24:00:00Z",
            "2026-11-08T14:60:00Z",
            "2026-11-08T14:03:22.Z",
            "2026-11-08T14:03:22.1x1Z",
            "1794146602",
            "2026-11-08T14:03:22Zjunk",
            "२०२६-11-08T14:03:22Z",
        ] {
            assert_eq!(instant(text), None, "{text}");
        }
    }

    #[test]
    fn dates() {
        assert_eq!(date("1970-01-02"), Some(1));
        assert_eq!(date("2024-02-29"), Some(19_782));
        assert_eq!(date("2023-02-29"), None);
        assert_eq!(date("0000-00-00"), None);
    }
}
