//! Where the partial state of a view's groups is kept.
//!
//! ```text
//!   Rows     every key and every state is a column of the view: its rows are the state, nothing is written twice
//!   Beside   a file of state for each data file, of the same name
//!   Whole    one object for the view, named by the epoch: with HAVING a group may have state and no row
//! ```
//!
//! What was written lately is in memory, whichever it is.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::compute::{cast, take_record_batch};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use datafusion::common::Column;
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::LogicalPlanBuilder;
use futures::{StreamExt, TryStreamExt, stream};

use crate::epoch::Epoch;
use crate::error::{Error, ErrorKind, Result};
use crate::refresh::classify::{key_of_output, shown_as};
use crate::refresh::compile::CompiledView;
use crate::refresh::execute::{collect, conform};
use crate::refresh::merge::sides::hashes;
use crate::refresh::merge::{Calls, Merge};
use crate::refresh::prune::{KeyColumn, may_hold};
use crate::refresh::replace::{KEYED_FILE_ROWS_MAX, order_of};
use crate::refresh::restrict::Keys;
use crate::storage::{DataFile, Snapshot};

/// Files, with the state of their groups where it is one of its own, that are written at the same time.
const FILES_CONCURRENT_MAX: usize = 4;

/// Where the state is.
#[derive(Debug)]
pub(super) enum Held {
    /// In the rows: which column of the view shows each key, then each state.
    Rows(Vec<usize>),
    /// In a file beside each data file.
    Beside,
    /// In one object.
    Whole,
}

/// Groups that were there, and the files that held them.
pub(super) struct There {
    /// Keys and states.
    pub(super) groups: Vec<RecordBatch>,
    /// Paths of the files.
    pub(super) files: Vec<String>,
}

impl Merge<'_> {
    pub(super) fn held(&self, calls: &Calls) -> Held {
        match self.having {
            true => Held::Whole,
            false => self.showing(calls).map_or(Held::Beside, Held::Rows),
        }
    }

    /// The view's columns that show the keys and the states, if all are there and stored without loss.
    fn showing(&self, calls: &Calls) -> Option<Vec<usize>> {
        let outputs = self.plan.schema().columns();
        let shown = outputs.iter().map(|output| shown_as(self.plan, output, self.aggregate)).collect::<Vec<_>>();
        let schema = self.aggregate.schema.inner();
        let keys = self.aggregate.group_expr.len();
        (0..schema.fields().len())
            .map(|part| {
                let column = shown.iter().position(|shown| *shown == Some(part))?;
                let stored = self.view.schema.field(column).data_type();
                let plain = part < keys || calls[part - keys].0.shows_its_state();
                (plain && lossless(schema.field(part).data_type(), stored)).then_some(column)
            })
            .collect()
    }

    /// The groups of the files that hold one of the keys.
    pub(super) async fn there(&self, held: &Held, calls: &Calls, snapshot: &Snapshot, keys: &Keys) -> Result<There> {
        let mut there = There { groups: vec![], files: vec![] };
        if matches!(held, Held::Whole) {
            there.files.extend(snapshot.files.iter().map(|file| file.path.clone()));
            if snapshot.epoch > 0 {
                let state = self.read_state(&self.whole_state_path(snapshot.epoch)).await?;
                there.groups.extend(state.iter().cloned());
            }
            return Ok(there);
        }
        let count = self.aggregate.group_expr.len();
        let columns = self.key_columns(keys);
        let wanted = hashes(keys.columns(), keys.len())?.into_iter().collect::<HashSet<_>>();
        for file in may_hold(&snapshot.files, &snapshot.partitioned_by, &columns, keys.len())? {
            let groups = match held {
                Held::Rows(columns) => self.groups_of(snapshot, &file, calls, columns).await?,
                Held::Beside | Held::Whole => self.read_state(&self.state_path(&file.path)).await?,
            };
            let mut hit = count == 0;
            for batch in groups.iter() {
                // Two keys of one hash only cost a file that need not have been written.
                hit = hit
                    || hashes(&batch.columns()[..count], batch.num_rows())?.iter().any(|hash| wanted.contains(hash));
            }
            if hit {
                there.files.push(file.path.clone());
                there.groups.extend(groups.iter().cloned());
            }
        }
        Ok(there)
    }

    async fn read_state(&self, path: &str) -> Result<Arc<Vec<RecordBatch>>> {
        self.storage.read_state(path).await.map_err(|error| missing(error, self.view, path))
    }

    /// The groups whose state are the rows of a file.
    async fn groups_of(
        &self,
        snapshot: &Snapshot,
        file: &Arc<DataFile>,
        calls: &Calls,
        columns: &[usize],
    ) -> Result<Arc<Vec<RecordBatch>>> {
        let path = self.state_path(&file.path);
        if let Some(groups) = self.storage.recall(&path) {
            return Ok(groups);
        }
        let provider = self.storage.provider(snapshot, Some(vec![Arc::clone(file)]));
        let plan = LogicalPlanBuilder::scan("__stored", provider_as_source(provider), None)?.build()?;
        let rows = collect(self.state, plan).await?;
        let groups = rows.iter().map(|rows| self.as_groups(&conform(rows, &snapshot.schema)?, calls, columns));
        let groups = groups.collect::<Result<Vec<_>>>()?;
        self.storage.remember(&path, &groups);
        Ok(Arc::new(groups))
    }

    /// Rows of the view as `__k0.., __s0..`.
    fn as_groups(&self, rows: &RecordBatch, calls: &Calls, columns: &[usize]) -> Result<RecordBatch> {
        let schema = self.aggregate.schema.inner();
        let keys = self.aggregate.group_expr.len();
        let mut fields = Vec::with_capacity(columns.len());
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(columns.len());
        for (part, column) in columns.iter().enumerate() {
            let value = cast(rows.column(*column), schema.field(part).data_type())?;
            let (name, value) = match part.checked_sub(keys) {
                None => (format!("__k{part}"), value),
                Some(call) => (format!("__s{call}"), calls[call].0.pack(vec![value])?),
            };
            fields.push(Field::new(name, value.data_type().clone(), true));
            arrays.push(value);
        }
        Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?)
    }

    /// Group keys that the view shows as they are: what files can be pruned by.
    fn key_columns(&self, keys: &Keys) -> Vec<KeyColumn> {
        let outputs = self.plan.schema().columns();
        let key_of = |output: &Column| key_of_output(self.plan, output, self.aggregate);
        let shown = outputs.iter().filter_map(|output| Some((output.name.clone(), key_of(output)?)));
        shown.map(|(name, key)| KeyColumn { name, values: Arc::clone(&keys.columns()[key]) }).collect()
    }

    /// Stage the view's rows, a file per partition, and keep the state.
    pub(super) async fn write(
        &self,
        held: &Held,
        snapshot: &Snapshot,
        epoch: Epoch,
        rows: RecordBatch,
    ) -> Result<Vec<DataFile>> {
        if rows.num_rows() == 0 && !self.having {
            return Ok(vec![]);
        }
        let rows = self.sorted(rows)?;
        let schema = rows.schema();
        let parts = schema.fields().iter().enumerate().skip(self.view.schema.fields().len());
        let parts = parts.filter(|(_, field)| !field.name().starts_with("__keep"));
        let state = rows.project(&parts.map(|(index, _)| index).collect::<Vec<_>>())?;
        let (shown, _) = self.visible(&rows)?;
        if matches!(held, Held::Whole) {
            self.storage.write_state(&self.whole_state_path(epoch), std::slice::from_ref(&state)).await?;
            if shown.num_rows() == 0 {
                return Ok(vec![]);
            }
            return self.storage.stage(snapshot, epoch, &[shown]).await;
        }
        let files = self.ranges(&shown)?.into_iter().map(|(start, length)| {
            let (shown, state) = (shown.slice(start, length), state.slice(start, length));
            async move {
                let staged = self.storage.stage(snapshot, epoch, &[shown]).await?;
                let [file] = staged.as_slice() else {
                    return Err(Error::new(ErrorKind::Internal, format!("{} files for one partition", staged.len())));
                };
                match held {
                    Held::Rows(_) => self.storage.remember(&self.state_path(&file.path), &[state]),
                    Held::Beside | Held::Whole => {
                        self.storage.write_state(&self.state_path(&file.path), &[state]).await?;
                    }
                }
                Ok(staged)
            }
        });
        stream::iter(files).buffered(FILES_CONCURRENT_MAX).try_concat().await
    }

    /// Partition columns first, then keys that are times, then the other keys: what comes together in time lies together.
    fn sorted(&self, rows: RecordBatch) -> Result<RecordBatch> {
        let schema = rows.schema();
        let temporal = |data_type: &DataType| data_type.is_temporal();
        let mut order: Vec<usize> = Vec::new();
        for name in &self.view.partitioned_by {
            order.extend(schema.index_of(name));
        }
        let keys = schema
            .fields()
            .iter()
            .enumerate()
            .filter(|(_, field)| field.name().starts_with("__k") && !field.name().starts_with("__keep"));
        let (times, others): (Vec<_>, Vec<_>) = keys.partition(|(_, field)| temporal(field.data_type()));
        order.extend(times.into_iter().chain(others).map(|(index, _)| index));
        if order.is_empty() || rows.num_rows() < 2 {
            return Ok(rows);
        }
        let columns = order.iter().map(|index| Arc::clone(rows.column(*index))).collect::<Vec<_>>();
        Ok(take_record_batch(&rows, &order_of(&columns)?)?)
    }

    /// Ranges of equal partition values, cut at the size of a file.
    fn ranges(&self, shown: &RecordBatch) -> Result<Vec<(usize, usize)>> {
        let columns = self.view.partitioned_by.iter().filter_map(|name| shown.column_by_name(name).cloned());
        let columns = columns.collect::<Vec<ArrayRef>>();
        let whole = match columns.is_empty() {
            true => std::iter::once(0..shown.num_rows()).collect(),
            false => arrow::compute::partition(&columns)?.ranges(),
        };
        let mut ranges = Vec::new();
        for range in whole.into_iter().filter(|range| !range.is_empty()) {
            let pieces = range.len().div_ceil(KEYED_FILE_ROWS_MAX);
            let length = range.len().div_ceil(pieces);
            ranges.extend(range.clone().step_by(length).map(|start| (start, length.min(range.end - start))));
        }
        Ok(ranges)
    }

    pub(super) fn whole_state_path(&self, epoch: Epoch) -> String {
        format!("{}/having-{epoch:020}.parquet", self.view.state_folder())
    }

    fn state_path(&self, file: &str) -> String {
        let name = file.rsplit('/').next().unwrap_or(file);
        format!("{}/{name}", self.view.state_folder())
    }
}

/// A value of the one type is the same after it was stored as the other.
fn lossless(computed: &DataType, stored: &DataType) -> bool {
    let text = |data_type: &DataType| matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let bytes =
        |data_type: &DataType| matches!(data_type, DataType::Binary | DataType::LargeBinary | DataType::BinaryView);
    computed == stored || text(computed) && text(stored) || bytes(computed) && bytes(stored)
}

fn missing(error: Error, view: &CompiledView, path: &str) -> Error {
    match error.kind() {
        ErrorKind::NotFound => Error::new(ErrorKind::Corrupt, format!("the state of {} is gone", view.name))
            .with_detail(format!("{path} does not exist"))
            .with_hint(format!("REFRESH MATERIALIZED VIEW {} FULL builds it again", view.name)),
        _ => error,
    }
}
