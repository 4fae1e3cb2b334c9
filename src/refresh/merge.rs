//! MergeState: old partial state and the state of the change, group by group, file by file.
//!
//! ```text
//!  change of the input ─▶ GROUP BY keys: state(f)          "changed": few rows
//!                             │ keys
//!  files of the view ─────────┴─▶ those that hold one of them (partition values, min/max, hashes of the keys)
//!      each with the state of its groups (`held`)
//!       other groups of large files ─▶ finish(f) ─▶ a file of their own again, one after the other
//!                             │
//!  groups on both sides ─▶ GROUP BY keys: merge(f) ─┐
//!  groups on one side only, as they are ────────────┴─▶ finish(f) ─▶ the view's columns
//!                             │
//!  new files and their state (`layout` says which rows lie together); one commit: remove the old files, add the new
//! ```
//!
//! When rows went, too, their state is taken off where that is exact (`net`). Else the groups that they were in are
//! replaced: their state is computed anew from the input's rows with those keys, and what was there is dropped.
//!
//! Copy on write: a refresh costs the change plus the files that hold its groups, never the whole view; and holds in
//! memory the change plus a few files.

mod held;
mod net;
mod sides;

use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray};
use arrow::compute::{and, concat_batches, filter_record_batch};
use arrow::datatypes::{Schema, SchemaRef};
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
use crate::refresh::counted::HIDDEN;
use crate::refresh::execute::{collect, conform, mask};
use crate::refresh::merge::held::{Held, There};
use crate::refresh::merge::sides::{Named, apart, renamed};
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
    /// Those that came and those that went; the states are ones that rows can be taken off.
    Signed {
        /// Came.
        came: Option<LogicalPlan>,
        /// Went.
        went: Option<LogicalPlan>,
    },
    /// All of these groups.
    OfKeys(Keys, LogicalPlan),
}

/// The aggregate's calls, with their arguments.
type Calls = Vec<(AggregateCall, AggregateFunction)>;

/// The table that a merge goes into.
struct Into<'a> {
    held: Held,
    calls: &'a Calls,
    snapshot: &'a Snapshot,
    epoch: Epoch,
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
        // Whoever wants to know what a recompute has changed compares the files.
        let shown = shown && !anew;
        let signed = matches!(taken, Taken::Signed { .. });
        let (plan, went, replaced) = match taken {
            Taken::Everything(plan) => (Some(plan), None, None),
            Taken::Inserted(plan) => (plan, None, None),
            Taken::Signed { came, went } => (came, went, None),
            Taken::OfKeys(keys, plan) => (Some(plan), None, Some(keys)),
        };
        let changed = self.changed(&calls, plan, snapshot.files.is_empty() || anew).await?;
        let went = self.changed(&calls, went, false).await?;
        let keys = match &replaced {
            Some(keys) => keys.clone(),
            None if changed.is_empty() && went.is_empty() && !anew => return Ok(Merged::default()),
            None => self.keys(&changed, &went)?,
        };
        let into = Into { held: self.held(&calls), calls: &calls, snapshot, epoch };
        let named = Named::new(&keys, replaced.is_some())?;
        let there = match anew {
            true => There { remove: snapshot.files.iter().map(|file| file.path.clone()).collect(), ..There::default() },
            false => self.there(&into, &keys, &named).await?,
        };
        let before = if shown { self.shown(&calls, there.gone.clone()).await? } else { vec![] };
        let mut groups = there.stays;
        match replaced {
            Some(_) => groups.extend(changed),
            None if signed => {
                let plus = changed.into_iter().chain(there.gone).collect();
                groups.extend(self.net(&calls, plus, went).await?);
            }
            None => {
                let (new, old) = apart(changed, &there.gone, keys.columns().len())?;
                groups.extend(new);
                let both = old.into_iter().chain(there.gone).collect::<Vec<_>>();
                if !both.is_empty() {
                    groups.extend(collect(self.state, self.merged(&calls, self.groups(both)?)?).await?);
                }
            }
        }
        let mut merged = Merged { add: there.add, remove: there.remove, state: self.having, change: None };
        let mut after = vec![];
        if !groups.is_empty() {
            let rows = self.finish(&calls, groups).await?;
            after = if shown { self.shown_of(&rows, &named)? } else { vec![] };
            merged.add.extend(self.write(&into, rows).await?);
        } else if self.having {
            self.storage.write_state(&self.whole_state_path(epoch), &[]).await?;
        }
        merged.change = shown.then_some((after, before));
        Ok(merged)
    }

    /// The keys of these groups.
    fn keys(&self, came: &[RecordBatch], went: &[RecordBatch]) -> Result<Keys> {
        let width = self.aggregate.group_expr.len();
        if width == 0 || came.is_empty() && went.is_empty() {
            return Keys::new(vec![], 1);
        }
        let keys =
            came.iter().chain(went).map(|groups| Keys::new(groups.columns()[..width].to_vec(), groups.num_rows()));
        Keys::all(&keys.collect::<Result<Vec<_>>>()?)
    }

    /// What the view shows of these groups.
    async fn shown(&self, calls: &Calls, groups: Vec<RecordBatch>) -> Result<Vec<RecordBatch>> {
        if groups.is_empty() {
            return Ok(vec![]);
        }
        let rows = self.finish(calls, groups).await?;
        self.visible(&rows).map(|(shown, _)| vec![shown])
    }

    /// What the view shows of the finished groups that are named.
    fn shown_of(&self, rows: &RecordBatch, named: &Named<'_>) -> Result<Vec<RecordBatch>> {
        let schema = rows.schema();
        let columns = (0..self.aggregate.group_expr.len()).filter_map(|key| schema.index_of(&format!("__k{key}")).ok());
        let columns = columns.map(|index| Arc::clone(rows.column(index))).collect::<Vec<_>>();
        let rows = filter_record_batch(rows, &named.mask(&columns, rows.num_rows(), &mut None)?)?;
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
    async fn finish(&self, calls: &Calls, groups: Vec<RecordBatch>) -> Result<RecordBatch> {
        let finished = self.finished(calls, self.groups(groups)?)?;
        let plan = above(self.plan, &finished)?;
        let schema = Arc::clone(plan.schema().inner());
        let batches = collect(self.state, plan).await?;
        let schema = batches.first().map_or(schema, RecordBatch::schema);
        Ok(concat_batches(&schema, &batches)?)
    }

    /// Groups with their state as a table; there are some.
    fn groups(&self, batches: Vec<RecordBatch>) -> Result<LogicalPlan> {
        let schema = &nullable(&batches[0].schema());
        let batches = batches.into_iter().map(|batch| renamed(schema, batch)).collect::<Result<Vec<_>>>()?;
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
            if index >= keys && field.name().starts_with(HIDDEN) {
                continue;
            }
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
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
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
