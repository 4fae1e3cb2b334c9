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

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::Mutex;

use super::rows::{RowBuilder, Rows};
use super::{FilesSpec, Slice, SliceLimits, Source};
use crate::epoch::{Position, Positions, SourceRange};
use crate::error::{Error, ErrorKind, Result};
use lines::{Budget, Cursor, Until, take_lines};
use listing::{FileMeta, Listing};
use open::{OpenFile, Window};

/// The longest line that is landed whole, in bytes; of a longer one the first so many are landed, with an error.
pub const RECORD_BYTES_MAX: usize = 10 << 20;
/// How long a compressed file that ends too early may still be one that is being written.
const SETTLE_MAX: Duration = Duration::from_secs(5);
/// When such a file is decompressed again, from its start.
const UNSETTLED_AGAIN: Duration = Duration::from_millis(500);

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

/// How reading one file ended.
enum Stop {
    /// Nothing more to read for now.
    Idle,
    /// A compressed file that may still be being written.
    Unsettled,
    /// The file is finished for ever.
    End,
    /// The slice is full, or the range's end is reached.
    Full,
}

impl FilesSource {
    /// Opens nothing yet.
    ///
    /// # Errors
    /// `Config` for an S3 location that isn't one.
    pub fn new(spec: &FilesSpec) -> Result<Self> {
        let listing = Listing::new(&spec.location)?;
        Ok(Self { location: spec.location.clone(), listing, state: Mutex::default() })
    }

    /// Read one file from `at`, as far as `until` lets.
    async fn read_file(
        &self,
        open: &mut OpenFile,
        file: &FileMeta,
        cursor: &mut Cursor<'_>,
        until: &mut Until<'_>,
    ) -> Result<Stop> {
        loop {
            let room = until.room(cursor.at);
            if room == Some(0) {
                return Ok(Stop::Full);
            }
            match open.window(cursor.at, file).await? {
                Window::Lines(bytes) => {
                    let bytes = match room {
                        Some(room) if room < bytes.len() as u64 => &bytes[..room as usize],
                        _ => bytes,
                    };
                    let taken = take_lines(bytes, cursor, until)?;
                    if taken < bytes.len() {
                        return Ok(Stop::Full);
                    }
                }
                Window::LastLine(bytes) => {
                    if !until.take(bytes.len()) {
                        return Ok(Stop::Full);
                    }
                    let bytes = bytes.to_vec();
                    cursor.push(&bytes, None, bytes.len() as u64)?;
                    return Ok(Stop::End);
                }
                Window::TooLong { prefix, bytes } => {
                    if !until.take(prefix.len()) {
                        return Ok(Stop::Full);
                    }
                    let error = format!(
                        "a line of {bytes} bytes at offset {} of {}: the first {RECORD_BYTES_MAX} are here",
                        cursor.at, file.name
                    );
                    cursor.push(&prefix, Some(&error), bytes)?;
                }
                Window::Corrupt { rest, why } => {
                    if !until.patient() || file.older_than(SETTLE_MAX) {
                        if !until.take(rest.len()) {
                            return Ok(Stop::Full);
                        }
                        let error = format!("{} cannot be decompressed after offset {}: {why}", file.name, cursor.at);
                        tracing::warn!(location = %self.location, "{error}");
                        cursor.push(&rest, Some(&error), 0)?;
                        return Ok(Stop::End);
                    }
                    return Ok(Stop::Unsettled);
                }
                Window::Nothing => return Ok(Stop::Idle),
                Window::Finished => return Ok(Stop::End),
            }
        }
    }

    /// One file's part of a slice: the rows, where it stands then, and whether there was nothing more.
    async fn poll_file(
        &self,
        state: &mut State,
        file: &FileMeta,
        at: u64,
        budget: &mut Budget,
    ) -> Result<(Rows, Option<Position>, bool)> {
        let idle = Idle::of(file, at);
        if state.idle.get(&file.name) == Some(&idle) {
            return Ok((Rows::default(), None, true));
        }
        if state.unsettled.get(&file.name).is_some_and(|again| Instant::now() < *again) {
            return Ok((Rows::default(), None, false));
        }
        let mut open = match state.open.take_if(|open| open.reads(file, at)) {
            Some(open) => open,
            None => OpenFile::new(self.listing.store(), file).await?,
        };
        if at > file.size && !open.is_compressed() {
            return Err(self.shrunk(file, at));
        }
        let mut rows = RowBuilder::new(&self.location, &file.name);
        let mut cursor = Cursor { at, arrived_us: file.modified_ms * 1000, rows: &mut rows };
        let stop = self.read_file(&mut open, file, &mut cursor, &mut Until::Budget(budget)).await?;
        let end = cursor.at;
        let moved = Position::Offset { bytes: end, modified_ms: file.modified_ms };
        let rows = rows.finish()?;
        Ok(match stop {
            Stop::Full => {
                state.open = Some(open);
                (rows, (end > at).then_some(moved), false)
            }
            Stop::End => (rows, Some(Position::End), true),
            Stop::Unsettled => {
                state.unsettled.insert(file.name.clone(), Instant::now() + UNSETTLED_AGAIN);
                (rows, (end > at).then_some(moved), false)
            }
            Stop::Idle => {
                state.idle.insert(file.name.clone(), Idle { at: end, ..idle });
                (rows, (end > at).then_some(moved), true)
            }
        })
    }

    fn shrunk(&self, file: &FileMeta, at: u64) -> Error {
        Error::new(
            ErrorKind::DataLoss,
            format!("{} of {} has {} bytes, but {at} were read", file.name, self.location, file.size),
        )
        .with_hint("the file was cut or replaced: put it back, or write new records to a file of another name")
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
        slice.behind_ms = slice.caught_up.then_some(0);
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

impl FilesSource {
    async fn read_range(&self, file: &FileMeta, from: Option<&Position>, to: &Position) -> Result<Rows> {
        let from = from.map_or(Ok(0), |from| offset_of(file, from))?;
        let (end, modified_ms) = match to {
            Position::Offset { bytes, modified_ms } => (Some(*bytes), *modified_ms),
            _ => (None, file.modified_ms),
        };
        let mut open = OpenFile::new(self.listing.store(), file).await?;
        if end.is_some_and(|end| end > file.size) && !open.is_compressed() {
            return Err(self.shrunk(file, end.unwrap_or_default()));
        }
        let mut rows = RowBuilder::new(&self.location, &file.name);
        let mut cursor = Cursor { at: from, arrived_us: modified_ms * 1000, rows: &mut rows };
        let stop = self.read_file(&mut open, file, &mut cursor, &mut Until::Offset(end)).await?;
        if end.is_some_and(|end| cursor.at != end) || (end.is_none() && !matches!(stop, Stop::End)) {
            let message = format!("{} of {} is not the file that was read before", file.name, self.location);
            return Err(Error::new(ErrorKind::DataLoss, message)
                .with_detail(format!("it ends at offset {}", cursor.at))
                .with_hint("the file was replaced while a pass was unfinished: put it back"));
        }
        rows.finish()
    }
}

/// Decompressed bytes of `file` that were read.
fn offset_of(file: &FileMeta, position: &Position) -> Result<u64> {
    match position {
        Position::Offset { bytes, .. } => Ok(*bytes),
        Position::TrimHorizon => Ok(0),
        other => Err(Error::new(
            ErrorKind::Corrupt,
            format!("the position of {} is not one of a file: {other:?}", file.name),
        )),
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
