//! Storage: Delta tables and the lake's own records, on a local folder, S3 or memory. The only writer of objects.
//!
//! ```text
//! <lake>/
//!   gold/kpis/_delta_log/00…07.json       a Delta table, reader 1 / writer 2
//!   gold/kpis/<file>.parquet              data files; the name holds the epoch
//!   _state/gold.kpis/<definition>/<file>  hidden state of a data file, same file name, plain Parquet
//!   _flash/definitions/N.json             what was applied         put-if-absent
//!   _flash/epochs/E.json                  EpochRecord              put-if-absent
//!   _flash/published/E.json               PublishedRecord          put-if-absent
//!   _flash/maintenance/N.json             what upkeep has done     put-if-absent
//! ```
//!
//! One commit of one table:
//!
//! ```text
//!   stage(batches) ─▶ Vec<DataFile>          uploads, in parallel; unreferenced until the commit
//!   commit(adds, removes, txn = E)
//!     ├─ cached handle has txn >= E ──────────────▶ AlreadyCommitted(version)
//!     ├─ put-if-absent _delta_log/v+1.json  ok ───▶ Committed(v+1)
//!     └─ any error: re-open the table, then decide  txn >= E: AlreadyCommitted | lost race: rebase | give up
//! ```

mod action;
mod checked;
mod clean;
mod compact;
mod decide;
mod delta;
mod encode;
mod location;
mod log;
mod maintain;
mod orphans;
mod partition;
mod provider;
mod prune;
mod records;
pub mod schema;
mod stage;
mod state;
mod stats;
mod table;
mod vacuum;

pub use delta::DeltaStorage;
pub use location::StorageOptions;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use serde::{Deserialize, Serialize};

use crate::epoch::{Epoch, Version};
use crate::error::Result;

/// One Parquet file of a table, as its `Add` action tells.
#[derive(Debug, Clone, PartialEq)]
pub struct DataFile {
    /// Path below the table's folder.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Rows.
    pub rows: u64,
    /// Partition values in the order of the partition columns, as Delta writes them; `None` is NULL.
    pub partition: Vec<Option<String>>,
    /// Smallest and largest value of each column that has statistics (top-level columns of primitive type).
    pub stats: BTreeMap<String, ColumnStats>,
    /// Modification time in milliseconds since 1970 UTC.
    pub modified_ms: i64,
}

/// Bounds of one column in one file.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnStats {
    /// A lower bound of the non-NULL values; `None` when there is none.
    pub min: Option<datafusion::scalar::ScalarValue>,
    /// An upper bound of the non-NULL values.
    pub max: Option<datafusion::scalar::ScalarValue>,
    /// How many are NULL.
    pub nulls: u64,
}

/// A table at one version. Cheap to clone; never changes.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Folder below the lake's root.
    pub location: String,
    /// The version.
    pub version: Version,
    /// The Arrow schema, partition columns included, in declared order.
    pub schema: SchemaRef,
    /// Partition columns.
    pub partitioned_by: Vec<String>,
    /// The active files.
    pub files: Arc<Vec<Arc<DataFile>>>,
    /// The newest epoch that a commit of the table carried (0: none).
    pub epoch: Epoch,
}

impl Snapshot {
    /// Rows in all files.
    pub fn rows(&self) -> u64 {
        self.files.iter().map(|file| file.rows).sum()
    }
}

/// What one table should become in one commit.
#[derive(Debug, Clone, Default)]
pub struct Commit {
    /// Carried as the Delta transaction `flash` = epoch. `None` for maintenance and for DML outside an epoch.
    pub epoch: Option<Epoch>,
    /// Staged files to add.
    pub add: Vec<DataFile>,
    /// Paths of active files to remove.
    pub remove: Vec<String>,
    /// False for compaction: the rows stay the same.
    pub data_change: bool,
    /// Rows go because their time is over: other readers of the log see that they went, [`Storage::changes`] does not.
    pub expiry: bool,
    /// Delta's name of the operation: `WRITE`, `DELETE`, `OPTIMIZE`, ...
    pub operation: &'static str,
}

/// How a commit ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committed {
    /// This call made the version.
    Now(Version),
    /// The epoch was there already (a crash or a lost answer): the version at which the table reflects it.
    Already(Version),
}

/// The difference between two versions of a table: whole files, compaction and expiry left out.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// Files whose rows came.
    pub added: Vec<Arc<DataFile>>,
    /// Files whose rows went.
    pub removed: Vec<Arc<DataFile>>,
}

/// The lake. [`DeltaStorage`] is the implementor, over any object store.
#[async_trait]
pub trait Storage: Send + Sync + std::fmt::Debug {
    /// Make the lake's objects readable in plans that run on `runtime`; needed once before a plan over a
    /// [`Storage::provider`] runs there.
    fn register(&self, runtime: &datafusion::execution::runtime_env::RuntimeEnv);

    /// The lake's root as its user would name it: a folder, or a URL. For people.
    fn root(&self) -> String;

    /// Make the table where it does not exist; version 0 has the schema and no rows. Idempotent.
    ///
    /// # Errors
    /// `Definition` for a type that a Delta reader would misread; `Storage`.
    async fn create(
        &self,
        location: &str,
        schema: &SchemaRef,
        partitioned_by: &[String],
        comment: Option<&str>,
    ) -> Result<Snapshot>;

    /// The table at `version`, or at its newest one. Served from memory where the handle is fresh.
    ///
    /// # Errors
    /// `NotFound`, `Corrupt`, `Storage`.
    async fn snapshot(&self, location: &str, version: Option<Version>) -> Result<Snapshot>;

    /// What came and went in (from, to].
    ///
    /// # Errors
    /// `NotFound` when the log of that range is gone.
    async fn changes(&self, location: &str, from: Version, to: Version) -> Result<Changes>;

    /// Write `batches` (of the table's schema) as Parquet files, one per partition value unless a file grows over
    /// the limit; file names hold `epoch`. Nothing refers to them before `commit`.
    ///
    /// # Errors
    /// `Storage`.
    async fn stage(&self, snapshot: &Snapshot, epoch: Epoch, batches: &[RecordBatch]) -> Result<Vec<DataFile>>;

    /// Rows of these files (all of the snapshot's where `files` is `None`) as a table for queries and refreshes,
    /// with partition pruning, file pruning by statistics, and Parquet pushdown.
    fn provider(&self, snapshot: &Snapshot, files: Option<Vec<Arc<DataFile>>>) -> Arc<dyn TableProvider>;

    /// One atomic commit; see the module's drawing. Staged files are never deleted here.
    ///
    /// # Errors
    /// `Conflict` when a file to remove is gone; `Storage`, `Transient`.
    async fn commit(&self, location: &str, commit: Commit) -> Result<Committed>;

    /// Write a plain Parquet object of hidden state at this path below the lake's root (overwrites).
    ///
    /// # Errors
    /// `Storage`.
    async fn write_state(&self, path: &str, batches: &[RecordBatch]) -> Result<u64>;

    /// Read it back; recently used objects come from memory, within `state_cache_bytes_max`.
    ///
    /// # Errors
    /// `NotFound`, `Corrupt`, `Storage`.
    async fn read_state(&self, path: &str) -> Result<Arc<Vec<RecordBatch>>>;

    /// Keep in memory what can be computed from objects, under a path that has no object of its own; within
    /// `state_cache_bytes_max`, and no longer than that allows.
    fn remember(&self, _path: &str, _batches: &[RecordBatch]) {}

    /// What is still remembered.
    fn recall(&self, _path: &str) -> Option<Arc<Vec<RecordBatch>>> {
        None
    }

    /// Nobody is going to ask for this again: neither what is remembered, nor the state read from an object.
    fn forget(&self, _path: &str) {}

    /// Write a small record where there is none. False: there is one already, which is not touched.
    ///
    /// # Errors
    /// `Storage`.
    async fn put_if_absent(&self, path: &str, bytes: Vec<u8>) -> Result<bool>;

    /// A small record.
    ///
    /// # Errors
    /// `NotFound`, `Storage`.
    async fn get(&self, path: &str) -> Result<Vec<u8>>;

    /// The newest `limit` names in a folder of numbered records, newest first.
    ///
    /// # Errors
    /// `Storage`.
    async fn list_newest(&self, folder: &str, limit: usize) -> Result<Vec<String>>;

    /// Delete objects that nothing refers to (pruned records, vacuumed files). Missing ones are fine.
    ///
    /// # Errors
    /// `Storage`.
    async fn delete(&self, paths: &[String]) -> Result<()>;

    /// Delete a folder with all that is in it: a table that nothing refers to any more, or its state. A missing one is fine.
    /// What was there.
    ///
    /// # Errors
    /// `Storage`; some of it may be gone.
    async fn delete_folder(&self, folder: &str) -> Result<Objects>;

    /// When the first of a snapshot's files went out of its table, in milliseconds since 1970 UTC: 0 where it is not known
    /// any more, `None` where all of them are in the newest version.
    ///
    /// # Errors
    /// `NotFound`, `Storage`.
    async fn first_removed_ms(&self, snapshot: &Snapshot) -> Result<Option<i64>>;

    /// Checkpoint, log clean-up, compaction of small files, vacuum and sweep, as far as they are due: what was done. A piece
    /// of work that failed says so, and leaves the table as it was.
    async fn maintain(&self, location: &str, options: &MaintainOptions) -> Vec<Upkept>;

    /// Objects of a table that were written before `before_ms` (milliseconds since 1970 UTC) and that its newest version does
    /// not name: data files, state beside them, and the log before `version`. With `Version::MAX` all objects count.
    ///
    /// # Errors
    /// `Storage`.
    async fn left_of(
        &self,
        location: &str,
        state_folder: Option<&str>,
        version: Version,
        before_ms: i64,
    ) -> Result<Objects>;

    /// How long files that a commit has removed, and the entries of the log, stay for readers of older versions, in
    /// milliseconds.
    fn retention_ms(&self) -> i64 {
        StorageOptions::default().retention_ms
    }

    /// Delete tables that were made and never recorded: empty ones of ours, a day old or more, at places that are not `known`.
    ///
    /// # Errors
    /// `Storage`; some of them may be gone.
    async fn sweep_unrecorded(&self, known: &BTreeSet<String>) -> Result<Objects>;
}

/// The files whose rows are in a table of [`Storage::provider`]; `None` for any other table.
pub fn files_of(table: &dyn TableProvider) -> Option<&[Arc<DataFile>]> {
    let table: &dyn std::any::Any = table;
    table.downcast_ref::<provider::DeltaProvider>().map(provider::DeltaProvider::files)
}

/// The snapshot whose rows are in a table of [`Storage::provider`]; `None` for any other table.
pub fn snapshot_of(table: &dyn TableProvider) -> Option<&Snapshot> {
    let table: &dyn std::any::Any = table;
    table.downcast_ref::<provider::DeltaProvider>().map(provider::DeltaProvider::snapshot)
}

/// The files of a table of [`Storage::provider`], each by its full path, by what a reader can leave out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parts {
    /// The table has no such partition column.
    Whole(Vec<String>),
    /// By the value of the partition column, as Delta writes it. Rows without a value are in none.
    By(BTreeMap<String, Vec<String>>),
}

impl Parts {
    /// With one more thing that decides the rows of each.
    pub fn under(mut self, rule: &str) -> Self {
        match &mut self {
            Self::Whole(files) => files.push(rule.to_string()),
            Self::By(by) => by.values_mut().for_each(|files| files.push(rule.to_string())),
        }
        self
    }
}

/// The files of a table by this partition column; `None` for any table that is not of [`Storage::provider`]. Paths are in
/// order, and a path is never written again: equal files have equal rows.
pub fn parts_of(table: &dyn TableProvider, column: &str) -> Option<Parts> {
    let table: &dyn std::any::Any = table;
    table.downcast_ref::<provider::DeltaProvider>().map(|table| table.parts(column))
}

/// What `maintain` may do.
#[derive(Debug, Clone, Default)]
pub struct MaintainOptions {
    /// Merge small files of a partition; off for tables whose files have state beside them.
    pub compact: bool,
    /// Keep removed files and entries of the log this long, in milliseconds.
    pub retention_ms: i64,
    /// Folder with the state of this table's files, to be vacuumed with them.
    pub state_folder: Option<String>,
    /// Keep also what was removed since then: a view has not followed it yet. Milliseconds since 1970 UTC.
    pub needed_since_ms: Option<i64>,
    /// A checkpoint of this version or a newer one is due, so that the log before it can go.
    pub checkpoint_from: Option<Version>,
    /// When another process has swept the table, in milliseconds since 1970 UTC; 0: not known.
    pub swept_ms: i64,
}

impl MaintainOptions {
    /// What was removed before this may go, in milliseconds since 1970 UTC.
    fn until_ms(&self, now_ms: i64) -> i64 {
        (now_ms - self.retention_ms).min(self.needed_since_ms.unwrap_or(i64::MAX))
    }
}

/// A kind of upkeep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// A checkpoint of the log.
    Checkpoint,
    /// Entries of the log that no reader needs were deleted.
    CleanLog,
    /// Small files became larger ones.
    Compact,
    /// Files that a commit had removed were deleted.
    Vacuum,
    /// Files and tables that nothing refers to were deleted.
    Sweep,
}

impl Operation {
    /// Its name in `system.maintenance`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Checkpoint => "checkpoint",
            Self::CleanLog => "clean_log",
            Self::Compact => "compact",
            Self::Vacuum => "vacuum",
            Self::Sweep => "sweep",
        }
    }
}

/// A number of objects, and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Objects {
    /// How many.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Objects {
    fn add(&mut self, bytes: u64) {
        self.files += 1;
        self.bytes += bytes;
    }
}

/// One piece of upkeep of one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upkept {
    /// What it was.
    pub operation: Operation,
    /// When it began, in milliseconds since 1970 UTC.
    pub began_ms: i64,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// Objects that went: out of the lake, or (compaction) out of the table.
    pub removed: Objects,
    /// Objects that came.
    pub added: Objects,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}
