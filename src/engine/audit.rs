//! AUDIT MATERIALIZED VIEW: is a view what its query gives over its inputs, at the view's own epoch?
//!
//! ```text
//!   query over the inputs' versions of that epoch   +1 each row ─┐
//!   the view's rows at its version                  -1 each row ─┴─▶ GROUP BY all columns ─▶ what is left
//! ```
//!
//! As multisets. Floating point may differ by 1e-9 of its size: its sums depend on order. What has expired, of the view or of
//! what it reads, is left out on both sides.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float64Type, Schema};
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::datasource::provider_as_source;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast as cast_expr, lit};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::scalar::ScalarValue;

use crate::engine::statements::no_view;
use crate::engine::{Answer, Engine, Graph};
use crate::epoch::PublishedRecord;
use crate::error::{Error, ErrorKind, Result};
use crate::name::TableName;
use crate::refresh::classify::Shape;
use crate::refresh::execute::{bound_now, collect};
use crate::refresh::pass::ViewSlot;
use crate::refresh::restrict::Moment;
use crate::refresh::rewrite::at;
use crate::refresh::rounded::rounded;
use crate::refresh::weighted::{Weighted, materialize, union, with_weight};

/// Relative difference of floating point values that counts as none.
const FLOAT_TOLERANCE: f64 = 1e-9;

impl Engine {
    /// One row: the view, its rows, how many of the query's rows it lacks, how many it has that the query does not give.
    pub(super) async fn audit(&self, name: &TableName) -> Result<Answer> {
        let graph = Arc::clone(&self.graph.read());
        let Some(slot) = graph.slots.get(name).cloned() else { return Err(no_view(name)) };
        let published = Arc::clone(&self.published.borrow());
        let stands = published.tables.get(name).filter(|state| state.location == slot.location);
        let Some(stands) = stands.filter(|state| state.frontier > 0) else {
            return Err(Error::new(ErrorKind::Definition, format!("{name} has not been refreshed yet")));
        };
        if !slot.view.definition.options.unique_key.is_empty() || slot.view.expectations.removes() {
            return Err(Error::new(ErrorKind::Definition, format!("{name} cannot be audited by its query alone"))
                .with_detail("it removes repetitions or bad rows as they come, by the order in which they came")
                .with_hint("audit the views above it; the counts in system.expectations account for its rows"));
        }
        let record = match stands.frontier == published.epoch {
            true => Arc::clone(&published),
            false => Arc::new(self.published_record(stands.frontier).await?),
        };
        let computed = self.at_epoch(&slot, &record).await?;
        let snapshot = self.storage.snapshot(&slot.location, Some(stands.version)).await?;
        let stored = provider_as_source(self.storage.provider(&snapshot, None));
        let stored = LogicalPlanBuilder::scan("__stored", stored, None)?.build()?;
        let schema = Arc::clone(stored.schema());
        let types = slot.view.schema.fields();
        let casts = computed.schema().columns().into_iter().zip(types.iter());
        let casts = casts.map(|(column, field)| cast_expr(Expr::Column(column), field.data_type().clone()));
        let casts = casts.collect();
        let columns = schema.columns().into_iter().map(Expr::Column).collect();
        let state = bound_now(&self.base, record.now_us);
        let living = self.living(&slot, &graph, &record, &state).await?;
        let side = |plan: LogicalPlan, exprs, weight: i64| -> Result<Weighted> {
            let mut plan = with_weight(plan, exprs, &schema, lit(weight))?;
            for (at, condition) in &living {
                let column = Expr::Column(schema.columns()[*at].clone());
                plan = LogicalPlanBuilder::from(plan).filter(condition(column))?.build()?;
            }
            Ok(Weighted { plan, inserts: false })
        };
        let both = vec![side(computed, casts, 1)?, side(stored, columns, -1)?];
        let left = match union(both)? {
            Some(both) => materialize(&state, both).await?,
            None => None,
        };
        let (missing, unexpected) = left.map(|left| left.sides()).transpose()?.unwrap_or_default();
        let (missing, unexpected) = unlike(&missing, &unexpected)?;
        answer(name, snapshot.rows(), missing, unexpected)
    }

    /// Conditions on columns of the view that leave out what came from expired rows.
    async fn living(
        &self,
        slot: &ViewSlot,
        graph: &Graph,
        record: &PublishedRecord,
        state: &SessionState,
    ) -> Result<Vec<(usize, Condition)>> {
        let view = &slot.view;
        let expired_us = |name: &TableName| record.tables.get(name).and_then(|at| at.totals.expired_us);
        let mut living: Vec<(usize, Condition)> = Vec::new();
        if let (Some(retention), Some(cutoff_us)) = (view.retention.clone(), expired_us(&view.name)) {
            living.push((retention.column, Box::new(move |column| retention.kept(column, cutoff_us))));
        }
        for input in &view.inputs {
            let Some(cutoff_us) = expired_us(input) else { continue };
            let Some(retention) = graph.slots.get(input).and_then(|slot| slot.view.retention.clone()) else { continue };
            let shown = rounded(view.shape.plan(), input, &retention.by).into_iter().next();
            let Some((at, expr)) = shown else {
                return Err(Error::new(
                    ErrorKind::Definition,
                    format!("{} cannot be audited: rows of {input} have expired", view.name),
                )
                .with_detail(format!(
                    "it does not show {}, so that what came from them cannot be left out",
                    retention.by
                ))
                .with_hint("a view that shows it, as it is or by date_trunc, can be audited"));
            };
            if matches!(expr, Expr::Column(_)) {
                living.push((at, Box::new(move |column| retention.kept(column, cutoff_us))));
            } else {
                // Rows that show the moment itself are made of expired ones and others.
                let moment = constant(state, &expr, retention.value(cutoff_us)).await?;
                let moment = moment.cast_to(view.schema.field(at).data_type())?;
                living.push((at, Box::new(move |column| column.clone().gt(lit(moment.clone())).or(column.is_null()))));
            }
        }
        Ok(living)
    }

    /// The view's query over its inputs as this epoch had them.
    async fn at_epoch(&self, slot: &ViewSlot, record: &PublishedRecord) -> Result<LogicalPlan> {
        let mut tables = BTreeMap::new();
        for input in &slot.view.inputs {
            let Some(state) = record.tables.get(input) else {
                return Err(Error::new(ErrorKind::Definition, format!("{input} is not kept: it has no versions"))
                    .with_hint("audit the views that are built on tables"));
            };
            tables.insert(input.clone(), self.storage.snapshot(&state.location, Some(state.version)).await?);
        }
        if let Shape::Full { plan, .. } = &slot.view.shape {
            let providers = tables.iter().map(|(name, snapshot)| (name.clone(), self.storage.provider(snapshot, None)));
            return at(plan, &providers.collect());
        }
        Moment { storage: self.storage.as_ref(), tables, now_us: record.now_us }.at(slot.view.shape.plan())
    }
}

/// A condition on one column.
type Condition = Box<dyn Fn(Expr) -> Expr + Send + Sync>;

/// The value of an expression over one column, where that has this value.
async fn constant(state: &SessionState, expr: &Expr, value: ScalarValue) -> Result<ScalarValue> {
    let bound = expr.clone().transform(|expr| {
        Ok(match expr {
            Expr::Column(_) => Transformed::yes(lit(value.clone())),
            other => Transformed::no(other),
        })
    })?;
    let plan = LogicalPlanBuilder::empty(true).project([bound.data.alias("moment")])?.build()?;
    let rows = collect(state, plan).await?;
    match rows.iter().find(|rows| rows.num_rows() > 0) {
        Some(rows) => Ok(ScalarValue::try_from_array(rows.column(0), 0)?),
        None => Err(Error::new(ErrorKind::Internal, "a constant without a value")),
    }
}

/// How many rows of each side have no like on the other.
fn unlike(missing: &[RecordBatch], unexpected: &[RecordBatch]) -> Result<(u64, u64)> {
    let (mut left, mut right) = (split(missing)?, split(unexpected)?);
    let (mut lacking, mut extra) = (0, 0);
    for (exact, floats) in &mut left {
        let others = right.remove(exact).unwrap_or_default();
        let mut others = others.into_iter().collect::<Vec<_>>();
        for row in floats {
            match others.iter().position(|other| alike(row, other)) {
                Some(found) => {
                    others.swap_remove(found);
                }
                None => lacking += 1,
            }
        }
        extra += others.len() as u64;
    }
    extra += right.values().map(|rows| rows.len() as u64).sum::<u64>();
    Ok((lacking, extra))
}

fn alike(a: &[Option<f64>], b: &[Option<f64>]) -> bool {
    a.iter().zip(b).all(|pair| match pair {
        (None, None) => true,
        (Some(a), Some(b)) => {
            a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= FLOAT_TOLERANCE * a.abs().max(b.abs())
        }
        _ => false,
    })
}

/// Rows by what is exact in them, with their floating point values.
type ByExact = BTreeMap<String, Vec<Vec<Option<f64>>>>;

fn split(batches: &[RecordBatch]) -> Result<ByExact> {
    let options = FormatOptions::default().with_null("\u{0}");
    let mut rows = ByExact::new();
    for batch in batches {
        let (floating, exact): (Vec<&ArrayRef>, Vec<&ArrayRef>) =
            batch.columns().iter().partition(|column| column.data_type().is_floating());
        let floating = floating.into_iter().map(|column| cast(column, &DataType::Float64));
        let floating = floating.collect::<Result<Vec<_>, _>>()?;
        let exact = exact.into_iter().map(|column| ArrayFormatter::try_new(column.as_ref(), &options));
        let exact = exact.collect::<Result<Vec<_>, _>>()?;
        for row in 0..batch.num_rows() {
            let key = exact.iter().map(|cell| cell.value(row).to_string()).collect::<Vec<_>>().join("\u{1}");
            let value =
                |column: &ArrayRef| column.is_valid(row).then(|| column.as_primitive::<Float64Type>().value(row));
            rows.entry(key).or_default().push(floating.iter().map(value).collect());
        }
    }
    Ok(rows)
}

fn answer(name: &TableName, rows: u64, missing: u64, unexpected: u64) -> Result<Answer> {
    let count = |value: u64| Arc::new(Int64Array::from(vec![i64::try_from(value).unwrap_or(i64::MAX)])) as ArrayRef;
    let number = |name: &str| Field::new(name, DataType::Int64, false);
    let schema = Arc::new(Schema::new(vec![
        Field::new("view_name", DataType::Utf8, false),
        number("rows"),
        number("missing"),
        number("unexpected"),
    ]));
    let names = Arc::new(StringArray::from(vec![name.to_string()])) as ArrayRef;
    let columns = vec![names, count(rows), count(missing), count(unexpected)];
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns)?;
    let stream = futures::stream::iter([Ok(batch)]);
    Ok(Answer::Rows { schema: Arc::clone(&schema), stream: Box::pin(RecordBatchStreamAdapter::new(schema, stream)) })
}
