//! A plan at one version of its inputs, restricted to the rows of some keys.
//!
//! ```text
//!   restrict(σ A, K) = σ restrict(A, K)             a projection renames K, an alias too
//!   restrict(A join B, K) = restrict(A, K of A) join restrict(B, K of B, and of A where they are equal)
//!   restrict(γ A, K) = γ restrict(A, K)             where K are group keys; windows: partition keys
//!   restrict(scan, K) = the files that may hold K, semi-joined with K
//! ```
//!
//! What cannot be pushed down is a semi-join where it stands; NULL equals NULL.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{Field, Schema};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, NullEquality};
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::logical_expr::logical_plan::{Join, SubqueryAlias, TableScanBuilder, Union};
use datafusion::logical_expr::{Expr, JoinConstraint, JoinType, LogicalPlan, LogicalPlanBuilder, TableScan, col};

use crate::error::{Error, ErrorKind, Result};
use crate::name::TableName;
use crate::refresh::compile::table_name;
use crate::refresh::normalize::bind_now;
use crate::refresh::prune::{KeyColumn, may_hold};
use crate::storage::{Snapshot, Storage};

/// Distinct keys, one column for each part; without columns it stands for everything.
#[derive(Debug, Clone)]
pub struct Keys {
    batch: RecordBatch,
}

impl Keys {
    /// From columns of equal length.
    ///
    /// # Errors
    /// `Internal`.
    pub fn new(columns: Vec<ArrayRef>, rows: usize) -> Result<Self> {
        let fields = columns.iter().enumerate();
        let fields = fields.map(|(index, column)| Field::new(format!("k{index}"), column.data_type().clone(), true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(Self { batch: RecordBatch::try_new_with_options(schema, columns, &options)? })
    }

    /// All of these, whose parts are of the same types; a key may be there more than once.
    ///
    /// # Errors
    /// `Internal`.
    pub fn all(some: &[Self]) -> Result<Self> {
        let schema = some[0].batch.schema();
        let mut batches = Vec::with_capacity(some.len());
        for keys in some {
            let columns = keys.columns().iter().zip(schema.fields());
            let columns = columns.map(|(column, field)| arrow::compute::cast(column, field.data_type()));
            batches.push(RecordBatch::try_new(Arc::clone(&schema), columns.collect::<Result<Vec<_>, _>>()?)?);
        }
        Ok(Self { batch: arrow::compute::concat_batches(&schema, &batches)? })
    }

    /// Some of them.
    ///
    /// # Errors
    /// `Internal` for a mask of another length.
    pub fn filtered(&self, mask: &arrow::array::BooleanArray) -> Result<Self> {
        Ok(Self { batch: arrow::compute::filter_record_batch(&self.batch, mask)? })
    }

    /// The columns.
    pub fn columns(&self) -> &[ArrayRef] {
        self.batch.columns()
    }

    /// How many keys.
    pub fn len(&self) -> usize {
        self.batch.num_rows()
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Everything is meant: the key has no parts.
    pub fn is_everything(&self) -> bool {
        self.batch.num_columns() == 0
    }
}

/// Expressions over a plan that equal parts of the keys.
#[derive(Debug, Clone)]
pub struct Restriction<'a> {
    /// The keys.
    pub keys: &'a Keys,
    /// (expression, part of the key).
    pub parts: Vec<(Expr, usize)>,
}

/// The inputs at one moment.
#[derive(Debug)]
pub struct Moment<'a> {
    /// The lake.
    pub storage: &'a dyn Storage,
    /// Every input at its version.
    pub tables: BTreeMap<TableName, Snapshot>,
    /// What `now()` means, in microseconds since 1970 UTC.
    pub now_us: i64,
}

impl Moment<'_> {
    /// The plan at this moment.
    ///
    /// # Errors
    /// `Internal`.
    pub fn at(&self, plan: &LogicalPlan) -> Result<LogicalPlan> {
        self.restricted(plan, None)
    }

    /// The plan at this moment, restricted.
    ///
    /// # Errors
    /// `Internal`.
    pub fn restricted(&self, plan: &LogicalPlan, to: Option<&Restriction<'_>>) -> Result<LogicalPlan> {
        let to = to.filter(|to| !to.parts.is_empty());
        let (bound, exact) = match plan {
            LogicalPlan::TableScan(scan) => (self.scan(scan, to)?, false),
            LogicalPlan::Projection(projection) => {
                let through =
                    |expr: &Expr| replaced(expr, &projection.schema, |index| Some(projection.expr[index].clone()));
                self.single(plan, &projection.input, to, through)?
            }
            LogicalPlan::SubqueryAlias(alias) => {
                let inner = alias.input.schema().columns();
                let through =
                    |expr: &Expr| replaced(expr, &alias.schema, |index| Some(Expr::Column(inner[index].clone())));
                let below = to.and_then(|to| to.through(through));
                let input = self.restricted(&alias.input, below.as_ref())?;
                let alias = SubqueryAlias::try_new(Arc::new(input), alias.alias.clone())?;
                (LogicalPlan::SubqueryAlias(alias), below.is_some())
            }
            LogicalPlan::Filter(filter) => self.single(plan, &filter.input, to, |expr| Some(expr.clone()))?,
            LogicalPlan::Sort(sort) => self.single(plan, &sort.input, to, |expr| Some(expr.clone()))?,
            LogicalPlan::Aggregate(aggregate) if crate::refresh::keyed::plain_groups(aggregate) => {
                let groups = &aggregate.group_expr;
                let through = |expr: &Expr| replaced(expr, &aggregate.schema, |index| groups.get(index).cloned());
                self.single(plan, &aggregate.input, to, through)?
            }
            LogicalPlan::Window(window) => {
                let parts = crate::refresh::keyed::partition_columns(window);
                let through = |expr: &Expr| parts.contains(expr).then(|| expr.clone());
                self.single(plan, &window.input, to, through)?
            }
            LogicalPlan::Union(union) => self.union(union, to)?,
            LogicalPlan::Join(join) => self.join(join, to)?,
            _ => {
                let inputs = plan.inputs().into_iter().map(|input| self.at(input)).collect::<Result<Vec<_>>>()?;
                (self.rebuilt(plan, inputs)?, false)
            }
        };
        match to {
            Some(to) if !exact => semi_join(bound, to),
            _ => Ok(bound),
        }
    }

    /// A node of one input; the restriction goes below it where `through` can say it there.
    fn single(
        &self,
        plan: &LogicalPlan,
        input: &LogicalPlan,
        to: Option<&Restriction<'_>>,
        through: impl Fn(&Expr) -> Option<Expr>,
    ) -> Result<(LogicalPlan, bool)> {
        let below = to.and_then(|to| to.through(through));
        let input = self.restricted(input, below.as_ref())?;
        Ok((self.rebuilt(plan, vec![input])?, below.is_some()))
    }

    /// The same node over other inputs, with the moment in its expressions.
    ///
    /// # Errors
    /// `Internal`.
    pub fn rebuilt(&self, plan: &LogicalPlan, inputs: Vec<LogicalPlan>) -> Result<LogicalPlan> {
        let exprs =
            plan.expressions().into_iter().map(|expr| bind_now(expr, self.now_us)).collect::<Result<Vec<_>>>()?;
        Ok(plan.with_new_exprs(exprs, inputs)?)
    }

    fn scan(&self, scan: &TableScan, to: Option<&Restriction<'_>>) -> Result<LogicalPlan> {
        let name = table_name(&scan.table_name);
        let Some(snapshot) = self.tables.get(&name) else {
            return Err(Error::new(ErrorKind::Internal, format!("no version of {name} to read")));
        };
        let files = match to {
            None => None,
            Some(to) => {
                let columns = to.parts.iter().filter_map(|(expr, part)| match expr {
                    Expr::Column(column) => {
                        Some(KeyColumn { name: column.name.clone(), values: Arc::clone(&to.keys.columns()[*part]) })
                    }
                    _ => None,
                });
                let columns = columns.collect::<Vec<_>>();
                Some(may_hold(&snapshot.files, &snapshot.partitioned_by, &columns, to.keys.len())?)
            }
        };
        let provider = self.storage.provider(snapshot, files);
        let scan = TableScanBuilder::new(scan.table_name.clone(), provider_as_source(provider))
            .with_projection(scan.projection.clone())
            .with_filters(scan.filters.clone())
            .build()?;
        Ok(LogicalPlan::TableScan(scan))
    }

    fn union(&self, union: &Union, to: Option<&Restriction<'_>>) -> Result<(LogicalPlan, bool)> {
        let mut inputs = Vec::with_capacity(union.inputs.len());
        let mut exact = true;
        for input in &union.inputs {
            let columns = input.schema().columns();
            let through =
                |expr: &Expr| replaced(expr, &union.schema, |index| Some(Expr::Column(columns[index].clone())));
            let below = to.and_then(|to| to.through(through));
            exact &= below.is_some();
            inputs.push(Arc::new(self.restricted(input, below.as_ref())?));
        }
        Ok((LogicalPlan::Union(Union { inputs, schema: Arc::clone(&union.schema) }), exact))
    }

    fn join(&self, join: &Join, to: Option<&Restriction<'_>>) -> Result<(LogicalPlan, bool)> {
        let sides = to.map_or_else(Sides::default, |to| sides_of(join, to));
        let left = self.restricted(&join.left, sides.left.as_ref())?;
        let right = self.restricted(&join.right, sides.right.as_ref())?;
        Ok((self.rebuilt(&LogicalPlan::Join(join.clone()), vec![left, right])?, sides.exact))
    }
}

impl Restriction<'_> {
    /// The same restriction said over an input; `None` where a part cannot be.
    fn through(&self, through: impl Fn(&Expr) -> Option<Expr>) -> Option<Self> {
        let parts = self.parts.iter().map(|(expr, part)| Some((through(expr)?, *part)));
        Some(Self { keys: self.keys, parts: parts.collect::<Option<Vec<_>>>()? })
    }
}

/// A restriction of a join's rows, said over its inputs.
#[derive(Debug, Default)]
struct Sides<'a> {
    left: Option<Restriction<'a>>,
    right: Option<Restriction<'a>>,
    /// Nothing is left to be checked above the join.
    exact: bool,
}

/// What a restriction of a join's rows says of its sides. A side that keeps its unmatched rows must own every part of
/// the key; the other side then needs only what can match.
fn sides_of<'a>(join: &Join, to: &Restriction<'a>) -> Sides<'a> {
    use JoinType::{Full, Inner, Left, LeftAnti, LeftMark, LeftSemi, Right, RightAnti, RightMark, RightSemi};
    let within = |expr: &Expr, schema: &DFSchema| {
        let columns = expr.column_refs();
        !columns.is_empty() && columns.iter().all(|column| schema.has_column(column))
    };
    let (mut left, mut right) = (Vec::new(), Vec::new());
    let (mut of_left, mut of_right) = (0, 0);
    for (expr, part) in &to.parts {
        if within(expr, join.left.schema()) {
            of_left += 1;
            left.push((expr.clone(), *part));
            right.extend(join.on.iter().filter(|(l, _)| l == expr).map(|(_, r)| (r.clone(), *part)));
        } else if within(expr, join.right.schema()) {
            of_right += 1;
            right.push((expr.clone(), *part));
            left.extend(join.on.iter().filter(|(_, r)| r == expr).map(|(l, _)| (l.clone(), *part)));
        }
    }
    let all = to.parts.len();
    let (push, exact) = match join.join_type {
        Inner => (true, of_left == all || of_right == all),
        Left | LeftSemi | LeftAnti | LeftMark => (of_left == all, of_left == all),
        Right | RightSemi | RightAnti | RightMark => (of_right == all, of_right == all),
        Full => (false, false),
    };
    if !push {
        return Sides::default();
    }
    let restriction = |parts: Vec<(Expr, usize)>| (!parts.is_empty()).then_some(Restriction { keys: to.keys, parts });
    Sides { left: restriction(left), right: restriction(right), exact }
}

/// `expr` with the columns of `schema` replaced by what stands behind them.
fn replaced(expr: &Expr, schema: &DFSchema, behind: impl Fn(usize) -> Option<Expr>) -> Option<Expr> {
    let mut missing = false;
    let out = expr.clone().transform_up(|node| {
        let Expr::Column(column) = &node else { return Ok(Transformed::no(node)) };
        match schema.maybe_index_of_column(column).and_then(&behind) {
            Some(expr) => Ok(Transformed::yes(expr.unalias())),
            None => {
                missing = true;
                Ok(Transformed::no(node))
            }
        }
    });
    out.ok().filter(|_| !missing).map(|out| out.data)
}

/// Rows of the plan whose parts are among the keys.
fn semi_join(plan: LogicalPlan, to: &Restriction<'_>) -> Result<LogicalPlan> {
    let table = MemTable::try_new(to.keys.batch.schema(), vec![vec![to.keys.batch.clone()]])?;
    let keys = LogicalPlanBuilder::scan("__keys", provider_as_source(Arc::new(table)), None)?.build()?;
    let on = to.parts.iter().map(|(expr, part)| (expr.clone(), col(Column::new(Some("__keys"), format!("k{part}")))));
    Ok(LogicalPlan::Join(Join::try_new(
        Arc::new(plan),
        Arc::new(keys),
        on.collect(),
        None,
        JoinType::LeftSemi,
        JoinConstraint::On,
        NullEquality::NullEqualsNull,
        false,
    )?))
}
