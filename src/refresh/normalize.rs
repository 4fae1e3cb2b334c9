//! A view's analyzed plan in the kernel of operators that the delta rules know.
//!
//! ```text
//!  analyzed plan ─▶ now() ─▶ $now()                       a moment is an input, bound at each refresh
//!                ─▶ DISTINCT ─▶ GROUP BY                   fewer operators
//!                ─▶ subqueries ─▶ semi, anti, left joins   nothing hides in an expression
//!                ─▶ comma joins ─▶ equi-joins              joins have keys
//!                ─▶ ORDER BY of LIMIT and row_number: every column behind it    one answer, not any
//! ```

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::execution::SessionState;
use datafusion::logical_expr::expr::{Placeholder, Sort as SortExpr, WindowFunction};
use datafusion::logical_expr::logical_plan::{Sort, Window};
use datafusion::logical_expr::{Expr, LogicalPlan, WindowFunctionDefinition};
use datafusion::optimizer::decorrelate_lateral_join::DecorrelateLateralJoin;
use datafusion::optimizer::decorrelate_predicate_subquery::DecorrelatePredicateSubquery;
use datafusion::optimizer::eliminate_cross_join::EliminateCrossJoin;
use datafusion::optimizer::extract_equijoin_predicate::ExtractEquijoinPredicate;
use datafusion::optimizer::replace_distinct_aggregate::ReplaceDistinctWithAggregate;
use datafusion::optimizer::rewrite_set_comparison::RewriteSetComparison;
use datafusion::optimizer::scalar_subquery_to_join::ScalarSubqueryToJoin;
use datafusion::optimizer::{Optimizer, OptimizerRule};

use crate::error::Result;

/// The moments that a query can ask for: function, placeholder.
const MOMENTS: [(&str, &str); 4] = [
    ("now", "$now()"),
    ("current_timestamp", "$now()"),
    ("current_date", "$current_date()"),
    ("current_time", "$current_time()"),
];

/// The plan in the kernel.
///
/// # Errors
/// `Query` when a subquery cannot be turned into a join.
pub fn normalize(state: &SessionState, plan: LogicalPlan) -> Result<LogicalPlan> {
    let plan = moments_to_placeholders(plan)?;
    let rules: Vec<Arc<dyn OptimizerRule + Send + Sync>> = vec![
        Arc::new(RewriteSetComparison::new()),
        Arc::new(ReplaceDistinctWithAggregate::new()),
        // Before subqueries become joins, too: those would stand between a comma join and the WHERE with its keys.
        Arc::new(EliminateCrossJoin::new()),
        Arc::new(DecorrelatePredicateSubquery::new()),
        Arc::new(ScalarSubqueryToJoin::new()),
        Arc::new(DecorrelateLateralJoin::new()),
        Arc::new(ExtractEquijoinPredicate::new()),
        Arc::new(EliminateCrossJoin::new()),
    ];
    let plan = Optimizer::with_rules(rules).optimize(plan, state, |_, _| {})?;
    Ok(plan.transform_up(|node| Ok(determined(node)?))?.data)
}

fn moments_to_placeholders(plan: LogicalPlan) -> Result<LogicalPlan> {
    let replaced = plan.transform_up_with_subqueries(|node| {
        node.map_expressions(|expr| {
            expr.transform_up(|expr| {
                let Expr::ScalarFunction(call) = &expr else { return Ok(Transformed::no(expr)) };
                let Some((_, id)) = MOMENTS.iter().find(|(name, _)| *name == call.func.name()) else {
                    return Ok(Transformed::no(expr));
                };
                let field = Field::new(*id, moment_type(id), false);
                let moment = Expr::Placeholder(Placeholder::new_with_field((*id).into(), Some(Arc::new(field))));
                Ok(Transformed::yes(moment.alias_if_changed(expr.schema_name().to_string())?))
            })
        })
    })?;
    Ok(replaced.data)
}

fn moment_type(id: &str) -> DataType {
    match id {
        "$current_date()" => DataType::Date32,
        "$current_time()" => DataType::Time64(TimeUnit::Nanosecond),
        _ => DataType::Timestamp(TimeUnit::Nanosecond, Some("+00:00".into())),
    }
}

/// Whether an expression asks for the moment.
pub fn asks_for_now(expr: &Expr) -> bool {
    expr.exists(|expr| Ok(matches!(expr, Expr::Placeholder(moment) if moment.id.ends_with("()")))).unwrap_or(false)
}

/// The expression with the moment (microseconds since 1970 UTC) in it.
///
/// # Errors
/// `Internal`.
pub fn bind_now(expr: Expr, now_us: i64) -> Result<Expr> {
    let bound = expr.transform_up(|expr| {
        let Expr::Placeholder(moment) = &expr else { return Ok(Transformed::no(expr)) };
        let of_day = now_us.rem_euclid(86_400_000_000);
        let value = match moment.id.as_str() {
            "$now()" => ScalarValue::TimestampNanosecond(now_us.checked_mul(1_000), Some("+00:00".into())),
            "$current_date()" => ScalarValue::Date32(i32::try_from(now_us.div_euclid(86_400_000_000)).ok()),
            "$current_time()" => ScalarValue::Time64Nanosecond(Some(of_day * 1_000)),
            _ => return Ok(Transformed::no(expr)),
        };
        Ok(Transformed::yes(Expr::Literal(value, None)))
    })?;
    Ok(bound.data)
}

/// Where an order decides which rows there are, every column of the input goes behind it: ties have one answer.
fn determined(node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    Ok(match node {
        LogicalPlan::Limit(mut limit) => match totally_ordered(&limit.input)? {
            Some(input) => {
                limit.input = Arc::new(input);
                Transformed::yes(LogicalPlan::Limit(limit))
            }
            None => Transformed::no(LogicalPlan::Limit(limit)),
        },
        LogicalPlan::Window(window) => {
            let columns = window.input.schema().columns();
            let exprs =
                window.window_expr.iter().map(|expr| tie_breaking(expr, &columns)).collect::<Result<Vec<_>>>()?;
            // The names of the columns stay those of the calls as they were written.
            let named = exprs.into_iter().zip(&window.window_expr).map(|(new, old)| match new == *old {
                true => Ok(new),
                false => new.alias_if_changed(old.schema_name().to_string()),
            });
            let named = named.collect::<std::result::Result<Vec<_>, _>>()?;
            Transformed::yes(LogicalPlan::Window(Window::try_new(named, window.input)?))
        }
        other => Transformed::no(other),
    })
}

/// The input of a LIMIT with a total order; `None` where it has no order at all.
fn totally_ordered(plan: &LogicalPlan) -> Result<Option<LogicalPlan>> {
    match plan {
        LogicalPlan::Sort(sort) => {
            let columns = sort.input.schema().columns();
            let mut expr = sort.expr.clone();
            expr.extend(columns.into_iter().map(|column| Expr::Column(column).sort(true, false)));
            Ok(Some(LogicalPlan::Sort(Sort { expr, input: Arc::clone(&sort.input), fetch: sort.fetch })))
        }
        LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) => {
            let Some(input) = totally_ordered(plan.inputs()[0])? else { return Ok(None) };
            Ok(Some(plan.with_new_exprs(plan.expressions(), vec![input])?))
        }
        _ => Ok(None),
    }
}

/// Functions that tell rows apart that ORDER BY does not.
const BY_PLACE: [&str; 5] = ["row_number", "ntile", "lag", "lead", "first_value"];

fn tie_breaking(expr: &Expr, columns: &[datafusion::common::Column]) -> Result<Expr> {
    let changed = expr.clone().transform_up(|expr| {
        let Expr::WindowFunction(function) = &expr else { return Ok(Transformed::no(expr)) };
        let by_place = match &function.fun {
            WindowFunctionDefinition::WindowUDF(udf) => BY_PLACE.contains(&udf.name()),
            WindowFunctionDefinition::AggregateUDF(_) => false,
        };
        if !by_place {
            return Ok(Transformed::no(expr));
        }
        let mut function: WindowFunction = function.as_ref().clone();
        let rest = columns.iter().map(|column| SortExpr::new(Expr::Column(column.clone()), true, false));
        function.params.order_by.extend(rest);
        Ok(Transformed::yes(Expr::WindowFunction(Box::new(function))))
    })?;
    Ok(changed.data)
}
