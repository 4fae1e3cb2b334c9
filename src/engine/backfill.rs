//! Reading records again, for those that a view does not hold: they came before it began, or were taken out of it.
//!
//! ```text
//!  since an instant, to the published positions ─▶ reread, slice by slice
//!                                               ─▶ rows that the view does not hold: by shard, sequence number, sub-sequence
//!                                               ─▶ an epoch of their own: the positions stay, the views above follow
//! ```
//!
//! The epoch's record names the range. Carried out again after a crash, it takes the same rows: those that the view did not
//! hold in the epoch before.

use std::collections::{BTreeMap, HashSet};

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::{filter_record_batch, max, min};
use arrow::datatypes::TimestampMicrosecondType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{col, lit};
use datafusion::prelude::SessionContext;
use futures::TryStreamExt;

use crate::engine::due::due;
use crate::engine::epochs::views_due;
use crate::engine::{Engine, State};
use crate::epoch::{Again, EpochRecord, Positions, SourceRange};
use crate::error::{Error, ErrorKind, Result};
use crate::name::TableName;
use crate::refresh::identity::{IDENTITY, identities};

/// When a record arrived.
const ARRIVED: &str = "_arrived_at";

/// What a backfill has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backfilled {
    /// Rows that were read again.
    pub read: u64,
    /// Those among them that were missing, and are there now.
    pub landed: u64,
}

impl Engine {
    /// Read again what arrived since this instant, in milliseconds since 1970 UTC, and land what `view` does not hold of it.
    ///
    /// # Errors
    /// `NotFound` for a view that is not there, `Config` for one that does not read a source that can be read again, or does
    /// not show which records it holds; as `pass`.
    pub async fn backfill(&self, view: &TableName, since_ms: i64) -> Result<Backfilled> {
        self.recover().await?;
        let mut done = Backfilled::default();
        let mut range: Option<SourceRange> = None;
        loop {
            let mut state = self.state.lock().await;
            let name = self.source_of(&state, view)?;
            let source = self.source(&mut state, &name).await?;
            let whole = match range.take() {
                Some(range) => range,
                None => SourceRange { from: source.since(since_ms).await?, to: self.landed(&name)? },
            };
            let slice = self.noted(&name, source.as_ref(), source.reread(&whole, self.slice)).await?;
            let again = SourceRange { from: whole.from, to: slice.to.clone() };
            let rows = self.missing(&state, view, slice.batches).await?;
            done.read += slice.records as u64;
            let came = rows.iter().map(|batch| batch.num_rows() as u64).sum::<u64>();
            if came > 0 {
                let again = Again { source: name, view: view.clone(), range: again };
                self.land(&mut state, again, rows).await?;
                done.landed += came;
            }
            if slice.to.shards == whole.to.shards {
                return Ok(done);
            }
            range = Some(SourceRange { from: slice.to, to: whole.to });
        }
    }

    /// As far as a source has been read and published.
    fn landed(&self, source: &TableName) -> Result<Positions> {
        let positions = self.published.borrow().sources.get(source).cloned();
        positions.ok_or_else(|| {
            Error::new(ErrorKind::Config, format!("nothing has been read of {source} yet"))
                .with_hint("start flash run: with the option 'start' 'trim_horizon' it reads all there is")
        })
    }

    /// The source that a view reads.
    fn source_of(&self, state: &State, view: &TableName) -> Result<TableName> {
        let slot = state.graph.slots.get(view);
        let slot = slot.ok_or_else(|| crate::engine::statements::no_view(view))?;
        let source = slot.view.inputs.iter().find(|input| state.graph.sources.contains_key(*input));
        let Some(source) = source else {
            return Err(Error::new(ErrorKind::Config, format!("{view} does not read a source"))
                .with_hint(format!("flash refresh {view} --full computes it anew from the tables that it reads")));
        };
        let lacks = IDENTITY.into_iter().chain([ARRIVED]).find(|name| slot.view.schema.index_of(name).is_err());
        match lacks {
            None => Ok(source.clone()),
            Some(column) => Err(Error::new(ErrorKind::Config, format!("{view} does not show {column}"))
                .with_detail("what it holds cannot be told from what it lacks")
                .with_hint("only a view with the source's own columns can be filled again")),
        }
    }

    /// Those rows that are not in the view.
    pub(super) async fn missing(
        &self,
        state: &State,
        view: &TableName,
        batches: Vec<RecordBatch>,
    ) -> Result<Vec<RecordBatch>> {
        let held = self.held(state, view, &batches).await?;
        let mut missing = Vec::new();
        for batch in batches {
            let mask = identities(&batch)?.into_iter().map(|id| Some(!held.contains(&id))).collect::<BooleanArray>();
            let batch = filter_record_batch(&batch, &mask)?;
            if batch.num_rows() > 0 {
                missing.push(batch);
            }
        }
        Ok(missing)
    }

    /// The identities of the view's rows that arrived when these did.
    async fn held(&self, state: &State, view: &TableName, batches: &[RecordBatch]) -> Result<HashSet<u128>> {
        let arrived = |batch: &RecordBatch| {
            batch.column_by_name(ARRIVED).map(|column| column.as_primitive::<TimestampMicrosecondType>().clone())
        };
        let first = batches.iter().filter_map(|batch| min(&arrived(batch)?)).min();
        let last = batches.iter().filter_map(|batch| max(&arrived(batch)?)).max();
        let (Some(first), Some(last)) = (first, last) else { return Ok(HashSet::new()) };
        let version = self.published.borrow().tables.get(view).map(|table| (table.location.clone(), table.version));
        let (location, version) = match (version, state.graph.slots.get(view)) {
            (Some((location, version)), _) => (location, version),
            (None, slot) => (slot.map(|slot| slot.location.clone()).unwrap_or_default(), 0),
        };
        let snapshot = self.storage.snapshot(&location, Some(version)).await?;
        let instant = |us: i64| lit(ScalarValue::TimestampMicrosecond(Some(us), Some("UTC".into())));
        let rows = SessionContext::new_with_state(self.base.clone())
            .read_table(self.storage.provider(&snapshot, None))?
            .filter(col(ARRIVED).between(instant(first), instant(last)))?
            .select_columns(&IDENTITY)?;
        let mut rows = rows.execute_stream().await?;
        let mut held = HashSet::new();
        while let Some(batch) = rows.try_next().await? {
            held.extend(identities(&batch)?);
        }
        Ok(held)
    }

    async fn land(&self, state: &mut State, again: Again, rows: Vec<RecordBatch>) -> Result<()> {
        let now_us = self.clock.now_us();
        let taken = due(&views_due(state), now_us, true).0;
        let record = EpochRecord {
            epoch: self.published.borrow().epoch + 1,
            now_us,
            definitions: state.definitions.hash(),
            tables: self.table_versions(&state.graph).await?,
            views: state.graph.order.iter().filter(|name| taken.contains(*name)).cloned().collect(),
            again: Some(again.clone()),
            ..EpochRecord::default()
        };
        self.write_record(&record).await?;
        state.unfinished = Some(record.clone());
        self.carry_out(state, record, BTreeMap::from([(again.source, rows)]), BTreeMap::new()).await.map(|_| ())
    }
}
