//! Which days a range means at a moment, and what they are compared with.
//!
//! ```text
//!   before          from             now     to            7 days, on a Monday at 15:42
//!     ├───────────────┼───────────────┤·······┤
//!     └── counted up to: cut = now - 7 days ─┘
//! ```
//!
//! Days are Indian, and times are India's wall clock, in whole minutes. Equal times are compared: a day that has gone
//! on until noon is compared with the other day's morning.

use std::str::FromStr;

use chrono::{DateTime, Duration, NaiveDate, NaiveDateTime, NaiveTime, Timelike, Utc};
use chrono_tz::Asia::Kolkata;

use crate::error::{Error, ErrorKind, Result};

/// A span of days up to today.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Range {
    /// Today.
    #[default]
    Today,
    /// Yesterday, all of it.
    Yesterday,
    /// Seven days with today.
    Week,
    /// Twenty-eight days with today.
    Month,
    /// Everything that there is.
    All,
}

/// The step of the trend.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Grain {
    /// The last hour by minute.
    Minute,
    /// By hour.
    #[default]
    Hour,
    /// By day.
    Day,
}

impl Range {
    const NAMES: [(&'static str, Self); 5] = [
        ("today", Self::Today),
        ("yesterday", Self::Yesterday),
        ("7d", Self::Week),
        ("28d", Self::Month),
        ("all", Self::All),
    ];

    /// As it stands in a URL.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, range)| *range == self).map_or("", |(name, _)| name)
    }

    /// The grain that is wanted, where this range can be drawn by it; its usual one otherwise.
    pub fn grain(self, wanted: Option<Grain>) -> Grain {
        let can: &[Grain] = match self {
            Self::Today => &[Grain::Hour, Grain::Minute],
            Self::Yesterday => &[Grain::Hour],
            Self::Week | Self::Month => &[Grain::Day, Grain::Hour],
            Self::All => &[Grain::Day],
        };
        wanted.filter(|grain| can.contains(grain)).unwrap_or(can[0])
    }

    fn days(self) -> i64 {
        match self {
            Self::Today | Self::Yesterday => 1,
            Self::Week => 7,
            Self::Month => 28,
            Self::All => 0,
        }
    }
}

impl Grain {
    const NAMES: [(&'static str, Self); 3] = [("minute", Self::Minute), ("hour", Self::Hour), ("day", Self::Day)];

    /// As it stands in a URL, and in `date_trunc`.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, grain)| *grain == self).map_or("", |(name, _)| name)
    }
}

impl FromStr for Range {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        named(&Self::NAMES, text, "range")
    }
}

impl FromStr for Grain {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        named(&Self::NAMES, text, "grain")
    }
}

fn named<T: Copy>(names: &[(&str, T)], text: &str, what: &str) -> Result<T> {
    names.iter().find(|(name, _)| *name == text).map(|(_, value)| *value).ok_or_else(|| {
        let known = names.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        Error::new(ErrorKind::Query, format!("there is no {what} of this name")).with_hint(format!("there are {known}"))
    })
}

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    /// The minute that it is, in India.
    pub now: NaiveDateTime,
    /// The first day.
    pub from: NaiveDate,
    /// The day after the last.
    pub to: NaiveDate,
    /// The first day that is compared; `from` when nothing is.
    pub before: NaiveDate,
    /// Up to where that counts.
    pub cut: NaiveDateTime,
}

impl Period {
    /// What the range means now.
    pub fn of(range: Range, now: DateTime<Utc>) -> Self {
        let local = now.with_timezone(&Kolkata).naive_local();
        let now = local.with_second(0).and_then(|now| now.with_nanosecond(0)).unwrap_or(local);
        let tomorrow = now.date() + Duration::days(1);
        let length = Duration::days(range.days());
        let (from, to) = match range {
            Range::Yesterday => (now.date() - length, now.date()),
            Range::All => (NaiveDate::default(), tomorrow),
            Range::Today | Range::Week | Range::Month => (tomorrow - length, tomorrow),
        };
        let end = now.min(to.and_time(NaiveTime::MIN));
        Self { now, from, to, before: from - length, cut: end - length }
    }

    /// How long it is: what has to be added to the times before, so that they lie over those of now.
    pub fn shift(&self) -> Duration {
        self.from - self.before
    }

    /// There is something to compare with.
    pub fn compares(&self) -> bool {
        self.before < self.from
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn period(range: Range) -> Period {
        // 23 November 2026, 15:42 in India.
        Period::of(range, "2026-11-23T10:12:59.5Z".parse().unwrap())
    }

    fn text(period: Period) -> [String; 4] {
        [period.from.to_string(), period.to.to_string(), period.before.to_string(), period.cut.to_string()]
    }

    #[test]
    fn equal_times_are_compared() {
        assert_eq!(text(period(Range::Today)), ["2026-11-23", "2026-11-24", "2026-11-22", "2026-11-22 15:42:00"]);
        assert_eq!(text(period(Range::Yesterday)), ["2026-11-22", "2026-11-23", "2026-11-21", "2026-11-22 00:00:00"]);
        assert_eq!(text(period(Range::Week)), ["2026-11-17", "2026-11-24", "2026-11-10", "2026-11-16 15:42:00"]);
        assert_eq!(period(Range::Month).shift(), Duration::days(28));
        assert!(!period(Range::All).compares() && period(Range::Month).compares());
    }

    #[test]
    fn the_day_begins_at_midnight_in_india() {
        let late = Period::of(Range::Today, "2026-11-22T18:30:00Z".parse().unwrap());
        assert_eq!(
            (late.from.to_string().as_str(), late.now.to_string().as_str()),
            ("2026-11-23", "2026-11-23 00:00:00")
        );
        assert_eq!(late.cut.to_string(), "2026-11-22 00:00:00");
    }

    #[test]
    fn names_are_read_back() {
        for (name, range) in Range::NAMES {
            assert_eq!((name.parse::<Range>().unwrap(), range.name()), (range, name));
        }
        for (name, grain) in Grain::NAMES {
            assert_eq!((name.parse::<Grain>().unwrap(), grain.name()), (grain, name));
        }
    }
}
