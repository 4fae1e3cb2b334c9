//! The epoch of a moment: the newest one that was published by then.
//!
//! ```text
//!   published/   37      401 402 403 … 6203 6204 … 7203        names, numbered without a gap but for what a view stands at
//!                        └ bisected: a dozen ┘└ in memory ┘
//!                          records are read
//!   upkeep keeps   all of the retention, by their time; 1,000 at least, 20,000 at most
//! ```
//!
//! A record says which version of every table belongs together, so that tables as of one moment agree.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use chrono::{DateTime, SecondsFormat};

use crate::engine::Engine;
use crate::engine::as_of::reach_ms;
use crate::engine::upkeep::HISTORY_RECORDS_MAX;
use crate::epoch::{Epoch, PUBLISHED, PublishedRecord};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::Storage;

/// Published records that are kept at most, however long the retention is: they are listed in every round of upkeep.
const PUBLISHED_RECORDS_MAX: usize = 20_000;

impl Engine {
    /// The newest epoch that was published at or before this moment, in microseconds since 1970 UTC.
    ///
    /// # Errors
    /// `Query` for a moment that has not come; `NotFound` for one that nothing is known of (any more); `Storage`.
    pub(super) async fn published_at(&self, moment_us: i64) -> Result<Arc<PublishedRecord>> {
        let now_us = self.clock.now_us();
        if moment_us > now_us {
            return Err(Error::new(ErrorKind::Query, format!("{} has not come yet", shown(moment_us)))
                .with_detail(format!("it is {}", shown(now_us))));
        }
        let older = match held(&self.history.read(), moment_us) {
            Held::Found(record) => return Ok(record),
            Held::Older(than) => than,
        };
        let mut epochs = consecutive(&self.storage.list_newest(PUBLISHED, usize::MAX).await?);
        let oldest = epochs.start;
        epochs.end = older.unwrap_or(epochs.end).max(oldest);
        let newest = first_after(self.storage.as_ref(), epochs, moment_us).await?.saturating_sub(1);
        match record(self.storage.as_ref(), newest).await {
            Ok(record) if newest >= oldest => Ok(Arc::new(record)),
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Err(self.unknown(moment_us, oldest).await),
        }
    }

    /// No record is as old as this.
    async fn unknown(&self, moment_us: i64, oldest: Epoch) -> Error {
        let at = record(self.storage.as_ref(), oldest).await.map(|record| shown(record.published_us));
        let (message, when) = match oldest {
            0 | 1 => ("nothing was published at", "the first epoch was published at"),
            _ => ("nothing is known any more of", "the oldest moment that is known is"),
        };
        let error = Error::new(ErrorKind::NotFound, format!("{message} {}", shown(moment_us)));
        let error = match at {
            Ok(at) => error.with_detail(format!("{when} {at} (epoch {oldest})")),
            Err(_) => error,
        };
        if oldest <= 1 { error } else { error.with_hint(self.how_long()) }
    }

    /// How long older versions are kept, for a hint.
    pub(super) fn how_long(&self) -> String {
        let minutes = |ms: i64| ms as f64 / 60_000.0;
        let kept_ms = self.storage.retention_ms();
        let (kept, read) = (minutes(kept_ms), minutes(reach_ms(kept_ms)));
        format!(
            "what was replaced is kept for {kept} minutes, and read for {read}; FLASH_RETENTION_SECONDS makes it longer"
        )
    }
}

/// A moment, as a statement can name it.
pub(super) fn shown(moment_us: i64) -> String {
    let moment = DateTime::from_timestamp_micros(moment_us).unwrap_or_default();
    moment.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// What memory knows of a moment.
#[derive(Debug, PartialEq)]
enum Held {
    Found(Arc<PublishedRecord>),
    /// It was before this epoch; `None`: nothing is held.
    Older(Option<Epoch>),
}

/// The newest record that was published by then, of those that follow one another up to the newest.
fn held(history: &VecDeque<Arc<PublishedRecord>>, moment_us: i64) -> Held {
    let mut older = None;
    for record in history.iter().rev() {
        if older.is_some_and(|next| record.epoch + 1 != next) {
            break;
        }
        if record.published_us <= moment_us {
            return Held::Found(Arc::clone(record));
        }
        older = Some(record.epoch);
    }
    Held::Older(older)
}

/// The epochs up to the newest, as far back as none is missing. `names`: newest first.
fn consecutive(names: &[String]) -> Range<Epoch> {
    let mut epochs = names.iter().filter_map(|name| name.strip_suffix(".json")?.parse::<Epoch>().ok());
    let Some(newest) = epochs.next() else { return 0..0 };
    let oldest = epochs.zip(1..).take_while(|(epoch, back)| epoch + back == newest).last();
    oldest.map_or(newest, |(epoch, _)| epoch)..newest + 1
}

/// The first of these epochs that was published after a moment; the end where none was. Reads a record for each time that
/// they can be halved.
async fn first_after(storage: &dyn Storage, epochs: Range<Epoch>, moment_us: i64) -> Result<Epoch> {
    let Range { start: mut from, end: mut to } = epochs;
    while from < to {
        let middle = from + (to - from) / 2;
        match record(storage, middle).await {
            Ok(record) if record.published_us > moment_us => to = middle,
            // Upkeep has just deleted it: it is old.
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => from = middle + 1,
        }
    }
    Ok(from)
}

/// The published record of an epoch.
///
/// # Errors
/// `NotFound`, `Corrupt`, `Storage`.
pub(super) async fn record(storage: &dyn Storage, epoch: Epoch) -> Result<PublishedRecord> {
    let path = format!("{PUBLISHED}/{epoch:020}.json");
    let bytes = storage.get(&path).await?;
    serde_json::from_slice(&bytes).map_err(|error| Error::from(error).context(path))
}

/// The oldest epoch whose published record is kept, where `since_us` is when the retention began and `names` are those of
/// all records, newest first.
///
/// # Errors
/// `Storage`, `Corrupt`.
pub(super) async fn oldest_kept(
    storage: &dyn Storage,
    names: &[String],
    newest: Epoch,
    since_us: i64,
) -> Result<Epoch> {
    let epochs = consecutive(names);
    // What is younger than this one stays anyway.
    let youngest = counted(newest, HISTORY_RECORDS_MAX);
    let then = first_after(storage, epochs.start..youngest.max(epochs.start) + 1, since_us).await?.saturating_sub(1);
    Ok(keep_from(newest, then))
}

/// `then`: the newest epoch when the retention began.
fn keep_from(newest: Epoch, then: Epoch) -> Epoch {
    then.clamp(counted(newest, PUBLISHED_RECORDS_MAX), counted(newest, HISTORY_RECORDS_MAX))
}

/// The oldest of so many epochs.
pub(super) fn counted(newest: Epoch, records: usize) -> Epoch {
    (newest + 1).saturating_sub(records as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{DeltaStorage, StorageOptions};

    fn published(epoch: Epoch) -> Arc<PublishedRecord> {
        Arc::new(PublishedRecord { epoch, published_us: epoch as i64 * 10, ..PublishedRecord::default() })
    }

    fn names(epochs: impl DoubleEndedIterator<Item = Epoch>) -> Vec<String> {
        epochs.rev().map(|epoch| format!("{epoch:020}.json")).collect()
    }

    #[test]
    fn memory_tells_of_what_follows_one_another_up_to_the_newest() {
        let history = [3, 4, 8, 9, 10].map(published).into();
        let found = |moment_us| held(&history, moment_us);
        assert_eq!((found(1_000), found(100)), (Held::Found(published(10)), Held::Found(published(10))));
        assert_eq!((found(99), found(80)), (Held::Found(published(9)), Held::Found(published(8))));
        assert_eq!(found(79), Held::Older(Some(8)), "5 to 7 are not known here");
        assert_eq!(held(&VecDeque::new(), 5), Held::Older(None));
    }

    #[test]
    fn a_record_that_is_kept_for_a_view_is_none_of_them() {
        assert_eq!(consecutive(&names([3, 7, 8, 9].into_iter())), 7..10);
        assert_eq!(consecutive(&names(1..6)), 1..6);
        assert_eq!(consecutive(&names(9..10)), 9..10);
        assert_eq!(consecutive(&[]), 0..0);
    }

    #[test]
    fn records_are_kept_by_time_within_two_numbers() {
        let (few, many) = (HISTORY_RECORDS_MAX as u64, PUBLISHED_RECORDS_MAX as u64);
        let newest = 100_000;
        assert_eq!(keep_from(newest, newest - 4_500), newest - 4_500);
        assert_eq!(keep_from(newest, newest - 3), newest + 1 - few, "epochs far apart");
        assert_eq!(keep_from(newest, 5), newest + 1 - many, "a year of retention");
        assert_eq!(keep_from(500, 499), 0);
    }

    #[tokio::test]
    async fn the_oldest_record_of_the_retention_is_found_by_few_reads() {
        let storage = DeltaStorage::open("memory:", StorageOptions::default()).await.unwrap();
        let newest = 1_400;
        for epoch in [7].into_iter().chain(100..=newest) {
            let bytes = serde_json::to_vec(published(epoch).as_ref()).unwrap();
            storage.put_if_absent(&format!("{PUBLISHED}/{epoch:020}.json"), bytes).await.unwrap();
        }
        let names = storage.list_newest(PUBLISHED, usize::MAX).await.unwrap();
        let kept = async |since_us| oldest_kept(storage.as_ref(), &names, newest, since_us).await.unwrap();
        assert_eq!(kept(3_000).await, 300);
        assert_eq!(kept(3_009).await, 300, "it was the newest one when the retention began");
        assert_eq!(kept(999).await, 99, "all of them");
        assert_eq!(kept(13_000).await, 401, "a thousand, whatever their time");
    }
}
