//! What time it is: the machine's, or one that stands still until it is set.
//!
//! ```text
//!  Clock::System ──▶ the machine's time                 the program
//!  Clock::Fixed  ──▶ one number that its holders share  tests: now() is what they say, in every run
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// See the module. Instants are microseconds since 1970 UTC.
#[derive(Debug, Clone, Default)]
pub enum Clock {
    /// The machine's.
    #[default]
    System,
    /// One that stands still. Clones are the same clock.
    Fixed(Arc<AtomicI64>),
}

impl Clock {
    /// A clock that stands at this instant.
    pub fn fixed(now_us: i64) -> Self {
        Self::Fixed(Arc::new(AtomicI64::new(now_us)))
    }

    /// What time it is.
    pub fn now_us(&self) -> i64 {
        self.stands_at_us().unwrap_or_else(|| chrono::Utc::now().timestamp_micros())
    }

    /// Where it stands; `None` for one that runs.
    pub fn stands_at_us(&self) -> Option<i64> {
        match self {
            Self::System => None,
            Self::Fixed(now_us) => Some(now_us.load(Ordering::Acquire)),
        }
    }

    /// Set a clock that stands still; the machine's is not ours to set.
    pub fn set(&self, now_us: i64) {
        if let Self::Fixed(at) = self {
            at.store(now_us, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_clock_stands_until_it_is_set_and_is_shared() {
        let clock = Clock::fixed(7);
        let same = clock.clone();
        assert_eq!((clock.now_us(), same.stands_at_us()), (7, Some(7)));
        same.set(9);
        assert_eq!(clock.now_us(), 9);
        let system = Clock::default();
        system.set(0);
        assert!(system.now_us() > 1_700_000_000_000_000 && system.stands_at_us().is_none());
    }
}
