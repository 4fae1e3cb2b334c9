//! The audit log: who did what, as a Delta table of the lake that is only ever added to.
//!
//! ```text
//!   entries of a few seconds ─▶ one batch ─▶ one commit ─▶ <lake>/_flash/audit_log, partitioned by day
//!                                                               ▲
//!   SELECT .. FROM system.audit_log ─▶ OnRead: the version of now, not that of the published epoch
//! ```
//!
//! Nothing deletes from it; a day that is not wanted any more is a folder. Its files are kept few as those of any table.

use std::sync::{Arc, LazyLock};

use arrow::array::{Date32Array, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::record_batch::RecordBatch;
use datafusion::catalog::TableProvider;
use datafusion::datasource::empty::EmptyTable;
use futures::FutureExt;

use crate::catalog::on_read::OnRead;
use crate::engine::Engine;
use crate::error::{ErrorKind, Result};
use crate::storage::Commit;

/// Where it is in the lake.
pub(super) const LOCATION: &str = "_flash/audit_log";

const DAY_US: i64 = 24 * 3600 * 1_000_000;

/// One line: what somebody did, or tried.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditEntry {
    /// When it began: microseconds since 1970 UTC.
    pub at_us: i64,
    /// The user; for a log-in that failed, the name that was given.
    pub user: String,
    /// The address they called from.
    pub peer: String,
    /// `flight` or `http`.
    pub door: &'static str,
    /// `log_in` or `statement`.
    pub event: &'static str,
    /// The statement, without passwords, cut where it is long.
    pub sql: Option<String>,
    /// `done`, `failed`, `denied` or `cancelled`.
    pub outcome: &'static str,
    /// Why it failed.
    pub error: Option<String>,
    /// Rows that were fetched, or changed.
    pub rows: u64,
    /// Bytes that were fetched, as Arrow has them in memory.
    pub bytes: u64,
    /// From its beginning to the last row.
    pub took_ms: u64,
}

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let text = |name| Field::new(name, DataType::Utf8, true);
    let number = |name| Field::new(name, DataType::Int64, true);
    Arc::new(Schema::new(vec![
        Field::new("day", DataType::Date32, true),
        Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
        text("user_name"),
        text("peer"),
        text("door"),
        text("event"),
        text("statement"),
        text("outcome"),
        text("error"),
        number("rows"),
        number("bytes"),
        number("took_ms"),
    ]))
});

fn batch(entries: &[AuditEntry]) -> Result<RecordBatch> {
    let text = |of: &dyn Fn(&AuditEntry) -> Option<String>| Arc::new(entries.iter().map(of).collect::<StringArray>());
    let number = |of: &dyn Fn(&AuditEntry) -> u64| {
        let values = entries.iter().map(|entry| i64::try_from(of(entry)).unwrap_or(i64::MAX));
        Arc::new(Int64Array::from_iter_values(values))
    };
    let day = |entry: &AuditEntry| i32::try_from(entry.at_us.div_euclid(DAY_US)).unwrap_or_default();
    let at = TimestampMicrosecondArray::from_iter_values(entries.iter().map(|entry| entry.at_us));
    Ok(RecordBatch::try_new(
        Arc::clone(&SCHEMA),
        vec![
            Arc::new(Date32Array::from_iter_values(entries.iter().map(day))),
            Arc::new(at.with_timezone("UTC")),
            text(&|entry| Some(entry.user.clone())),
            text(&|entry| Some(entry.peer.clone())),
            text(&|entry| Some(entry.door.into())),
            text(&|entry| Some(entry.event.into())),
            text(&|entry| entry.sql.clone()),
            text(&|entry| Some(entry.outcome.into())),
            text(&|entry| entry.error.clone()),
            number(&|entry| entry.rows),
            number(&|entry| entry.bytes),
            number(&|entry| entry.took_ms),
        ],
    )?)
}

impl Engine {
    /// Add to the audit log. When this returns, they are in the lake.
    ///
    /// # Errors
    /// `Storage`, `Transient`.
    pub async fn log_audit(&self, entries: &[AuditEntry]) -> Result<()> {
        let comment = Some("Who did what, and when.");
        let snapshot = self.storage.create(LOCATION, &SCHEMA, &["day".to_string()], comment).await?;
        let epoch = self.published.borrow().epoch;
        let add = self.storage.stage(&snapshot, epoch, &[batch(entries)?]).await?;
        let commit = Commit { add, data_change: true, operation: "WRITE", ..Commit::default() };
        self.storage.commit(LOCATION, commit).await.map(drop)
    }

    /// The audit log as a table.
    pub(super) fn audit_log(&self) -> Arc<dyn TableProvider> {
        let storage = Arc::clone(&self.storage);
        OnRead::table(Arc::clone(&SCHEMA), move || {
            let storage = Arc::clone(&storage);
            async move {
                match storage.snapshot(LOCATION, None).await {
                    Ok(snapshot) => Ok(storage.provider(&snapshot, None)),
                    // Nobody has done anything yet.
                    Err(error) if error.kind() == ErrorKind::NotFound => {
                        Ok(Arc::new(EmptyTable::new(Arc::clone(&SCHEMA))) as Arc<dyn TableProvider>)
                    }
                    Err(error) => Err(error),
                }
            }
            .boxed()
        })
    }
}
