//! Files with one record a line: plain, gzip or zstd; a folder, a single file, or `s3://bucket/prefix`.
//!
//! ```text
//!  list ──▶ files by path ──▶ for each, from its position:
//!             chunk of 8 MB (the next one is on its way)      │ decoder, kept between polls
//!               └─ up to the last newline ──▶ lines ──▶ rows  └─ window of decompressed bytes ──▶ lines ──▶ rows
//! ```
//!
//! - Offsets count decompressed bytes. Complete lines only: a last line without its newline waits for it, except in a
//!   compressed file, where the end of the stream ends the line and the file ([`Position::End`]).
//! - `_stream` is the location, `_shard_id` the path below it, `_sequence_number` the offset of the line's first byte,
//!   `_arrived_at` the file's modification time. Empty lines are passed over.
//! - A damaged compressed file gives what comes before the damage, one row with `_error`, and ends.
//! - A file that shrank is a loss of data. One that was deleted keeps its position and gives nothing more.

mod lines;
mod listing;
mod open;
mod read;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use tokio::sync::Mutex;

use super::{FilesSpec, Slice, SliceLimits, Source};
use crate::epoch::{Position, Positions, SourceRange};
use crate::error::{Error, ErrorKind, Result};
use lines::Budget;
use listing::{FileMeta, Listing};
use open::OpenFile;
use read::offset_of;

/// The longest line that is landed whole, in bytes; of a longer one the first so many are landed, with an error.
pub const RECORD_BYTES_MAX: usize = 10 << 20;

/// A source over files; see the module.
#[derive(Debug)]
pub struct FilesSource {
    location: String,
    listing: Listing,
    state: Mutex<State>,
}

/// What is remembered between polls; all of it can be found again.
#[derive(Debug, Default)]
struct State {
    /// The file that was being read when the last slice was full.
    open: Option<OpenFile>,
    /// Files at whose end nothing could be read: not looked at again before they change.
    idle: HashMap<String, Idle>,
    /// Compressed files that may still be being written, and when to look at them again.
    unsettled: HashMap<String, Instant>,
}

#[derive(Debug, PartialEq)]
struct Idle {
    size: u64,
    modified_ms: i64,
    at: u64,
}

impl Idle {
    fn of(file: &FileMeta, at: u64) -> Self {
        Self { size: file.size, modified_ms: file.modified_ms, at }
    }
}

impl FilesSource {
    /// Reads nothing yet.
    ///
    /// # Errors
    /// `Config` for an S3 location that isn't one, or that no region is known for.
    pub async fn open(spec: &FilesSpec) -> Result<Self> {
        let listing = Listing::open(&spec.location).await?;
        Ok(Self { location: spec.location.clone(), listing, state: Mutex::default() })
    }
}

#[async_trait]
impl Source for FilesSource {
    fn describe(&self) -> String {
        format!("jsonl:{}", self.location)
    }

    async fn start(&self) -> Result<Positions> {
        Ok(Positions::default())
    }

    async fn poll(&self, from: Option<&Positions>, limits: SliceLimits) -> Result<Slice> {
        let mut state = self.state.lock().await;
        let files = self.listing.list().await?;
        let mut slice = Slice { to: from.cloned().unwrap_or_default(), caught_up: true, ..Slice::default() };
        let mut budget = Budget::new(limits);
        for file in files.values() {
            let at = match slice.to.shards.get(&file.name) {
                Some(Position::End) => continue,
                Some(position) => offset_of(file, position)?,
                None => {
                    let start = Position::Offset { bytes: 0, modified_ms: file.modified_ms };
                    slice.to.shards.insert(file.name.clone(), start);
                    0
                }
            };
            if budget.is_used_up() {
                slice.caught_up &= state.idle.get(&file.name) == Some(&Idle::of(file, at));
                continue;
            }
            let (rows, position, idle) = self.poll_file(&mut state, file, at, &mut budget).await?;
            slice.batches.extend(rows.batches);
            slice.records += rows.records;
            slice.payload_bytes += rows.payload_bytes;
            slice.caught_up &= idle;
            if let Some(position) = position {
                slice.to.shards.insert(file.name.clone(), position);
            }
        }
        state.idle.retain(|name, _| files.contains_key(name));
        state.unsettled.retain(|name, _| files.contains_key(name));
        slice.batches = super::rows::coalesce(slice.batches)?;
        slice.behind_ms = slice.caught_up.then(BTreeMap::new);
        Ok(slice)
    }

    async fn read(&self, range: &SourceRange) -> Result<Slice> {
        let files = self.listing.list().await?;
        let mut slice = Slice { to: range.to.clone(), caught_up: true, ..Slice::default() };
        for (name, to) in &range.to.shards {
            let from = range.from.shards.get(name);
            if from == Some(to) {
                continue;
            }
            let gone = || {
                Error::new(ErrorKind::DataLoss, format!("{name} of {} is gone", self.location))
                    .with_hint("an unfinished pass has to read it again: put the file back")
            };
            let rows = match (to, files.get(name)) {
                (Position::Offset { bytes: 0, .. }, _) => continue,
                (_, None) => return Err(gone()),
                (to, Some(file)) => self.read_range(file, from, to).await?,
            };
            slice.batches.extend(rows.batches);
            slice.records += rows.records;
            slice.payload_bytes += rows.payload_bytes;
        }
        slice.batches = super::rows::coalesce(slice.batches)?;
        Ok(slice)
    }

    async fn landed(&self, _to: &Positions) -> Result<()> {
        Ok(())
    }
}

/// Milliseconds since 1970 UTC.
fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

/// Files by path below the location.
type Files = BTreeMap<String, FileMeta>;
/// Where files are.
type Store = Arc<dyn object_store::ObjectStore>;
