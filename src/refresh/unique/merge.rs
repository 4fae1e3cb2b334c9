//! Keeping the runs few: which to merge, and merging them chunk by chunk.
//!
//! ```text
//!  size class = log4(keys)          oldest             newest
//!                                   8  7 7  5 5  3 1 3 3         the newest run and its older neighbours of
//!                                                ╰──┬──╯         its class or below are 4: merge them
//!                                   8  7 7  5 5     4            a key is rewritten once a class: log4(n) times
//! ```
//!
//! Only a group that ends at the newest run is ever merged, so a merged run ends at the epoch that is being sealed,
//! which no view has committed yet: no object that a committed state needs is ever overwritten.

use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::storage::Storage;

use super::chain::Span;
use super::filter::filter_bytes;
use super::run::{Chunk, Entry, Run};
use super::taken::merge_sorted;
use super::writer::RunWriter;
use super::{Place, on_cpu};

/// So many runs of one size class are made one of the next.
const CLASS_RUNS_MAX: usize = 4;

/// Runs up to this size are of the smallest class.
const SMALL_RUN_KEYS: u64 = 1024;

fn size_class(keys: u64) -> u32 {
    (keys / SMALL_RUN_KEYS).max(1).ilog(CLASS_RUNS_MAX as u64)
}

/// Where the group to merge begins, given the keys of each run, oldest first. Where the merged run would complete
/// the group of the next class, that is merged at once.
pub(super) fn merge_start(keys: &[u64]) -> Option<usize> {
    let mut start = keys.len().checked_sub(1)?;
    let mut merged = *keys.last()?;
    let mut found = None;
    loop {
        let class = size_class(merged);
        let group = keys[..start].iter().rev().take_while(|keys| size_class(**keys) <= class).count();
        if group + 1 < CLASS_RUNS_MAX {
            return found;
        }
        merged += keys[start - group..start].iter().sum::<u64>();
        start -= group;
        found = Some(start);
    }
}

/// Merge runs that follow one another, oldest first. Keys that arrived before `expired_us` are left out.
pub(super) async fn merge(place: &Place, runs: &[Arc<Run>], expired_us: Option<i64>) -> Result<Run> {
    let (Some(oldest), Some(newest)) = (runs.first(), runs.last()) else {
        return Err(Error::new(ErrorKind::Internal, "no runs to merge"));
    };
    let span = Span { to: newest.span.to, from: oldest.span.from };
    let keys: u64 = runs.iter().map(|run| run.keys()).sum();
    let filtered = filter_bytes(keys as usize) <= place.limits.filters_bytes_max;
    let mut writer = RunWriter::new(place, span, filtered);
    let mut cursors: Vec<Cursor> = runs.iter().map(|run| Cursor::new(Arc::clone(run))).collect();
    loop {
        for cursor in &mut cursors {
            cursor.fill(place.storage.as_ref()).await?;
        }
        // Everything up to the first end of a chunk is in memory.
        let Some(limit) = cursors.iter().filter_map(Cursor::limit).min() else { break };
        let rows = cursors.iter().map(Cursor::rows).sum();
        let (back, entries) = on_cpu(rows, move || {
            let mut entries = Vec::new();
            for cursor in &mut cursors {
                cursor.take_until(limit, &mut entries);
            }
            let mut entries = merge_sorted(entries);
            entries.retain(|entry| expired_us.is_none_or(|expired| entry.arrived_us >= expired));
            (cursors, entries)
        })
        .await?;
        cursors = back;
        writer.push(entries).await?;
    }
    writer.finish().await
}

/// The place in one run while it is merged.
struct Cursor {
    run: Arc<Run>,
    next_chunk: usize,
    chunk: Option<Chunk>,
    row: usize,
}

impl Cursor {
    fn new(run: Arc<Run>) -> Self {
        Self { run, next_chunk: 0, chunk: None, row: 0 }
    }

    /// Have a chunk with rows, unless the run is at its end.
    async fn fill(&mut self, storage: &dyn Storage) -> Result<()> {
        if self.chunk.is_none()
            && let Some(info) = self.run.chunks.get(self.next_chunk)
        {
            self.chunk = Some(Chunk::read(storage, &info.path).await?);
            self.next_chunk += 1;
            self.row = 0;
        }
        Ok(())
    }

    /// The last hash in memory.
    fn limit(&self) -> Option<u128> {
        let chunk = self.chunk.as_ref()?;
        (self.row < chunk.len()).then(|| chunk.get(chunk.len() - 1).hash)
    }

    fn rows(&self) -> usize {
        self.chunk.as_ref().map_or(0, |chunk| chunk.len() - self.row)
    }

    fn take_until(&mut self, limit: u128, to: &mut Vec<Entry>) {
        let Some(chunk) = &self.chunk else { return };
        let before = to.len();
        to.extend(chunk.entries().skip(self.row).take_while(|entry| entry.hash <= limit));
        self.row += to.len() - before;
        if self.row == chunk.len() {
            self.chunk = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_of_four_at_the_end_is_merged() {
        let kilo = |sizes: &[u64]| merge_start(&sizes.iter().map(|size| size * 1024).collect::<Vec<_>>());
        assert_eq!(kilo(&[]), None);
        assert_eq!(kilo(&[1, 1, 1]), None);
        assert_eq!(kilo(&[1, 1, 1, 1]), Some(0));
        assert_eq!(kilo(&[16, 1, 1, 1, 1]), Some(1));
        assert_eq!(kilo(&[16, 16, 16, 1]), None);
        assert_eq!(kilo(&[64, 1, 1, 3, 16]), Some(1));
        assert_eq!(kilo(&[0, 0, 0, 0]), Some(0));
        // 4 small ones complete the group of the next class, and those the one after it.
        assert_eq!(kilo(&[64, 16, 16, 16, 4, 4, 4, 1, 1, 1, 1]), Some(1));
    }

    #[test]
    fn runs_stay_few_and_keys_are_rewritten_once_a_class() {
        for size in [0, 1, 5_000, 350_000] {
            let mut runs: Vec<u64> = Vec::new();
            let (mut written, mut most) = (0, 0);
            for _ in 0..10_000 {
                runs.push(size);
                if let Some(start) = merge_start(&runs) {
                    let merged = runs.split_off(start).iter().sum();
                    written += merged;
                    runs.push(merged);
                }
                most = most.max(runs.len());
            }
            assert!(most <= 3 * 8, "{most} runs of {size}");
            // Within the smallest class every third seal rewrites all of it.
            let small = 10_000 / 3 * 4 * SMALL_RUN_KEYS;
            assert!(written <= 7 * 10_000 * size + small, "{} times", written / size.max(1) / 10_000);
        }
    }
}
