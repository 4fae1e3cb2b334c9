//! Which shape a plan has, and why it has none.
//!
//! ```text
//!   Linear:  Projection | Filter | Alias | Union all | Unnest | inner Join | Scan          rows of the change only
//!   Merge:   (Projection | Filter | Alias)* over Aggregate over Linear                     state + state(change)
//!   Full:    anything, when the definition asks for it
//! ```
//!
//! Pure: a plan in, a shape or the operator that is in the way out.

use std::sync::Arc;

use datafusion::common::Column;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::logical_plan::{Aggregate, Projection};
use datafusion::logical_expr::{Expr, JoinType, LogicalPlan, Volatility, col};

use crate::error::{Error, ErrorKind};
use crate::name::TableName;

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
            Self::Linear { plan, .. } | Self::Merge { plan, .. } | Self::Full { plan, .. } => plan,
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
    fn new(operator: impl Into<String>, because: &str) -> Self {
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

/// The shape of an analyzed plan.
///
/// # Errors
/// The first obstacle, from the top.
pub fn classify(plan: &LogicalPlan) -> Result<Shape, Obstacle> {
    let mut having = false;
    let mut node = plan;
    loop {
        check_expressions(node)?;
        match node {
            LogicalPlan::Aggregate(aggregate) => {
                check_aggregate(aggregate)?;
                linear(&aggregate.input)?;
                return Ok(Shape::Merge { plan: plan.clone(), aggregate: aggregate.clone(), having });
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
    linear(plan)?;
    Ok(Shape::Linear { plan: plan.clone(), carried: carry(plan) })
}

fn linear(plan: &LogicalPlan) -> Result<(), Obstacle> {
    check_expressions(plan)?;
    match plan {
        LogicalPlan::TableScan(_)
        | LogicalPlan::Projection(_)
        | LogicalPlan::Filter(_)
        | LogicalPlan::SubqueryAlias(_)
        | LogicalPlan::Union(_)
        | LogicalPlan::Unnest(_) => {}
        LogicalPlan::Join(join) if join.join_type == JoinType::Inner => {}
        other => return Err(obstacle(other)),
    }
    plan.inputs().into_iter().try_for_each(linear)
}

fn obstacle(plan: &LogicalPlan) -> Obstacle {
    match plan {
        LogicalPlan::Join(join) => Obstacle::new(
            format!("{} JOIN", join.join_type.to_string().to_uppercase()),
            "a row of one side can change rows that were written before",
        ),
        LogicalPlan::Aggregate(_) => Obstacle::new("GROUP BY below another operator", "its groups change")
            .rewrite("make the inner aggregate a view of its own"),
        LogicalPlan::Distinct(_) => Obstacle::new("DISTINCT", "needs the rows that were written before")
            .rewrite("GROUP BY the columns and add count(*)"),
        LogicalPlan::Window(_) => Obstacle::new("window function", "a new row changes others of its partition"),
        LogicalPlan::Sort(_) => Obstacle::new("ORDER BY", "a table has no order")
            .rewrite("leave ORDER BY to the queries that read the view"),
        LogicalPlan::Limit(_) => Obstacle::new("LIMIT", "a new row can push out another"),
        LogicalPlan::RecursiveQuery(_) => Obstacle::new("WITH RECURSIVE", "recursion is not held"),
        LogicalPlan::EmptyRelation(_) | LogicalPlan::Values(_) => {
            Obstacle::new("VALUES or a query without FROM", "constants never change")
                .rewrite("put the rows into a table with CREATE TABLE and INSERT")
        }
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
                        Obstacle::new("subquery in an expression", "its rows are matched against all others")
                            .rewrite("write it as an inner join"),
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
    match volatility {
        Volatility::Volatile => Some(Obstacle::new(format!("{name}()"), "gives another value each time")),
        Volatility::Stable if matches!(name, "now" | "current_date" | "current_time") => Some(
            Obstacle::new(format!("{name}()"), "rows would have to change as time passes")
                .rewrite("filter by time in the queries that read the view"),
        ),
        _ => None,
    }
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

fn check_aggregate(aggregate: &Aggregate) -> Result<(), Obstacle> {
    if aggregate.group_expr.iter().any(|expr| matches!(expr, Expr::GroupingSet(_))) {
        return Err(Obstacle::new("GROUPING SETS, ROLLUP or CUBE", "one row feeds several groups")
            .rewrite("make one view for each grouping, or UNION ALL them in the query that reads"));
    }
    for expr in &aggregate.aggr_expr {
        let Expr::AggregateFunction(call) = expr.clone().unalias() else {
            return Err(Obstacle::new(expr.to_string(), "is not an aggregate function"));
        };
        let name = call.func.name().to_string();
        if call.params.distinct {
            return Err(Obstacle::new(format!("{name}(DISTINCT ...)"), "needs every value that was seen")
                .rewrite("use approx_distinct, or group by the value in a view of its own"));
        }
        if !call.params.order_by.is_empty() {
            return Err(Obstacle::new(format!("{name}(... ORDER BY ...)"), "depends on the order of all rows"));
        }
        if !MERGEABLE.contains(&name.as_str()) {
            return Err(Obstacle::new(format!("{name}()"), "its partial state is not bounded, or depends on order"));
        }
    }
    Ok(())
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
fn find(schema: &datafusion::common::DFSchema, raw: &str, name: &str) -> Option<Expr> {
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
    match plan {
        LogicalPlan::Aggregate(_) => {
            let index = aggregate.schema.maybe_index_of_column(column)?;
            (index < aggregate.group_expr.len()).then_some(index)
        }
        LogicalPlan::Projection(projection) => {
            let index = projection.schema.maybe_index_of_column(column)?;
            match projection.expr.get(index)?.clone().unalias() {
                Expr::Column(inner) => key_of_output(&projection.input, &inner, aggregate),
                _ => None,
            }
        }
        LogicalPlan::SubqueryAlias(alias) => {
            let index = alias.schema.maybe_index_of_column(column)?;
            let inner = alias.input.schema().columns().get(index)?.clone();
            key_of_output(&alias.input, &inner, aggregate)
        }
        LogicalPlan::Filter(filter) => key_of_output(&filter.input, column, aggregate),
        _ => None,
    }
}

/// A reference by name only, for columns of plans that we build ourselves.
pub fn plain(name: &str) -> Expr {
    col(Column::new_unqualified(name))
}
