//! Rows of gold that are kept in memory between questions, since taps do not change them.
//!
//! ```text
//!   Key    whose rights, which seller, which relation, which days        what a question looks for
//!   Slice  files ── the same as now? ──▶ rows                            else it reads them, and puts them here
//!
//!   least recently used ◀────────── at most BYTES_MAX ──────────▶ just used
//! ```
//!
//! An epoch writes the files of today, so that the slices of the other days stay good. A slice is found by those only
//! whose rights it was read with: they are part of its key, and so are the seller of a link and the number of the rules.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use chrono::NaiveDate;
use parking_lot::Mutex;

/// All slices together, in bytes.
pub const KEPT_BYTES_MAX: usize = 128 << 20;

/// What a slice takes beside its rows: key, paths, places in both maps.
const SLICE_BYTES: usize = 1 << 10;

/// What a slice is found by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// Whose rights it was read with; equal for equal rights only.
    pub whose: Arc<str>,
    /// Of one seller; of all that they see without.
    pub seller: Option<String>,
    /// The query.
    pub relation: &'static str,
    /// The days, where the table has days.
    pub days: Option<Range<NaiveDate>>,
}

#[derive(Debug)]
struct Slice {
    /// Where the rows lie. A file is never written again, so that equal files are equal rows.
    files: Vec<String>,
    rows: RecordBatch,
    bytes: usize,
    /// Its place in `by_use`.
    used: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Kept {
    slices: Mutex<Slices>,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct Slices {
    by_key: HashMap<Key, Slice>,
    /// The least recently used one first.
    by_use: BTreeMap<u64, Key>,
    bytes: usize,
    clock: u64,
}

impl Default for Kept {
    fn default() -> Self {
        Self::new(KEPT_BYTES_MAX)
    }
}

impl Kept {
    /// Keeps so much at most.
    pub fn new(bytes_max: usize) -> Self {
        Self { slices: Mutex::default(), bytes_max }
    }

    /// The rows of these files, if they are kept.
    pub fn get(&self, key: &Key, files: &[String]) -> Option<RecordBatch> {
        let slices = &mut *self.slices.lock();
        let slice = slices.by_key.get_mut(key).filter(|slice| slice.files == files)?;
        slices.clock += 1;
        if let Some(key) = slices.by_use.remove(&slice.used) {
            slices.by_use.insert(slices.clock, key);
        }
        slice.used = slices.clock;
        Some(slice.rows.clone())
    }

    /// Keep the rows of these files in the place of those that the key had before.
    pub fn put(&self, key: Key, files: Vec<String>, rows: RecordBatch) {
        let bytes = SLICE_BYTES + rows.get_array_memory_size();
        let slices = &mut *self.slices.lock();
        slices.remove(&key);
        if bytes > self.bytes_max {
            return;
        }
        while slices.bytes + bytes > self.bytes_max {
            let Some((_, oldest)) = slices.by_use.pop_first() else { break };
            slices.remove(&oldest);
        }
        slices.clock += 1;
        slices.bytes += bytes;
        slices.by_use.insert(slices.clock, key.clone());
        slices.by_key.insert(key, Slice { files, rows, bytes, used: slices.clock });
    }

    /// Bytes that are held.
    pub fn bytes(&self) -> usize {
        self.slices.lock().bytes
    }
}

impl Slices {
    fn remove(&mut self, key: &Key) {
        if let Some(slice) = self.by_key.remove(key) {
            self.bytes -= slice.bytes;
            self.by_use.remove(&slice.used);
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;

    use super::*;

    fn rows(count: i64) -> RecordBatch {
        let column = Arc::new(Int64Array::from_iter_values(0..count)) as _;
        RecordBatch::try_from_iter([("n", column)]).unwrap()
    }

    fn key(whose: &str, seller: Option<&str>, day: u32) -> Key {
        let day = NaiveDate::from_ymd_opt(2026, 11, day).unwrap();
        let days = Some(day..day.succ_opt().unwrap());
        Key { whose: whose.into(), seller: seller.map(String::from), relation: "sold", days }
    }

    fn files(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_slice_is_found_by_its_rights_its_seller_its_days_and_its_files() {
        let kept = Kept::default();
        kept.put(key("asha", Some("S001"), 1), files(&["a"]), rows(3));
        assert_eq!(kept.get(&key("asha", Some("S001"), 1), &files(&["a"])).unwrap().num_rows(), 3);
        for (other, names) in [
            (key("ravi", Some("S001"), 1), ["a"].as_slice()),
            (key("asha", Some("S004"), 1), &["a"]),
            (key("asha", None, 1), &["a"]),
            (key("asha", Some("S001"), 2), &["a"]),
            (Key { relation: "steps", ..key("asha", Some("S001"), 1) }, &["a"]),
            (key("asha", Some("S001"), 1), &["b"]),
            (key("asha", Some("S001"), 1), &["a", "b"]),
            (key("asha", Some("S001"), 1), &[]),
        ] {
            assert!(kept.get(&other, &files(names)).is_none(), "{other:?} {names:?}");
        }
        kept.put(key("asha", Some("S001"), 1), files(&["a", "b"]), rows(5));
        assert!(kept.get(&key("asha", Some("S001"), 1), &files(&["a"])).is_none(), "the new files are in its place");
        assert_eq!(kept.get(&key("asha", Some("S001"), 1), &files(&["a", "b"])).unwrap().num_rows(), 5);
    }

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let one = SLICE_BYTES + rows(1_000).get_array_memory_size();
        let kept = Kept::new(3 * one);
        let held = |day| kept.get(&key("", None, day), &[]).is_some();
        for day in 1..=3 {
            kept.put(key("", None, day), vec![], rows(1_000));
        }
        assert!(held(1), "used, so that the second is the oldest");
        kept.put(key("", None, 4), vec![], rows(1_000));
        assert_eq!([1, 2, 3, 4].map(held), [true, false, true, true]);
        assert_eq!(kept.bytes(), 3 * one);
        kept.put(key("", None, 4), vec![], rows(1_000));
        assert_eq!(kept.bytes(), 3 * one, "in the place of the one before");
        kept.put(key("", None, 5), vec![], rows(10_000));
        assert!(!held(5) && held(1), "what is too large is not kept, and nothing goes for it");
        let slices = kept.slices.lock();
        assert_eq!((slices.by_key.len(), slices.by_use.len()), (3, 3));
    }

    #[test]
    fn slices_without_rows_count_too() {
        let kept = Kept::new(10 * SLICE_BYTES);
        for day in 1..=28 {
            kept.put(key("", None, day), vec![], rows(0));
        }
        assert!(kept.slices.lock().by_key.len() <= 10);
    }
}
