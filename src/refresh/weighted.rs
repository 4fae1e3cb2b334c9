//! Relations with a weight: a change is a relation with one more column, `__weight`, the last one: how many copies of
//! the row came (+) or went (-).
//!
//! ```text
//!   plan ──with_weight──▶ [columns…][__weight] ──collect, consolidate──▶ Moved: net weights, none of them 0
//!                                                                           └──leaf──▶ plan
//! ```

use std::sync::Arc;

use arrow::array::{AsArray, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::common::{DFSchema, DFSchemaRef};
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::execution::SessionState;
use datafusion::functions_aggregate::expr_fn::sum;
use datafusion::logical_expr::logical_plan::{Aggregate, Filter, Projection};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit};

use crate::error::Result;
use crate::refresh::classify::plain;
use crate::refresh::execute::collect;

/// The column of the weight.
pub const WEIGHT: &str = "__weight";

/// A plan with a weight as its last column.
#[derive(Debug, Clone)]
pub struct Weighted {
    /// The plan.
    pub plan: LogicalPlan,
    /// All weights are positive.
    pub inserts: bool,
}

/// A change in memory: net weights.
#[derive(Debug, Clone)]
pub struct Moved {
    /// Rows with their weight as the last column.
    pub batches: Vec<RecordBatch>,
    /// All weights are positive.
    pub inserts: bool,
}

/// The weight of a weighted plan.
pub fn weight() -> Expr {
    plain(WEIGHT)
}

/// `exprs` over `input`, named as the columns of `schema`, and the weight.
///
/// # Errors
/// `Internal`.
pub fn with_weight(input: LogicalPlan, exprs: Vec<Expr>, schema: &DFSchema, weight: Expr) -> Result<LogicalPlan> {
    let named = exprs.into_iter().zip(schema.iter());
    let mut exprs = named.map(|(expr, (qualifier, field))| named_as(expr, qualifier, field.name())).collect::<Vec<_>>();
    exprs.push(weight.alias(WEIGHT));
    Ok(LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(input))?))
}

fn named_as(expr: Expr, qualifier: Option<&datafusion::common::TableReference>, name: &str) -> Expr {
    match &expr {
        Expr::Column(column) if column.relation.as_ref() == qualifier && column.name == name => expr,
        _ => expr.alias_qualified(qualifier.cloned(), name),
    }
}

/// The columns of a weighted plan without its weight.
pub fn columns(plan: &LogicalPlan) -> Vec<Expr> {
    let mut columns = plan.schema().columns();
    columns.pop();
    columns.into_iter().map(Expr::Column).collect()
}

/// UNION ALL of weighted plans of one schema.
///
/// # Errors
/// `Internal`.
pub fn union(mut terms: Vec<Weighted>) -> Result<Option<Weighted>> {
    if terms.len() < 2 {
        return Ok(terms.pop());
    }
    let inserts = terms.iter().all(|term| term.inserts);
    let schema = Arc::clone(terms[0].plan.schema());
    let plans = terms.into_iter().map(|term| term.plan).collect();
    Ok(Some(Weighted { plan: crate::refresh::rewrite::union_all(plans, &schema)?, inserts }))
}

/// Compute a change; `None` when nothing is left of it.
///
/// # Errors
/// `Query`, `Storage`.
pub async fn materialize(state: &SessionState, weighted: Weighted) -> Result<Option<Moved>> {
    let batches = collect(state, weighted.plan).await?;
    let batches = batches.into_iter().filter(|batch| batch.num_rows() > 0).collect::<Vec<_>>();
    let Some(first) = batches.first() else { return Ok(None) };
    if weighted.inserts {
        return Ok(Some(Moved { batches, inserts: true }));
    }
    let schema = first.schema();
    consolidate(state, &schema, batches).await
}

/// Net weights of rows whose last column is a weight.
///
/// # Errors
/// `Query`.
pub async fn consolidate(state: &SessionState, schema: &SchemaRef, batches: Vec<RecordBatch>) -> Result<Option<Moved>> {
    let width = schema.fields().len() - 1;
    let scan = memory(schema, batches)?;
    let keys = (0..width).map(|index| plain(&format!("c{index}"))).collect();
    let net = Aggregate::try_new(Arc::new(scan), keys, vec![sum(plain(&format!("c{width}"))).alias(WEIGHT)])?;
    let some = Filter::try_new(weight().not_eq(lit(0_i64)), Arc::new(LogicalPlan::Aggregate(net)))?;
    let batches = collect(state, LogicalPlan::Filter(some)).await?;
    let mut inserts = true;
    let mut out = Vec::new();
    for batch in batches.into_iter().filter(|batch| batch.num_rows() > 0) {
        inserts &= batch.column(width).as_primitive::<Int64Type>().values().iter().all(|weight| *weight > 0);
        out.push(RecordBatch::try_new(nullable(schema), batch.columns().to_vec())?);
    }
    Ok((!out.is_empty()).then_some(Moved { batches: out, inserts }))
}

/// Batches as a table with columns `c0, c1, …`.
fn memory(schema: &SchemaRef, batches: Vec<RecordBatch>) -> Result<LogicalPlan> {
    let fields = schema.fields().iter().enumerate();
    let fields = fields.map(|(index, field)| Field::new(format!("c{index}"), field.data_type().clone(), true));
    let names = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let batches = batches.into_iter().map(|batch| RecordBatch::try_new(Arc::clone(&names), batch.columns().to_vec()));
    let batches = batches.collect::<Result<Vec<_>, _>>()?;
    let table = MemTable::try_new(names, vec![batches])?;
    Ok(LogicalPlanBuilder::scan("__moved", provider_as_source(Arc::new(table)), None)?.build()?)
}

fn nullable(schema: &SchemaRef) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

impl Moved {
    /// The change as a plan with the columns of `schema`, and the weight.
    ///
    /// # Errors
    /// `Internal`.
    pub fn leaf(&self, schema: &DFSchemaRef) -> Result<Weighted> {
        let stored = self.batches.first().map_or_else(|| Arc::new(Schema::empty()), RecordBatch::schema);
        let scan = memory(&stored, self.batches.clone())?;
        let mut exprs = scan.schema().columns().into_iter().map(Expr::Column).collect::<Vec<_>>();
        let weight = exprs.pop().unwrap_or_else(|| lit(1_i64));
        Ok(Weighted { plan: with_weight(scan, exprs, schema, weight)?, inserts: self.inserts })
    }

    /// The same change under the names of `schema`.
    ///
    /// # Errors
    /// `Internal`.
    pub fn named(self, schema: &SchemaRef) -> Result<Self> {
        let mut fields = schema.fields().to_vec();
        fields.push(Arc::new(Field::new(WEIGHT, DataType::Int64, true)));
        let schema = Arc::new(Schema::new(fields));
        let named = |batch: RecordBatch| Ok(RecordBatch::try_new(Arc::clone(&schema), batch.columns().to_vec())?);
        let batches = self.batches.into_iter().map(named).collect::<Result<Vec<_>>>()?;
        Ok(Self { batches, inserts: self.inserts })
    }

    /// The rows that came and the rows that went, each as often as it did, without the weight.
    ///
    /// # Errors
    /// `Internal`.
    pub fn sides(&self) -> Result<(Vec<RecordBatch>, Vec<RecordBatch>)> {
        let (mut came, mut went) = (Vec::new(), Vec::new());
        for batch in &self.batches {
            let width = batch.num_columns() - 1;
            let weights = batch.column(width).as_primitive::<Int64Type>();
            let rows = batch.project(&(0..width).collect::<Vec<_>>())?;
            for (side, sign) in [(&mut came, 1), (&mut went, -1)] {
                let copies = (0_u32..).zip(weights.values()).filter(|(_, weight)| weight.signum() == sign);
                let indices = copies.flat_map(|(row, weight)| {
                    std::iter::repeat_n(row, usize::try_from(weight.unsigned_abs()).unwrap_or(usize::MAX))
                });
                let indices = UInt32Array::from_iter_values(indices);
                if !indices.is_empty() {
                    side.push(take_record_batch(&rows, &indices)?);
                }
            }
        }
        Ok((came, went))
    }
}

/// Rows with a weight of their own each.
///
/// # Errors
/// `Internal`.
pub fn weigh(batches: &[RecordBatch], weight: i64) -> Result<Vec<RecordBatch>> {
    let weigh = |batch: &RecordBatch| {
        let mut fields = batch.schema().fields().to_vec();
        fields.push(Arc::new(Field::new(WEIGHT, DataType::Int64, false)));
        let mut columns = batch.columns().to_vec();
        columns.push(Arc::new(arrow::array::Int64Array::from(vec![weight; batch.num_rows()])));
        Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
    };
    batches.iter().map(weigh).collect()
}

/// All rows in one batch.
///
/// # Errors
/// `Internal`.
pub fn one(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<RecordBatch> {
    Ok(concat_batches(schema, batches)?)
}
