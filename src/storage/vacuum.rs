//! Vacuum: data files that no version within retention refers to, and the state beside them.
//!
//! ```text
//!   removed:       tombstones of the handle, older than retention ─▶ delete file and state of the same name
//!   unreferenced:  once a day: list the folder, THEN look at the newest version ─▶ delete what is old and in neither
//! ```
//!
//! The second way finds files of a process that died between staging and commit. It takes only files that are at least
//! a day old, so that one that is just being committed is never among them.

use std::collections::{BTreeSet, HashSet};

use futures::TryStreamExt;
use object_store::{ObjectMeta, ObjectStore};

use crate::epoch::Version;
use crate::error::{Error, Result};
use crate::storage::clean;
use crate::storage::delta::{DeltaStorage, now_ms};
use crate::storage::log::path_of;
use crate::storage::maintain::Moved;
use crate::storage::table::Upkeep;
use crate::storage::{MaintainOptions, Objects, Storage as _};

/// Objects deleted at a time.
const DELETES_MAX: usize = 1_000;

/// Files deleted by one call, so that it ends.
const FILES_MAX: usize = 100_000;

/// How old a file must be before it counts as left behind, and how often such files are looked for: one day.
pub(crate) const LEFT_BEHIND_MS: i64 = 86_400_000;

/// Delete files that were removed longer ago than retention, and that no view has still to follow.
///
/// # Errors
/// `Storage`.
pub(crate) async fn removed(storage: &DeltaStorage, location: &str, options: &MaintainOptions) -> Result<Moved> {
    let table = storage.table(location);
    let until = options.until_ms(now_ms());
    let due: Vec<(String, u64)> = {
        let handle = table.handle.lock();
        let Some(handle) = handle.as_ref() else { return Ok(None) };
        let old = handle.tombstones.iter().filter(|(_, tombstone)| tombstone.removed_ms <= until);
        old.map(|(path, tombstone)| (path.clone(), tombstone.size)).take(FILES_MAX).collect()
    };
    let mut gone = Objects::default();
    for part in due.chunks(DELETES_MAX) {
        let part: Vec<&(String, u64)> = {
            let handle = table.handle.lock();
            let Some(handle) = handle.as_ref() else { break };
            // A file that came back meanwhile is no tombstone any more.
            part.iter().filter(|(path, _)| handle.tombstones.contains_key(path)).collect()
        };
        let paths: BTreeSet<&str> = part.iter().map(|(path, _)| path.as_str()).collect();
        storage.delete(&objects(location, options, &paths)).await?;
        if let Some(handle) = table.handle.lock().as_mut() {
            handle.tombstones.retain(|path, _| !paths.contains(path.as_str()));
        }
        part.iter().for_each(|(_, size)| gone.add(*size));
    }
    Ok((gone.files > 0).then_some((gone, Objects::default())))
}

/// The objects of these data files: themselves, and their state.
fn objects(location: &str, options: &MaintainOptions, paths: &BTreeSet<&str>) -> Vec<String> {
    let mut objects = Vec::with_capacity(paths.len() * 2);
    for path in paths {
        objects.push(format!("{location}/{path}"));
        if let Some(folder) = &options.state_folder {
            objects.push(format!("{folder}/{}", name(path)));
        }
    }
    objects
}

fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Delete files that no version refers to, once a day.
///
/// # Errors
/// `Storage`.
pub(crate) async fn unreferenced(
    storage: &DeltaStorage,
    location: &str,
    options: &MaintainOptions,
    upkeep: &mut Upkeep,
) -> Result<Moved> {
    let now = now_ms();
    // Removed files that are kept for a view need not be in the handle after a restart.
    let is_followed = options.until_ms(now) >= now - options.retention_ms.max(LEFT_BEHIND_MS);
    if now - upkeep.swept_ms < LEFT_BEHIND_MS || !is_followed {
        return Ok(None);
    }
    let until = now - options.retention_ms.max(LEFT_BEHIND_MS);
    let mut old = list_old(storage, location, until).await?;
    old.retain(|(path, _)| path.ends_with(".parquet") && !path.contains("/_delta_log/"));
    let mut states = match &options.state_folder {
        Some(folder) => list_old(storage, folder, until).await?,
        None => Vec::new(),
    };
    if !old.is_empty() || !states.is_empty() {
        // After the listing: a file that was committed meanwhile is found here.
        storage.newest(location).await?;
        let table = storage.table(location);
        let handle = table.handle.lock();
        let Some(handle) = handle.as_ref() else { return Ok(None) };
        let referred = handle.current.files.iter().map(|file| &file.path).chain(handle.tombstones.keys());
        let known: HashSet<&str> = referred.map(|path| name(path)).collect();
        old.retain(|(path, _)| !known.contains(name(path)));
        // State of a whole view has no data file beside it; it is named by the epoch of its commit.
        let newest = format!("-{:020}.parquet", handle.current.epoch);
        states.retain(|(path, _)| !known.contains(name(path)) && !path.ends_with(&newest));
    }
    old.append(&mut states);
    let done = old.len() <= FILES_MAX;
    old.truncate(FILES_MAX);
    let mut gone = Objects::default();
    for part in old.chunks(DELETES_MAX) {
        storage.delete(&part.iter().map(|(path, _)| path.clone()).collect::<Vec<_>>()).await?;
        part.iter().for_each(|(_, bytes)| gone.add(*bytes));
    }
    if done {
        upkeep.swept_ms = now;
    }
    // That it was done is worth a line even if nothing was found: it says when the next one is due.
    Ok(Some((gone, Objects::default())))
}

/// See [`crate::storage::Storage::left_of`].
pub(crate) async fn left_of(
    storage: &DeltaStorage,
    location: &str,
    state_folder: Option<&str>,
    version: Version,
    before_ms: i64,
) -> Result<Objects> {
    let mut left = list_old(storage, location, before_ms).await?;
    let mut states = match state_folder {
        Some(folder) => list_old(storage, folder, before_ms).await?,
        None => Vec::new(),
    };
    if version < Version::MAX && !(left.is_empty() && states.is_empty()) {
        let snapshot = storage.newest(location).await?;
        let named: HashSet<&str> = snapshot.files.iter().map(|file| name(&file.path)).collect();
        let newest = format!("-{:020}.parquet", snapshot.epoch);
        left.retain(|(path, _)| match path.contains("/_delta_log/") {
            true => clean::version_of(path).is_some_and(|entry| entry < version),
            false => path.ends_with(".parquet") && !named.contains(name(path)),
        });
        // What is kept of a unique key is hashes.
        states.retain(|(path, _)| !path.contains("/keys/") && !named.contains(name(path)) && !path.ends_with(&newest));
    }
    let mut objects = Objects::default();
    left.iter().chain(&states).for_each(|(_, bytes)| objects.add(*bytes));
    Ok(objects)
}

/// Paths and sizes below `folder` of what was last written before `until_ms`.
async fn list_old(storage: &DeltaStorage, folder: &str, until_ms: i64) -> Result<Vec<(String, u64)>> {
    let listed = storage.store.list(Some(&path_of(folder)?));
    let is_old = |meta: &ObjectMeta| meta.last_modified.timestamp_millis() <= until_ms;
    let old =
        listed.try_filter_map(|meta| async move { Ok(is_old(&meta).then(|| (meta.location.to_string(), meta.size))) });
    old.try_collect().await.map_err(|error| Error::from(error).context(format!("listing \"{folder}\"")))
}
