//! Tables at older versions, in the plan of a statement.
//!
//! ```text
//!   FROM gold.kpis VERSION AS OF 17 AS k    DataFusion's planner would leave VERSION AS OF aside without a word
//!        └ engine::as_of finds the table, and puts its number here into the statement
//!   Versioned [ 0: gold.kpis@17 ]           a number of ours: SubqueryAlias gold.kpis over TableScan gold.kpis@17
//!                                           anything else:    refused
//! ```
//!
//! Every session has one without tables, so that no door plans a version as if it had none. The scan has a name of its
//! own: DataFusion takes two scans of one name for the same, whatever they read.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::{Result, TableReference};
use datafusion::datasource::provider_as_source;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlanBuilder;
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use sqlparser::ast::{Expr, TableFactor, TableVersion, Value};

use crate::error::{Error, ErrorKind};

/// A table at a version.
#[derive(Debug, Clone)]
pub struct Then {
    /// What EXPLAIN calls it: two that read other files have other names.
    pub label: String,
    /// Its rows.
    pub table: Arc<dyn TableProvider>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Versioned {
    tables: Vec<Then>,
}

/// Let statements that are planned with this state have these tables, by their numbers.
///
/// # Errors
/// `Internal` where planners cannot be added.
pub fn register(state: &mut SessionState, tables: Vec<Then>) -> crate::error::Result<()> {
    Ok(state.register_relation_planner(Arc::new(Versioned { tables }))?)
}

/// What stands in a statement for the table of this number. No text is parsed to it.
pub fn number(number: usize) -> TableVersion {
    TableVersion::Function(Expr::Value(Value::Number(number.to_string(), false).into()))
}

fn numbered(version: &TableVersion) -> Option<usize> {
    let TableVersion::Function(Expr::Value(value)) = version else { return None };
    match &value.value {
        Value::Number(number, _) => number.parse().ok(),
        _ => None,
    }
}

impl RelationPlanner for Versioned {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        let TableFactor::Table { name, version: Some(version), alias, args: None, .. } = &relation else {
            return match relation {
                TableFactor::Table { version: Some(_), .. } => Err(refused().into()),
                relation => Ok(RelationPlanning::Original(Box::new(relation))),
            };
        };
        let Some(then) = numbered(version).and_then(|number| self.tables.get(number)) else {
            return Err(refused().into());
        };
        let source = provider_as_source(Arc::clone(&then.table));
        let scan = LogicalPlanBuilder::scan(TableReference::bare(then.label.clone()), source, None)?;
        // Its columns are called as those of the table today.
        let plan = scan.alias(context.object_name_to_table_reference(name.clone())?)?.build()?;
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias.clone()))))
    }
}

fn refused() -> Error {
    Error::new(ErrorKind::Definition, "a version of a table cannot be named here")
        .with_hint("a view follows its inputs as they change; AS OF is for queries")
}
