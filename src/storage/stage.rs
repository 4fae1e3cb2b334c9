//! Staging: rows to uploaded data files that nothing refers to yet.
//!
//! ```text
//!   batches ─conform, split by partition─▶ parts ─┬─ encode ─▶ put ─▶ DataFile
//!   (one blocking task)                           ├─ encode ─▶ put ─▶ DataFile     at most one encoding per core,
//!                                                 └─ encode ─▶ put ─▶ DataFile     over all tables of the lake
//! ```
//!
//! A file is named `{epoch:020}-{n:05}-{writer}.parquet`, where `writer` is drawn when the process opens the lake: a
//! writer that was thought dead never writes over a file of its successor.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::record_batch::RecordBatch;
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;

use crate::epoch::Epoch;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::delta::{DeltaStorage, now_ms};
use crate::storage::encode::{Encoded, Layout};
use crate::storage::log::path_of;
use crate::storage::partition::{self, Part};
use crate::storage::{DataFile, Snapshot};

/// Run work that keeps a core busy away from the runtime's own threads.
///
/// # Errors
/// Those of `work`; `Internal` when it panics.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) if error.is_cancelled() => Err(Error::new(ErrorKind::Cancelled, "the runtime is stopping")),
        Err(error) => Err(Error::new(ErrorKind::Internal, format!("a storage task failed: {error}"))),
    }
}

/// See [`crate::storage::Storage::stage`].
pub(crate) async fn stage(
    storage: &DeltaStorage,
    of: &Snapshot,
    epoch: Epoch,
    batches: &[RecordBatch],
) -> Result<Vec<DataFile>> {
    let layout = Arc::new(Layout::new(&of.schema, &of.partitioned_by)?);
    let (batches, rows_max) = (batches.to_vec(), storage.options.file_rows_max);
    let splitting = Arc::clone(&layout);
    let parts = blocking(move || {
        let batches: Result<Vec<RecordBatch>> = batches.iter().map(|batch| splitting.conform(batch)).collect();
        partition::split(&splitting.lake, &splitting.partitioned_by, batches?, rows_max)
    })
    .await?;
    let uploads = parts.into_iter().map(|part| {
        let name = file_name(storage, &of.location, epoch);
        upload(storage, &of.location, Arc::clone(&layout), part, name)
    });
    futures::stream::iter(uploads).buffered(storage.options.uploads_max).try_collect().await
}

/// A name that no other file of the table has.
pub(crate) fn file_name(storage: &DeltaStorage, location: &str, epoch: Epoch) -> String {
    let n = storage.table(location).staged.fetch_add(1, Ordering::Relaxed);
    format!("{epoch:020}-{n:05}-{}.parquet", storage.writer)
}

async fn upload(
    storage: &DeltaStorage,
    location: &str,
    layout: Arc<Layout>,
    part: Part,
    name: String,
) -> Result<DataFile> {
    let path = format!("{}{name}", partition::folder(&layout.partitioned_by, &part.values));
    let Part { values, pieces } = part;
    let encoded = encoding(storage, move || layout.encode(&pieces)).await?;
    put(storage, location, path, values, encoded).await
}

/// Run one encoding when a core is free for it.
pub(crate) async fn encoding<T: Send + 'static>(
    storage: &DeltaStorage,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let permit = Arc::clone(&storage.encoders).acquire_owned().await;
    let permit = permit.map_err(|_| Error::new(ErrorKind::Cancelled, "the lake is closed"))?;
    blocking(move || {
        let done = work();
        drop(permit);
        done
    })
    .await
}

/// Upload a file of these partition values.
pub(crate) async fn put(
    storage: &DeltaStorage,
    location: &str,
    path: String,
    partition: Vec<Option<String>>,
    encoded: Encoded,
) -> Result<DataFile> {
    let size = encoded.bytes.len() as u64;
    let object = path_of(&format!("{location}/{path}"))?;
    let put = storage.store.put(&object, encoded.bytes.into()).await;
    put.map_err(|error| Error::from(error).context(format!("writing \"{object}\"")))?;
    Ok(DataFile { path, size, rows: encoded.rows, partition, stats: encoded.stats, modified_ms: now_ms() })
}
