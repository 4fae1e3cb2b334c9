//! The engine: a lake, its definitions, and the passes that keep its views fresh.
//!
//! `server` and `scheduler` share one `Arc<Engine>`: the server plans queries on what is published,
//! the scheduler asks for passes. Statements that change something run one pass and return when it is published.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::prelude::SessionContext;
use tokio::sync::watch;

use crate::catalog::Principal;
use crate::epoch::PublishedRecord;
use crate::error::Result;
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
    /// A session for queries, pinned to the newest published epoch: catalog `flash`, every table of the lake under
    /// its schema, `system.*`, `information_schema`. Cheap: snapshots are cached.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn session(&self, _principal: &Principal) -> Result<SessionContext> {
        Err(crate::error::Error::new(crate::error::ErrorKind::Internal, "not yet"))
    }

    /// Run one statement of the dialect (query, DDL, DML, REFRESH, EXPLAIN, SHOW, SET) in `session`.
    ///
    /// # Errors
    /// Any kind; the text is meant for the user.
    pub async fn execute(&self, _session: &SessionContext, _principal: &Principal, _sql: &str) -> Result<Answer> {
        Err(crate::error::Error::new(crate::error::ErrorKind::Internal, "not yet"))
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
