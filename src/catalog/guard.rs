//! A table behind its policies: a barrier that nothing of a query goes through.
//!
//! ```text
//!   the user's query        ... Filter 1/(price - 5) > 0 ...            everything of the user's stays above
//!   ────────────────────────── Guarded (a leaf: nothing to look into, no statistics, no order) ──────────────
//!                            Projection   the columns that were asked for
//!                            Filter       conditions of the query that cannot fail: column =, <, IN, IS NULL a value
//!                            Projection   masks
//!                            Filter       policies                       pruned down to files and row groups
//!                            TableScan    the table at its pinned version
//! ```
//!
//! What is below is planned and optimized on its own, so the optimizer of the query can neither move a condition into it
//! nor answer from the table's statistics. Its errors say nothing of the rows: they are logged, and one text stands for
//! all of them. EXPLAIN shows one line, EXPLAIN ANALYZE counts the rows that came through.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Column, DataFusionError, Result};
use datafusion::datasource::provider_as_source;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{
    BinaryExpr, Expr, LogicalPlanBuilder, Operator, TableProviderFilterPushDown, TableType,
};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
};
use futures::StreamExt;

use crate::catalog::access::secret;
use crate::catalog::policy;
use crate::error::{Error, ErrorKind};
use crate::name::TableName;
use crate::storage::{Parts, parts_of};

/// What one principal sees of a table.
#[derive(Debug)]
pub struct Guarded {
    /// Its name, for messages.
    pub name: TableName,
    /// The table.
    pub table: Arc<dyn TableProvider>,
    /// Which rows; `Err` tells why none can be shown.
    pub rows: std::result::Result<Option<Expr>, Error>,
    /// What stands in the place of columns, by their index.
    pub masks: Vec<(usize, Expr)>,
}

impl Guarded {
    /// Its rows are those of its files, whenever it is asked.
    fn lasts(&self) -> bool {
        let masks = self.masks.iter().map(|(_, mask)| mask);
        match &self.rows {
            Ok(rows) => !rows.iter().chain(masks).any(policy::moves),
            Err(_) => false,
        }
    }
}

/// The files of a table as a session has it, by this partition column, and among them the rule that they are seen by:
/// where both are equal, the rows are. `None` where something else decides, such as the time in a policy.
pub fn parts(table: &dyn TableProvider, column: &str) -> Option<Parts> {
    let any: &dyn Any = table;
    match any.downcast_ref::<Guarded>() {
        None => parts_of(table, column),
        Some(guarded) if guarded.lasts() => {
            let rule = secret::digest(&format!("{:?} {:?}", guarded.rows, guarded.masks));
            Some(parts_of(guarded.table.as_ref(), column)?.under(&rule))
        }
        Some(_) => None,
    }
}

/// The table itself, for what is not its rows.
pub fn below(table: &dyn TableProvider) -> &dyn TableProvider {
    let any: &dyn Any = table;
    any.downcast_ref::<Guarded>().map_or(table, |guarded| guarded.table.as_ref())
}

/// Other rows of the same columns, behind whatever this table is behind.
pub fn likewise(table: &dyn TableProvider, other: Arc<dyn TableProvider>) -> Arc<dyn TableProvider> {
    let any: &dyn Any = table;
    match any.downcast_ref::<Guarded>() {
        None => other,
        Some(Guarded { name, rows, masks, .. }) => {
            Arc::new(Guarded { name: name.clone(), table: other, rows: rows.clone(), masks: masks.clone() })
        }
    }
}

#[async_trait]
impl TableProvider for Guarded {
    fn schema(&self) -> SchemaRef {
        self.table.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let judge = |filter: &&Expr| match cannot_fail(filter) {
            true => TableProviderFilterPushDown::Inexact,
            false => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(judge).collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let rows = self.rows.as_ref().map_err(|error| DataFusionError::from(error.clone()))?;
        let schema = self.schema();
        let mut plan = LogicalPlanBuilder::scan("guarded", provider_as_source(Arc::clone(&self.table)), None)?;
        if let Some(rows) = rows {
            plan = plan.filter(rows.clone())?;
        }
        if !self.masks.is_empty() {
            let shown = schema.fields().iter().enumerate().map(|(index, field)| {
                match self.masks.iter().find(|(masked, _)| *masked == index) {
                    Some((_, mask)) => mask.clone().alias(field.name()),
                    None => column(field.name()),
                }
            });
            plan = plan.project(shown.collect::<Vec<_>>())?;
        }
        for filter in filters.iter().filter(|filter| cannot_fail(filter)) {
            plan = plan.filter(filter.clone())?;
        }
        let schema = match projection {
            Some(columns) => Arc::new(schema.project(columns)?),
            None => schema,
        };
        if projection.is_some() {
            plan = plan.project(schema.fields().iter().map(|field| column(field.name())))?;
        }
        let plan = plan.limit(0, limit)?.build()?;
        let inner = state.create_physical_plan(&plan).await.map_err(|error| silenced(&self.name, &error))?;
        // How many parts there are follows from files and rows of everybody.
        let inner: Arc<dyn ExecutionPlan> = match inner.output_partitioning().partition_count() {
            1 => inner,
            _ => Arc::new(CoalescePartitionsExec::new(inner)),
        };
        Ok(Arc::new(Barrier::new(self.name.clone(), inner, schema)))
    }
}

/// A column by its exact name.
fn column(name: &str) -> Expr {
    Expr::Column(Column::from_name(name))
}

/// A condition that gives an answer for every value, without an error and without being seen.
fn cannot_fail(filter: &Expr) -> bool {
    let value = |expr: &Expr| matches!(expr, Expr::Literal(..));
    let column = |expr: &Expr| matches!(expr, Expr::Column(_));
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And | Operator::Or, right }) => {
            cannot_fail(left) && cannot_fail(right)
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            compares(*op) && (column(left) && value(right) || value(left) && column(right))
        }
        Expr::Not(inner) => cannot_fail(inner),
        Expr::IsNull(inner) | Expr::IsNotNull(inner) => column(inner),
        Expr::InList(list) => column(&list.expr) && list.list.iter().all(value),
        Expr::Between(between) => column(&between.expr) && value(&between.low) && value(&between.high),
        Expr::Column(_) => true,
        _ => false,
    }
}

fn compares(op: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

fn silenced(name: &TableName, error: &DataFusionError) -> DataFusionError {
    tracing::warn!(table = %name, %error, "a table could not be read behind its policies");
    let text = format!("{name} could not be read behind its policies");
    Error::new(ErrorKind::Query, text).with_detail("the server's log tells why").into()
}

/// The plan below, out of reach.
#[derive(Debug)]
struct Barrier {
    name: TableName,
    inner: Arc<dyn ExecutionPlan>,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl Barrier {
    fn new(name: TableName, inner: Arc<dyn ExecutionPlan>, schema: SchemaRef) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(inner.output_partitioning().partition_count()),
            inner.pipeline_behavior(),
            inner.boundedness(),
        );
        Self { name, inner, schema, properties: Arc::new(properties), metrics: ExecutionPlanMetricsSet::new() }
    }
}

impl DisplayAs for Barrier {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Guarded: {}", self.name)
    }
}

impl ExecutionPlan for Barrier {
    fn name(&self) -> &'static str {
        "Guarded"
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let (name, schema) = (self.name.clone(), Arc::clone(&self.schema));
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let rows = self.inner.execute(partition, context).map_err(|error| silenced(&name, &error))?;
        let shown = rows.map(move |batch| {
            let batch = batch.and_then(|batch| {
                metrics.record_output(batch.num_rows());
                let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
                Ok(RecordBatch::try_new_with_options(Arc::clone(&schema), batch.columns().to_vec(), &options)?)
            });
            batch.map_err(|error| silenced(&name, &error))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), shown)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

#[cfg(test)]
mod tests {
    use datafusion::logical_expr::{col, lit, try_cast};

    use super::*;

    #[test]
    fn only_what_gives_an_answer_for_every_value_goes_down() {
        let price = || col("price");
        for harmless in [
            price().eq(lit(5)),
            lit(5).lt(price()).and(price().is_null().or(price().in_list(vec![lit(1)], true))),
            price().between(lit(1), lit(2)),
        ] {
            assert!(cannot_fail(&harmless), "{harmless}");
        }
        for telling in [
            (lit(1) / (price() - lit(5))).gt(lit(0)),
            datafusion::logical_expr::cast(price(), arrow::datatypes::DataType::Int32).eq(lit(1)),
            try_cast(price(), arrow::datatypes::DataType::Int32).is_null(),
            price().eq(col("cost") + lit(1)),
            price().eq(lit(1)).or((lit(1) / price()).eq(lit(1))),
            price().like(lit("%")),
        ] {
            assert!(!cannot_fail(&telling), "{telling}");
        }
    }
}
