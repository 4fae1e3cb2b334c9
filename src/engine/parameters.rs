//! Values for the placeholders `$1`, `$2`, ... of a statement.
//!
//! ```text
//!   plan with $n ─ infer ─▶ a type for each: what it is compared with, stored in or cast to; else what analysis
//!      │                    makes of it; else text
//!      ├─ typed ─▶ the same plan, each $n of its type ─▶ the columns that it gives, whatever the values
//!      └─ bound ─▶ one row of values:  each $n a literal of its type
//!                  many rows:          INSERT ... VALUES ($1, ..) ─▶ INSERT ... SELECT .. FROM the rows, one plan
//!                                      anything else              ─▶ a plan a row
//! ```
//!
//! The columns of values have the types that were inferred; whoever has the values casts them ([`super::fit`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, Result as PlanResult, ScalarValue};
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::execution::SessionState;
use datafusion::logical_expr::expr::{Cast, Placeholder, TryCast};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::logical_plan::{Projection, Values};
use datafusion::logical_expr::type_coercion::binary::type_union_resolution;
use datafusion::logical_expr::{DmlStatement, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, WriteOp};

use crate::error::{Error, ErrorKind, Result};

/// The highest `n` of a `$n`.
pub const PARAMETERS_MAX: usize = 5_000;

/// Parameters that an error names.
const NAMED_MAX: usize = 10;

/// The rows of values, as a table of an INSERT.
const ROWS: &str = "__rows";

/// What is known of a statement before it has values.
#[derive(Debug, Clone)]
pub struct Described {
    /// Type of `$1`, `$2`, ...
    pub parameters: Vec<DataType>,
    /// Columns of a query.
    pub schema: SchemaRef,
}

/// Types of a plan's parameters, and its columns.
///
/// # Errors
/// `Definition` where the types do not fit their places.
pub fn describe(state: &SessionState, plan: LogicalPlan) -> Result<Described> {
    let parameters = infer(state, &plan)?;
    let typed = substitute(plan, &|placeholder, n| {
        let data_type = parameters.get(n - 1).cloned().unwrap_or(DataType::Utf8);
        let field = Arc::new(Field::new("", data_type, true));
        Ok(Expr::Placeholder(Placeholder::new_with_field(placeholder.id.clone(), Some(field))))
    })
    .map_err(no_type)?;
    // What has a place but the wrong type is found now, and not when there are values.
    analyzed(state, typed.clone()).map_err(no_type)?;
    Ok(Described { parameters, schema: Arc::clone(typed.schema().inner()) })
}

/// The plan with its values: one for each row, or one for all of them; itself, when it has no parameters.
///
/// # Errors
/// `Query` when a parameter has no value.
pub fn bound(plan: LogicalPlan, values: &RecordBatch) -> Result<Vec<LogicalPlan>> {
    let used = ordinals(&plan)?;
    let missing = used.iter().filter(|n| **n > values.num_columns()).map(|n| format!("${n}")).collect::<Vec<_>>();
    if !missing.is_empty() {
        let more = if missing.len() > NAMED_MAX { ", ..." } else { "" };
        let named = missing[..missing.len().min(NAMED_MAX)].join(", ");
        return Err(Error::new(ErrorKind::Query, format!("no value for {named}{more}"))
            .with_hint("prepare the statement and bind a value to each of its parameters"));
    }
    if used.is_empty() {
        return Ok(vec![plan]);
    }
    if values.num_rows() != 1
        && let Some(plan) = over_rows(&plan, values)?
    {
        return Ok(vec![plan]);
    }
    let row = |row| {
        let value = |n: usize| ScalarValue::try_from_array(values.column(n - 1), row);
        Ok(substitute(plan.clone(), &|_, n| Ok(Expr::Literal(value(n)?, None)))?)
    };
    (0..values.num_rows()).map(row).collect()
}

/// INSERT of one row of VALUES as an INSERT of a query over the rows of values.
fn over_rows(plan: &LogicalPlan, values: &RecordBatch) -> Result<Option<LogicalPlan>> {
    let LogicalPlan::Dml(dml) = plan else { return Ok(None) };
    let (WriteOp::Insert(_), LogicalPlan::Projection(outer)) = (&dml.op, dml.input.as_ref()) else { return Ok(None) };
    let LogicalPlan::Values(Values { schema, values: rows }) = outer.input.as_ref() else { return Ok(None) };
    let [row] = rows.as_slice() else { return Ok(None) };
    if row.iter().any(has_subquery) {
        return Ok(None);
    }
    let named = values.schema();
    let fields = named.fields().iter().enumerate();
    let fields = fields.map(|(index, field)| field.as_ref().clone().with_name(format!("${}", index + 1)));
    let table = RecordBatch::try_new(Arc::new(Schema::new(fields.collect::<Vec<_>>())), values.columns().to_vec())?;
    let table = Arc::new(MemTable::try_new(table.schema(), vec![vec![table]])?);
    let scan = LogicalPlanBuilder::scan(ROWS, provider_as_source(table), None)?;
    let exprs = row.iter().zip(schema.fields()).map(|(expr, field)| {
        let expr =
            replace(expr.clone(), &|placeholder, _| Ok(Expr::Column(Column::new(Some(ROWS), placeholder.id.clone()))))?;
        Ok(expr.data.cast_to(field.data_type(), scan.schema())?.alias(field.name()))
    });
    let exprs = exprs.collect::<PlanResult<Vec<_>>>()?;
    let input = Projection::try_new(outer.expr.clone(), Arc::new(scan.project(exprs)?.build()?))?;
    Ok(Some(LogicalPlan::Dml(DmlStatement::new(
        dml.table_name.clone(),
        Arc::clone(&dml.target),
        dml.op.clone(),
        Arc::new(LogicalPlan::Projection(input)),
    ))))
}

fn has_subquery(expr: &Expr) -> bool {
    let found = expr.exists(|expr| {
        Ok(matches!(expr, Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_) | Expr::SetComparison(_)))
    });
    found.unwrap_or(true)
}

/// A type for each parameter up to the highest one.
fn infer(state: &SessionState, plan: &LogicalPlan) -> Result<Vec<DataType>> {
    let mut known = uses(plan)?;
    if known.values().any(Option::is_none)
        && let Ok(coerced) = analyzed(state, plan.clone())
    {
        for (n, data_type) in uses(&coerced)? {
            known.entry(n).or_default().get_or_insert(data_type.unwrap_or(DataType::Utf8));
        }
    }
    let count = known.keys().next_back().copied().unwrap_or(0);
    Ok((1..=count).map(|n| known.get(&n).cloned().flatten().unwrap_or(DataType::Utf8)).collect())
}

fn analyzed(state: &SessionState, plan: LogicalPlan) -> PlanResult<LogicalPlan> {
    state.analyzer().execute_and_check(plan, state.config_options(), |_, _| {})
}

/// The parameters of a plan as they stand there; several uses are of a type that holds them all.
fn uses(plan: &LogicalPlan) -> Result<BTreeMap<usize, Option<DataType>>> {
    let mut found: BTreeMap<usize, Option<DataType>> = BTreeMap::new();
    let mut note = |id: &str, data_type: Option<&DataType>| -> PlanResult<()> {
        let known = found.entry(ordinal(id)?).or_default();
        let data_type = data_type.filter(|data_type| **data_type != DataType::Null).map(plain);
        *known = match (known.take(), data_type) {
            (Some(known), Some(other)) => Some(type_union_resolution(&[known.clone(), other]).unwrap_or(known)),
            (known, other) => known.or(other),
        };
        Ok(())
    };
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                match expr {
                    Expr::Cast(Cast { expr, field }) | Expr::TryCast(TryCast { expr, field }) => {
                        if let Expr::Placeholder(Placeholder { id, field: None }) = expr.as_ref() {
                            note(id, Some(field.data_type()))?;
                        }
                    }
                    Expr::Placeholder(Placeholder { id, field }) => {
                        note(id, field.as_ref().map(|field| field.data_type()))?;
                    }
                    _ => {}
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(found)
}

/// The type that a client can be asked for.
fn plain(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary => DataType::Binary,
        DataType::Dictionary(_, values) => plain(values),
        other => other.clone(),
    }
}

fn ordinals(plan: &LogicalPlan) -> Result<BTreeSet<usize>> {
    Ok(plan.get_parameter_names()?.iter().map(|id| ordinal(id)).collect::<PlanResult<_>>()?)
}

fn ordinal(id: &str) -> PlanResult<usize> {
    match id.trim_start_matches('$').parse() {
        Ok(n) if (1..=PARAMETERS_MAX).contains(&n) => Ok(n),
        _ => datafusion::common::plan_err!("{id} is not a parameter; they are named from $1 to ${PARAMETERS_MAX}"),
    }
}

/// Put an expression in the place of each placeholder. Names of columns stay: `$1` is a name like any other.
fn substitute(plan: LogicalPlan, value: &impl Fn(&Placeholder, usize) -> PlanResult<Expr>) -> PlanResult<LogicalPlan> {
    let done = plan.transform_up_with_subqueries(|node| {
        let names = NamePreserver::new(&node);
        let node = node.map_expressions(|expr| {
            let name = names.save(&expr);
            let replaced = replace(expr, value)?;
            Ok(if replaced.transformed { replaced.update_data(|expr| name.restore(expr)) } else { replaced })
        })?;
        // The types of its columns have come with the values.
        Ok(Transformed::yes(match node.data {
            LogicalPlan::Values(values) => LogicalPlanBuilder::values(values.values)?.build()?,
            node => node.recompute_schema()?,
        }))
    })?;
    Ok(done.data)
}

fn replace(expr: Expr, value: &impl Fn(&Placeholder, usize) -> PlanResult<Expr>) -> PlanResult<Transformed<Expr>> {
    expr.transform_up(|expr| match &expr {
        Expr::Placeholder(placeholder) => Ok(Transformed::yes(value(placeholder, ordinal(&placeholder.id)?)?)),
        _ => Ok(Transformed::no(expr)),
    })
}

fn no_type(error: datafusion::error::DataFusionError) -> Error {
    Error::from(error).with_hint("where the type of a parameter cannot be seen, write it: CAST($1 AS BIGINT)")
}
