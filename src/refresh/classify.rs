//! Which shape a plan has, and why it has none.
//!
//! ```text
//!   Linear:  Projection | Filter | Alias | Union all | Unnest | inner Join | Scan          rows of the change only
//!   Merge:   (Projection | Filter | Alias)* over a mergeable Aggregate over anything held  state + state(change)
//!   Keyed:   anything held: outer, semi, anti joins, every aggregate, window, limit        the keys of the change
//!   Full:    anything, when the definition asks for it
//! ```
//!
//! Pure: a plan in, a shape or the operator that is in the way out.

use std::sync::Arc;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema};
use datafusion::logical_expr::logical_plan::{Aggregate, Projection};
use datafusion::logical_expr::{Expr, JoinType, LogicalPlan, Volatility, col};

use crate::error::{Error, ErrorKind};
use crate::name::TableName;
use crate::refresh::counted::retracting;
use crate::refresh::normalize::asks_for_now;

/// How a view can be kept.
#[derive(Debug)]
pub enum Shape {
    /// Its rows follow from the rows of the change alone.
    Linear {
        /// The plan.
        plan: LogicalPlan,
        /// The same plan with the source position of every row as the last columns, named [`POSITION`]; where the
        /// view reads one table that has them.
        carried: Option<LogicalPlan>,
    },
    /// One mergeable aggregate over a linear plan.
    Merge {
        /// The whole plan.
        plan: LogicalPlan,
        /// The aggregate in it.
        aggregate: Aggregate,
        /// A filter stands above the aggregate: groups can come and go from sight.
        having: bool,
        /// Rows that go can be taken off the states; the aggregate has the counts that this needs.
        retracts: bool,
    },
    /// Recomputed where the change's keys are.
    Keyed {
        /// The plan.
        plan: LogicalPlan,
    },
    /// Recomputed.
    Full {
        /// The plan.
        plan: LogicalPlan,
        /// Why.
        reason: String,
    },
}

impl Shape {
    /// The analyzed plan.
    pub fn plan(&self) -> &LogicalPlan {
        match self {
            Self::Linear { plan, .. } | Self::Merge { plan, .. } | Self::Keyed { plan } | Self::Full { plan, .. } => {
                plan
            }
        }
    }

    /// The mode that `system.refreshes` shows for an ordinary refresh.
    pub fn mode(&self) -> &'static str {
        match self {
            Self::Linear { .. } => "append",
            Self::Merge { .. } => "merge_state",
            Self::Keyed { .. } => "replace_keys",
            Self::Full { .. } => "full",
        }
    }
}

/// The columns of a source that tell a row's position, in comparison order; the last one is its arrival.
pub const POSITION: [(&str, &str); 5] = [
    ("_epoch", "__position_epoch"),
    ("_shard_id", "__position_shard"),
    ("_sequence_number", "__position_sequence"),
    ("_sub_sequence", "__position_sub"),
    ("_arrived_at", "__position_arrived"),
];

/// What stands in the way of an incremental refresh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// The operator or function.
    pub operator: String,
    /// Why it cannot be held.
    pub because: String,
    /// A rewrite that would work.
    pub rewrite: Option<String>,
}

impl Obstacle {
    /// Without a rewrite.
    pub fn new(operator: impl Into<String>, because: &str) -> Self {
        Self { operator: operator.into(), because: because.into(), rewrite: None }
    }

    fn rewrite(mut self, text: &str) -> Self {
        self.rewrite = Some(text.into());
        self
    }

    /// One line for `system.refreshes` and EXPLAIN.
    pub fn reason(&self) -> String {
        format!("{}: {}", self.operator, self.because)
    }

    /// The error that refuses the view.
    pub fn refusal(&self, view: &TableName) -> Error {
        let hint = match &self.rewrite {
            Some(rewrite) => rewrite.clone(),
            None => "WITH (refresh_mode = 'full') recomputes it on every refresh".into(),
        };
        Error::new(ErrorKind::NotIncremental, format!("{view} cannot be refreshed incrementally"))
            .with_detail(self.reason())
            .with_hint(hint)
    }
}

/// The shape of a normalized plan. `grows`: rows come to its inputs, and never go.
///
/// # Errors
/// The first obstacle, from the top.
pub fn classify(plan: &LogicalPlan, grows: bool) -> Result<Shape, Obstacle> {
    held(plan)?;
    let mut having = false;
    let mut node = plan;
    while !moves(node) {
        match node {
            LogicalPlan::Aggregate(aggregate) if mergeable(aggregate) => {
                let counted = if grows { None } else { retracting(aggregate) };
                let retracts = counted.is_some();
                let aggregate = counted.unwrap_or_else(|| aggregate.clone());
                return Ok(Shape::Merge { plan: plan.clone(), aggregate, having, retracts });
            }
            LogicalPlan::Filter(filter) => {
                having = true;
                node = &filter.input;
            }
            LogicalPlan::Projection(projection) => node = &projection.input,
            LogicalPlan::SubqueryAlias(alias) => node = &alias.input,
            _ => break,
        }
    }
    Ok(match linear(plan) {
        true => Shape::Linear { plan: plan.clone(), carried: carry(plan) },
        false => Shape::Keyed { plan: plan.clone() },
    })
}

/// Rows of the result follow from single rows of the inputs, and time does not move them.
pub fn linear(plan: &LogicalPlan) -> bool {
    let row_by_row = match plan {
        LogicalPlan::TableScan(_)
        | LogicalPlan::Projection(_)
        | LogicalPlan::Filter(_)
        | LogicalPlan::SubqueryAlias(_)
        | LogicalPlan::Union(_)
        | LogicalPlan::Unnest(_) => true,
        LogicalPlan::Join(join) => join.join_type == JoinType::Inner,
        _ => false,
    };
    row_by_row && !moves(plan) && plan.inputs().into_iter().all(linear)
}

/// The operator's result changes as time passes.
pub fn moves(plan: &LogicalPlan) -> bool {
    plan.expressions().iter().any(asks_for_now)
}

/// Whether anything in the plan asks for the moment.
pub fn moves_anywhere(plan: &LogicalPlan) -> bool {
    moves(plan) || plan.inputs().into_iter().any(moves_anywhere)
}

fn held(plan: &LogicalPlan) -> Result<(), Obstacle> {
    check_expressions(plan)?;
    match plan {
        LogicalPlan::TableScan(_)
        | LogicalPlan::Projection(_)
        | LogicalPlan::Filter(_)
        | LogicalPlan::SubqueryAlias(_)
        | LogicalPlan::Union(_)
        | LogicalPlan::Unnest(_)
        | LogicalPlan::Aggregate(_)
        | LogicalPlan::Window(_)
        | LogicalPlan::Sort(_)
        | LogicalPlan::EmptyRelation(_)
        | LogicalPlan::Values(_) => {}
        LogicalPlan::Join(join) if !join.null_aware => {}
        LogicalPlan::Limit(limit) if ordered(&limit.input) => {}
        other => return Err(obstacle(other)),
    }
    plan.inputs().into_iter().try_for_each(held)
}

fn ordered(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Sort(_) => true,
        LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) => ordered(plan.inputs()[0]),
        _ => false,
    }
}

fn obstacle(plan: &LogicalPlan) -> Obstacle {
    match plan {
        LogicalPlan::Join(_) => Obstacle::new("NOT IN", "one NULL on its right side takes every row away")
            .rewrite("write NOT EXISTS (SELECT ... WHERE right.column = left.column)"),
        LogicalPlan::Limit(_) => {
            Obstacle::new("LIMIT without ORDER BY", "any rows would do, so none can be kept").rewrite("add ORDER BY")
        }
        LogicalPlan::RecursiveQuery(_) => Obstacle::new("WITH RECURSIVE", "recursion is not held"),
        other => Obstacle::new(other.display().to_string(), "is not held"),
    }
}

fn check_expressions(plan: &LogicalPlan) -> Result<(), Obstacle> {
    let mut found = None;
    for expr in plan.expressions() {
        let walked = expr.apply(|node| {
            found = match node {
                Expr::Exists(_) | Expr::InSubquery(_) | Expr::ScalarSubquery(_) | Expr::OuterReferenceColumn(..) => {
                    Some(
                        Obstacle::new("subquery in an expression", "it cannot be written as a join")
                            .rewrite("write it as a join, or put it into WHERE"),
                    )
                }
                Expr::ScalarFunction(call) => volatile(call.func.name(), call.func.signature().volatility),
                _ => None,
            };
            Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        });
        if let (Ok(_), Some(obstacle)) = (walked, found.take()) {
            return Err(obstacle);
        }
    }
    Ok(())
}

fn volatile(name: &str, volatility: Volatility) -> Option<Obstacle> {
    let volatile = volatility == Volatility::Volatile;
    volatile.then(|| Obstacle::new(format!("{name}()"), "gives another value each time"))
}

/// Aggregates whose partial state is of bounded size and merges exactly, in any order.
const MERGEABLE: [&str; 29] = [
    "count",
    "sum",
    "avg",
    "min",
    "max",
    "bool_and",
    "bool_or",
    "bit_and",
    "bit_or",
    "bit_xor",
    "var",
    "var_pop",
    "var_samp",
    "stddev",
    "stddev_pop",
    "stddev_samp",
    "covar_pop",
    "covar_samp",
    "corr",
    "regr_slope",
    "regr_intercept",
    "regr_count",
    "regr_r2",
    "regr_avgx",
    "regr_avgy",
    "regr_sxx",
    "regr_syy",
    "regr_sxy",
    "approx_distinct",
];

/// Every call can be kept as partial state.
fn mergeable(aggregate: &Aggregate) -> bool {
    let sets = aggregate.group_expr.iter().any(|expr| matches!(expr, Expr::GroupingSet(_)));
    let call = |expr: &Expr| match expr.clone().unalias() {
        Expr::AggregateFunction(call) => {
            !call.params.distinct && call.params.order_by.is_empty() && MERGEABLE.contains(&call.func.name())
        }
        _ => false,
    };
    !sets && aggregate.aggr_expr.iter().all(call)
}

/// The plan with the source position as its last columns, where it is a chain over one table that has them.
fn carry(plan: &LogicalPlan) -> Option<LogicalPlan> {
    let visible = plan.schema().columns();
    let carried = carry_down(plan)?;
    let schema = Arc::clone(carried.schema());
    let mut exprs = visible.into_iter().map(Expr::Column).collect::<Vec<_>>();
    for (raw, name) in POSITION {
        exprs.push(find(&schema, raw, name)?.alias(name));
    }
    Projection::try_new(exprs, Arc::new(carried)).ok().map(LogicalPlan::Projection)
}

fn carry_down(plan: &LogicalPlan) -> Option<LogicalPlan> {
    match plan {
        LogicalPlan::TableScan(scan) => {
            POSITION.iter().all(|(raw, _)| find(&scan.projected_schema, raw, raw).is_some()).then(|| plan.clone())
        }
        LogicalPlan::Filter(_) | LogicalPlan::SubqueryAlias(_) => {
            let child = carry_down(plan.inputs().first()?)?;
            plan.with_new_exprs(plan.expressions(), vec![child]).ok()
        }
        LogicalPlan::Projection(projection) => {
            let child = carry_down(&projection.input)?;
            let mut exprs = projection.expr.clone();
            for (raw, name) in POSITION {
                exprs.push(find(child.schema(), raw, name)?.alias(name));
            }
            Projection::try_new(exprs, Arc::new(child)).ok().map(LogicalPlan::Projection)
        }
        _ => None,
    }
}

/// The column called `name`, or else `raw`, if it is there once.
fn find(schema: &DFSchema, raw: &str, name: &str) -> Option<Expr> {
    for wanted in [name, raw] {
        let mut matching = schema.columns().into_iter().filter(|column| column.name == wanted);
        if let (Some(column), None) = (matching.next(), matching.next()) {
            return Some(Expr::Column(column));
        }
    }
    None
}

/// Which group key an output column shows unchanged, by position in GROUP BY.
pub fn key_of_output(plan: &LogicalPlan, column: &Column, aggregate: &Aggregate) -> Option<usize> {
    shown_as(plan, column, aggregate).filter(|index| *index < aggregate.group_expr.len())
}

/// Which group key or, after the keys, which call of the aggregate an output column shows unchanged.
pub fn shown_as(plan: &LogicalPlan, column: &Column, aggregate: &Aggregate) -> Option<usize> {
    match plan {
        LogicalPlan::Aggregate(_) => aggregate.schema.maybe_index_of_column(column),
        LogicalPlan::Projection(projection) => {
            let index = projection.schema.maybe_index_of_column(column)?;
            match projection.expr.get(index)?.clone().unalias_nested().data {
                Expr::Column(inner) => shown_as(&projection.input, &inner, aggregate),
                _ => None,
            }
        }
        LogicalPlan::SubqueryAlias(alias) => {
            let index = alias.schema.maybe_index_of_column(column)?;
            let inner = alias.input.schema().columns().get(index)?.clone();
            shown_as(&alias.input, &inner, aggregate)
        }
        LogicalPlan::Filter(filter) => shown_as(&filter.input, column, aggregate),
        _ => None,
    }
}

/// A reference by name only, for columns of plans that we build ourselves.
pub fn plain(name: &str) -> Expr {
    col(Column::new_unqualified(name))
}
