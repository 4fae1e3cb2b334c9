//! Which expression over a table is a column of the views above it: the user of a record that came as JSON, under whatever
//! name and path. Pure.
//!
//! ```text
//!   silver.orders   user_name  =  decoded.o['user']
//!   bronze.orders   from_json(_payload, '…')['user']        the same, over what bronze has
//! ```

use std::sync::Arc;

use datafusion::common::Column;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan};

use crate::name::TableName;
use crate::refresh::classify::{Shape, plain};
use crate::refresh::compile::table_name;
use crate::refresh::pass::ViewSlot;

/// The column of this name, of the row-by-row views above `table`, as expressions over `table`: those of the nearest views that
/// show it.
pub fn derived<'a>(
    slots: impl Iterator<Item = &'a Arc<ViewSlot>> + Clone,
    table: &TableName,
    column: &str,
) -> Vec<Expr> {
    let mut found = Vec::new();
    for slot in slots.clone().filter(|slot| slot.view.inputs.contains(table)) {
        let Shape::Linear { plan, .. } = &slot.view.shape else { continue };
        let over_view = match slot.view.schema.index_of(column) {
            Ok(_) => vec![plain(column)],
            Err(_) => derived(slots.clone(), &slot.view.name, column),
        };
        for expr in over_view.iter().filter_map(|expr| over_input(plan, table, expr)) {
            if !found.contains(&expr) {
                found.push(expr);
            }
        }
    }
    found
}

/// An expression over a view's columns, by name, as one over this input of it, by name.
fn over_input(plan: &LogicalPlan, input: &TableName, expr: &Expr) -> Option<Expr> {
    replaced(expr, &|column| {
        let at = plan.schema().fields().iter().position(|field| *field.name() == column.name)?;
        origin(plan, at, input)
    })
}

/// What a column of the plan's output is over the input that it comes from.
fn origin(plan: &LogicalPlan, at: usize, input: &TableName) -> Option<Expr> {
    match plan {
        LogicalPlan::TableScan(scan) if table_name(&scan.table_name) == *input => {
            Some(plain(scan.projected_schema.fields().get(at)?.name()))
        }
        LogicalPlan::Projection(projection) => {
            let below = &projection.input;
            let expr = projection.expr.get(at)?.clone().unalias_nested().data;
            replaced(&expr, &|column| origin(below, below.schema().maybe_index_of_column(column)?, input))
        }
        LogicalPlan::Filter(_) | LogicalPlan::SubqueryAlias(_) | LogicalPlan::Sort(_) => {
            origin(plan.inputs()[0], at, input)
        }
        LogicalPlan::Join(join) => match at.checked_sub(join.left.schema().fields().len()) {
            None => origin(&join.left, at, input),
            Some(at) => origin(&join.right, at, input),
        },
        _ => None,
    }
}

/// A row-by-row view above `table` shows the column, and it is not known what that is over `table`.
pub fn is_untraced<'a>(
    slots: impl Iterator<Item = &'a Arc<ViewSlot>> + Clone,
    table: &TableName,
    column: &str,
) -> bool {
    slots.clone().filter(|slot| slot.view.inputs.contains(table)).any(|slot| match &slot.view.shape {
        Shape::Linear { plan, .. } if slot.view.schema.index_of(column).is_ok() => {
            over_input(plan, table, &plain(column)).is_none()
        }
        Shape::Linear { .. } => is_untraced(slots.clone(), &slot.view.name, column),
        _ => false,
    })
}

/// The expression with each column replaced; `None` where one cannot be.
fn replaced(expr: &Expr, by: &dyn Fn(&Column) -> Option<Expr>) -> Option<Expr> {
    let mut lost = false;
    let new = expr.clone().transform_down(|expr| {
        let Expr::Column(column) = &expr else { return Ok(Transformed::no(expr)) };
        // What stands for it has columns of its own, which are not to be replaced again.
        match by(column) {
            Some(new) => Ok(Transformed::new(new, true, TreeNodeRecursion::Jump)),
            None => {
                lost = true;
                Ok(Transformed::no(expr))
            }
        }
    });
    new.ok().map(|new| new.data).filter(|_| !lost)
}
