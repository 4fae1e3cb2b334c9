//! The lake's own small records: put where there is none, get, list, delete.
//!
//! ```text
//!   put-if-absent ─ ok ──────────────▶ true
//!                 ├ exists ──────────▶ false
//!                 └ any other error ─▶ get:  the same bytes ▶ true     (the answer was lost)
//!                                            other bytes    ▶ false
//!                                            none           ▶ the error
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode};

use crate::error::{Error, Result};
use crate::storage::log::path_of;

/// See [`crate::storage::Storage::put_if_absent`].
pub(crate) async fn put_if_absent(store: &Arc<dyn ObjectStore>, path: &str, bytes: Vec<u8>) -> Result<bool> {
    let path = path_of(path)?;
    let bytes = bytes::Bytes::from(bytes);
    match store.put_opts(&path, bytes.clone().into(), PutMode::Create.into()).await {
        Ok(_) => Ok(true),
        Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => Ok(false),
        Err(error) => match read(store, &path).await {
            Ok(found) => Ok(found == bytes),
            Err(_) => Err(Error::from(error).context(format!("writing \"{path}\""))),
        },
    }
}

async fn read(store: &Arc<dyn ObjectStore>, path: &Path) -> object_store::Result<bytes::Bytes> {
    store.get(path).await?.bytes().await
}

/// See [`crate::storage::Storage::get`].
pub(crate) async fn get(store: &Arc<dyn ObjectStore>, path: &str) -> Result<Vec<u8>> {
    let path = path_of(path)?;
    let bytes = read(store, &path).await;
    Ok(bytes.map_err(|error| Error::from(error).context(format!("reading \"{path}\"")))?.into())
}

/// See [`crate::storage::Storage::list_newest`].
pub(crate) async fn list_newest(store: &Arc<dyn ObjectStore>, folder: &str, limit: usize) -> Result<Vec<String>> {
    let listed = store.list_with_delimiter(Some(&path_of(folder)?)).await;
    let listed = listed.map_err(|error| Error::from(error).context(format!("listing \"{folder}\"")))?;
    let names = listed.objects.iter().filter_map(|meta| meta.location.filename());
    let mut names: Vec<String> = names.map(str::to_string).collect();
    names.sort_unstable_by(|a, b| b.cmp(a));
    names.truncate(limit);
    Ok(names)
}

/// See [`crate::storage::Storage::delete`].
pub(crate) async fn delete(store: &Arc<dyn ObjectStore>, paths: &[String]) -> Result<()> {
    let paths: Vec<Path> = paths.iter().map(|path| path_of(path)).collect::<Result<_>>()?;
    delete_all(store, futures::stream::iter(paths).map(Ok).boxed()).await.map(drop)
}

/// See [`crate::storage::Storage::delete_folder`]. The objects that were there, and their bytes.
pub(crate) async fn delete_folder(store: &Arc<dyn ObjectStore>, folder: &str) -> Result<(Vec<String>, u64)> {
    let bytes = Arc::new(AtomicU64::new(0));
    let sum = Arc::clone(&bytes);
    let listed = store.list(Some(&path_of(folder)?)).map_ok(move |meta| {
        sum.fetch_add(meta.size, Ordering::Relaxed);
        meta.location
    });
    let deleted = delete_all(store, listed.boxed()).await?;
    Ok((deleted, bytes.load(Ordering::Relaxed)))
}

async fn delete_all(
    store: &Arc<dyn ObjectStore>,
    paths: BoxStream<'static, object_store::Result<Path>>,
) -> Result<Vec<String>> {
    let deleted = store.delete_stream(paths).try_filter_map(async |path| Ok(Some(path.to_string())));
    let deleted = deleted.or_else(async |error| match error {
        object_store::Error::NotFound { path, .. } => Ok(path),
        error => Err(error),
    });
    deleted.try_collect().await.map_err(|error| Error::from(error).context("deleting"))
}
