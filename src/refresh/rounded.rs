//! Which columns of a view show a time of an input, as it is or rounded down: where a moment of the input's rows is among
//! the view's. Pure.
//!
//! ```text
//!   event_time                      of the input
//!     date_trunc('hour', …)         hour         f(a) <= f(b) where a <= b: what is after f(moment) came from rows
//!       to_ist(…), CAST(… AS DATE)  day          after the moment, and from no others
//! ```

use arrow::datatypes::DataType;
use datafusion::logical_expr::{Expr, LogicalPlan, col};

use crate::name::TableName;
use crate::refresh::compile::table_name;

/// Functions of a time and of constants that never give an earlier time for a later one.
const NEVER_BACK: [&str; 3] = ["date_trunc", "date_bin", "to_ist"];

/// A column of the output, and what it shows: an expression over the one column of the input.
pub type Rounded = (usize, Expr);

/// The columns of the plan's output that show `column` of `input`, as it is or rounded.
pub fn rounded(plan: &LogicalPlan, input: &TableName, column: &str) -> Vec<Rounded> {
    let through = |below: &LogicalPlan, exprs: &mut dyn Iterator<Item = &Expr>| {
        let held = rounded(below, input, column);
        exprs.enumerate().filter_map(|(at, expr)| Some((at, shown(expr, below, &held)?))).collect::<Vec<_>>()
    };
    match plan {
        LogicalPlan::TableScan(scan) if table_name(&scan.table_name) == *input => {
            let fields = scan.projected_schema.fields().iter().enumerate();
            fields.filter(|(_, field)| field.name() == column).map(|(at, _)| (at, col(column))).collect()
        }
        LogicalPlan::Projection(projection) => through(&projection.input, &mut projection.expr.iter()),
        LogicalPlan::Aggregate(aggregate) => through(&aggregate.input, &mut aggregate.group_expr.iter()),
        LogicalPlan::Filter(_) | LogicalPlan::SubqueryAlias(_) => rounded(plan.inputs()[0], input, column),
        _ => vec![],
    }
}

/// The expression over the input's column, if nothing else goes into it and it never goes back.
fn shown(expr: &Expr, below: &LogicalPlan, held: &[Rounded]) -> Option<Expr> {
    match expr {
        Expr::Alias(alias) => shown(&alias.expr, below, held),
        Expr::Column(column) => {
            let at = below.schema().maybe_index_of_column(column)?;
            held.iter().find(|(index, _)| *index == at).map(|(_, expr)| expr.clone())
        }
        Expr::Cast(cast) if matches!(cast.field.data_type(), DataType::Date32 | DataType::Timestamp(..)) => {
            let inner = shown(&cast.expr, below, held)?;
            Some(datafusion::logical_expr::cast(inner, cast.field.data_type().clone()))
        }
        Expr::ScalarFunction(function) if NEVER_BACK.contains(&function.func.name()) => {
            let mut times = 0;
            let args = function.args.iter().map(|arg| match arg {
                Expr::Literal(..) => Some(arg.clone()),
                _ => {
                    times += 1;
                    shown(arg, below, held)
                }
            });
            let args = args.collect::<Option<Vec<_>>>()?;
            (times == 1).then(|| function.func.call(args))
        }
        _ => None,
    }
}
