//! Reading one file: for a slice as far as the limits let, or for a range exactly.

use std::time::{Duration, Instant};

use super::lines::{Budget, Cursor, Until, take_lines};
use super::listing::FileMeta;
use super::open::{OpenFile, Window};
use super::{FilesSource, Idle, RECORD_BYTES_MAX, State};
use crate::epoch::Position;
use crate::error::{Error, ErrorKind, Result};
use crate::source::rows::{RowBuilder, Rows};

/// How long a compressed file that ends too early may still be one that is being written.
const SETTLE_MAX: Duration = Duration::from_secs(5);
/// When such a file is decompressed again, from its start.
const UNSETTLED_AGAIN: Duration = Duration::from_millis(500);

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
    pub(super) async fn poll_file(
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

    /// One file's part of a range: what `poll_file` gave then.
    pub(super) async fn read_range(&self, file: &FileMeta, from: Option<&Position>, to: &Position) -> Result<Rows> {
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

    fn shrunk(&self, file: &FileMeta, at: u64) -> Error {
        Error::new(
            ErrorKind::DataLoss,
            format!("{} of {} has {} bytes, but {at} were read", file.name, self.location, file.size),
        )
        .with_hint("the file was cut or replaced: put it back, or write new records to a file of another name")
    }
}

/// Decompressed bytes of `file` that were read.
pub(super) fn offset_of(file: &FileMeta, position: &Position) -> Result<u64> {
    match position {
        Position::Offset { bytes, .. } => Ok(*bytes),
        Position::TrimHorizon => Ok(0),
        other => Err(Error::new(
            ErrorKind::Corrupt,
            format!("the position of {} is not one of a file: {other:?}", file.name),
        )),
    }
}
