//! Which aggregates rows can be taken off, and the counts that this needs. Pure.
//!
//! ```text
//!   count(..)                              its own number
//!   sum(x), x an integer or a decimal      and count(x): a sum of no values is NULL, not 0
//!   avg(x), x a decimal                    has its count
//!   any of them with GROUP BY              and count(*): a group of no rows is gone
//!   all others                             the groups are computed anew
//! ```

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::logical_plan::Aggregate;
use datafusion::logical_expr::{Expr, ExprSchemable, lit};

/// Names of counts that no query asked for begin with this.
pub const HIDDEN: &str = "__count";

/// The aggregate with the counts that make its states ones that rows can be taken off, if that can be: its calls are
/// counts, and sums and averages of exact numbers.
pub fn retracting(aggregate: &Aggregate) -> Option<Aggregate> {
    let mut calls = Vec::with_capacity(aggregate.aggr_expr.len());
    for expr in &aggregate.aggr_expr {
        let Expr::AggregateFunction(call) = expr.clone().unalias() else { return None };
        calls.push(call);
    }
    let input = aggregate.input.schema();
    let exact = |call: &AggregateFunction| match (call.func.name(), call.params.args.as_slice()) {
        ("count", _) => true,
        ("sum", [value]) => value
            .get_type(input)
            .is_ok_and(|data_type| data_type.is_signed_integer() || matches!(data_type, DataType::Decimal128(..))),
        ("avg", [value]) => value.get_type(input).is_ok_and(|data_type| matches!(data_type, DataType::Decimal128(..))),
        _ => false,
    };
    if !calls.iter().all(exact) {
        return None;
    }
    let asked = calls.len();
    let count = |args: Vec<Expr>, filter: Option<Box<Expr>>| {
        AggregateFunction::new_udf(count_udaf(), args, false, filter, vec![], None)
    };
    if !aggregate.group_expr.is_empty() && count_of_rows(&calls, input).is_none() {
        calls.push(count(vec![lit(1_i64)], None));
    }
    for call in calls.clone().iter().filter(|call| call.func.name() == "sum") {
        if count_of(&calls, call, input).is_none() {
            calls.push(count(call.params.args.clone(), call.params.filter.clone()));
        }
    }
    let mut exprs = aggregate.aggr_expr.clone();
    let hidden = calls.into_iter().skip(asked).enumerate();
    exprs.extend(hidden.map(|(nth, call)| Expr::AggregateFunction(call).alias(format!("{HIDDEN}{nth}"))));
    Aggregate::try_new(Arc::clone(&aggregate.input), aggregate.group_expr.clone(), exprs).ok()
}

/// Which of the calls counts the rows of a group.
pub fn count_of_rows(calls: &[AggregateFunction], input: &DFSchema) -> Option<usize> {
    calls.iter().position(|call| {
        let all = |arg: &Expr| arg.nullable(input).is_ok_and(|nullable| !nullable);
        call.func.name() == "count" && call.params.filter.is_none() && call.params.args.iter().all(all)
    })
}

/// Which of the calls counts the values that this one sums.
pub fn count_of(calls: &[AggregateFunction], summed: &AggregateFunction, input: &DFSchema) -> Option<usize> {
    let never_null = |arg: &Expr| arg.nullable(input).is_ok_and(|nullable| !nullable);
    calls.iter().position(|call| {
        call.func.name() == "count"
            && call.params.filter == summed.params.filter
            && (call.params.args == summed.params.args
                || summed.params.args.iter().all(never_null) && call.params.args.iter().all(never_null))
    })
}
