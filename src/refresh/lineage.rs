//! Where the values of a view's columns come from, and whether a column of an input tells its rows apart all the way up.
//!
//! ```text
//!   carried(plan, input, column)                            sources(plan, output column)
//!     Absent   the plan does not read the input               { (input, column, Copy | Computed | Counted) }
//!     By({2})  every row of the output follows from rows
//!              of the input with that value of output 2
//!     Lost     rows with several values make one row
//! ```
//!
//! `By` is what a policy needs to go up: the rows that somebody may see of the view are those that the same query would
//! give over the rows that they may see of the input. Whatever is not known to keep that is `Lost`.

use std::collections::BTreeSet;

use datafusion::common::{Column, JoinType};
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::logical_plan::{Aggregate, Distinct, Join, Window};
use datafusion::logical_expr::{Expr, LogicalPlan};

use crate::name::TableName;
use crate::refresh::compile::table_name;
use crate::refresh::keyed::partition_columns;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Carried {
    /// The input is not read.
    Absent,
    /// These columns of the output hold it.
    By(BTreeSet<usize>),
    /// Not any more.
    Lost,
}

/// How a value is made of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Use {
    /// Only how many there are goes in.
    Counted,
    /// It is the value.
    Copied,
    /// It goes into an expression or an aggregate.
    Computed,
}

/// A column of an input, and what is made of it.
pub type Origin = (TableName, String, Use);

/// How far `column` of `input` is carried up. See the module.
pub fn carried(plan: &LogicalPlan, input: &TableName, column: &str) -> Carried {
    match plan {
        LogicalPlan::TableScan(scan) if table_name(&scan.table_name) == *input => by(scan
            .projected_schema
            .fields()
            .iter()
            .enumerate()
            .filter(|(_, field)| field.name() == column)
            .map(|(index, _)| index)
            .collect()),
        _ if reads_in_subquery(plan, input) => Carried::Lost,
        LogicalPlan::TableScan(_) | LogicalPlan::EmptyRelation(_) | LogicalPlan::Values(_) => Carried::Absent,
        LogicalPlan::Projection(projection) => {
            let below = carried(&projection.input, input, column);
            through(&below, |held| positions(projection.expr.iter(), &projection.input, held))
        }
        LogicalPlan::Filter(_) | LogicalPlan::Sort(_) | LogicalPlan::SubqueryAlias(_) | LogicalPlan::Repartition(_) => {
            match plan {
                // A sort that keeps the first rows only compares rows of everybody.
                LogicalPlan::Sort(sort) if sort.fetch.is_some() => lost_if_there(&carried(&sort.input, input, column)),
                _ => carried(plan.inputs()[0], input, column),
            }
        }
        LogicalPlan::Distinct(Distinct::All(below)) => carried(below, input, column),
        LogicalPlan::Distinct(Distinct::On(on)) => {
            let below = carried(&on.input, input, column);
            through(&below, |held| match positions(on.on_expr.iter(), &on.input, held).is_empty() {
                true => BTreeSet::new(),
                false => positions(on.select_expr.iter(), &on.input, held),
            })
        }
        LogicalPlan::Aggregate(aggregate) => {
            let below = carried(&aggregate.input, input, column);
            through(&below, |held| match aggregate.group_expr.as_slice() {
                [Expr::GroupingSet(_)] => BTreeSet::new(),
                keys => positions(keys.iter(), &aggregate.input, held),
            })
        }
        LogicalPlan::Window(window) => {
            let below = carried(&window.input, input, column);
            // Columns of the input come first, in their order.
            let apart = partition_columns(window);
            through(&below, |held| match positions(apart.iter(), &window.input, held).is_empty() {
                true => BTreeSet::new(),
                false => held.clone(),
            })
        }
        LogicalPlan::Unnest(unnest) => {
            let below = carried(&unnest.input, input, column);
            through(&below, |held| {
                let fields = held.iter().map(|index| unnest.input.schema().columns()[*index].clone());
                fields.filter_map(|field| unnest.schema.maybe_index_of_column(&field)).collect()
            })
        }
        LogicalPlan::Join(join) => carried_by_join(join, input, column),
        LogicalPlan::Union(union) => {
            let branches = union.inputs.iter().map(|branch| carried(branch, input, column)).collect::<Vec<_>>();
            if branches.iter().all(|branch| *branch == Carried::Absent) {
                return Carried::Absent;
            }
            let held = branches.into_iter().map(|branch| match branch {
                Carried::By(held) => held,
                _ => BTreeSet::new(),
            });
            by(held.reduce(|all, held| all.intersection(&held).copied().collect()).unwrap_or_default())
        }
        other => {
            let below = other.inputs().into_iter().map(|below| carried(below, input, column));
            if below.into_iter().all(|below| below == Carried::Absent) { Carried::Absent } else { Carried::Lost }
        }
    }
}

fn carried_by_join(join: &Join, input: &TableName, column: &str) -> Carried {
    use JoinType::{Inner, Left, LeftAnti, LeftSemi, Right, RightAnti, RightSemi};
    let (left, right) = (carried(&join.left, input, column), carried(&join.right, input, column));
    let width = join.left.schema().fields().len();
    let shift = |held: &BTreeSet<usize>| held.iter().map(|index| index + width).collect::<BTreeSet<_>>();
    let by_both = |held: BTreeSet<usize>| by(equal(join, width, held));
    match (&left, &right, join.join_type) {
        (Carried::Absent, Carried::Absent, _) => Carried::Absent,
        (Carried::By(held), Carried::Absent, Inner) => by_both(held.clone()),
        (Carried::Absent, Carried::By(held), Inner) => by_both(shift(held)),
        (Carried::By(held), Carried::Absent, Left | LeftSemi | LeftAnti) => by(held.clone()),
        (Carried::Absent, Carried::By(held), Right) => by(shift(held)),
        (Carried::Absent, Carried::By(held), RightSemi | RightAnti) => by(held.clone()),
        (Carried::By(l), Carried::By(r), kind) => {
            // Both sides are of the same value only where the join says so.
            let same = join.on.iter().any(|(on_left, on_right)| {
                !positions(std::iter::once(on_left), &join.left, l).is_empty()
                    && !positions(std::iter::once(on_right), &join.right, r).is_empty()
            });
            match kind {
                Inner if same => by_both(l.iter().copied().chain(shift(r)).collect()),
                Left | LeftSemi | LeftAnti if same => by(l.clone()),
                Right if same => by(shift(r)),
                RightSemi | RightAnti if same => by(r.clone()),
                _ => Carried::Lost,
            }
        }
        _ => Carried::Lost,
    }
}

/// In an inner join, what is equal to a column that holds it holds it, too.
fn equal(join: &Join, width: usize, mut held: BTreeSet<usize>) -> BTreeSet<usize> {
    for (left, right) in &join.on {
        let (Expr::Column(left), Expr::Column(right)) = (left, right) else { continue };
        let at = |input: &LogicalPlan, column| input.schema().maybe_index_of_column(column);
        if let (Some(left), Some(right)) = (at(&join.left, left), at(&join.right, right).map(|at| at + width))
            && (held.contains(&left) || held.contains(&right))
        {
            held.extend([left, right]);
        }
    }
    held
}

/// An expression of this node reads the input in a subquery: what it gives may be of any row.
fn reads_in_subquery(plan: &LogicalPlan, input: &TableName) -> bool {
    let mut found = false;
    let _ = plan.apply_subqueries(|subquery| {
        found |= crate::refresh::compile::inputs_of(subquery).is_ok_and(|inputs| inputs.contains(input));
        Ok(datafusion::common::tree_node::TreeNodeRecursion::Continue)
    });
    found
}

fn by(held: BTreeSet<usize>) -> Carried {
    if held.is_empty() { Carried::Lost } else { Carried::By(held) }
}

fn through(below: &Carried, up: impl FnOnce(&BTreeSet<usize>) -> BTreeSet<usize>) -> Carried {
    match below {
        Carried::By(held) => by(up(held)),
        other => other.clone(),
    }
}

fn lost_if_there(below: &Carried) -> Carried {
    if *below == Carried::Absent { Carried::Absent } else { Carried::Lost }
}

/// Which of these expressions are nothing but a column of `held`.
fn positions<'a>(
    exprs: impl Iterator<Item = &'a Expr>,
    input: &LogicalPlan,
    held: &BTreeSet<usize>,
) -> BTreeSet<usize> {
    let holds = |expr: &Expr| match expr.clone().unalias_nested().data {
        Expr::Column(column) => input.schema().maybe_index_of_column(&column).is_some_and(|at| held.contains(&at)),
        _ => false,
    };
    exprs.enumerate().filter(|(_, expr)| holds(expr)).map(|(index, _)| index).collect()
}

/// What the output column is made of. Conditions (filters, keys of joins and groups) are not among it.
pub fn sources(plan: &LogicalPlan, output: usize) -> BTreeSet<Origin> {
    match plan {
        LogicalPlan::TableScan(scan) => {
            let column = scan.projected_schema.field(output).name().clone();
            BTreeSet::from([(table_name(&scan.table_name), column, Use::Copied)])
        }
        LogicalPlan::Projection(projection) => of_expr(&projection.expr[output], &projection.input),
        LogicalPlan::Filter(_)
        | LogicalPlan::Sort(_)
        | LogicalPlan::SubqueryAlias(_)
        | LogicalPlan::Repartition(_)
        | LogicalPlan::Limit(_)
        | LogicalPlan::Distinct(Distinct::All(_)) => sources(plan.inputs()[0], output),
        LogicalPlan::Distinct(Distinct::On(on)) => of_expr(&on.select_expr[output], &on.input),
        LogicalPlan::Aggregate(aggregate) => of_aggregate(aggregate, output),
        LogicalPlan::Window(window) => of_window(window, output),
        LogicalPlan::Join(join) => of_join(join, output),
        LogicalPlan::Union(union) => union.inputs.iter().flat_map(|branch| sources(branch, output)).collect(),
        LogicalPlan::EmptyRelation(_) | LogicalPlan::Values(_) => BTreeSet::new(),
        // Not looked into: anything below may be in it.
        other => other.inputs().into_iter().flat_map(everything).collect(),
    }
}

/// What all columns of the plan are made of, as something else.
fn everything(plan: &LogicalPlan) -> BTreeSet<Origin> {
    let all = (0..plan.schema().fields().len()).flat_map(|at| sources(plan, at));
    used(all.collect(), Use::Computed)
}

fn of_aggregate(aggregate: &Aggregate, output: usize) -> BTreeSet<Origin> {
    let keys = aggregate.schema.fields().len() - aggregate.aggr_expr.len();
    if output >= keys {
        return of_expr(&aggregate.aggr_expr[output - keys], &aggregate.input);
    }
    match aggregate.group_expr.as_slice() {
        [Expr::GroupingSet(sets)] => {
            sets.distinct_expr().get(output).map_or_else(BTreeSet::new, |expr| of_expr(expr, &aggregate.input))
        }
        exprs => of_expr(&exprs[output], &aggregate.input),
    }
}

fn of_window(window: &Window, output: usize) -> BTreeSet<Origin> {
    let width = window.input.schema().fields().len();
    match output.checked_sub(width) {
        None => sources(&window.input, output),
        Some(at) => of_expr(&window.window_expr[at], &window.input),
    }
}

fn of_join(join: &Join, output: usize) -> BTreeSet<Origin> {
    let width = join.left.schema().fields().len();
    match join.join_type {
        JoinType::RightSemi | JoinType::RightAnti => sources(&join.right, output),
        JoinType::LeftMark if output == width => everything(&join.right),
        _ if output < width + join.right.schema().fields().len() => of_sides(join, width, output),
        _ => BTreeSet::new(),
    }
}

/// A side of a condition tells the other side, too.
fn of_sides(join: &Join, width: usize, output: usize) -> BTreeSet<Origin> {
    let (own, at, others) = match output.checked_sub(width) {
        None => (&join.left, output, &join.right),
        Some(at) => (&join.right, at, &join.left),
    };
    let mut origins = sources(own, at);
    for (left, right) in &join.on {
        let (side, other) = if output < width { (left, right) } else { (right, left) };
        if !positions(std::iter::once(side), own, &BTreeSet::from([at])).is_empty() {
            origins.extend(of_expr(other, others));
        }
    }
    origins
}

/// What an expression over `input` is made of.
fn of_expr(expr: &Expr, input: &LogicalPlan) -> BTreeSet<Origin> {
    let expr = expr.clone().unalias_nested().data;
    let how = match &expr {
        Expr::Column(_) => Use::Copied,
        Expr::AggregateFunction(function) if only_counts(function) => Use::Counted,
        _ => Use::Computed,
    };
    let mut origins = BTreeSet::new();
    for column in expr.column_refs() {
        if let Some(at) = position(input, column) {
            origins.extend(sources(input, at));
        }
    }
    let _ = datafusion::common::tree_node::TreeNode::apply(&expr, |part| {
        if let Expr::ScalarSubquery(subquery) = part {
            origins.extend(everything(&subquery.subquery));
        }
        Ok(datafusion::common::tree_node::TreeNodeRecursion::Continue)
    });
    used(origins, how)
}

/// How many values there are, whatever they are: a condition inside would tell which.
fn only_counts(function: &AggregateFunction) -> bool {
    let plain = |arg: &Expr| matches!(arg, Expr::Column(_) | Expr::Literal(..));
    function.func.name() == "count" && function.params.filter.is_none() && function.params.args.iter().all(plain)
}

fn position(input: &LogicalPlan, column: &Column) -> Option<usize> {
    input.schema().maybe_index_of_column(column)
}

/// The origins, used once more.
fn used(origins: BTreeSet<Origin>, how: Use) -> BTreeSet<Origin> {
    let again = |before: Use| match (how, before) {
        (Use::Counted, _) | (_, Use::Counted) => Use::Counted,
        (Use::Computed, _) | (_, Use::Computed) => Use::Computed,
        (Use::Copied, Use::Copied) => Use::Copied,
    };
    origins.into_iter().map(|(table, column, before)| (table, column, again(before))).collect()
}
