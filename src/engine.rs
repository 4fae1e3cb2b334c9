//! The engine: a lake, its definitions, and the passes that keep its views fresh.
//!
//! `server` and `scheduler` share one `Arc<Engine>`: the server plans queries on what is published,
//! the scheduler asks for passes. Statements that change something run one pass and return when it is published.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::prelude::SessionContext;
use tokio::sync::watch;

use crate::catalog::Principal;
use crate::epoch::{Epoch, PublishedRecord, Version};
use crate::error::{Error, ErrorKind, Result};
use crate::name::TableName;
use crate::source::{SliceLimits, Source};
use crate::storage::Storage;

/// What an engine is opened with.
#[derive(Debug)]
pub struct EngineOptions {
    /// The lake.
    pub storage: Arc<dyn Storage>,
    /// Sources that replace what the definitions name.
    pub sources: BTreeMap<TableName, Arc<dyn Source>>,
    /// The most that one epoch reads of one source.
    pub slice: SliceLimits,
}

/// A statement of a project file, or of a prompt.
#[derive(Debug, Clone)]
pub struct ProjectObject {
    /// The file, for error messages and for paths relative to it.
    pub file: Option<String>,
    /// The text of the file: one CREATE statement, and the comments around it (so that line numbers are the file's).
    pub sql: String,
    /// For `STORED AS CSV`: the bytes of the file that LOCATION names. The engine reads no files itself.
    pub data: Option<Vec<u8>>,
}

/// What `apply` did with each object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// New.
    Created,
    /// The definition differs: the view is built beside the old one, and takes its place when it has caught up.
    Changed,
    /// Nothing to do.
    Unchanged,
}

/// Which views a pass takes.
#[derive(Debug, Clone, Default)]
pub struct PassRequest {
    /// Take every view that is not suspended, due or not.
    pub all: bool,
    /// Recompute these from scratch.
    pub full: Vec<TableName>,
}

/// How a pass ended.
#[derive(Debug, Clone)]
pub enum Pass {
    /// Nothing new, or nothing due; ask again after this long.
    Idle(Duration),
    /// An epoch was published.
    Published {
        /// What it made.
        record: Arc<PublishedRecord>,
        /// Rows that came from the sources in it.
        source_rows: u64,
        /// The sources had nothing more to give, and every view took part or is suspended or failed.
        caught_up: bool,
    },
}

/// One line of `flash status`.
#[derive(Debug, Clone)]
pub struct ViewStatus {
    /// The view.
    pub name: TableName,
    /// URL of its Delta table.
    pub location: String,
    /// Published version.
    pub version: Version,
    /// Rows at that version.
    pub rows: u64,
    /// Now minus the time of the epoch that it reflects, 0 when nothing has come since; `None` before the first epoch.
    pub lag_ms: Option<i64>,
    /// The lag that its definition asks for.
    pub target_lag_ms: Option<u64>,
    /// Mode of the newest refresh.
    pub mode: String,
    /// Reason of that mode, or the error that holds the view back.
    pub reason: String,
    /// The epoch that it reflects.
    pub frontier: Epoch,
    /// Suspended by ALTER.
    pub suspended: bool,
    /// Rows in its quarantine table.
    pub quarantined: u64,
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectKind {
    /// An external table that events come from; not for queries.
    Source,
    /// An ordinary table.
    Table,
    /// A materialized view.
    MaterializedView,
    /// A table of the `system` schema.
    System,
}

/// The answer to a statement.
pub enum Answer {
    /// A query: rows, as they are computed. The schema is the logical one; batches carry the same types.
    Rows {
        /// Schema of the rows.
        schema: SchemaRef,
        /// The rows.
        stream: SendableRecordBatchStream,
    },
    /// A statement that changed something, done and published.
    Done {
        /// What was done, for people: `INSERT 3`, `REFRESH gold.kpis: merge_state, 3 rows`.
        message: String,
        /// Rows affected, where that means something.
        rows_affected: Option<u64>,
    },
}

/// See the module.
#[derive(Debug)]
pub struct Engine {
    published: watch::Sender<Arc<PublishedRecord>>,
}

impl Engine {
    /// Open the lake: read its definitions and its newest published record.
    ///
    /// # Errors
    /// `Storage`, `Corrupt`; `Definition` when a stored definition is not understood.
    pub async fn open(_options: EngineOptions) -> Result<Arc<Self>> {
        Err(Error::new(ErrorKind::Internal, "not yet"))
    }

    /// Make the lake hold these objects; objects that are not named stay as they are. All or nothing.
    ///
    /// # Errors
    /// `Syntax`, `Definition`, `NotIncremental` with file, line and caret.
    pub async fn apply(&self, _objects: &[ProjectObject]) -> Result<Vec<(TableName, Applied)>> {
        Err(Error::new(ErrorKind::Internal, "not yet"))
    }

    /// Carry out the newest epoch again if it has not been published. To be called once, before the first pass.
    ///
    /// # Errors
    /// As `pass`.
    pub async fn recover(&self) -> Result<Option<Epoch>> {
        Err(Error::new(ErrorKind::Internal, "not yet"))
    }

    /// One pass over the views that are due: at most one epoch.
    ///
    /// # Errors
    /// `Conflict` when another writer owns the lake (stop); `Transient` (ask again after a back-off); `Source`,
    /// `DataLoss`, `Storage`, `Corrupt` (stop). A view that fails on its own data does not fail the pass.
    pub async fn pass(&self, _request: PassRequest) -> Result<Pass> {
        Err(Error::new(ErrorKind::Internal, "not yet"))
    }

    /// Where every view stands.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn status(&self) -> Result<Vec<ViewStatus>> {
        Err(Error::new(ErrorKind::Internal, "not yet"))
    }

    /// A session for queries, pinned to the newest published epoch: catalog `flash`, every table of the lake under
    /// its schema, `system.*`, `information_schema`. Cheap: snapshots are cached.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn session(&self, _principal: &Principal) -> Result<SessionContext> {
        Err(Error::new(ErrorKind::Internal, "not yet"))
    }

    /// Run one statement of the dialect (query, DDL, DML, REFRESH, EXPLAIN, SHOW, SET) in `session`.
    ///
    /// # Errors
    /// Any kind; the text is meant for the user.
    pub async fn execute(&self, _session: &SessionContext, _principal: &Principal, _sql: &str) -> Result<Answer> {
        Err(Error::new(ErrorKind::Internal, "not yet"))
    }

    /// What a name stands for, for catalog listings.
    pub fn kind(&self, _name: &TableName) -> Option<ObjectKind> {
        None
    }

    /// The newest published record, and every later one.
    pub fn published(&self) -> watch::Receiver<Arc<PublishedRecord>> {
        self.published.subscribe()
    }
}
