//! A change applied to a stored table, file by file.
//!
//! ```text
//!   rows that go ─▶ files that may hold them (partition values, min/max) ─▶ read ─┬─ none of them there: left alone
//!                                                                                  ├─ the rest of a large file ─▶ stage
//!                                                                                  └─ of a small one ─┐
//!   rows that come, and small files where they are too many ──────────────────────────────────────────┴─▶ stage
//! ```
//!
//! Copy on write, as a multiset: of seven equal rows three go if three are to go. Where a row that is to go is not
//! there, nothing is done.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, UInt32Array};
use arrow::compute::{concat_batches, filter_record_batch, take_record_batch};
use arrow::record_batch::RecordBatch;
use arrow::row::{OwnedRow, RowConverter, SortField};
use datafusion::datasource::provider_as_source;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlanBuilder;

use crate::epoch::Epoch;
use crate::error::Result;
use crate::refresh::execute::{collect, conform};
use crate::refresh::layout::{Layout, pieces};
use crate::refresh::prune::{KeyColumn, may_hold};
use crate::storage::{DataFile, Snapshot, Storage};

/// What a change wants committed.
#[derive(Debug, Default)]
pub struct Replaced {
    /// Staged files.
    pub add: Vec<DataFile>,
    /// Files that they replace.
    pub remove: Vec<String>,
}

/// Rows to take out of a table and rows to put into it.
#[derive(Debug)]
pub struct Replacement<'a> {
    /// The lake.
    pub storage: &'a dyn Storage,
    /// Functions and runtime.
    pub state: &'a SessionState,
    /// The table.
    pub snapshot: &'a Snapshot,
    /// Columns that lie together in a file.
    pub clustered_by: Vec<String>,
}

impl Replacement<'_> {
    /// Stage the files that make it so; `None` when a row that is to go is not there.
    ///
    /// # Errors
    /// `Storage`, `Corrupt`.
    pub async fn run(&self, epoch: Epoch, go: &[RecordBatch], come: Vec<RecordBatch>) -> Result<Option<Replaced>> {
        let schema = &self.snapshot.schema;
        let layout = Layout::new(&self.snapshot.files);
        let (mut rows, mut alone) = (come, Vec::new());
        let mut remove = Vec::new();
        let go = go.iter().map(|batch| conform(batch, schema)).collect::<Result<Vec<_>>>()?;
        let go = concat_batches(schema, &go)?;
        if go.num_rows() > 0 {
            let mut outgoing = Outgoing::new(&go)?;
            for file in self.candidates(&go)? {
                if outgoing.left == 0 {
                    break;
                }
                let batches = self.read(&file).await?;
                let kept = outgoing.take_from(&batches)?;
                if let Some(kept) = kept {
                    remove.push(file.path.clone());
                    match layout.is_small(&file) {
                        true => rows.extend(kept),
                        false => alone.push(kept),
                    }
                }
            }
            if outgoing.left > 0 {
                return Ok(None);
            }
        }
        for file in layout.crowded().into_iter().filter(|file| !remove.contains(&file.path)).collect::<Vec<_>>() {
            rows.extend(self.read(&file).await?);
            remove.push(file.path.clone());
        }
        // Nothing is staged before it is known that all rows that are to go are there.
        let mut add = Vec::new();
        for rows in alone.into_iter().chain([rows]) {
            add.extend(self.stage(epoch, rows).await?);
        }
        Ok(Some(Replaced { add, remove }))
    }

    fn candidates(&self, go: &RecordBatch) -> Result<Vec<Arc<DataFile>>> {
        let schema = go.schema();
        let columns = schema
            .fields()
            .iter()
            .zip(go.columns())
            .map(|(field, column)| KeyColumn { name: field.name().clone(), values: Arc::clone(column) });
        may_hold(&self.snapshot.files, &self.snapshot.partitioned_by, &columns.collect::<Vec<_>>(), go.num_rows())
    }

    async fn read(&self, file: &Arc<DataFile>) -> Result<Vec<RecordBatch>> {
        let provider = self.storage.provider(self.snapshot, Some(vec![Arc::clone(file)]));
        let plan = LogicalPlanBuilder::scan("__stored", provider_as_source(provider), None)?.build()?;
        let batches = collect(self.state, plan).await?;
        batches.iter().map(|batch| conform(batch, &self.snapshot.schema)).collect()
    }

    /// Rows that belong together into files of a bounded size.
    async fn stage(&self, epoch: Epoch, rows: Vec<RecordBatch>) -> Result<Vec<DataFile>> {
        let rows = rows.into_iter().filter(|batch| batch.num_rows() > 0).collect::<Vec<_>>();
        if rows.is_empty() {
            return Ok(vec![]);
        }
        let rows = concat_batches(&self.snapshot.schema, &rows)?;
        let rows = clustered(rows, self.snapshot.partitioned_by.iter().chain(&self.clustered_by))?;
        let mut files = Vec::new();
        for (start, length) in pieces(0, rows.num_rows()) {
            files.extend(self.storage.stage(self.snapshot, epoch, &[rows.slice(start, length)]).await?);
        }
        Ok(files)
    }
}

/// The rows sorted by these columns, as far as they can be.
///
/// # Errors
/// `Internal`.
pub fn clustered<'a>(rows: RecordBatch, columns: impl Iterator<Item = &'a String>) -> Result<RecordBatch> {
    let columns = columns.filter_map(|name| rows.column_by_name(name).cloned());
    let columns = columns.filter(|column| !column.data_type().is_nested()).collect::<Vec<ArrayRef>>();
    if columns.is_empty() || rows.num_rows() < 2 {
        return Ok(rows);
    }
    let order = order_of(&columns)?;
    Ok(take_record_batch(&rows, &order)?)
}

/// Row numbers in the order of these columns. Compared as bytes: a comparison that goes from column to column costs
/// several times as much.
///
/// # Errors
/// `Internal`.
pub fn order_of(columns: &[ArrayRef]) -> Result<UInt32Array> {
    let keys = converter(columns)?.convert_columns(columns)?;
    let mut order = keys.iter().zip(0_u32..).collect::<Vec<_>>();
    order.sort_unstable_by_key(|(key, _)| *key);
    Ok(UInt32Array::from_iter_values(order.into_iter().map(|(_, row)| row)))
}

fn converter(columns: &[ArrayRef]) -> Result<RowConverter> {
    let fields = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
    Ok(RowConverter::new(fields)?)
}

/// Rows that are still to go, with how many copies of each.
struct Outgoing {
    converter: RowConverter,
    copies: HashMap<OwnedRow, usize>,
    left: usize,
}

impl Outgoing {
    fn new(go: &RecordBatch) -> Result<Self> {
        let converter = converter(go.columns())?;
        let mut copies = HashMap::new();
        for row in &converter.convert_columns(go.columns())? {
            *copies.entry(row.owned()).or_insert(0) += 1;
        }
        Ok(Self { converter, copies, left: go.num_rows() })
    }

    /// The rows of a file that stay; `None` when all do.
    fn take_from(&mut self, batches: &[RecordBatch]) -> Result<Option<Vec<RecordBatch>>> {
        let before = self.left;
        let mut kept = Vec::with_capacity(batches.len());
        for batch in batches {
            let rows = self.converter.convert_columns(batch.columns())?;
            let mut stays = Vec::with_capacity(batch.num_rows());
            for row in &rows {
                let goes = self.left > 0
                    && self.copies.get_mut(&row.owned()).is_some_and(|copies| {
                        let some = *copies > 0;
                        *copies = copies.saturating_sub(1);
                        some
                    });
                self.left -= usize::from(goes);
                stays.push(!goes);
            }
            kept.push(filter_record_batch(batch, &BooleanArray::from(stays))?);
        }
        Ok((self.left < before).then_some(kept))
    }
}
