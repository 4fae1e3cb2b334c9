//! Writing a run, chunk by chunk; the object that makes it exist comes last.
//!
//! ```text
//!  push(sorted) push(sorted) ... finish
//!       │ full chunks, a few at a time          more than one: 00000 00001 ... index
//!       └────────▶ {to}-{from}-{chunk}          one:           only
//! ```

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};

use crate::error::{Error, ErrorKind, Result};
use crate::storage::Storage;

use super::Place;
use super::chain::{ObjectName, Part, Span};
use super::run::{ChunkInfo, Entry, Run, chunk_batch, index_batch};

/// Chunks that are written at the same time.
const CHUNK_WRITES_MAX: usize = 4;

/// See the module.
#[derive(Debug)]
pub(super) struct RunWriter {
    storage: Arc<dyn Storage>,
    folder: String,
    span: Span,
    chunk_keys_max: usize,
    /// Keep the filters, in memory and in the index.
    filtered: bool,
    chunks: Vec<ChunkInfo>,
    rest: Vec<Entry>,
}

impl RunWriter {
    /// A writer of the run `span` below `folder`.
    pub(super) fn new(place: &Place, span: Span, filtered: bool) -> Self {
        let Place { storage, folder, limits } = place.clone();
        let chunk_keys_max = limits.chunk_keys_max;
        Self { storage, folder, span, chunk_keys_max, filtered, chunks: Vec::new(), rest: Vec::new() }
    }

    /// The next entries: sorted, and all above those that came before.
    pub(super) async fn push(&mut self, entries: Vec<Entry>) -> Result<()> {
        let mut all = std::mem::take(&mut self.rest);
        if all.is_empty() {
            all = entries;
        } else {
            all.extend(entries);
        }
        // Hold one chunk back: whether it is the only one, or the last, is known at the end.
        let full = all.len().saturating_sub(1) / self.chunk_keys_max * self.chunk_keys_max;
        self.rest = all.split_off(full);
        self.write_chunks(&all).await
    }

    async fn write_chunks(&mut self, entries: &[Entry]) -> Result<()> {
        let mut writes = Vec::new();
        for entries in entries.chunks(self.chunk_keys_max) {
            let number = u32::try_from(self.chunks.len())
                .map_err(|_| Error::new(ErrorKind::Internal, "too many chunks in a run of keys"))?;
            let path = self.path(Part::Chunk(number));
            let mut chunk = ChunkInfo::new(path.clone(), entries);
            chunk.filter = chunk.filter.filter(|_| self.filtered);
            self.chunks.push(chunk);
            let batch = chunk_batch(entries)?;
            let storage = Arc::clone(&self.storage);
            writes.push(async move { storage.write_state(&path, &[batch]).await });
        }
        let writes = stream::iter(writes).buffer_unordered(CHUNK_WRITES_MAX);
        writes.try_for_each(async |_| Ok(())).await
    }

    /// Write what is left; from here on the run exists.
    pub(super) async fn finish(mut self) -> Result<Run> {
        let rest = std::mem::take(&mut self.rest);
        if self.chunks.is_empty() {
            let path = self.path(Part::Only);
            self.storage.write_state(&path, &[chunk_batch(&rest)?]).await?;
            if !rest.is_empty() {
                self.chunks.push(ChunkInfo::new(path, &rest));
            }
        } else {
            self.write_chunks(&rest).await?;
            self.storage.write_state(&self.path(Part::Index), &[index_batch(&self.chunks)?]).await?;
        }
        Ok(Run { span: self.span, chunks: self.chunks })
    }

    fn path(&self, part: Part) -> String {
        format!("{}/{}", self.folder, ObjectName { span: self.span, part })
    }
}
