//! Log clean-up: entries and checkpoints that no reader needs any more.
//!
//! ```text
//!   versions   …  400 401 … 450 451 …  499 500 …  512
//!                  C          C              C            C: a checkpoint; the newest that was compared is 500
//!                                   ▲ the first entry that is younger than retention
//!                             └──▶ kept from here: the version before it can still be opened
//!   deleted: all that is older than that checkpoint
//! ```
//!
//! deltalake's clean-up knows only one retention for a table, and not that a view has still to follow.

use futures::TryStreamExt;
use object_store::{ObjectMeta, ObjectStore};

use crate::epoch::Version;
use crate::error::{Error, Result};
use crate::storage::delta::{DeltaStorage, now_ms};
use crate::storage::log::path_of;
use crate::storage::maintain::Moved;
use crate::storage::table::Upkeep;
use crate::storage::{MaintainOptions, Objects, Storage as _};

/// The log is looked at so many times within the retention.
const CLEANINGS: i64 = 4;

/// Objects deleted by one call, so that it ends.
const DELETES_MAX: usize = 20_000;

/// An object of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Object {
    path: String,
    version: Version,
    is_checkpoint: bool,
    written_ms: i64,
    bytes: u64,
}

/// Delete what is due, when it is time to look.
///
/// # Errors
/// `Storage`; some of it may be gone, oldest first.
pub(crate) async fn clean(
    storage: &DeltaStorage,
    location: &str,
    options: &MaintainOptions,
    upkeep: &mut Upkeep,
) -> Result<Moved> {
    let now = now_ms();
    let Some(verified) = upkeep.verified.filter(|_| now - upkeep.cleaned_ms >= options.retention_ms / CLEANINGS) else {
        return Ok(None);
    };
    let listed = storage.store.list(Some(&path_of(&format!("{location}/_delta_log"))?));
    let listed = listed.try_filter_map(|meta| async move { Ok(object(&meta)) });
    let listed: Vec<Object> =
        listed.try_collect().await.map_err(|error| Error::from(error).context(format!("the log of \"{location}\"")))?;
    let mut due = due(listed, options.until_ms(now), verified);
    let done = due.len() <= DELETES_MAX;
    due.truncate(DELETES_MAX);
    let mut removed = Objects::default();
    due.iter().for_each(|object| removed.add(object.bytes));
    storage.delete(&due.into_iter().map(|object| object.path).collect::<Vec<_>>()).await?;
    if done {
        upkeep.cleaned_ms = now;
    }
    Ok((removed.files > 0).then_some((removed, Objects::default())))
}

/// What an object of the log is; `None` for others, such as the hint.
fn object(meta: &ObjectMeta) -> Option<Object> {
    let name = meta.location.filename()?;
    let version = version_of(name)?;
    let is_checkpoint = !name.ends_with(".json");
    let written_ms = meta.last_modified.timestamp_millis();
    Some(Object { path: meta.location.to_string(), version, is_checkpoint, written_ms, bytes: meta.size })
}

/// The version that an object of the log is of: an entry or a checkpoint.
pub(crate) fn version_of(path: &str) -> Option<Version> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let (digits, rest) = name.split_at_checked(20)?;
    digits.parse().ok().filter(|_| rest == ".json" || rest.starts_with(".checkpoint."))
}

/// What nobody needs, oldest first. Pure.
fn due(mut log: Vec<Object>, until_ms: i64, verified: Version) -> Vec<Object> {
    let young = log.iter().filter(|object| !object.is_checkpoint && object.written_ms > until_ms);
    // The version before the first young one was the newest when the retention began: its readers may be at it still.
    let newest = young.map(|object| object.version).min().map_or(verified, |first| first.saturating_sub(1));
    let whole = |object: &&Object| object.is_checkpoint && object.path.ends_with(".checkpoint.parquet");
    let checkpoints = log.iter().filter(whole).map(|object| object.version);
    let base = checkpoints.filter(|version| *version <= newest.min(verified)).max().unwrap_or(0);
    log.retain(|object| object.version < base);
    log.sort_unstable_by(|a, b| (a.version, &a.path).cmp(&(b.version, &b.path)));
    log
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Entries 0 to 99, written at their version, and checkpoints.
    fn log(checkpoints: &[Version]) -> Vec<Object> {
        let object = |version: Version, rest: &str| Object {
            path: format!("{version:020}{rest}"),
            version,
            is_checkpoint: rest != ".json",
            written_ms: version as i64,
            bytes: 1,
        };
        let mut log: Vec<_> = (0..100).map(|version| object(version, ".json")).collect();
        log.extend(checkpoints.iter().map(|version| object(*version, ".checkpoint.parquet")));
        log
    }

    fn left(checkpoints: &[Version], until_ms: i64, verified: Version) -> Option<Version> {
        let all = log(checkpoints);
        let gone = due(all.clone(), until_ms, verified);
        let kept = all.iter().filter(|object| !gone.contains(object));
        assert!(gone.windows(2).all(|pair| pair[0].version <= pair[1].version));
        kept.map(|object| object.version).min()
    }

    #[test]
    fn every_version_within_the_retention_can_be_opened() {
        // 60 was the newest when the retention began: the checkpoint at or before it stays, and all after that.
        assert_eq!(left(&[20, 40, 60, 80], 60, 80), Some(60));
        assert_eq!(left(&[20, 40, 61, 80], 60, 80), Some(40));
        assert_eq!(left(&[80], 60, 80), Some(0), "no checkpoint is old enough");
        assert_eq!(left(&[], 60, 80), Some(0));
        assert_eq!(left(&[20, 40, 60, 80], -1, 80), Some(0), "all of it is young");
    }

    #[test]
    fn a_checkpoint_that_was_not_compared_is_not_relied_on() {
        assert_eq!(left(&[20, 40, 60, 80], 1_000, 80), Some(80));
        assert_eq!(left(&[20, 40, 60, 80], 1_000, 79), Some(60));
    }
}
