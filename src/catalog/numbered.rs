//! Numbered records: values of which the newest is the truth, in the lake, by conditional put.
//!
//! ```text
//!   <folder>/00…07.json   the newest ─▶ load        load, change, save as 00…08: of two writers, one loses the put
//!                                                                  └─▶ older ones than the newest 32 are deleted
//! ```

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, ErrorKind, Result};
use crate::storage::Storage;

/// Records that stay: the newest, and others for people to look at.
const KEPT_MAX: usize = 32;

/// Records deleted by one save.
const DELETED_MAX: usize = 1_000;

/// The newest record of a folder; the default when there is none.
///
/// # Errors
/// `Storage`, `Corrupt`.
pub(super) async fn load<T: Default + DeserializeOwned>(storage: &dyn Storage, folder: &str) -> Result<T> {
    let newest = storage.list_newest(folder, 1).await?;
    let Some(name) = newest.first() else { return Ok(T::default()) };
    let path = format!("{folder}/{name}");
    let bytes = storage.get(&path).await?;
    serde_json::from_slice(&bytes).map_err(|error| Error::from(error).context(path))
}

/// Write a record; `what` names it in the error.
///
/// # Errors
/// `Conflict` when another process has written one of this number; `Storage`.
pub(super) async fn save<T: Serialize>(
    storage: &dyn Storage,
    folder: &str,
    number: u64,
    record: &T,
    what: &str,
) -> Result<()> {
    let name = format!("{number:020}.json");
    let there = storage.list_newest(folder, usize::MAX).await?;
    // The place of a record that was deleted is free, too: who comes that late has lost.
    let is_next = there.first().is_none_or(|newest| *newest < name);
    let put = async || storage.put_if_absent(&format!("{folder}/{name}"), serde_json::to_vec_pretty(record)?).await;
    match is_next && put().await? {
        true => {
            let old = there.iter().skip(KEPT_MAX - 1).rev().take(DELETED_MAX);
            let old: Vec<String> = old.map(|name| format!("{folder}/{name}")).collect();
            if let Err(error) = storage.delete(&old).await {
                tracing::warn!(%error, "old records of the {what} are deleted another time");
            }
            Ok(())
        }
        false => Err(Error::new(ErrorKind::Conflict, format!("another process has changed the {what} of this lake"))
            .with_hint("one process writes a lake; stop the other one, or use its server")),
    }
}
