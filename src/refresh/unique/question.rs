//! One call of `keep`: the keys of a batch, what is known of them, and the verdict on its rows.
//!
//! ```text
//!  rows           sorted by key, then row        keys      newest kept        verdict, in row order
//!  0 a 10:00      a 0 10:00                      a         09:59              0 duplicate (1 min <= within)
//!  1 b 10:01      a 2 11:30                      b         never              1 keep
//!  2 a 11:30      b 1 10:01                        │                          2 keep: beyond the window of 1 h
//!                                                  ├─ taken since the last seal
//!                                                  └─ filters of the runs ─▶ which rows of which chunks to read
//! ```

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{BooleanArray, BooleanBufferBuilder};

use crate::error::{Error, ErrorKind, Result};

use super::keys::Keys;
use super::run::{Chunk, Entry, NEVER_US, Run};
use super::taken::{Taken, look_up_sorted};

/// See the module.
#[derive(Debug)]
pub(super) struct Question {
    /// Of all rows, those without a key too.
    hashes: Vec<u128>,
    arrived_us: Vec<i64>,
    /// The rows with a key, to be sorted by key, then row: small, since sorting them is most of the work.
    rows: Vec<Row>,
    /// The distinct keys, sorted.
    keys: Vec<u128>,
    /// For each key where its rows begin in `rows`.
    starts: Vec<u32>,
    /// For each key the arrival of the newest row that was kept for it, or [`NEVER_US`].
    newest_us: Vec<i64>,
}

/// The upper half of a row's hash, and the row.
type Row = (u64, u32);

/// A chunk that may hold some of the keys.
#[derive(Debug)]
pub(super) struct LookUp {
    pub(super) path: String,
    /// Keys that the chunk's index counts.
    chunk_keys: usize,
    /// The keys that lie between the chunk's bounds.
    keys: Range<usize>,
    /// With a filter: places in `keys`, and the row of the chunk where that key may be.
    candidates: Option<Vec<(u32, u16)>>,
}

impl Question {
    pub(super) fn new(keys: &Keys, arrived_us: &[i64]) -> Result<Self> {
        if keys.len() != arrived_us.len() || u32::try_from(keys.len()).is_err() {
            return Err(Error::new(ErrorKind::Internal, "a batch of keys and its arrivals do not fit together"));
        }
        let rows = keys.present().map(|(row, hash)| ((hash >> 64) as u64, row as u32)).collect();
        let (hashes, arrived_us) = (keys.hashes().to_vec(), arrived_us.to_vec());
        Ok(Self { hashes, arrived_us, rows, keys: Vec::new(), starts: Vec::new(), newest_us: Vec::new() })
    }

    /// Sort, and answer from memory as far as that goes: the look-ups that need chunks.
    pub(super) fn prepare(&mut self, taken: &Taken, runs: &[Arc<Run>], within_us: Option<i64>) -> Vec<LookUp> {
        self.sort();
        self.newest_us = vec![NEVER_US; self.keys.len()];
        taken.look_up(&self.keys, |place, at| note(&mut self.newest_us, place, at));
        // What arrived before this makes nothing in the batch a duplicate.
        let oldest_us = self.arrived_us.iter().copied().min().unwrap_or(NEVER_US);
        let from_us = within_us.map_or(NEVER_US, |within| oldest_us.saturating_sub(within));
        let mut look_ups = Vec::new();
        for run in runs.iter().filter(|run| run.newest_us() >= from_us) {
            self.probe(run, from_us, &mut look_ups);
        }
        look_ups
    }

    fn sort(&mut self) {
        sort_by_upper(&mut self.rows);
        self.keys.reserve(self.rows.len());
        self.starts.reserve(self.rows.len());
        let mut start = 0;
        for equal in self.rows.chunk_by_mut(|a, b| a.0 == b.0) {
            if equal.len() > 1 {
                equal.sort_unstable_by_key(|(_, row)| (self.hashes[*row as usize], *row));
            }
            for (_, row) in equal {
                let hash = self.hashes[*row as usize];
                if self.keys.last() != Some(&hash) {
                    self.keys.push(hash);
                    self.starts.push(start);
                }
                start += 1;
            }
        }
    }

    fn probe(&self, run: &Run, from_us: i64, look_ups: &mut Vec<LookUp>) {
        let mut start = 0;
        for chunk in &run.chunks {
            start += self.keys[start..].partition_point(|key| *key < chunk.first);
            let end = start + self.keys[start..].partition_point(|key| *key <= chunk.last);
            let candidates = chunk.filter.as_ref().map(|filter| {
                let mut found = Vec::new();
                for place in start..end {
                    filter.probe(self.keys[place], |row| found.push((place as u32, row)));
                }
                found
            });
            let needed = candidates.as_ref().map_or(start < end, |found| !found.is_empty());
            if needed && chunk.newest_us >= from_us {
                let path = chunk.path.clone();
                look_ups.push(LookUp { path, chunk_keys: chunk.keys, keys: start..end, candidates });
            }
            start = end;
        }
    }

    /// Take in what a chunk says.
    pub(super) fn note(&mut self, look_up: &LookUp, chunk: &Chunk) -> Result<()> {
        if chunk.len() != look_up.chunk_keys {
            let message = format!("{} holds {} keys instead of {}", look_up.path, chunk.len(), look_up.chunk_keys);
            return Err(Error::new(ErrorKind::Corrupt, message));
        }
        let Some(candidates) = &look_up.candidates else {
            let (keys, newest_us) = (&self.keys[look_up.keys.clone()], &mut self.newest_us[look_up.keys.clone()]);
            look_up_sorted(chunk.len(), |row| chunk.get(row), keys, |place, at| note(newest_us, place, at));
            return Ok(());
        };
        for (place, row) in candidates {
            let (place, entry) = (*place as usize, chunk.get(usize::from(*row)));
            if entry.hash == self.keys[place] {
                note(&mut self.newest_us, place, entry.arrived_us);
            }
        }
        Ok(())
    }

    /// Which rows to keep, and the entries to remember, sorted.
    pub(super) fn verdict(self, within_us: Option<i64>) -> (BooleanArray, Vec<Entry>) {
        let mut keep = BooleanBufferBuilder::new(self.hashes.len());
        keep.append_n(self.hashes.len(), true);
        let mut kept = Vec::with_capacity(self.keys.len());
        let ends = self.starts.iter().skip(1).map(|end| *end as usize).chain([self.rows.len()]);
        let spans = self.starts.iter().map(|start| *start as usize).zip(ends);
        for ((hash, before_us), (start, end)) in self.keys.iter().zip(self.newest_us).zip(spans) {
            let mut newest_us = before_us;
            for (_, row) in &self.rows[start..end] {
                let arrived_us = self.arrived_us[*row as usize];
                let age_us = arrived_us.saturating_sub(newest_us);
                if newest_us != NEVER_US && within_us.is_none_or(|within| age_us <= within) {
                    keep.set_bit(*row as usize, false);
                } else {
                    newest_us = arrived_us;
                }
            }
            if newest_us != before_us {
                kept.push(Entry { hash: *hash, arrived_us: newest_us });
            }
        }
        (BooleanArray::new(keep.finish(), None), kept)
    }
}

fn note(newest_us: &mut [i64], place: usize, at: i64) {
    newest_us[place] = newest_us[place].max(at);
}

/// Sort by the upper half of the hash. Hashes are spread evenly, so one pass into buckets leaves a few rows each.
fn sort_by_upper(rows: &mut Vec<Row>) {
    const BUCKETS: usize = 1 << 11;
    const ROWS_MIN: usize = 2 * BUCKETS;
    if rows.len() >= ROWS_MIN {
        let bucket = |row: &Row| (row.0 >> (64 - BUCKETS.ilog2())) as usize;
        let mut next = [0_usize; BUCKETS + 1];
        for row in rows.iter() {
            next[bucket(row) + 1] += 1;
        }
        for at in 1..=BUCKETS {
            next[at] += next[at - 1];
        }
        let mut spread = vec![(0, 0); rows.len()];
        for row in rows.iter() {
            let at = &mut next[bucket(row)];
            spread[*at] = *row;
            *at += 1;
        }
        // Each bucket's end is where the next one began.
        let mut start = 0;
        for end in &next[..BUCKETS] {
            spread[start..*end].sort_unstable_by_key(|row| row.0);
            start = *end;
        }
        *rows = spread;
        return;
    }
    rows.sort_unstable_by_key(|row| row.0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_rows_are_sorted_by_the_upper_half() {
        for len in [0, 1, 4095, 4096, 20_000] {
            let spread = |n: u32| (u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15), n);
            let mut rows: Vec<Row> = (0..len).map(spread).chain([(u64::MAX, len), (0, len + 1)]).collect();
            let mut expected = rows.clone();
            expected.sort_unstable();
            sort_by_upper(&mut rows);
            assert_eq!(
                rows.iter().map(|row| row.0).collect::<Vec<_>>(),
                expected.iter().map(|row| row.0).collect::<Vec<_>>()
            );
            let mut numbers: Vec<u32> = rows.iter().map(|row| row.1).collect();
            numbers.sort_unstable();
            assert_eq!(numbers, (0..len + 2).collect::<Vec<_>>());
        }
    }
}
