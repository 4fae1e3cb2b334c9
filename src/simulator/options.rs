//! What to simulate, and how faulty.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, ErrorKind, Result};

use super::calendar::SECOND;

/// The default end of the history, in microseconds since 1970 UTC: midnight in India after 20 November 2026.
pub const END_DEFAULT_US: i64 = 1_795_199_400 * SECOND;

/// How often records are faulty, as shares of all records put.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// The same record again, soon after.
    pub duplicates: f64,
    /// Not JSON.
    pub broken: f64,
    /// JSON with a missing or impossible value.
    pub bad_fields: f64,
    /// Good records that arrive a minute to 17 hours after their event time.
    pub late: f64,
}

impl Rates {
    /// Duplicates, broken and bad together: the records that are not clean.
    pub(super) fn unclean(&self) -> f64 {
        (self.duplicates + self.broken + self.bad_fields).clamp(0.0, 0.9)
    }
}

/// A named set of rates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Profile {
    /// 0.5 % duplicates, 0.2 % broken, 0.3 % bad fields, 1 % late.
    #[default]
    Default,
    /// 1 % of each.
    Faulty,
    /// None at all.
    Clean,
}

impl Profile {
    /// The profile's rates.
    pub fn rates(self) -> Rates {
        let rates = |duplicates, broken, bad_fields, late| Rates { duplicates, broken, bad_fields, late };
        match self {
            Self::Default => rates(0.005, 0.002, 0.003, 0.01),
            Self::Faulty => rates(0.01, 0.01, 0.01, 0.01),
            Self::Clean => rates(0.0, 0.0, 0.0, 0.0),
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Default => "default",
            Self::Faulty => "faulty",
            Self::Clean => "clean",
        })
    }
}

impl FromStr for Profile {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        [Self::Default, Self::Faulty, Self::Clean].into_iter().find(|profile| profile.to_string() == text).ok_or_else(
            || {
                Error::new(ErrorKind::Config, format!("there is no profile \"{text}\""))
                    .with_hint("the profiles are default, faulty and clean")
            },
        )
    }
}

/// What to simulate.
#[derive(Debug, Clone, PartialEq)]
pub struct SimulatorOptions {
    /// Records in all; see the module.
    pub events: u64,
    /// Every seed gives other traffic with the same figures.
    pub seed: u64,
    /// Where the rates came from, for people.
    pub profile: Profile,
    /// How often records are faulty.
    pub rates: Rates,
    /// The end of the 28 days of history, in microseconds since 1970 UTC.
    pub end_us: i64,
}

impl SimulatorOptions {
    /// The profile's rates, and the default end.
    pub fn new(events: u64, seed: u64, profile: Profile) -> Self {
        Self { events, seed, profile, rates: profile.rates(), end_us: END_DEFAULT_US }
    }
}
