//! Where the partial state of a view's groups is kept.
//!
//! ```text
//!   Rows     every key and every state is a column of the view: its rows are the state, nothing is written twice
//!   Beside   a file of state for each data file, of the same name
//!   Whole    one object for the view, named by the epoch: with HAVING a group may have state and no row
//! ```
//!
//! What changed lately is in memory, whichever it is; and longer, the hashes of the keys of each file, by which a
//! file that holds none of the changed groups is told without reading it.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, UInt32Array, UInt64Array};
use arrow::compute::{cast, take, take_record_batch};
use arrow::datatypes::{DataType, Field, Schema, UInt64Type};
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
use crate::refresh::layout::{Layout, pieces};
use crate::refresh::merge::sides::{Named, hashes};
use crate::refresh::merge::{Calls, Into, Merge};
use crate::refresh::prune::{KeyColumn, may_hold};
use crate::refresh::replace::order_of;
use crate::refresh::restrict::Keys;
use crate::storage::DataFile;

/// Files, with the state of their groups, that are read and written at the same time: what is held in memory.
const FILES_CONCURRENT_MAX: usize = 2;

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

/// What the files with changed groups held.
#[derive(Default)]
pub(super) struct There {
    /// Groups that were there and are named.
    pub(super) gone: Vec<RecordBatch>,
    /// Others, that are to lie with the changed ones.
    pub(super) stays: Vec<RecordBatch>,
    /// Staged files with the others.
    pub(super) add: Vec<DataFile>,
    /// Files that are replaced.
    pub(super) remove: Vec<String>,
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

    /// The files that hold one of the named keys: the groups of those, and the others; large files without the former.
    pub(super) async fn there(&self, into: &Into<'_>, keys: &Keys, named: &Named<'_>) -> Result<There> {
        let files = &into.snapshot.files;
        if matches!(into.held, Held::Whole) {
            let mut there = There::default();
            there.remove.extend(files.iter().map(|file| file.path.clone()));
            if into.snapshot.epoch > 0 {
                let state = self.read_state(&self.whole_state_path(into.snapshot.epoch)).await?;
                (there.gone, there.stays) = named.split(&state)?;
            }
            return Ok(there);
        }
        let layout = Layout::new(files);
        let crowded = layout.crowded();
        let mut files = may_hold(files, &into.snapshot.partitioned_by, &self.key_columns(keys), keys.len())?;
        files.retain(|file| !crowded.iter().any(|due| Arc::ptr_eq(due, file)));
        let held = files.iter().map(|file| (file, false)).chain(crowded.iter().map(|file| (file, true)));
        let split = held.map(|(file, due)| self.split(into, named, file, due, layout.is_small(file)));
        let mut parts = stream::iter(split.collect::<Vec<_>>()).buffered(FILES_CONCURRENT_MAX);
        let mut there = There::default();
        while let Some(part) = parts.try_next().await? {
            there.gone.extend(part.gone);
            there.stays.extend(part.stays);
            there.add.extend(part.add);
            there.remove.extend(part.remove);
        }
        Ok(there)
    }

    /// One file; nothing where it holds no named key and is not `due` to be joined with others.
    async fn split(
        &self,
        into: &Into<'_>,
        named: &Named<'_>,
        file: &Arc<DataFile>,
        due: bool,
        small: bool,
    ) -> Result<There> {
        if !due && !self.holds_one(into, named, file).await? {
            return Ok(There::default());
        }
        let path = self.state_path(&file.path);
        let groups = self.groups_of(into, file).await?;
        // The file is about to be replaced.
        self.storage.forget(&path);
        self.storage.forget(&keys_of(&path));
        let (gone, stays) = named.split(&groups)?;
        drop(groups);
        let mut there = There { gone, stays, add: vec![], remove: vec![file.path.clone()] };
        if !small && !there.stays.is_empty() {
            let rows = self.finish(into.calls, std::mem::take(&mut there.stays)).await?;
            there.add = self.write_file(into, rows, false).await?;
        }
        Ok(there)
    }

    /// The file holds a named key. Two keys of one hash only cost a file that need not have been written.
    async fn holds_one(&self, into: &Into<'_>, named: &Named<'_>, file: &Arc<DataFile>) -> Result<bool> {
        if self.aggregate.group_expr.is_empty() {
            return Ok(true);
        }
        let path = keys_of(&self.state_path(&file.path));
        let known = match self.storage.recall(&path) {
            Some(known) => known,
            None => {
                let groups = self.groups_of(into, file).await?;
                let known = Arc::new(vec![self.sorted_hashes(&groups)?]);
                self.storage.remember(&path, &known);
                known
            }
        };
        Ok(known.iter().any(|known| named.is_among(known.column(0).as_primitive::<UInt64Type>().values())))
    }

    /// The hashes of the keys of a file's groups, sorted.
    fn sorted_hashes(&self, groups: &[RecordBatch]) -> Result<RecordBatch> {
        let mut all = Vec::with_capacity(groups.iter().map(RecordBatch::num_rows).sum());
        for groups in groups {
            all.extend(hashes(&groups.columns()[..self.aggregate.group_expr.len()], groups.num_rows())?);
        }
        all.sort_unstable();
        let all: ArrayRef = Arc::new(UInt64Array::from(all));
        Ok(RecordBatch::try_from_iter([("hash", all)])?)
    }

    /// The groups of a file with their state.
    async fn groups_of(&self, into: &Into<'_>, file: &Arc<DataFile>) -> Result<Arc<Vec<RecordBatch>>> {
        let path = self.state_path(&file.path);
        match &into.held {
            Held::Rows(columns) => match self.storage.recall(&path) {
                Some(groups) => Ok(groups),
                None => self.shown_groups_of(into, file, columns).await.map(Arc::new),
            },
            Held::Beside | Held::Whole => self.read_state(&path).await,
        }
    }

    async fn read_state(&self, path: &str) -> Result<Arc<Vec<RecordBatch>>> {
        self.storage.read_state(path).await.map_err(|error| missing(error, self.view, path))
    }

    /// The groups whose state are the rows of a file.
    async fn shown_groups_of(
        &self,
        into: &Into<'_>,
        file: &Arc<DataFile>,
        columns: &[usize],
    ) -> Result<Vec<RecordBatch>> {
        let provider = self.storage.provider(into.snapshot, Some(vec![Arc::clone(file)]));
        let plan = LogicalPlanBuilder::scan("__stored", provider_as_source(provider), None)?.build()?;
        let rows = collect(self.state, plan).await?;
        rows.iter().map(|rows| self.as_groups(&conform(rows, &into.snapshot.schema)?, into.calls, columns)).collect()
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

    /// Stage the view's rows, those of a partition together, and keep the state.
    pub(super) async fn write(&self, into: &Into<'_>, rows: RecordBatch) -> Result<Vec<DataFile>> {
        let order = self.order(&rows)?;
        if matches!(into.held, Held::Whole) {
            let (shown, state) = self.parts(&take_record_batch(&rows, &order)?)?;
            self.storage.write_state(&self.whole_state_path(into.epoch), &[state]).await?;
            if shown.num_rows() == 0 {
                return Ok(vec![]);
            }
            return self.storage.stage(into.snapshot, into.epoch, &[shown]).await;
        }
        let rows = &rows;
        let files = self.ranges(rows, &order)?.into_iter().map(|(start, length)| {
            let order = order.slice(start, length);
            // Rows of their own: a slice would keep those of all files in memory.
            async move { self.write_file(into, take_record_batch(rows, &order)?, true).await }
        });
        stream::iter(files.collect::<Vec<_>>()).buffered(FILES_CONCURRENT_MAX).try_concat().await
    }

    /// Stage one file, and keep its state; in memory, too, if it is `hot`.
    async fn write_file(&self, into: &Into<'_>, rows: RecordBatch, hot: bool) -> Result<Vec<DataFile>> {
        let (shown, state) = self.parts(&rows)?;
        drop(rows);
        let staged = self.storage.stage(into.snapshot, into.epoch, &[shown]).await?;
        let [file] = staged.as_slice() else {
            return Err(Error::new(ErrorKind::Internal, format!("{} files for one partition", staged.len())));
        };
        let path = self.state_path(&file.path);
        if !self.aggregate.group_expr.is_empty() {
            self.storage.remember(&keys_of(&path), &[self.sorted_hashes(std::slice::from_ref(&state))?]);
        }
        match into.held {
            Held::Rows(_) if hot => self.storage.remember(&path, &[state]),
            Held::Rows(_) => {}
            Held::Beside | Held::Whole => {
                self.storage.write_state(&path, &[state]).await?;
                if !hot {
                    self.storage.forget(&path);
                }
            }
        }
        Ok(staged)
    }

    /// Finished groups as what the view shows of them, and their keys and states.
    fn parts(&self, rows: &RecordBatch) -> Result<(RecordBatch, RecordBatch)> {
        let schema = rows.schema();
        let parts = schema.fields().iter().enumerate().skip(self.view.schema.fields().len());
        let parts = parts.filter(|(_, field)| !field.name().starts_with("__keep"));
        let state = rows.project(&parts.map(|(index, _)| index).collect::<Vec<_>>())?;
        Ok((self.visible(rows)?.0, state))
    }

    /// Row numbers by partition, keys that are times, other keys: what comes together in time lies together.
    fn order(&self, rows: &RecordBatch) -> Result<UInt32Array> {
        let schema = rows.schema();
        let mut order = self.partition_columns(&schema);
        let keys = schema
            .fields()
            .iter()
            .enumerate()
            .filter(|(_, field)| field.name().starts_with("__k") && !field.name().starts_with("__keep"));
        let (times, others): (Vec<_>, Vec<_>) = keys.partition(|(_, field)| field.data_type().is_temporal());
        order.extend(times.into_iter().chain(others).map(|(index, _)| index));
        match order.is_empty() {
            true => Ok((0..u32::try_from(rows.num_rows()).unwrap_or(u32::MAX)).collect()),
            false => order_of(&order.iter().map(|index| Arc::clone(rows.column(*index))).collect::<Vec<_>>()),
        }
    }

    fn partition_columns(&self, schema: &Schema) -> Vec<usize> {
        self.view.partitioned_by.iter().filter_map(|name| schema.index_of(name).ok()).collect()
    }

    /// Ranges of rows in this order that make a file: (start, length).
    fn ranges(&self, rows: &RecordBatch, order: &UInt32Array) -> Result<Vec<(usize, usize)>> {
        let columns = self.partition_columns(&rows.schema());
        let columns = columns.into_iter().map(|index| take(rows.column(index), order, None));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let ranges = match columns.is_empty() {
            true => std::iter::once(0..rows.num_rows()).collect(),
            false => arrow::compute::partition(&columns)?.ranges(),
        };
        Ok(ranges.into_iter().flat_map(|range| pieces(range.start, range.len())).collect())
    }

    pub(super) fn whole_state_path(&self, epoch: Epoch) -> String {
        format!("{}/having-{epoch:020}.parquet", self.view.state_folder())
    }

    fn state_path(&self, file: &str) -> String {
        let name = file.rsplit('/').next().unwrap_or(file);
        format!("{}/{name}", self.view.state_folder())
    }
}

/// Where the hashes of the keys of a file are remembered, beside its state.
fn keys_of(state_path: &str) -> String {
    format!("{state_path}#keys")
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
