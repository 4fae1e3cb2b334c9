//! MergeState: old partial state and the state of the change, group by group, file by file.
//!
//! ```text
//!  change of the input ─▶ GROUP BY keys: state(f)          "changed": few rows
//!                             │ keys
//!  files of the view ─────────┴─▶ those that may hold the keys (partition values, min/max)
//!      each with the state of its groups (`held`)
//!                             │
//!  groups on both sides ─▶ GROUP BY keys: merge(f) ─┐
//!  groups on one side only, as they are ────────────┴─▶ finish(f) ─▶ the view's columns
//!                             │
//!  new files, one per partition, and their state; one commit: remove the old files, add the new ones
//! ```
//!
//! When rows went, too, the groups that they were in are replaced: their state is computed anew from the input's rows
//! with those keys, and what was there is dropped.
//!
//! Copy on write: a refresh costs the change plus the files that hold its groups, never the whole view.

mod held;
mod sides;

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray};
use arrow::compute::{and, concat_batches, filter_record_batch};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::execution::SessionState;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::logical_plan::{Aggregate, EmptyRelation, Projection};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder};

use crate::epoch::Epoch;
use crate::error::{Error, ErrorKind, Result};
use crate::refresh::classify::plain;
use crate::refresh::combinator::AggregateCall;
use crate::refresh::compile::CompiledView;
use crate::refresh::execute::{collect, conform, mask};
use crate::refresh::merge::held::There;
use crate::refresh::merge::sides::{hashes, renamed, sides};
use crate::refresh::restrict::Keys;
use crate::storage::{DataFile, Snapshot, Storage};

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

/// The aggregate's calls, with their arguments.
type Calls = Vec<(AggregateCall, AggregateFunction)>;

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
        let held = self.held(&calls);
        let there = match anew {
            true => There { groups: vec![], files: snapshot.files.iter().map(|file| file.path.clone()).collect() },
            false => self.there(&held, &calls, snapshot, &keys).await?,
        };
        let (old, remove) = (there.groups, there.files);
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
        let add = self.write(&held, snapshot, epoch, rows).await?;
        Ok(Merged { add, remove, state: self.having, change })
    }

    /// The keys of these groups.
    fn keys(&self, changed: &[RecordBatch]) -> Result<Keys> {
        let all = concat_batches(&changed[0].schema(), changed)?;
        Keys::new(all.columns()[..self.aggregate.group_expr.len()].to_vec(), all.num_rows())
    }

    /// What the view shows of these groups.
    async fn shown(&self, calls: &Calls, schema: &SchemaRef, groups: Vec<RecordBatch>) -> Result<Vec<RecordBatch>> {
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
    pub(super) fn visible(&self, rows: &RecordBatch) -> Result<(RecordBatch, Option<BooleanArray>)> {
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

    fn calls(&self) -> Result<Calls> {
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
    async fn changed(&self, calls: &Calls, rows: Option<LogicalPlan>, first: bool) -> Result<Vec<RecordBatch>> {
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

    /// Finish groups, and compute the view's columns: `[view's columns][__keep..][__k..][__s..]`.
    async fn finish(&self, calls: &Calls, schema: &SchemaRef, groups: Vec<RecordBatch>) -> Result<RecordBatch> {
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
    fn merged(&self, calls: &Calls, groups: LogicalPlan) -> Result<LogicalPlan> {
        let keys = (0..self.aggregate.group_expr.len()).map(|key| plain(&format!("__k{key}"))).collect();
        let merges = calls.iter().enumerate().map(|(index, (call, _))| {
            let state = vec![plain(&format!("__s{index}"))];
            Expr::AggregateFunction(AggregateFunction::new_udf(call.merge_udaf(), state, false, None, vec![], None))
        });
        self.named(Aggregate::try_new(Arc::new(groups), keys, merges.collect())?)
    }

    /// In place of the aggregate: its columns from finished state, with keys and state carried along.
    fn finished(&self, calls: &Calls, merged: LogicalPlan) -> Result<LogicalPlan> {
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
