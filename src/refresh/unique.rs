//! The index of a unique key: which rows are the first of their key within a window of arrival time, known without
//! reading the view's table.
//!
//! ```text
//!  keep(keys, arrivals)                    seal(epoch)                      memory: 20 bits a key
//!    │ sort                                  │ sort what was kept
//!    ├─▶ taken since the last seal           ├─▶ _state/<view>/<definition>/keys/{to}-{from}-*.parquet
//!    ├─▶ filter of each run ─▶ few chunks    └─▶ four runs of a size: merge them
//!    └─▶ verdict; remember what is kept          then the view commits `epoch`; prune once it is published
//! ```
//!
//! A row is a duplicate when a kept row of its key came before it and it arrived at most `within` later (or
//! earlier). A row beyond the window is kept and is what later ones are compared with. A NULL key is always kept.
//!
//! Exactly once: what is kept is written before the view's commit under names that hold the epochs, and the state at
//! a frontier is found from the names (`chain`). A crash between the two leaves a run beyond the frontier, which is
//! not looked at, and which the same epoch, run again, overwrites with the same content.
//!
//! Batches above `INLINE_ROWS_MAX` rows are worked on in the runtime's blocking threads, smaller ones in place.

mod chain;
mod filter;
mod keys;
mod merge;
mod question;
mod run;
mod taken;
#[cfg(test)]
mod tests;
mod writer;

use std::sync::Arc;

use arrow::array::BooleanArray;
use futures::{StreamExt, stream};

use crate::epoch::Epoch;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::Storage;

pub use keys::{Keys, hash_keys};

use chain::{ObjectName, Span};
use question::Question;
use run::{Chunk, NEVER_US, Run};
use taken::Taken;
use writer::RunWriter;

/// The most that the filters of all runs may hold, in bytes: 27 million keys. Beyond it the filter of the largest
/// run is dropped, and its chunks are searched for every key.
pub const FILTERS_BYTES_MAX: usize = 64 << 20;

/// Work on up to so many rows is done on the calling thread (below 2 ms).
const INLINE_ROWS_MAX: usize = 16_384;

/// Chunks that are read at the same time.
const CHUNK_READS_MAX: usize = 4;

/// Shards may be read this far apart, in microseconds, even where the window is shorter: keys are let go only when
/// they are older than the newest arrival by the window and by the larger of the window and this.
const DISORDER_US_MIN: i64 = 3_600_000_000;

/// Where an index lives, and its limits (smaller ones in tests).
#[derive(Debug, Clone)]
struct Place {
    storage: Arc<dyn Storage>,
    folder: String,
    limits: Limits,
}

#[derive(Debug, Clone, Copy)]
struct Limits {
    chunk_keys_max: usize,
    filters_bytes_max: usize,
}

const LIMITS: Limits = Limits { chunk_keys_max: filter::CHUNK_KEYS_MAX, filters_bytes_max: FILTERS_BYTES_MAX };

/// See the module. One at a time for a folder.
#[derive(Debug)]
pub struct UniqueIndex {
    place: Place,
    within_us: Option<i64>,
    frontier: Epoch,
    /// The newest end of a run in the folder, of runs beyond the frontier too.
    newest_end: Epoch,
    /// Oldest first.
    runs: Vec<Arc<Run>>,
    taken: Arc<Taken>,
}

impl UniqueIndex {
    /// The index as it was when the view committed `frontier` (0: nothing, for a first or a full refresh). Epochs
    /// after that in which the view had nothing to do may be counted in, if none of them was sealed. `folder` is below the lake's root; `within_us` is the window, `None` for ever.
    ///
    /// # Errors
    /// `Storage`; `Corrupt` when an object is not what was written.
    pub async fn open(
        storage: Arc<dyn Storage>,
        folder: String,
        frontier: Epoch,
        within_us: Option<i64>,
    ) -> Result<Self> {
        Self::open_at(Place { storage, folder, limits: LIMITS }, frontier, within_us).await
    }

    async fn open_at(place: Place, frontier: Epoch, within_us: Option<i64>) -> Result<Self> {
        let names = list(&place).await?;
        let newest_end = names.iter().map(|name| name.span.to).max().unwrap_or(0);
        let mut index = Self { place, within_us, frontier, newest_end, runs: Vec::new(), taken: Arc::default() };
        for name in chain::chain(&names, frontier) {
            let run = Run::load(index.place.storage.as_ref(), &index.place.folder, name).await?;
            index.runs.push(Arc::new(run));
            index.limit_filters();
        }
        Ok(index)
    }

    /// The epoch that it was opened at or that was last sealed. If the view's commit failed after a seal, this is
    /// beyond the view's frontier: open the index again.
    pub fn frontier(&self) -> Epoch {
        self.frontier
    }

    /// Which of these rows are the first of their key; rows come in order, the first is the lowest. Kept rows count
    /// for all later calls. `arrived_us` is in microseconds since 1970 UTC.
    ///
    /// # Errors
    /// `Storage`, `Corrupt`; nothing was taken then.
    pub async fn keep(&mut self, keys: &Keys, arrived_us: &[i64]) -> Result<BooleanArray> {
        let mut question = Question::new(keys, arrived_us)?;
        let (taken, runs, within_us) = (Arc::clone(&self.taken), self.runs.clone(), self.within_us);
        let (mut question, look_ups) = on_cpu(keys.len(), move || {
            let look_ups = question.prepare(&taken, &runs, within_us);
            (question, look_ups)
        })
        .await?;
        let storage = self.place.storage.as_ref();
        let mut chunks = stream::iter(look_ups)
            .map(|look_up| async move { (Chunk::read(storage, &look_up.path).await, look_up) })
            .buffer_unordered(CHUNK_READS_MAX);
        while let Some((chunk, look_up)) = chunks.next().await {
            question.note(&look_up, &chunk?)?;
        }
        drop(chunks);
        let (verdict, kept) = on_cpu(keys.len(), move || question.verdict(within_us)).await?;
        Arc::make_mut(&mut self.taken).push(kept);
        Ok(verdict)
    }

    /// Write what was kept since the last seal as the keys of (frontier, epoch]. To be called before the view
    /// commits `epoch`, in every refresh, also when nothing was kept. Running it again after a crash writes the
    /// same objects again. Merges runs when that is due.
    ///
    /// # Errors
    /// `Storage`, and `Corrupt` from a merge: the refresh has failed; open the index again at the view's frontier.
    pub async fn seal(&mut self, epoch: Epoch) -> Result<()> {
        if epoch <= self.frontier {
            let message = format!("keys of epoch {epoch} are sealed after those of epoch {}", self.frontier);
            return Err(Error::new(ErrorKind::Internal, message));
        }
        // Without keys there is no need for a run, unless one that did not come to be committed must be jumped over.
        let held_end = self.runs.last().map_or(0, |run| run.span.to);
        if !self.taken.is_empty() || self.newest_end > held_end {
            let span = Span { to: epoch, from: self.frontier };
            let taken = Arc::clone(&self.taken);
            let entries = on_cpu(taken.len(), move || taken.sorted()).await?;
            let mut writer = RunWriter::new(&self.place, span, true);
            writer.push(entries).await?;
            self.runs.push(Arc::new(writer.finish().await?));
            self.newest_end = self.newest_end.max(epoch);
        }
        self.taken = Arc::default();
        self.frontier = epoch;
        self.merge_due_runs().await?;
        self.limit_filters();
        Ok(())
    }

    async fn merge_due_runs(&mut self) -> Result<()> {
        let keys: Vec<u64> = self.runs.iter().map(|run| run.keys()).collect();
        let due = self.runs.last().is_some_and(|run| run.span.to == self.frontier);
        let Some(start) = merge::merge_start(&keys).filter(|_| due) else { return Ok(()) };
        let merged = merge::merge(&self.place, &self.runs[start..], self.expired_us()).await?;
        self.runs.truncate(start);
        self.runs.push(Arc::new(merged));
        Ok(())
    }

    /// The refresh failed before it sealed: forget what was taken since the last seal.
    pub fn abandon(&mut self) {
        self.taken = Arc::default();
    }

    /// Delete the objects that no state at or after the published epoch needs: merged and expired runs, and what
    /// failed refreshes left. A view that lags behind the published epoch keeps what its own frontier needs.
    ///
    /// # Errors
    /// `Storage`; what is left is deleted next time.
    pub async fn prune(&mut self, published: Epoch) -> Result<()> {
        let published = published.min(self.frontier);
        let expired_us = self.expired_us();
        // A run without keys stays: it may stand in front of one whose commit failed.
        let old = |run: &Run| expired_us.is_some_and(|expired| run.newest_us() < expired && run.keys() > 0);
        let expired = |run: &Run| run.span.to <= published && old(run);
        let spans: Vec<Span> = self.runs.iter().filter(|run| expired(run)).map(|run| run.span).collect();
        let names = list(&self.place).await?;
        let (runs, chunks) = chain::prunable(&names, published, &spans);
        self.runs.retain(|run| !expired(run));
        for names in [runs, chunks] {
            let paths: Vec<String> = names.iter().map(|name| format!("{}/{name}", self.place.folder)).collect();
            if !paths.is_empty() {
                self.place.storage.delete(&paths).await?;
            }
        }
        Ok(())
    }

    /// Keys in all runs and since the last seal; one that was kept again counts twice until its runs are merged.
    pub fn keys_held(&self) -> u64 {
        self.runs.iter().map(|run| run.keys()).sum::<u64>() + self.taken.len() as u64
    }

    /// Bytes of filters, and of keys since the last seal.
    pub fn memory_bytes(&self) -> usize {
        self.runs.iter().map(|run| run.filter_bytes()).sum::<usize>() + self.taken.memory_bytes()
    }

    /// What arrived before this, in microseconds, cannot make a row a duplicate any more. `None`: all may.
    fn expired_us(&self) -> Option<i64> {
        let within_us = self.within_us?;
        let newest_us = self.runs.iter().map(|run| run.newest_us()).max().filter(|newest| *newest != NEVER_US)?;
        Some(newest_us.saturating_sub(within_us).saturating_sub(within_us.max(DISORDER_US_MIN)))
    }

    fn limit_filters(&mut self) {
        while self.runs.iter().map(|run| run.filter_bytes()).sum::<usize>() > self.place.limits.filters_bytes_max {
            let Some(largest) = self.runs.iter_mut().max_by_key(|run| run.filter_bytes()) else { return };
            for chunk in &mut Arc::make_mut(largest).chunks {
                chunk.filter = None;
            }
        }
    }
}

async fn list(place: &Place) -> Result<Vec<ObjectName>> {
    let names = place.storage.list_newest(&place.folder, usize::MAX).await?;
    Ok(names.iter().filter_map(|name| ObjectName::parse(name)).collect())
}

/// Run `work` on so many rows where it does not hold up others.
async fn on_cpu<T: Send + 'static>(rows: usize, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    if rows <= INLINE_ROWS_MAX {
        return Ok(work());
    }
    let failed = |error| Error::new(ErrorKind::Internal, format!("a blocking task failed: {error}"));
    tokio::task::spawn_blocking(work).await.map_err(failed)
}
