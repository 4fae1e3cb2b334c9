//! The change of a plan's result, with weights, from the changes of its inputs.
//!
//! ```text
//!   d(scan T)        = the rows that came to T (+1) and went (-1)
//!   d(σ A)           = σ dA                      likewise projection, alias, unnest; union: the sum of its branches
//!   d(σ now A)       = σ new dA  +  (σ new and not σ old) A_old  -  (σ old and not σ new) A_old
//!   d(A join B)      = dA join B_new  +  A_old join dB
//!   d(F A)           = F(A_new | K)  -  F(A_old | K)           K: the keys of dA, for whatever is local to a key
//! ```
//!
//! Versions of the inputs stand in for stored join state (Gupta & Mumick, "Maintenance of Materialized Views", 1995);
//! the last rule is the keyed recompute of Koch et al. and of Snowflake's dynamic tables, and holds for every operator
//! whose rows of one key follow from its inputs' rows of that key. Changes below a join or a keyed operator are
//! computed first and kept in memory: their keys say which files have to be read.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::compute::concat_batches;
use datafusion::common::DFSchema;
use datafusion::execution::SessionState;
use datafusion::logical_expr::expr_fn::is_true;
use datafusion::logical_expr::logical_plan::{Filter, Join, Projection};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, TableScan, lit};
use futures::future::{BoxFuture, FutureExt};

use crate::error::{Error, ErrorKind, Result};
use crate::name::TableName;
use crate::refresh::change::{Change, Rows};
use crate::refresh::classify::moves;
use crate::refresh::compile::table_name;
use crate::refresh::execute::collect;
use crate::refresh::keyed::{key_of, topmost};
use crate::refresh::normalize::bind_now;
use crate::refresh::restrict::{Keys, Moment, Restriction};
use crate::refresh::rewrite::replace;
use crate::refresh::weighted::{Moved, Weighted, columns, materialize, union, weight, with_weight};

/// What the rules work with.
#[derive(Debug)]
pub struct Deltas<'a> {
    /// Functions and runtime.
    pub state: &'a SessionState,
    /// What came to the inputs since `old`.
    pub changes: &'a BTreeMap<TableName, Change>,
    /// The inputs as the view has seen them last.
    pub old: Moment<'a>,
    /// The inputs of this epoch.
    pub new: Moment<'a>,
}

impl Deltas<'_> {
    /// The change of the plan's result; `None` when there is none.
    pub fn delta<'b>(&'b self, plan: &'b LogicalPlan) -> BoxFuture<'b, Result<Option<Weighted>>> {
        async move {
            if let Some(keys) = key_of(plan) {
                return self.keyed(plan, &keys).await;
            }
            match plan {
                LogicalPlan::TableScan(scan) => self.scan(scan),
                LogicalPlan::Filter(filter) if moves(plan) => self.moving_filter(filter).await,
                LogicalPlan::Filter(filter) => {
                    let Some(input) = self.delta(&filter.input).await? else { return Ok(None) };
                    let filter = Filter::try_new(filter.predicate.clone(), Arc::new(input.plan))?;
                    Ok(Some(Weighted { plan: LogicalPlan::Filter(filter), ..input }))
                }
                LogicalPlan::Projection(projection) => {
                    let Some(input) = self.delta(&projection.input).await? else { return Ok(None) };
                    let mut exprs = projection.expr.clone();
                    exprs.push(weight());
                    let plan = LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(input.plan))?);
                    Ok(Some(Weighted { plan, ..input }))
                }
                LogicalPlan::SubqueryAlias(alias) => self.renamed(&alias.input, &alias.schema).await,
                LogicalPlan::Sort(sort) => self.delta(&sort.input).await,
                LogicalPlan::Unnest(unnest) => {
                    let Some(input) = self.delta(&unnest.input).await? else { return Ok(None) };
                    let plan = LogicalPlanBuilder::from(input.plan)
                        .unnest_columns_with_options(unnest.exec_columns.clone(), unnest.options.clone())?
                        .build()?;
                    let exprs = columns(&plan);
                    let plan = with_weight(plan, exprs, &unnest.schema, weight())?;
                    Ok(Some(Weighted { plan, inserts: input.inserts }))
                }
                LogicalPlan::Union(all) => {
                    let mut terms = Vec::new();
                    for input in &all.inputs {
                        terms.extend(self.renamed(input, &all.schema).await?);
                    }
                    union(terms)
                }
                LogicalPlan::Join(join) => self.inner_join(join).await,
                LogicalPlan::EmptyRelation(_) | LogicalPlan::Values(_) => Ok(None),
                other => Err(Error::new(ErrorKind::Internal, format!("no delta rule for {}", other.display()))),
            }
        }
        .boxed()
    }

    /// The keys of the topmost keyed operator that the change touches; `None` when it touches none.
    ///
    /// # Errors
    /// `Query`, `Storage`.
    pub async fn touched_keys(&self, plan: &LogicalPlan) -> Result<Option<Keys>> {
        let node = topmost(plan);
        match key_of(node) {
            Some(keys) => self.keys_of_change(node, &keys).await,
            None => Err(Error::new(ErrorKind::Internal, format!("{} has no key", node.display()))),
        }
    }

    /// The plan's rows in this epoch with these keys of its topmost keyed operator.
    ///
    /// # Errors
    /// `Internal`.
    pub fn of_keys(&self, plan: &LogicalPlan, keys: &Keys) -> Result<LogicalPlan> {
        match key_of(plan) {
            Some(of) => recompute(plan, &of, keys, &self.new),
            None => {
                let inputs = plan.inputs().into_iter().map(|input| self.of_keys(input, keys));
                self.new.rebuilt(plan, inputs.collect::<Result<Vec<_>>>()?)
            }
        }
    }

    /// The change of a plan in memory, with net weights.
    ///
    /// # Errors
    /// `Query`, `Storage`.
    pub async fn moved(&self, plan: &LogicalPlan) -> Result<Option<Moved>> {
        match self.delta(plan).await? {
            Some(weighted) => materialize(self.state, weighted).await,
            None => Ok(None),
        }
    }

    fn scan(&self, scan: &TableScan) -> Result<Option<Weighted>> {
        let name = table_name(&scan.table_name);
        let term = |rows: &Rows, sign: i64| {
            let provider =
                rows.provider(self.new.storage, &scan.source.schema(), self.state.config().target_partitions())?;
            let plan = replace(scan, &provider)?;
            let exprs = plan.schema().columns().into_iter().map(Expr::Column).collect();
            let plan = with_weight(plan, exprs, &scan.projected_schema, lit(sign))?;
            Ok::<_, Error>(Weighted { plan, inserts: sign > 0 })
        };
        match self.changes.get(&name) {
            None | Some(Change::Nothing) => Ok(None),
            Some(Change::Inserted(rows)) => term(rows, 1).map(Some),
            Some(Change::Changed { added, removed }) => union(vec![term(added, 1)?, term(removed, -1)?]),
            Some(Change::Committed) => {
                Err(Error::new(ErrorKind::Internal, format!("the change of {name} was not looked up")))
            }
        }
    }

    /// The change of `input` under the names of `schema`.
    async fn renamed(&self, input: &LogicalPlan, schema: &DFSchema) -> Result<Option<Weighted>> {
        let Some(input) = self.delta(input).await? else { return Ok(None) };
        let exprs = columns(&input.plan);
        Ok(Some(Weighted { plan: with_weight(input.plan, exprs, schema, weight())?, inserts: input.inserts }))
    }

    /// Rows that came or went, and rows that the moment moves across the condition.
    async fn moving_filter(&self, filter: &Filter) -> Result<Option<Weighted>> {
        let then = bind_now(filter.predicate.clone(), self.old.now_us)?;
        let now = bind_now(filter.predicate.clone(), self.new.now_us)?;
        let mut terms = Vec::new();
        if let Some(input) = self.delta(&filter.input).await? {
            let plan = LogicalPlan::Filter(Filter::try_new(now.clone(), Arc::new(input.plan))?);
            terms.push(Weighted { plan, ..input });
        }
        if now != then {
            for (holds, held, sign) in [(&now, &then, 1_i64), (&then, &now, -1)] {
                let crossed = holds.clone().and(Expr::Not(Box::new(is_true(held.clone()))));
                let plan = Filter::try_new(crossed, Arc::new(self.old.at(&filter.input)?))?;
                let exprs = plan.input.schema().columns().into_iter().map(Expr::Column).collect();
                let schema = Arc::clone(plan.input.schema());
                let plan = with_weight(LogicalPlan::Filter(plan), exprs, &schema, lit(sign))?;
                terms.push(Weighted { plan, inserts: sign > 0 });
            }
        }
        union(terms)
    }

    async fn inner_join(&self, join: &Join) -> Result<Option<Weighted>> {
        let (left, right) = (self.moved(&join.left).await?, self.moved(&join.right).await?);
        let mut terms = Vec::new();
        if let Some(left) = left {
            let leaf = left.leaf(join.left.schema())?;
            let (of, to) = join.on.iter().cloned().unzip();
            let right = self.matching(&leaf, of, &join.right, to, &self.new).await?;
            terms.push(joined(join, leaf.plan, right, leaf.inserts)?);
        }
        if let Some(right) = right {
            let leaf = right.leaf(join.right.schema())?;
            let (to, of) = join.on.iter().cloned().unzip();
            let left = self.matching(&leaf, of, &join.left, to, &self.old).await?;
            terms.push(joined(join, left, leaf.plan, leaf.inserts)?);
        }
        union(terms)
    }

    /// The rows of `other` that can match a change, by its join keys.
    async fn matching(
        &self,
        change: &Weighted,
        of: Vec<Expr>,
        other: &LogicalPlan,
        to: Vec<Expr>,
        moment: &Moment<'_>,
    ) -> Result<LogicalPlan> {
        if of.is_empty() {
            return moment.at(other);
        }
        match self.distinct(change.plan.clone(), of).await? {
            Some(keys) => {
                moment.restricted(other, Some(&Restriction { keys: &keys, parts: to.into_iter().zip(0..).collect() }))
            }
            None => moment.at(other),
        }
    }

    async fn keyed(&self, plan: &LogicalPlan, of: &[Vec<Expr>]) -> Result<Option<Weighted>> {
        let Some(keys) = self.keys_of_change(plan, of).await? else { return Ok(None) };
        let mut terms = Vec::new();
        for (moment, sign) in [(&self.new, 1_i64), (&self.old, -1)] {
            let rows = recompute(plan, of, &keys, moment)?;
            let exprs = rows.schema().columns().into_iter().map(Expr::Column).collect();
            terms.push(Weighted { plan: with_weight(rows, exprs, plan.schema(), lit(sign))?, inserts: sign > 0 });
        }
        union(terms)
    }

    async fn keys_of_change(&self, plan: &LogicalPlan, of: &[Vec<Expr>]) -> Result<Option<Keys>> {
        let everything = of.iter().all(Vec::is_empty);
        let mut found: Vec<Keys> = Vec::new();
        for (input, exprs) in plan.inputs().into_iter().zip(of) {
            let Some(moved) = self.moved(input).await? else { continue };
            if everything {
                return Keys::new(vec![], 1).map(Some);
            }
            found.extend(self.distinct(moved.leaf(input.schema())?.plan, exprs.clone()).await?);
        }
        if everything && moves(plan) && self.old.now_us != self.new.now_us {
            return Keys::new(vec![], 1).map(Some);
        }
        match found.len() {
            0 | 1 => Ok(found.pop()),
            _ => Keys::all(&found).map(Some),
        }
    }

    /// The different values of these expressions.
    async fn distinct(&self, plan: LogicalPlan, exprs: Vec<Expr>) -> Result<Option<Keys>> {
        let named = exprs.into_iter().enumerate().map(|(index, expr)| expr.alias(format!("k{index}")));
        let plan = LogicalPlanBuilder::from(plan).project(named)?.distinct()?.build()?;
        let batches = collect(self.state, plan).await?;
        let Some(first) = batches.first() else { return Ok(None) };
        let all = concat_batches(&first.schema(), &batches)?;
        if all.num_rows() == 0 {
            return Ok(None);
        }
        Keys::new(all.columns().to_vec(), all.num_rows()).map(Some)
    }
}

/// A keyed operator over its inputs' rows with these keys.
fn recompute(plan: &LogicalPlan, of: &[Vec<Expr>], keys: &Keys, moment: &Moment<'_>) -> Result<LogicalPlan> {
    let mut inputs = Vec::with_capacity(of.len());
    for (input, exprs) in plan.inputs().into_iter().zip(of) {
        let to = Restriction { keys, parts: exprs.iter().cloned().zip(0..).collect() };
        inputs.push(moment.restricted(input, Some(&to))?);
    }
    moment.rebuilt(plan, inputs)
}

/// One term of the join's rule: one of the two sides has a weight.
fn joined(join: &Join, left: LogicalPlan, right: LogicalPlan, inserts: bool) -> Result<Weighted> {
    let plan = LogicalPlan::Join(Join::try_new(
        Arc::new(left),
        Arc::new(right),
        join.on.clone(),
        join.filter.clone(),
        join.join_type,
        join.join_constraint,
        join.null_equality,
        false,
    )?);
    let exprs = join.schema.columns().into_iter().map(Expr::Column).collect();
    Ok(Weighted { plan: with_weight(plan, exprs, &join.schema, weight())?, inserts })
}
