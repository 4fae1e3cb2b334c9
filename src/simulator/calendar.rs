//! When things happen: the rhythm of day and week in India, sale days, and instants as text.
//!
//! ```text
//! traffic   one weight an hour: hour of the day × day of the week × sale day
//! record n of N  ──▶  the instant at which n/N of all traffic has passed
//! ```
//!
//! Instants are microseconds since 1970 UTC; all arithmetic is on integers.

/// Microseconds in a second.
pub(super) const SECOND: i64 = 1_000_000;
/// Microseconds in a minute.
pub(super) const MINUTE: i64 = 60 * SECOND;
/// Microseconds in an hour.
pub(super) const HOUR: i64 = 60 * MINUTE;
/// Microseconds in a day.
pub(super) const DAY: i64 = 24 * HOUR;

/// Days of history.
pub(super) const HISTORY_DAYS: i64 = 28;

/// India is five and a half hours before UTC, all year.
const IST: i64 = 5 * HOUR + HOUR / 2;

/// Traffic by hour of the Indian day.
const HOUR_WEIGHTS: [u64; 24] =
    [22, 12, 7, 5, 5, 8, 16, 28, 40, 50, 58, 62, 64, 60, 54, 50, 52, 58, 68, 82, 96, 100, 78, 44];

/// Traffic by day of the week, from Thursday, the first day of 1970.
const WEEKDAY_WEIGHTS: [u64; 7] = [96, 102, 118, 130, 92, 90, 94];

/// Sale days: whole days before the end of the history, and traffic in percent. With the default end these are
/// the three days of Diwali 2026 and the first of the month.
const SALE_DAYS: [(i64, u64); 4] = [(19, 140), (14, 210), (13, 190), (12, 260)];

/// The instants of a history, in order.
#[derive(Debug, Clone)]
pub(super) struct History {
    start_us: i64,
    /// Traffic before each hour, and after the last.
    passed: Vec<u64>,
    hour: usize,
}

impl History {
    /// The 28 days before `end_us`, less the last hour, in which sessions only end.
    pub(super) fn new(end_us: i64) -> Self {
        let start_us = end_us - HISTORY_DAYS * DAY;
        let mut passed = vec![0];
        let mut sum = 0;
        for hour in 0..HISTORY_DAYS * 24 - 1 {
            let local = start_us + hour * HOUR + HOUR / 2 + IST;
            let of_day = local.div_euclid(HOUR).rem_euclid(24) as usize;
            let of_week = local.div_euclid(DAY).rem_euclid(7) as usize;
            let days_left = (end_us - start_us - hour * HOUR - 1) / DAY;
            let sale = SALE_DAYS.iter().find(|(day, _)| *day == days_left).map_or(100, |(_, percent)| *percent);
            sum += HOUR_WEIGHTS[of_day] * WEEKDAY_WEIGHTS[of_week] * sale;
            passed.push(sum);
        }
        Self { start_us, passed, hour: 0 }
    }

    /// The instant at which `part` of `whole` has passed. Calls must not go back in time.
    pub(super) fn at(&mut self, part: u64, whole: u64) -> i64 {
        let total = self.passed.last().copied().unwrap_or(0);
        // In 1/1024 of a weight, so that an hour has far more instants than records.
        let target = u128::from(total) * 1024 * u128::from(part.min(whole)) / u128::from(whole.max(1));
        let target = u64::try_from(target).unwrap_or(u64::MAX);
        while self.hour + 2 < self.passed.len() && self.passed[self.hour + 1] * 1024 <= target {
            self.hour += 1;
        }
        let (from, to) = (self.passed[self.hour] * 1024, self.passed[self.hour + 1] * 1024);
        let within = u128::from(target.saturating_sub(from)) * HOUR as u128 / u128::from((to - from).max(1));
        self.start_us + self.hour as i64 * HOUR + within as i64
    }
}

/// Append an instant as RFC 3339 in UTC with milliseconds: `2026-11-08T14:03:22.120Z`.
pub(super) fn write_instant(out: &mut String, instant_us: i64) {
    let (year, month, day) = civil(instant_us.div_euclid(DAY));
    let millis = instant_us.rem_euclid(DAY) / 1000;
    let mut text = *b"0000-00-00T00:00:00.000Z";
    let mut digits = |at: usize, count: usize, mut value: i64| {
        for slot in text[at..at + count].iter_mut().rev() {
            *slot = b'0' + (value % 10) as u8;
            value /= 10;
        }
    };
    digits(0, 4, year);
    digits(5, 2, month);
    digits(8, 2, day);
    digits(11, 2, millis / 3_600_000);
    digits(14, 2, millis / 60_000 % 60);
    digits(17, 2, millis / 1000 % 60);
    digits(20, 3, millis % 1000);
    out.push_str(std::str::from_utf8(&text).unwrap_or_default());
}

/// Year, month and day of a day number, 0 being 1970-01-01 (the days-to-civil algorithm on 400-year eras that
/// begin in March).
fn civil(day_number: i64) -> (i64, i64, i64) {
    let shifted = day_number + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, SecondsFormat};

    use super::*;

    #[test]
    fn instants_are_written_as_chrono_writes_them() {
        let mut random = super::super::random::Random::new(3, 0);
        for _ in 0..20_000 {
            let instant = (random.bits() % (200 * 365 * DAY as u64)) as i64 - 50 * 365 * DAY;
            let instant = instant - instant.rem_euclid(1000);
            let mut text = String::new();
            write_instant(&mut text, instant);
            let expected = DateTime::from_timestamp_micros(instant).unwrap();
            assert_eq!(text, expected.to_rfc3339_opts(SecondsFormat::Millis, true));
        }
    }

    #[test]
    fn history_runs_from_start_to_end_and_never_back() {
        let end = 1_795_199_400 * SECOND;
        let mut history = History::new(end);
        let mut last = i64::MIN;
        for part in 0..=100_000 {
            let at = history.at(part, 100_000);
            assert!(at >= last && at < end, "{part}: {at}");
            last = at;
        }
        assert_eq!(History::new(end).at(0, 10), end - HISTORY_DAYS * DAY);
        assert!(last > end - 2 * HOUR);
    }
}
