//! Places of tables that statements read at older versions: upkeep leaves them what they need until they have ended.
//!
//! ```text
//!   a statement AS OF ... ─ hold ─▶ Held ─ lives as long as the rows that it gives ─┐
//!   a round of upkeep: what went since then stays, and the folder ◀─────────────────┘
//! ```

use std::sync::{Arc, Weak};

/// A place that is read; its end is that it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    /// Folder below the lake's root.
    pub(super) location: String,
    /// Files that were removed since then are needed, in milliseconds since 1970 UTC.
    pub(super) since_ms: i64,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Reading(parking_lot::Mutex<Vec<Weak<Held>>>);

impl Reading {
    /// Keep what a version needs for as long as the answer lives.
    pub(super) fn hold(&self, location: &str, since_ms: i64) -> Arc<Held> {
        let held = Arc::new(Held { location: location.to_string(), since_ms });
        let mut all = self.0.lock();
        all.retain(|held| held.strong_count() > 0);
        all.push(Arc::downgrade(&held));
        held
    }

    /// What is read now.
    pub(super) fn held(&self) -> Vec<Arc<Held>> {
        self.0.lock().iter().filter_map(Weak::upgrade).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_forgotten_when_it_is_dropped() {
        let reading = Reading::default();
        let (one, two) = (reading.hold("s/a", 5), reading.hold("s/b", 6));
        drop(one);
        let held = reading.held();
        assert_eq!(held.iter().map(|held| (held.location.as_str(), held.since_ms)).collect::<Vec<_>>(), [("s/b", 6)]);
        drop((two, held));
        assert!(reading.held().is_empty());
        let _three = reading.hold("s/c", 7);
        assert_eq!(reading.0.lock().len(), 1, "and takes no place");
    }
}
