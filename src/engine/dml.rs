//! UPDATE, DELETE, MERGE and TRUNCATE of ordinary tables: which rows go and which come, in one commit.
//!
//! ```text
//!   DELETE    go: rows of the condition
//!   UPDATE    go: the same                come: the same rows with new values
//!   MERGE     target ⟗ source ─▶ the first WHEN that fits each pair ─▶ go, come
//!   TRUNCATE  all files
//!                  └─▶ net of both ─▶ refresh::replace ─▶ commit ─▶ passes until the views show it
//!                             └────────── as it is in memory ──────────▶ the views' change
//! ```

use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::Transformed;
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::execution::SessionState;
use datafusion::logical_expr::dml::{MergeIntoAction, MergeIntoClauseKind, MergeIntoOp};
use datafusion::logical_expr::expr_fn::when;
use datafusion::logical_expr::logical_plan::Projection;
use datafusion::logical_expr::{DmlStatement, Expr, JoinType, LogicalPlan, LogicalPlanBuilder, WriteOp, col, lit};
use datafusion::scalar::ScalarValue;

use crate::engine::statements::done;
use crate::engine::{Answer, Engine, Prefer, State};
use crate::epoch::Version;
use crate::error::{Error, ErrorKind, Result};
use crate::name::TableName;
use crate::refresh::change::{Change, Recent};
use crate::refresh::classify::plain;
use crate::refresh::compile::table_name;
use crate::refresh::execute::{collect, conform};
use crate::refresh::replace::Replacement;
use crate::refresh::rewrite::replace;
use crate::refresh::weighted::{consolidate, weigh};
use crate::storage::{Commit, Committed, Snapshot};

/// The most that is kept of a change until the views have followed it, in bytes.
const RECENT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Rows of a table that go, and rows that come.
#[derive(Debug, Default)]
struct Difference {
    go: Vec<RecordBatch>,
    come: Vec<RecordBatch>,
    /// How many rows the statement names.
    rows: u64,
}

impl Engine {
    /// Carry out a change of an ordinary table, and the epoch that holds it.
    pub(super) async fn modify(&self, session: &SessionState, dml: &DmlStatement) -> Result<Answer> {
        let mut state = self.state.lock().await;
        let answer = Box::pin(self.modify_in(&mut state, session, dml)).await;
        match (answer, state.maintenance.take()) {
            // Compaction has put another file in the place of one that was read. It begins with an epoch: not now.
            (Err(error), Some(task)) if error.kind() == ErrorKind::Conflict => {
                let _ = task.await;
                Box::pin(self.modify_in(&mut state, session, dml)).await
            }
            (answer, task) => {
                state.maintenance = task;
                answer
            }
        }
    }

    async fn modify_in(&self, state: &mut State, session: &SessionState, dml: &DmlStatement) -> Result<Answer> {
        let name = table_name(&dml.table_name);
        let Some(location) = state.graph.tables.get(&name).cloned() else {
            return Err(Error::new(ErrorKind::Definition, format!("{name} takes no {}", verb(&dml.op)))
                .with_hint("only ordinary tables do; views follow their inputs"));
        };
        // The statement was planned over what is published; it changes what is newest.
        let snapshot = self.storage.snapshot(&location, None).await?;
        let difference = match &dml.op {
            WriteOp::Truncate => None,
            _ => Some(self.difference(session, dml, &snapshot).await?),
        };
        let (rows, commit, change) = match difference {
            None => {
                let remove = snapshot.files.iter().map(|file| file.path.clone()).collect();
                (snapshot.rows(), Commit { remove, ..Commit::default() }, Change::Committed)
            }
            Some(difference) => {
                let rows = difference.rows;
                let (commit, change) = self.net_commit(session, &snapshot, difference, verb(&dml.op)).await?;
                (rows, commit, change)
            }
        };
        if !commit.add.is_empty() || !commit.remove.is_empty() {
            let commit = Commit { data_change: true, operation: verb(&dml.op), ..commit };
            let committed = self.storage.commit(&location, commit).await?;
            self.keep_recent(&name, snapshot.version, committed, change);
            let settled = self.settle(state).await;
            self.recent.write().clear();
            settled?;
        }
        Ok(done(format!("{} {rows}", verb(&dml.op)), Some(rows)))
    }

    /// Keep the change in memory for the views that follow it now. (Tests of the other plans find it in the files.)
    fn keep_recent(&self, name: &TableName, from: Version, committed: Committed, change: Change) {
        let at_hand = !matches!(change, Change::Committed) && change.memory_bytes() <= RECENT_BYTES_MAX;
        if let Committed::Now(to) = committed
            && to == from + 1
            && at_hand
            && self.prefer == Prefer::Cheapest
        {
            self.recent.write().insert(name.clone(), Recent { from, to, change });
        }
    }

    async fn net_commit(
        &self,
        session: &SessionState,
        snapshot: &Snapshot,
        difference: Difference,
        verb: &str,
    ) -> Result<(Commit, Change)> {
        let stored = |batches: Vec<RecordBatch>| {
            batches.iter().map(|batch| conform(batch, &snapshot.schema)).collect::<Result<Vec<_>>>()
        };
        let mut weighed = weigh(&stored(difference.come)?, 1)?;
        weighed.extend(weigh(&stored(difference.go)?, -1)?);
        weighed.retain(|batch| batch.num_rows() > 0);
        let nothing = (Commit::default(), Change::Nothing);
        let Some(schema) = weighed.first().map(RecordBatch::schema) else { return Ok(nothing) };
        let Some(moved) = consolidate(session, &schema, weighed).await? else { return Ok(nothing) };
        let (come, go) = moved.named(&snapshot.schema)?.sides()?;
        let (come, go) = (stored(come)?, stored(go)?);
        let change = Change::of(come.clone(), go.clone());
        let replacement =
            Replacement { storage: self.storage.as_ref(), state: session, snapshot, clustered_by: vec![] };
        let epoch = self.published.borrow().epoch;
        match replacement.run(epoch, &go, come).await? {
            Some(replaced) => Ok((Commit { add: replaced.add, remove: replaced.remove, ..Commit::default() }, change)),
            None => Err(Error::new(ErrorKind::Query, format!("{verb} would change a row more than once"))
                .with_hint("make the rows of the source that match one row of the target a single one")),
        }
    }

    async fn difference(&self, session: &SessionState, dml: &DmlStatement, snapshot: &Snapshot) -> Result<Difference> {
        let input = self.newest(dml.input.as_ref().clone(), dml, snapshot)?;
        let width = snapshot.schema.fields().len();
        let fields = snapshot.schema.fields().iter();
        match &dml.op {
            WriteOp::Delete => {
                let go = collect(session, input).await?;
                Ok(Difference { rows: count(&go), go, come: vec![] })
            }
            WriteOp::Update => {
                let LogicalPlan::Projection(projection) = &input else {
                    return Err(Error::new(ErrorKind::Internal, "UPDATE planned as something else"));
                };
                let source = projection.input.schema();
                let places = source.iter().enumerate().take(width).map(|(index, _)| source.columns()[index].clone());
                let old = places.enumerate().map(|(index, column)| Expr::Column(column).alias(format!("o{index}")));
                let new = projection.expr.iter().cloned().enumerate();
                let new = new.map(|(index, expr)| expr.unalias().alias(format!("n{index}")));
                let both = Projection::try_new(old.chain(new).collect(), Arc::clone(&projection.input))?;
                let rows = collect(session, LogicalPlan::Projection(both)).await?;
                let (go, come) = halves(&rows, width)?;
                Ok(Difference { rows: count(&go), go, come })
            }
            WriteOp::MergeInto(merge) => {
                let names = fields.map(|field| field.name().clone()).collect::<Vec<_>>();
                self.merged(session, dml, merge, input, snapshot, &names).await
            }
            other => Err(Error::new(ErrorKind::Definition, format!("{other} is not built yet"))),
        }
    }

    /// The plan over the table's newest version in place of the published one.
    fn newest(&self, plan: LogicalPlan, dml: &DmlStatement, snapshot: &Snapshot) -> Result<LogicalPlan> {
        let target = table_name(&dml.table_name);
        let provider = self.storage.provider(snapshot, None);
        let replaced = plan.transform_up_with_subqueries(|node| match &node {
            LogicalPlan::TableScan(scan) if table_name(&scan.table_name) == target => {
                Ok(Transformed::yes(replace(scan, &provider)?))
            }
            _ => Ok(Transformed::no(node)),
        })?;
        Ok(replaced.data)
    }

    async fn merged(
        &self,
        session: &SessionState,
        dml: &DmlStatement,
        merge: &MergeIntoOp,
        source: LogicalPlan,
        snapshot: &Snapshot,
        names: &[String],
    ) -> Result<Difference> {
        let provider = self.storage.provider(snapshot, None);
        let marked = |plan: LogicalPlan, mark: &str| {
            let mut exprs = plan.schema().columns().into_iter().map(Expr::Column).collect::<Vec<_>>();
            exprs.push(lit(true).alias(mark));
            LogicalPlanBuilder::from(plan).project(exprs)?.build()
        };
        let target = LogicalPlanBuilder::scan(dml.table_name.clone(), provider_as_source(provider), None)?.build()?;
        let old = target.schema().columns();
        let pairs = LogicalPlanBuilder::from(marked(target, "__target")?).join_on(
            marked(source, "__source")?,
            JoinType::Full,
            [merge.on.clone()],
        )?;
        let here = |mark: &str| plain(mark).is_not_null();
        let fits = merge.clauses.iter().map(|clause| {
            let kind = match clause.kind {
                MergeIntoClauseKind::Matched => here("__target").and(here("__source")),
                MergeIntoClauseKind::NotMatched | MergeIntoClauseKind::NotMatchedByTarget => {
                    plain("__target").is_null()
                }
                MergeIntoClauseKind::NotMatchedBySource => plain("__source").is_null(),
            };
            clause.predicate.iter().cloned().fold(kind, Expr::and)
        });
        let mut first: Option<datafusion::logical_expr::conditional_expressions::CaseBuilder> = None;
        for (index, condition) in (0_i64..).zip(fits) {
            first = Some(match first {
                None => when(condition, lit(index)),
                Some(mut builder) => builder.when(condition, lit(index)),
            });
        }
        let Some(mut first) = first else { return Ok(Difference::default()) };
        let mut exprs = vec![first.otherwise(lit(ScalarValue::Int64(None)))?.alias("__clause")];
        exprs.extend(old.iter().enumerate().map(|(n, column)| Expr::Column(column.clone()).alias(format!("__o{n}"))));
        for (index, clause) in merge.clauses.iter().enumerate() {
            for (n, value) in values(&clause.action, &old, names).into_iter().enumerate() {
                exprs.push(value.alias(format!("__v{index}_{n}")));
            }
        }
        let plan = pairs.project(exprs)?.build()?;
        let schema = Arc::new(plan.schema().as_arrow().clone());
        let rows = collect(session, plan).await?;
        let schema = rows.first().map_or(schema, RecordBatch::schema);
        let table = Arc::new(MemTable::try_new(schema, vec![rows])?);
        let mut out = Difference::default();
        for (index, clause) in merge.clauses.iter().enumerate() {
            let fitting = || {
                LogicalPlanBuilder::scan("__pairs", provider_as_source(Arc::clone(&table) as _), None)?
                    .filter(col("__clause").eq(lit(i64::try_from(index).unwrap_or(i64::MAX))))
            };
            let goes = !matches!(clause.action, MergeIntoAction::Insert { .. });
            let comes = !matches!(clause.action, MergeIntoAction::Delete);
            let (mut gone, mut came) = (vec![], vec![]);
            if goes {
                let old = (0..names.len()).map(|n| col(format!("__o{n}")));
                gone = collect(session, fitting()?.project(old)?.build()?).await?;
            }
            if comes {
                let new = (0..names.len()).map(|n| col(format!("__v{index}_{n}")));
                came = collect(session, fitting()?.project(new)?.build()?).await?;
            }
            out.rows += if goes { count(&gone) } else { count(&came) };
            out.go.extend(gone);
            out.come.extend(came);
        }
        Ok(out)
    }
}

/// The values that a clause gives the table's columns; none for DELETE.
fn values(action: &MergeIntoAction, old: &[datafusion::common::Column], names: &[String]) -> Vec<Expr> {
    let null = || lit(ScalarValue::Null);
    match action {
        MergeIntoAction::Delete => vec![],
        MergeIntoAction::Update(assignments) => {
            let value = |(name, column): (&String, &datafusion::common::Column)| {
                let assigned = assignments.iter().find(|(assigned, _)| assigned == name);
                assigned.map_or_else(|| Expr::Column(column.clone()), |(_, value)| value.clone())
            };
            names.iter().zip(old).map(value).collect()
        }
        MergeIntoAction::Insert { columns, values } if columns.is_empty() => values.clone(),
        MergeIntoAction::Insert { columns, values } => {
            let value = |name: &String| {
                let at = columns.iter().position(|column| column == name);
                at.and_then(|at| values.get(at)).cloned().unwrap_or_else(null)
            };
            names.iter().map(value).collect()
        }
    }
}

fn halves(rows: &[RecordBatch], width: usize) -> Result<(Vec<RecordBatch>, Vec<RecordBatch>)> {
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for batch in rows {
        first.push(batch.project(&(0..width).collect::<Vec<_>>())?);
        second.push(batch.project(&(width..2 * width).collect::<Vec<_>>())?);
    }
    Ok((first, second))
}

fn count(batches: &[RecordBatch]) -> u64 {
    batches.iter().map(|batch| batch.num_rows() as u64).sum()
}

fn verb(op: &WriteOp) -> &'static str {
    match op {
        WriteOp::Delete => "DELETE",
        WriteOp::Update => "UPDATE",
        WriteOp::Truncate => "TRUNCATE",
        WriteOp::MergeInto(_) => "MERGE",
        _ => "INSERT",
    }
}
