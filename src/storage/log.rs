//! The Delta log of one table: opened and replayed by deltalake, then read commit by commit.
//!
//! ```text
//!   open:    _last_checkpoint, checkpoint (or version 0) ─deltalake─▶ Opened { snapshot, tombstones }
//!   follow:  the entries after it                        ─action::parse─▶ Parsed, applied to the handle one by one
//! ```
//!
//! deltalake replays checkpoints and older versions. The entries after the checkpoint are read by us, since it takes an
//! empty entry for a commit of nothing, and such a file is what a crash of the machine can leave behind.

use std::collections::HashMap;
use std::sync::Arc;

use deltalake_core::DeltaTableError;
use deltalake_core::kernel::engine::arrow_conversion::TryIntoArrow as _;
use deltalake_core::logstore::{LogStoreRef, StorageConfig, default_logstore};
use deltalake_core::table::state::DeltaTableState;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ObjectStore, ObjectStoreExt};
use url::Url;

use crate::epoch::{Epoch, Version};
use crate::error::{Error, ErrorKind, Result, passes};
use crate::storage::action::{self, APP_ID, Parsed};
use crate::storage::schema::from_delta_schema;
use crate::storage::{DataFile, Snapshot};

/// Commits read at the same time.
const PARALLEL_READS_MAX: usize = 16;

/// A table as its log tells at one version.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) snapshot: Snapshot,
    /// Removed files, by path.
    pub(crate) tombstones: HashMap<String, Tombstone>,
}

/// A file that was removed, and may still lie in the folder.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tombstone {
    /// When it was removed, in milliseconds since 1970 UTC.
    pub(crate) removed_ms: i64,
    /// Its size in bytes, where that is known.
    pub(crate) size: u64,
}

/// Where the entry of a version stands.
pub(crate) fn entry_path(location: &str, version: Version) -> Result<Path> {
    path_of(&format!("{location}/_delta_log/{version:020}.json"))
}

/// A path below the lake's root.
pub(crate) fn path_of(path: &str) -> Result<Path> {
    Path::parse(path).map_err(|error| {
        Error::new(ErrorKind::Definition, format!("\"{path}\" is not a path of the lake"))
            .with_detail(error.to_string())
    })
}

/// The base of the URLs that deltalake sees. Only their path means something, below the root of our store. The host is
/// formed like that of an S3 directory bucket, which makes it sort what is listed: a local folder is not sorted.
const BASE_URL: &str = "flash://lake--x-s3";

/// What deltalake works on.
pub(crate) fn log_store(store: &Arc<dyn ObjectStore>, location: &str) -> Result<LogStoreRef> {
    let url = Url::parse(&format!("{BASE_URL}/{location}/"))
        .map_err(|error| Error::new(ErrorKind::Definition, format!("location \"{location}\": {error}")))?;
    let table = Arc::new(PrefixStore::new(Arc::clone(store), path_of(location)?));
    Ok(default_logstore(table, Arc::clone(store), &url, &StorageConfig::default()))
}

/// Replay the log up to `version`, or to its end.
///
/// # Errors
/// `NotFound`, `Corrupt`, `Storage`.
pub(crate) async fn open(store: &Arc<dyn ObjectStore>, location: &str, version: Option<Version>) -> Result<Opened> {
    let log_store = log_store(store, location)?;
    let state = match DeltaTableState::try_new(log_store.as_ref(), version).await {
        Ok(state) => state,
        Err(error) => return Err(explain(store, location, version, error).await),
    };
    let replayed = state.snapshot();
    let protocol = replayed.protocol();
    if protocol.min_reader_version() > 1 {
        return Err(Error::new(
            ErrorKind::Storage,
            format!("\"{location}\" needs Delta reader {}, we read version 1", protocol.min_reader_version()),
        )
        .with_hint("another writer upgraded this table; write it again without table features"));
    }
    let delta: arrow::datatypes::Schema = replayed
        .schema()
        .as_ref()
        .try_into_arrow()
        .map_err(|error| Error::new(ErrorKind::Corrupt, format!("the schema of \"{location}\": {error}")))?;
    let mut snapshot = Snapshot {
        location: location.to_string(),
        version: replayed.version(),
        schema: from_delta_schema(&delta).map_err(|error| error.context(format!("\"{location}\"")))?,
        partitioned_by: replayed.metadata().partition_columns().to_vec(),
        files: Arc::default(),
        epoch: 0,
    };
    let failed = |error| delta_error(location, &error);
    let mut files = Vec::new();
    let mut views = replayed.file_views(log_store.as_ref(), None);
    while let Some(view) = views.try_next().await.map_err(failed)? {
        #[expect(deprecated, reason = "an Add is what the rest of this module speaks")]
        let add = view.add_action();
        files.push(Arc::new(action::data_file(&add, &snapshot)?));
    }
    files.sort_by(|a: &Arc<DataFile>, b| a.path.cmp(&b.path));
    snapshot.files = Arc::new(files);
    let epoch = replayed.transaction_version(log_store.as_ref(), APP_ID).await.map_err(failed)?;
    snapshot.epoch = epoch.and_then(|epoch| Epoch::try_from(epoch).ok()).unwrap_or(0);
    let removed = state.all_tombstones(log_store.as_ref());
    let removed = removed.map_ok(|view| {
        let size = view.size().and_then(|size| u64::try_from(size).ok()).unwrap_or(0);
        (view.path().into_owned(), Tombstone { removed_ms: view.deletion_timestamp().unwrap_or(0), size })
    });
    let tombstones = removed.try_collect().await.map_err(failed)?;
    Ok(Opened { snapshot, tombstones })
}

fn delta_error(location: &str, error: &DeltaTableError) -> Error {
    let kind = match error {
        DeltaTableError::NotATable(_) | DeltaTableError::InvalidVersion(_) => ErrorKind::NotFound,
        DeltaTableError::ObjectStore { source: object_store::Error::NotFound { .. } } => ErrorKind::NotFound,
        error if passes(&error.to_string()) => ErrorKind::Transient,
        DeltaTableError::ObjectStore { .. } | DeltaTableError::Io { .. } => ErrorKind::Storage,
        _ => ErrorKind::Corrupt,
    };
    Error::new(kind, format!("the Delta table \"{location}\" cannot be opened")).with_detail(error.to_string())
}

/// A better error than deltalake's: there is no such version, or this entry of the log cannot be read.
async fn explain(
    store: &Arc<dyn ObjectStore>,
    location: &str,
    version: Option<Version>,
    error: DeltaTableError,
) -> Error {
    let (Ok(of), Ok(versions)) = (empty(location), entries(store, location, 0).await) else {
        return delta_error(location, &error);
    };
    let Some(&newest) = versions.last() else {
        return no_table(location);
    };
    if let Some(version) = version.filter(|version| *version > newest) {
        return no_version(location, version, newest);
    }
    for version in versions.into_iter().rev() {
        if let Err(error) = read(store, &of, version).await
            && error.kind() == ErrorKind::Corrupt
        {
            return error;
        }
    }
    delta_error(location, &error)
}

fn empty(location: &str) -> Result<Snapshot> {
    path_of(location)?;
    Ok(Snapshot {
        location: location.to_string(),
        version: 0,
        schema: Arc::new(arrow::datatypes::Schema::empty()),
        partitioned_by: Vec::new(),
        files: Arc::default(),
        epoch: 0,
    })
}

/// Nothing is at this location.
pub(crate) fn no_table(location: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no Delta table at \"{location}\""))
}

/// The table is not there yet.
pub(crate) fn no_version(location: &str, version: Version, newest: Version) -> Error {
    Error::new(ErrorKind::NotFound, format!("\"{location}\" has no version {version}; its newest is {newest}"))
}

/// The versions from `from` on that have an entry in the log, in order.
///
/// # Errors
/// `Storage`.
pub(crate) async fn entries(store: &Arc<dyn ObjectStore>, location: &str, from: Version) -> Result<Vec<Version>> {
    let folder = path_of(&format!("{location}/_delta_log"))?;
    // Names that are greater than this one: the entry of `from` is the first.
    let before = path_of(&format!("{location}/_delta_log/{from:020}"))?;
    let listed = store.list_with_offset(Some(&folder), &before);
    let listed = listed.try_filter_map(|meta| async move { Ok(version_of(&meta.location)) });
    let mut versions: Vec<Version> = listed
        .try_collect()
        .await
        .map_err(|error| Error::from(error).context(format!("the Delta log of \"{location}\"")))?;
    versions.sort_unstable();
    Ok(versions)
}

/// The version whose entry this is.
fn version_of(path: &Path) -> Option<Version> {
    let digits = path.filename()?.strip_suffix(".json")?;
    (digits.len() == 20).then(|| digits.parse().ok())?
}

async fn get(store: &Arc<dyn ObjectStore>, path: &Path) -> object_store::Result<bytes::Bytes> {
    store.get(path).await?.bytes().await
}

/// The commit that made `version`; `None` where there is none.
///
/// # Errors
/// `Corrupt`, `Storage`.
pub(crate) async fn read(store: &Arc<dyn ObjectStore>, of: &Snapshot, version: Version) -> Result<Option<Parsed>> {
    let path = entry_path(&of.location, version)?;
    match get(store, &path).await {
        Ok(bytes) => action::parse(&bytes, path.as_ref(), of).map(Some),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(Error::from(error).context(format!("reading \"{path}\""))),
    }
}

/// The commits of `versions`, oldest first.
///
/// # Errors
/// `NotFound` when one of them was cleaned away.
pub(crate) async fn read_range(
    store: &Arc<dyn ObjectStore>,
    of: &Snapshot,
    versions: std::ops::RangeInclusive<Version>,
) -> Result<Vec<Parsed>> {
    let reads = futures::stream::iter(versions).map(|version| async move {
        read(store, of, version).await?.ok_or_else(|| {
            let message = format!("version {version} of \"{}\" is not in the Delta log any more", of.location);
            Error::new(ErrorKind::NotFound, message)
                .with_detail("entries of the log are kept for an hour, or until every view has followed them")
                .with_hint("refresh in full from the newest version")
        })
    });
    reads.buffered(PARALLEL_READS_MAX).try_collect().await
}

/// The version of the newest checkpoint, as the hint beside the log tells.
pub(crate) async fn checkpoint_version(store: &Arc<dyn ObjectStore>, location: &str) -> Result<Option<Version>> {
    #[derive(serde::Deserialize)]
    struct Hint {
        version: Version,
    }
    let path = path_of(&format!("{location}/_delta_log/_last_checkpoint"))?;
    match get(store, &path).await {
        // A hint that cannot be read is none: the checkpoint is then found by listing.
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok().map(|hint: Hint| hint.version)),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
