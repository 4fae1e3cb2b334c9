//! What a view's rows were at one epoch and are at another, as multisets.
//!
//! ```text
//!   the same table     files that came, files that went ──┐
//!   rebuilt meanwhile  all files of both tables ──────────┴─▶ +1, -1 each row ─▶ GROUP BY all columns ─▶ what is left
//! ```
//!
//! Both are read as their published records have them; columns that only one of the two has are told, and left out.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, SchemaRef};
use datafusion::catalog::TableProvider;
use futures::TryStreamExt;

use crate::catalog::Principal;
use crate::catalog::session::session_within;
use crate::engine::Engine;
use crate::engine::statements::no_view;
use crate::epoch::{Epoch, PublishedRecord, TableState};
use crate::error::{Error, ErrorKind, Result};
use crate::name::TableName;

/// Schema of the two sides in the query.
const SIDES: &str = "sides";

/// Name of the column that tells how often a row came (more than 0) or went.
pub const TIMES: &str = "__times";

/// How two states of a view differ.
#[derive(Debug, Clone)]
pub struct Difference {
    /// The older epoch, and the newer one.
    pub epochs: (Epoch, Epoch),
    /// Columns that only the newer one has; one whose type has changed is here and in `dropped`.
    pub added: Vec<String>,
    /// Columns that only the older one has.
    pub dropped: Vec<String>,
    /// How many rows came, by the columns that both have.
    pub came: u64,
    /// How many went.
    pub went: u64,
    /// The first of them: the columns, then [`TIMES`].
    pub rows: Vec<RecordBatch>,
}

impl Engine {
    /// Compare a view at two epochs; `to` is the newest by default, `from` the newest before at which its table was another. At
    /// most `rows_max` different rows are given, in their order.
    ///
    /// # Errors
    /// `NotFound` for a view or an epoch that is not there; `Storage` where files of then are gone.
    pub async fn diff(
        &self,
        view: &TableName,
        from: Option<Epoch>,
        to: Option<Epoch>,
        rows_max: usize,
    ) -> Result<Difference> {
        let to = match to {
            Some(epoch) => self.record_of(epoch).await?,
            None => Arc::clone(&self.published.borrow()),
        };
        let new = stands(&to, view)?;
        let from = match from {
            Some(epoch) => self.record_of(epoch).await?,
            None => self.another_before(view, new, to.epoch)?,
        };
        let old = stands(&from, view)?;
        let [new_table, old_table] =
            [new, old].map(|state| self.storage.snapshot(&state.location, Some(state.version)));
        let (new_table, old_table) = (new_table.await?, old_table.await?);
        let (common, added, dropped) = columns(&new_table.schema, &old_table.schema);
        if common.is_empty() {
            return Err(Error::new(ErrorKind::Definition, format!("{view} has no column of then any more")));
        }
        let (came, went) = match new.location == old.location {
            true => {
                let changes = self.storage.changes(&new.location, old.version, new.version).await?;
                (Some(changes.added), Some(changes.removed))
            }
            false => (None, None),
        };
        let tables: BTreeMap<TableName, Arc<dyn TableProvider>> = BTreeMap::from([
            (TableName::new(SIDES, "came"), self.storage.provider(&new_table, came)),
            (TableName::new(SIDES, "went"), self.storage.provider(&old_table, went)),
        ]);
        let session = session_within(&self.session(&Principal::system()).await?, tables)?;
        let answer = async |sql: String| -> Result<Vec<RecordBatch>> {
            Ok(session.sql(&sql).await?.execute_stream().await?.try_collect().await?)
        };
        let net = net(&common);
        let counts = answer(format!(
            "SELECT coalesce(sum({TIMES}) FILTER (WHERE {TIMES} > 0), 0), \
             coalesce(-sum({TIMES}) FILTER (WHERE {TIMES} < 0), 0) FROM ({net})"
        ));
        let counts = counts.await?;
        let count = |column: usize| -> Result<u64> {
            let [batch] = counts.as_slice() else { return Ok(0) };
            let values = cast(batch.column(column), &DataType::Int64)?;
            Ok(values.as_primitive::<Int64Type>().values().first().map_or(0, |count| count.unsigned_abs()))
        };
        let order = common.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ");
        let rows = answer(format!("{net} ORDER BY {order}, {TIMES} LIMIT {rows_max}")).await?;
        Ok(Difference { epochs: (from.epoch, to.epoch), added, dropped, came: count(0)?, went: count(1)?, rows })
    }

    async fn record_of(&self, epoch: Epoch) -> Result<Arc<PublishedRecord>> {
        let held = self.history.read().iter().find(|record| record.epoch == epoch).cloned();
        if let Some(record) = held {
            return Ok(record);
        }
        let gone = |error: Error| match error.kind() {
            ErrorKind::NotFound => Error::new(ErrorKind::NotFound, format!("there is no epoch {epoch}"))
                .with_hint("SELECT DISTINCT epoch FROM system.refreshes lists the newest ones"),
            _ => error,
        };
        Ok(Arc::new(self.published_record(epoch).await.map_err(gone)?))
    }

    /// The newest epoch at which the view's table was another.
    fn another_before(&self, view: &TableName, now: &TableState, epoch: Epoch) -> Result<Arc<PublishedRecord>> {
        let history = self.history.read();
        let other = |record: &&Arc<PublishedRecord>| {
            let then = record.tables.get(view);
            record.epoch < epoch
                && then.is_some_and(|then| (&then.location, then.version) != (&now.location, now.version))
        };
        history.iter().rev().find(other).cloned().ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("nothing is known of {view} before epoch {epoch}"))
                .with_hint("name an older epoch: --from N")
        })
    }
}

fn stands<'a>(record: &'a PublishedRecord, view: &TableName) -> Result<&'a TableState> {
    record.tables.get(view).ok_or_else(|| no_view(view).with_detail(format!("at epoch {}", record.epoch)))
}

/// Names of the columns that both have, with the same type; that only the newer one has; that only the older one has.
fn columns(new: &SchemaRef, old: &SchemaRef) -> (Vec<String>, Vec<String>, Vec<String>) {
    let has = |schema: &SchemaRef, name: &str, data_type: &DataType| {
        schema.field_with_name(name).is_ok_and(|field| field.data_type() == data_type)
    };
    let names = |of: &SchemaRef, other: &SchemaRef, shared: bool| {
        let fields = of.fields().iter().filter(|field| has(other, field.name(), field.data_type()) == shared);
        fields.map(|field| field.name().clone()).collect::<Vec<_>>()
    };
    (names(new, old, true), names(new, old, false), names(old, new, false))
}

/// The query for the rows that are oftener on one side.
fn net(columns: &[String]) -> String {
    let columns = columns.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ");
    format!(
        "SELECT {columns}, sum(__sign) AS {TIMES} FROM (\
         SELECT {columns}, 1 AS __sign FROM {SIDES}.came UNION ALL SELECT {columns}, -1 AS __sign FROM {SIDES}.went) \
         GROUP BY {columns} HAVING sum(__sign) <> 0"
    )
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
