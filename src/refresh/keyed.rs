//! Which key an operator is local to: its rows with one key follow from its inputs' rows with that key. Pure.
//!
//! ```text
//!   GROUP BY            the group keys                 window           what all PARTITION BY lists share
//!   outer, semi, anti   the equi-join keys             LIMIT, no keys   none: everything is one key
//! ```

use std::collections::BTreeSet;

use datafusion::logical_expr::logical_plan::{Aggregate, Window};
use datafusion::logical_expr::{Expr, JoinType, LogicalPlan};

use crate::refresh::classify::moves;

/// Key expressions over each input; the same number for each. `None`: the operator has an algebraic rule instead.
pub fn key_of(plan: &LogicalPlan) -> Option<Vec<Vec<Expr>>> {
    let everything = || Some(vec![vec![]; plan.inputs().len()]);
    match plan {
        // A filter that time moves has a rule: rows cross its boundary.
        LogicalPlan::Filter(_) => None,
        _ if moves(plan) => everything(),
        LogicalPlan::Aggregate(aggregate) if plain_groups(aggregate) => Some(vec![aggregate.group_expr.clone()]),
        LogicalPlan::Window(window) => Some(vec![partition_columns(window)]),
        LogicalPlan::Join(join) if join.join_type != JoinType::Inner => Some(vec![
            join.on.iter().map(|(left, _)| left.clone()).collect(),
            join.on.iter().map(|(_, right)| right.clone()).collect(),
        ]),
        LogicalPlan::Aggregate(_) | LogicalPlan::Limit(_) => everything(),
        _ => None,
    }
}

/// Every row goes to one group.
pub fn plain_groups(aggregate: &Aggregate) -> bool {
    !aggregate.group_expr.iter().any(|expr| matches!(expr, Expr::GroupingSet(_)))
}

/// The expressions that every window of the operator is partitioned by.
pub fn partition_columns(window: &Window) -> Vec<Expr> {
    let mut shared: Option<Vec<Expr>> = None;
    for expr in &window.window_expr {
        let Expr::WindowFunction(function) = expr.clone().unalias() else { return vec![] };
        let own = function.params.partition_by;
        shared = Some(match shared {
            None => own,
            Some(shared) => shared.into_iter().filter(|expr| own.contains(expr)).collect(),
        });
    }
    let mut seen = BTreeSet::new();
    shared.unwrap_or_default().into_iter().filter(|expr| seen.insert(expr.to_string())).collect()
}

/// Where the key of the topmost keyed operator stands among the plan's columns, part by part, when only projections
/// and filters are above it and all of it is shown.
pub fn shown_key(plan: &LogicalPlan) -> Option<Vec<usize>> {
    if let Some(keys) = key_of(plan) {
        return keys_in_output(plan, &keys);
    }
    match plan {
        LogicalPlan::Projection(projection) => {
            let inner = shown_key(&projection.input)?;
            let columns = projection.input.schema().columns();
            let place = |at: usize| {
                let wanted = Expr::Column(columns[at].clone());
                projection.expr.iter().position(|expr| expr.clone().unalias() == wanted)
            };
            inner.into_iter().map(place).collect()
        }
        LogicalPlan::Filter(filter) if !moves(plan) => shown_key(&filter.input),
        LogicalPlan::Sort(sort) => shown_key(&sort.input),
        LogicalPlan::SubqueryAlias(alias) => shown_key(&alias.input),
        _ => None,
    }
}

/// The topmost keyed operator of a plan with a shown key.
pub fn topmost(plan: &LogicalPlan) -> &LogicalPlan {
    let mut node = plan;
    while key_of(node).is_none() {
        match node.inputs().first() {
            Some(input) => node = input,
            None => break,
        }
    }
    node
}

fn keys_in_output(plan: &LogicalPlan, keys: &[Vec<Expr>]) -> Option<Vec<usize>> {
    if keys.iter().all(Vec::is_empty) {
        return Some(vec![]);
    }
    let column = |expr: &Expr| match expr {
        Expr::Column(column) => plan.schema().maybe_index_of_column(column),
        _ => None,
    };
    match plan {
        LogicalPlan::Aggregate(aggregate) => Some((0..aggregate.group_expr.len()).collect()),
        LogicalPlan::Join(join) => match join.join_type {
            JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => {
                keys[0].iter().map(column).collect()
            }
            JoinType::Right | JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => {
                keys[1].iter().map(column).collect()
            }
            _ => None,
        },
        _ => keys[0].iter().map(column).collect(),
    }
}
