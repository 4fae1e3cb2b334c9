//! From a view's plan to the plan of its change.
//!
//! ```text
//!   d(Scan T)        = the rows that came to T
//!   d(Filter A)      = Filter dA          likewise Projection, Alias, Unnest
//!   d(A union all B) = dA union all dB
//!   d(A join B)      = dA join B_new  union all  A_old join dB        each occurrence of a table is a leaf of its own
//! ```
//!
//! The bilinear rule with versions in place of stored join state: Gupta & Mumick, "Maintenance of Materialized Views"
//! (1995), and its use over table versions in OpenIVM. All changes here are insertions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::DFSchemaRef;
use datafusion::common::tree_node::Transformed;
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::logical_plan::{EmptyRelation, Projection, TableScanBuilder, Union};
use datafusion::logical_expr::{Expr, LogicalPlan, TableScan};

use crate::error::{Error, ErrorKind, Result};
use crate::name::TableName;
use crate::refresh::classify::plain;
use crate::refresh::compile::table_name;

/// Tables to put in place of scans, by name.
pub type Providers = BTreeMap<TableName, Arc<dyn TableProvider>>;

/// What the inputs hold, for one refresh.
#[derive(Debug, Default)]
pub struct Versions {
    /// The rows that came; tables without a change are left out.
    pub change: Providers,
    /// Inputs as the view has seen them last.
    pub old: Providers,
    /// Inputs as they are in this epoch.
    pub new: Providers,
}

/// Which tables a delta plan reads beyond the changes themselves.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// At the version that was seen last.
    pub old: BTreeSet<TableName>,
    /// At this epoch's version.
    pub new: BTreeSet<TableName>,
}

/// What `delta` will need, when these tables have changed.
pub fn needs(plan: &LogicalPlan, changed: &BTreeSet<TableName>) -> Needs {
    let mut needs = Needs::default();
    collect_needs(plan, changed, &mut needs);
    needs
}

fn collect_needs(plan: &LogicalPlan, changed: &BTreeSet<TableName>, needs: &mut Needs) {
    if let LogicalPlan::Join(join) = plan {
        if scans(&join.left).iter().any(|name| changed.contains(name)) {
            needs.new.extend(scans(&join.right));
        }
        if scans(&join.right).iter().any(|name| changed.contains(name)) {
            needs.old.extend(scans(&join.left));
        }
    }
    plan.inputs().into_iter().for_each(|input| collect_needs(input, changed, needs));
}

fn scans(plan: &LogicalPlan) -> BTreeSet<TableName> {
    let mut found = BTreeSet::new();
    if let LogicalPlan::TableScan(scan) = plan {
        found.insert(table_name(&scan.table_name));
    }
    for input in plan.inputs() {
        found.extend(scans(input));
    }
    found
}

/// How many scans the plan has.
pub fn leaves(plan: &LogicalPlan) -> usize {
    usize::from(matches!(plan, LogicalPlan::TableScan(_))) + plan.inputs().into_iter().map(leaves).sum::<usize>()
}

/// The plan of the rows that come to a linear plan's result; `None` when none can.
///
/// # Errors
/// `Internal` when a version is missing, or the plan is not linear.
pub fn delta(plan: &LogicalPlan, versions: &Versions) -> Result<Option<LogicalPlan>> {
    match plan {
        LogicalPlan::TableScan(scan) => {
            let change = versions.change.get(&table_name(&scan.table_name));
            change.map(|provider| replace(scan, provider)).transpose()
        }
        LogicalPlan::Union(union) => {
            let mut branches = Vec::with_capacity(union.inputs.len());
            let mut any = false;
            for input in &union.inputs {
                branches.push(Arc::new(match delta(input, versions)? {
                    Some(branch) => {
                        any = true;
                        branch
                    }
                    None => empty(input),
                }));
            }
            let schema = Arc::clone(&union.schema);
            Ok(any.then_some(LogicalPlan::Union(Union { inputs: branches, schema })))
        }
        LogicalPlan::Join(join) => {
            let mut terms = Vec::new();
            if let Some(left) = delta(&join.left, versions)? {
                terms.push(plan.with_new_exprs(plan.expressions(), vec![left, at(&join.right, &versions.new)?])?);
            }
            if let Some(right) = delta(&join.right, versions)? {
                terms.push(plan.with_new_exprs(plan.expressions(), vec![at(&join.left, &versions.old)?, right])?);
            }
            match terms.len() {
                0 | 1 => Ok(terms.pop()),
                _ => union_all(terms, &join.schema).map(Some),
            }
        }
        _ => match plan.inputs().as_slice() {
            [input] => {
                let Some(input) = delta(input, versions)? else { return Ok(None) };
                Ok(Some(plan.with_new_exprs(plan.expressions(), vec![input])?))
            }
            _ => Err(Error::new(ErrorKind::Internal, format!("no delta rule for {}", plan.display()))),
        },
    }
}

/// The plan over these tables.
///
/// # Errors
/// `Internal` when one is missing.
pub fn at(plan: &LogicalPlan, tables: &Providers) -> Result<LogicalPlan> {
    let replaced = plan.clone().transform_up_with_subqueries(|node| match &node {
        LogicalPlan::TableScan(scan) => {
            let name = table_name(&scan.table_name);
            let Some(provider) = tables.get(&name) else {
                return Err(Error::new(ErrorKind::Internal, format!("no version of {name} to read")).into());
            };
            Ok(Transformed::yes(replace(scan, provider)?))
        }
        _ => Ok(Transformed::no(node)),
    })?;
    Ok(replaced.data)
}

/// UNION ALL of plans with this schema. A union knows no qualifiers, and the two sides of a join may have columns of
/// the same name: its columns get names of their own, and their old ones back above it.
///
/// # Errors
/// `Internal`.
pub fn union_all(terms: Vec<LogicalPlan>, schema: &DFSchemaRef) -> Result<LogicalPlan> {
    let mut inputs = Vec::with_capacity(terms.len());
    for term in terms {
        let columns = term.schema().columns().into_iter().enumerate();
        let exprs = columns.map(|(index, column)| Expr::Column(column).alias(format!("__u{index}"))).collect();
        inputs.push(Arc::new(LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(term))?)));
    }
    let union = LogicalPlan::Union(Union::try_new(inputs)?);
    let exprs = schema.iter().enumerate().map(|(index, (qualifier, field))| {
        plain(&format!("__u{index}")).alias_qualified(qualifier.cloned(), field.name())
    });
    Ok(LogicalPlan::Projection(Projection::try_new(exprs.collect(), Arc::new(union))?))
}

/// The same scan of another table.
///
/// # Errors
/// `Internal`.
pub fn replace(scan: &TableScan, provider: &Arc<dyn TableProvider>) -> Result<LogicalPlan> {
    let scan = TableScanBuilder::new(scan.table_name.clone(), provider_as_source(Arc::clone(provider)))
        .with_projection(scan.projection.clone())
        .with_filters(scan.filters.clone())
        .build()?;
    Ok(LogicalPlan::TableScan(scan))
}

fn empty(plan: &LogicalPlan) -> LogicalPlan {
    LogicalPlan::EmptyRelation(EmptyRelation { produce_one_row: false, schema: Arc::clone(plan.schema()) })
}
