//! Tables that were made and never recorded: the process died between making a table and writing down its definition.
//!
//! ```text
//!   <lake>/<schema>/<table>/   not known, nothing in it but version 0, written by us, a day ago or more ─▶ deleted
//!                              anything else in it                                                      ─▶ left alone
//! ```
//!
//! Such a table has no rows, so nothing is lost; a folder that somebody else keeps in the lake is not touched.

use std::collections::BTreeSet;

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

use crate::error::{Error, Result};
use crate::storage::delta::{DeltaStorage, now_ms};
use crate::storage::encode::CREATED_BY;
use crate::storage::vacuum::LEFT_BEHIND_MS;
use crate::storage::{Objects, Storage as _, log};

/// Tables deleted by one call, so that it ends.
const SWEPT_MAX: usize = 1_000;

/// See [`crate::storage::Storage::sweep_unrecorded`].
pub(crate) async fn sweep(storage: &DeltaStorage, known: &BTreeSet<String>) -> Result<Objects> {
    let mut removed = Objects::default();
    let mut unknown = Vec::new();
    for schema in folders(storage, None).await? {
        let own = schema.filename().is_some_and(|name| name.starts_with('_'));
        let tables = if own { Vec::new() } else { folders(storage, Some(&schema)).await? };
        unknown.extend(tables.into_iter().filter(|table| !known.contains(table.as_ref())));
    }
    for table in unknown.into_iter().take(SWEPT_MAX) {
        if let Some(only) = left_behind(storage, &table).await? {
            storage.delete(&[only.location.to_string()]).await?;
            removed.add(only.size);
        }
    }
    Ok(removed)
}

async fn folders(storage: &DeltaStorage, below: Option<&Path>) -> Result<Vec<Path>> {
    let listed = storage.store.list_with_delimiter(below).await;
    Ok(listed.map_err(|error| Error::from(error).context("listing the lake"))?.common_prefixes)
}

/// The only object of a table that was never used.
async fn left_behind(storage: &DeltaStorage, table: &Path) -> Result<Option<ObjectMeta>> {
    let mut listed = storage.store.list(Some(table));
    let (Some(only), None) = (listed.try_next().await?, listed.try_next().await?) else { return Ok(None) };
    let first = log::entry_path(table.as_ref(), 0)?;
    if only.location != first || only.last_modified.timestamp_millis() > now_ms() - LEFT_BEHIND_MS {
        return Ok(None);
    }
    let bytes = storage.store.get(&first).await?.bytes().await?;
    let product = CREATED_BY.split(' ').next().unwrap_or(CREATED_BY);
    Ok(String::from_utf8_lossy(&bytes).contains(&format!("\"engineInfo\":\"{product} ")).then_some(only))
}
