//! MergeState: old partial state and the state of the change, group by group, file by file.
//!
//! ```text
//!  change of the input ─▶ GROUP BY keys: state(f)          "changed": few rows
//!                             │ keys
//!  files of the view ─────────┴─▶ those that may hold the keys (partition values, min/max)
//!      each has its state beside it: _state/<view>/<definition>/<same name>
//!                             │
//!  groups on both sides ─▶ GROUP BY keys: merge(f) ─┐
//!  groups on one side only, as they are ────────────┴─▶ finish(f) ─▶ the view's columns
//!                             │
//!  new files + new state, one pair per partition; one commit: remove the old files, add the new ones
//! ```
//!
//! When rows went, too, the groups that they were in are replaced: their state is computed anew from the input's rows
//! with those keys, and what was there is dropped.
//!
//! Copy on write: a refresh costs the change plus the files that hold its groups, never the whole view.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray};
use arrow::compute::{and, cast, concat_batches, filter_record_batch, not, take_record_batch};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrow::row::{OwnedRow, RowConverter, SortField};
use datafusion::common::Column;
use datafusion::common::hash_utils::{RandomState, create_hashes};
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::execution::SessionState;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::logical_plan::{Aggregate, EmptyRelation, Projection};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder};
use futures::{StreamExt, TryStreamExt, stream};

use crate::epoch::Epoch;
use crate::error::{Error, ErrorKind, Result};
use crate::refresh::classify::{key_of_output, plain};
use crate::refresh::combinator::AggregateCall;
use crate::refresh::compile::CompiledView;
use crate::refresh::execute::{collect, conform, mask};
use crate::refresh::prune::{KeyColumn, may_hold};
use crate::refresh::replace::{KEYED_FILE_ROWS_MAX, order_of};
use crate::refresh::restrict::Keys;
use crate::storage::{DataFile, Snapshot, Storage};

/// Pairs of a file and its state that are written at the same time.
const FILES_CONCURRENT_MAX: usize = 4;

/// What a merge wants committed.
#[derive(Debug, Default)]
pub struct Merged {
    /// Staged files.
    pub add: Vec<DataFile>,
    /// Files that they replace.
    pub remove: Vec<String>,
    /// State was written that only a commit makes valid.
    pub state: bool,
    /// Rows of the touched groups as they are now, and as they were; only where somebody asked.
    pub change: Option<(Vec<RecordBatch>, Vec<RecordBatch>)>,
}

/// The rows of the aggregate's input that a merge takes.
#[derive(Debug)]
pub enum Taken {
    /// All there are: what was there before is ignored.
    Everything(LogicalPlan),
    /// Those that came; `None`: none did.
    Inserted(Option<LogicalPlan>),
    /// All of these groups.
    OfKeys(Keys, LogicalPlan),
}

/// Everything that a merge works with.
#[derive(Debug)]
pub struct Merge<'a> {
    /// The lake.
    pub storage: &'a dyn Storage,
    /// Functions and runtime.
    pub state: &'a SessionState,
    /// The view.
    pub view: &'a CompiledView,
    /// Its plan.
    pub plan: &'a LogicalPlan,
    /// The aggregate in it.
    pub aggregate: &'a Aggregate,
    /// A filter stands above the aggregate.
    pub having: bool,
}

impl Merge<'_> {
    /// Carry out a merge into `snapshot`. `shown`: give the change of the view's rows, too.
    ///
    /// # Errors
    /// `Query` from the view's expressions; `Corrupt` when state is missing; `Storage`.
    pub async fn run(&self, snapshot: &Snapshot, epoch: Epoch, taken: Taken, shown: bool) -> Result<Merged> {
        let calls = self.calls()?;
        let anew = matches!(taken, Taken::Everything(_));
        let (plan, replaced) = match taken {
            Taken::Everything(plan) => (Some(plan), None),
            Taken::Inserted(plan) => (plan, None),
            Taken::OfKeys(keys, plan) => (Some(plan), Some(keys)),
        };
        let changed = self.changed(&calls, plan, snapshot.files.is_empty() || anew).await?;
        let keys = match &replaced {
            Some(keys) => keys.clone(),
            None if changed.is_empty() => return Ok(Merged::default()),
            None => self.keys(&changed)?,
        };
        let mut old = Vec::new();
        let mut remove = Vec::new();
        if anew || self.having {
            remove.extend(snapshot.files.iter().map(|file| file.path.clone()));
            if self.having && !anew && snapshot.epoch > 0 {
                let path = self.whole_state_path(snapshot.epoch);
                let state = self.storage.read_state(&path).await.map_err(|error| missing(error, self.view, &path))?;
                old.extend(state.iter().cloned());
            }
        } else {
            for (file, state) in self.touched(snapshot, &keys).await? {
                remove.push(file.path.clone());
                old.extend(state.iter().cloned());
            }
        }
        let Some(schema) = changed.first().or(old.first()).map(|batch| nullable(&batch.schema())) else {
            if self.having {
                self.storage.write_state(&self.whole_state_path(epoch), &[]).await?;
            }
            return Ok(Merged { remove, state: self.having, ..Merged::default() });
        };
        let sides = sides(&schema, changed, old, &keys, replaced.is_some())?;
        let before = if shown { self.shown(&calls, &schema, sides.gone.clone()).await? } else { vec![] };
        let mut one = sides.one;
        match replaced {
            Some(_) => one.extend(sides.new),
            None if sides.gone.is_empty() => one.extend(sides.new),
            None => {
                let both = sides.new.into_iter().chain(sides.gone).collect();
                let merged = collect(self.state, self.merged(&calls, self.groups(&schema, both)?)?).await?;
                one.extend(merged.into_iter().map(|batch| renamed(&schema, batch)).collect::<Result<Vec<_>>>()?);
            }
        }
        let rows = self.finish(&calls, &schema, one).await?;
        let change = if shown { Some((self.shown_of(&rows, &keys)?, before)) } else { None };
        let add = self.write(snapshot, epoch, rows).await?;
        Ok(Merged { add, remove, state: self.having, change })
    }

    /// The keys of these groups.
    fn keys(&self, changed: &[RecordBatch]) -> Result<Keys> {
        let all = concat_batches(&changed[0].schema(), changed)?;
        Keys::new(all.columns()[..self.aggregate.group_expr.len()].to_vec(), all.num_rows())
    }

    /// What the view shows of these groups.
    async fn shown(
        &self,
        calls: &[(AggregateCall, AggregateFunction)],
        schema: &SchemaRef,
        groups: Vec<RecordBatch>,
    ) -> Result<Vec<RecordBatch>> {
        if groups.is_empty() {
            return Ok(vec![]);
        }
        let rows = self.finish(calls, schema, groups).await?;
        self.visible(&rows).map(|(shown, _)| vec![shown])
    }

    /// What the view shows of the finished groups that have one of these keys.
    fn shown_of(&self, rows: &RecordBatch, keys: &Keys) -> Result<Vec<RecordBatch>> {
        let wanted = hashes(keys.columns(), keys.len())?.into_iter().collect::<HashSet<_>>();
        let schema = rows.schema();
        let columns = (0..self.aggregate.group_expr.len()).filter_map(|key| schema.index_of(&format!("__k{key}")).ok());
        let columns = columns.map(|index| Arc::clone(rows.column(index))).collect::<Vec<_>>();
        let hashes = hashes(&columns, rows.num_rows())?;
        let mask = hashes.iter().map(|hash| Some(wanted.contains(hash))).collect::<BooleanArray>();
        let rows = filter_record_batch(rows, &mask)?;
        self.visible(&rows).map(|(shown, _)| vec![shown])
    }

    /// The view's columns of finished groups, those that HAVING leaves out left out; and which it keeps.
    fn visible(&self, rows: &RecordBatch) -> Result<(RecordBatch, Option<BooleanArray>)> {
        let visible = self.view.schema.fields().len();
        let shown = conform(&rows.project(&(0..visible).collect::<Vec<_>>())?, &self.view.schema)?;
        let mut keep: Option<BooleanArray> = None;
        for (index, field) in rows.schema().fields().iter().enumerate().skip(visible) {
            if field.name().starts_with("__keep") {
                let mask = mask(rows.column(index).as_boolean());
                keep = Some(keep.map_or(Ok(mask.clone()), |so_far| and(&so_far, &mask))?);
            }
        }
        match &keep {
            Some(mask) => Ok((filter_record_batch(&shown, mask)?, keep)),
            None => Ok((shown, None)),
        }
    }

    fn calls(&self) -> Result<Vec<(AggregateCall, AggregateFunction)>> {
        let schema = self.aggregate.input.schema();
        let mut calls = Vec::with_capacity(self.aggregate.aggr_expr.len());
        for expr in &self.aggregate.aggr_expr {
            let Expr::AggregateFunction(function) = expr.clone().unalias() else {
                return Err(Error::new(ErrorKind::Internal, format!("{expr} is not an aggregate")));
            };
            let fields = function.params.args.iter().map(|arg| Ok(arg.to_field(schema.as_ref())?.1));
            let fields = fields.collect::<Result<Vec<_>>>()?;
            let ignore =
                function.params.null_treatment == Some(datafusion::logical_expr::expr::NullTreatment::IgnoreNulls);
            calls.push((AggregateCall::try_new(Arc::clone(&function.func), fields, ignore)?, function));
        }
        Ok(calls)
    }

    /// The groups of these rows with their partial state.
    async fn changed(
        &self,
        calls: &[(AggregateCall, AggregateFunction)],
        rows: Option<LogicalPlan>,
        first: bool,
    ) -> Result<Vec<RecordBatch>> {
        let input = match rows {
            Some(plan) => plan,
            // An aggregate without keys has one row, even of no input.
            None if first && self.aggregate.group_expr.is_empty() => LogicalPlan::EmptyRelation(EmptyRelation {
                produce_one_row: false,
                schema: Arc::clone(self.aggregate.input.schema()),
            }),
            None => return Ok(vec![]),
        };
        let states = calls.iter().map(|(call, function)| {
            let params = function.params.clone();
            Expr::AggregateFunction(AggregateFunction::new_udf(
                call.state_udaf(),
                params.args,
                false,
                params.filter,
                vec![],
                None,
            ))
        });
        let aggregate = Aggregate::try_new(Arc::new(input), self.aggregate.group_expr.clone(), states.collect())?;
        let plan = self.named(aggregate)?;
        let batches = collect(self.state, plan).await?;
        Ok(batches.into_iter().filter(|batch| batch.num_rows() > 0).collect())
    }

    /// Rename an aggregate's columns to `__k0.. , __s0..`.
    fn named(&self, aggregate: Aggregate) -> Result<LogicalPlan> {
        let keys = self.aggregate.group_expr.len();
        let columns = aggregate.schema.columns();
        let exprs = columns.into_iter().enumerate().map(|(index, column)| {
            let name = if index < keys { format!("__k{index}") } else { format!("__s{}", index - keys) };
            Expr::Column(column).alias(name)
        });
        let exprs = exprs.collect::<Vec<_>>();
        Ok(LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(LogicalPlan::Aggregate(aggregate)))?))
    }

    /// The files that hold one of the changed keys, with their state.
    async fn touched(&self, snapshot: &Snapshot, keys: &Keys) -> Result<Vec<(Arc<DataFile>, Arc<Vec<RecordBatch>>)>> {
        let count = self.aggregate.group_expr.len();
        let columns = self.key_columns(keys);
        let candidates = may_hold(&snapshot.files, &snapshot.partitioned_by, &columns, keys.len())?;
        if candidates.is_empty() {
            return Ok(vec![]);
        }
        let wanted = hashes(keys.columns(), keys.len())?.into_iter().collect::<HashSet<_>>();
        let mut touched = Vec::new();
        for file in candidates {
            let path = self.state_path(&file.path);
            let state = self.storage.read_state(&path).await.map_err(|error| missing(error, self.view, &path))?;
            let mut hit = count == 0;
            for batch in state.iter() {
                // Two keys of one hash only cost a file that need not have been written.
                hit = hit
                    || hashes(&batch.columns()[..count], batch.num_rows())?.iter().any(|hash| wanted.contains(hash));
            }
            if hit {
                touched.push((file, state));
            }
        }
        Ok(touched)
    }

    /// Group keys that the view shows as they are: what files can be pruned by.
    fn key_columns(&self, keys: &Keys) -> Vec<KeyColumn> {
        let outputs = self.plan.schema().columns();
        let key_of = |output: &Column| key_of_output(self.plan, output, self.aggregate);
        let shown = outputs.iter().filter_map(|output| Some((output.name.clone(), key_of(output)?)));
        shown.map(|(name, key)| KeyColumn { name, values: Arc::clone(&keys.columns()[key]) }).collect()
    }

    /// Finish groups, and compute the view's columns: `[view's columns][__keep..][__k..][__s..]`.
    async fn finish(
        &self,
        calls: &[(AggregateCall, AggregateFunction)],
        schema: &SchemaRef,
        groups: Vec<RecordBatch>,
    ) -> Result<RecordBatch> {
        let finished = self.finished(calls, self.groups(schema, groups)?)?;
        let plan = above(self.plan, &finished)?;
        let schema = Arc::clone(plan.schema().inner());
        let batches = collect(self.state, plan).await?;
        let schema = batches.first().map_or(schema, RecordBatch::schema);
        Ok(concat_batches(&schema, &batches)?)
    }

    /// Groups with their state as a table.
    fn groups(&self, schema: &SchemaRef, batches: Vec<RecordBatch>) -> Result<LogicalPlan> {
        let parts = crate::refresh::change::split(&batches, self.state.config().target_partitions());
        let table = MemTable::try_new(Arc::clone(schema), parts)?;
        Ok(LogicalPlanBuilder::scan("__groups", provider_as_source(Arc::new(table)), None)?.build()?)
    }

    /// One row of each group, its states merged.
    fn merged(&self, calls: &[(AggregateCall, AggregateFunction)], groups: LogicalPlan) -> Result<LogicalPlan> {
        let keys = (0..self.aggregate.group_expr.len()).map(|key| plain(&format!("__k{key}"))).collect();
        let merges = calls.iter().enumerate().map(|(index, (call, _))| {
            let state = vec![plain(&format!("__s{index}"))];
            Expr::AggregateFunction(AggregateFunction::new_udf(call.merge_udaf(), state, false, None, vec![], None))
        });
        self.named(Aggregate::try_new(Arc::new(groups), keys, merges.collect())?)
    }

    /// In place of the aggregate: its columns from finished state, with keys and state carried along.
    fn finished(&self, calls: &[(AggregateCall, AggregateFunction)], merged: LogicalPlan) -> Result<LogicalPlan> {
        let keys = self.aggregate.group_expr.len();
        let mut exprs = Vec::new();
        for (index, (qualifier, field)) in self.aggregate.schema.iter().enumerate() {
            let value = match index < keys {
                true => plain(&format!("__k{index}")),
                false => calls[index - keys].0.finish_udf().call(vec![plain(&format!("__s{}", index - keys))]),
            };
            exprs.push(value.alias_qualified(qualifier.cloned(), field.name()));
        }
        exprs.extend(merged.schema().columns().into_iter().map(Expr::Column));
        Ok(LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(merged))?))
    }

    /// Stage the view's rows and write their state beside them, a pair of files per partition.
    async fn write(&self, snapshot: &Snapshot, epoch: Epoch, rows: RecordBatch) -> Result<Vec<DataFile>> {
        if rows.num_rows() == 0 && !self.having {
            return Ok(vec![]);
        }
        let rows = self.sorted(rows)?;
        let schema = rows.schema();
        let held = schema.fields().iter().enumerate().skip(self.view.schema.fields().len());
        let held = held.filter(|(_, field)| !field.name().starts_with("__keep"));
        let state = rows.project(&held.map(|(index, _)| index).collect::<Vec<_>>())?;
        let (shown, _) = self.visible(&rows)?;
        if self.having {
            return self.write_whole(snapshot, epoch, shown, &state).await;
        }
        let pairs = self.ranges(&shown)?.into_iter().map(|(start, length)| {
            let (shown, state) = (shown.slice(start, length), state.slice(start, length));
            async move {
                let staged = self.storage.stage(snapshot, epoch, &[shown]).await?;
                let [file] = staged.as_slice() else {
                    return Err(Error::new(ErrorKind::Internal, format!("{} files for one partition", staged.len())));
                };
                self.storage.write_state(&self.state_path(&file.path), &[state]).await?;
                Ok(staged)
            }
        });
        stream::iter(pairs).buffered(FILES_CONCURRENT_MAX).try_concat().await
    }

    /// With HAVING a group may have state and no visible row: all state is one object, named by the epoch.
    async fn write_whole(
        &self,
        snapshot: &Snapshot,
        epoch: Epoch,
        shown: RecordBatch,
        state: &RecordBatch,
    ) -> Result<Vec<DataFile>> {
        self.storage.write_state(&self.whole_state_path(epoch), std::slice::from_ref(state)).await?;
        if shown.num_rows() == 0 {
            return Ok(vec![]);
        }
        self.storage.stage(snapshot, epoch, &[shown]).await
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

    fn whole_state_path(&self, epoch: Epoch) -> String {
        format!("{}/having-{epoch:020}.parquet", self.view.state_folder())
    }

    fn state_path(&self, file: &str) -> String {
        let name = file.rsplit('/').next().unwrap_or(file);
        format!("{}/{name}", self.view.state_folder())
    }
}

fn missing(error: Error, view: &CompiledView, path: &str) -> Error {
    match error.kind() {
        ErrorKind::NotFound => Error::new(ErrorKind::Corrupt, format!("the state of {} is gone", view.name))
            .with_detail(format!("{path} does not exist"))
            .with_hint(format!("REFRESH MATERIALIZED VIEW {} FULL builds it again", view.name)),
        _ => error,
    }
}

fn nullable(schema: &SchemaRef) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
    Arc::new(arrow::datatypes::Schema::new(fields.collect::<Vec<_>>()))
}

/// The nodes above the aggregate over `finished`; filters become `__keep` columns, so that every group stays.
fn above(plan: &LogicalPlan, finished: &LogicalPlan) -> Result<LogicalPlan> {
    let carried = |plan: &LogicalPlan| {
        let hidden = plan.schema().columns().into_iter().filter(|column| column.name.starts_with("__"));
        hidden.map(Expr::Column).collect::<Vec<_>>()
    };
    Ok(match plan {
        LogicalPlan::Aggregate(_) => finished.clone(),
        LogicalPlan::Projection(projection) => {
            let input = above(&projection.input, finished)?;
            let exprs = projection.expr.iter().cloned().chain(carried(&input));
            LogicalPlan::Projection(Projection::try_new(exprs.collect(), Arc::new(input))?)
        }
        LogicalPlan::Filter(filter) => {
            let input = above(&filter.input, finished)?;
            let count = carried(&input).len();
            let mut exprs = input.schema().columns().into_iter().map(Expr::Column).collect::<Vec<_>>();
            exprs.push(filter.predicate.clone().alias(format!("__keep{count}")));
            LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(input))?)
        }
        LogicalPlan::SubqueryAlias(alias) => {
            let input = above(&alias.input, finished)?;
            plan.with_new_exprs(vec![], vec![input])?
        }
        other => return Err(Error::new(ErrorKind::Internal, format!("{} above an aggregate", other.display()))),
    })
}

/// Groups of the change and groups that were there.
struct Sides {
    /// The change's groups.
    new: Vec<RecordBatch>,
    /// Groups that were there and have one of the keys.
    gone: Vec<RecordBatch>,
    /// Groups that were there and have none of them, and groups of the change that were not there.
    one: Vec<RecordBatch>,
}

/// Tell groups that the keys name from the others. By the hashes of the keys, where an accident only sends a group to
/// be merged that need not be; by the keys themselves where what is named goes (`exact`).
fn sides(
    schema: &SchemaRef,
    changed: Vec<RecordBatch>,
    old: Vec<RecordBatch>,
    keys: &Keys,
    exact: bool,
) -> Result<Sides> {
    let changed = changed.into_iter().map(|batch| renamed(schema, batch)).collect::<Result<Vec<_>>>()?;
    let old = old.into_iter().map(|batch| renamed(schema, batch)).collect::<Result<Vec<_>>>()?;
    let mut sides = Sides { new: vec![], gone: vec![], one: vec![] };
    if old.is_empty() {
        sides.new = changed;
        return Ok(sides);
    }
    let width = keys.columns().len();
    let wanted = hashes(keys.columns(), keys.len())?.into_iter().collect::<HashSet<_>>();
    let named = if exact && width > 0 { Some(Named::new(keys, &old[0].columns()[..width])?) } else { None };
    let mut there = HashSet::new();
    for batch in old {
        let hashes = hashes(&batch.columns()[..width], batch.num_rows())?;
        let mask = match &named {
            Some(named) => named.mask(&batch.columns()[..width])?,
            None => hashes.iter().map(|hash| Some(wanted.contains(hash))).collect::<BooleanArray>(),
        };
        there.extend(hashes);
        sides.gone.push(filter_record_batch(&batch, &mask)?);
        sides.one.push(filter_record_batch(&batch, &not(&mask)?)?);
    }
    for batch in changed {
        let hashes = hashes(&batch.columns()[..width], batch.num_rows())?;
        let mask = hashes.iter().map(|hash| Some(there.contains(hash))).collect::<BooleanArray>();
        sides.new.push(filter_record_batch(&batch, &mask)?);
        sides.one.push(filter_record_batch(&batch, &not(&mask)?)?);
    }
    for side in [&mut sides.new, &mut sides.gone, &mut sides.one] {
        side.retain(|batch| batch.num_rows() > 0);
    }
    Ok(sides)
}

/// Keys to be compared as they are.
struct Named {
    converter: RowConverter,
    rows: HashSet<OwnedRow>,
}

impl Named {
    /// `like` has the types that the keys are compared with.
    fn new(keys: &Keys, like: &[ArrayRef]) -> Result<Self> {
        let fields = like.iter().map(|column| SortField::new(column.data_type().clone())).collect();
        let converter = RowConverter::new(fields)?;
        let columns = keys.columns().iter().zip(like).map(|(column, like)| cast(column, like.data_type()));
        let rows = converter.convert_columns(&columns.collect::<Result<Vec<_>, _>>()?)?;
        let rows = rows.iter().map(|row| row.owned()).collect();
        Ok(Self { converter, rows })
    }

    fn mask(&self, columns: &[ArrayRef]) -> Result<BooleanArray> {
        let rows = self.converter.convert_columns(columns)?;
        Ok(rows.iter().map(|row| Some(self.rows.contains(&row.owned()))).collect())
    }
}

/// The same columns under this schema.
fn renamed(schema: &SchemaRef, batch: RecordBatch) -> Result<RecordBatch> {
    Ok(RecordBatch::try_new(Arc::clone(schema), batch.columns().to_vec())?)
}

/// A hash of each key.
fn hashes(columns: &[ArrayRef], rows: usize) -> Result<Vec<u64>> {
    let mut hashes = vec![0; rows];
    create_hashes(columns, &RandomState::default(), &mut hashes)?;
    Ok(hashes)
}
