//! Numbered records: values of which the newest is the truth, in the lake, by conditional put.
//!
//! ```text
//!   <folder>/00…07.json   the newest ─▶ load        load, change, save as 00…08: of two writers, one loses the put
//! ```

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, ErrorKind, Result};
use crate::storage::Storage;

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
    let path = format!("{folder}/{number:020}.json");
    match storage.put_if_absent(&path, serde_json::to_vec_pretty(record)?).await? {
        true => Ok(()),
        false => Err(Error::new(ErrorKind::Conflict, format!("another process has changed the {what} of this lake"))
            .with_hint("one process writes a lake; stop the other one, or use its server")),
    }
}
