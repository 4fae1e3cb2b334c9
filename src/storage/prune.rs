//! Files that a query need not read.
//!
//! ```text
//!   filters ─┬─ partition columns only ─▶ evaluated on one row per file ─▶ exact: never evaluated again
//!            └─ others ────────────────▶ PruningPredicate over min, max, NULL counts ─▶ may match | cannot match
//! ```

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::catalog::Session;
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{Column, DFSchema};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use datafusion::scalar::ScalarValue;

use crate::error::Result;
use crate::storage::DataFile;

/// A file as a plan needs it; made once for a snapshot.
#[derive(Debug)]
pub(crate) struct Candidate {
    /// The file.
    pub(crate) file: Arc<DataFile>,
    /// What a plan scans, with its partition values, in the order of the partition columns, and its statistics.
    pub(crate) object: PartitionedFile,
}

impl Candidate {
    fn key(&self, at: usize) -> &ScalarValue {
        &self.object.partition_values[at]
    }
}

/// How far a scan carries out `filter` itself.
pub(crate) fn support(filter: &Expr, partitioned_by: &[String]) -> TableProviderFilterPushDown {
    let foreign = filter.exists(|expr| {
        let foreign = matches!(
            expr,
            Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) | Expr::OuterReferenceColumn(..)
        );
        Ok(foreign)
    });
    if filter.is_volatile() || foreign.unwrap_or(true) {
        return TableProviderFilterPushDown::Unsupported;
    }
    match filter.column_refs().iter().all(|column| partitioned_by.contains(&column.name)) {
        true => TableProviderFilterPushDown::Exact,
        false => TableProviderFilterPushDown::Inexact,
    }
}

/// The files that may hold rows that satisfy all `filters`.
///
/// # Errors
/// `Query` when a filter on partition columns fails.
pub(crate) fn prune<'a>(
    session: &dyn Session,
    schema: &SchemaRef,
    partitioned_by: &[String],
    files: &'a [Candidate],
    filters: &[Expr],
) -> Result<Vec<&'a Candidate>> {
    let mut candidates: Vec<&Candidate> = files.iter().collect();
    let (exact, inexact): (Vec<&Expr>, Vec<&Expr>) =
        filters.iter().partition(|filter| support(filter, partitioned_by) == TableProviderFilterPushDown::Exact);
    if let Some(filter) = conjunction(exact.into_iter().cloned()).filter(|_| !candidates.is_empty()) {
        by_partition(session, schema, partitioned_by, filter, &mut candidates)?;
    }
    if let Some(filter) = conjunction(inexact.into_iter().cloned()).filter(|_| !candidates.is_empty()) {
        by_statistics(session, schema, partitioned_by, filter, &mut candidates);
    }
    Ok(candidates)
}

/// Keep the files for whose partition values `filter` is true.
fn by_partition(
    session: &dyn Session,
    schema: &SchemaRef,
    partitioned_by: &[String],
    filter: Expr,
    candidates: &mut Vec<&Candidate>,
) -> Result<()> {
    let fields = partitioned_by.iter().map(|name| schema.field_with_name(name).cloned());
    let fields: Vec<Field> = fields.collect::<Result<_, _>>()?;
    let keys = Arc::new(Schema::new(fields));
    let columns: Result<Vec<ArrayRef>> = (0..partitioned_by.len())
        .map(|at| {
            let values = candidates.iter().map(|candidate| candidate.key(at).clone());
            Ok(ScalarValue::iter_to_array(values)?)
        })
        .collect();
    let options = RecordBatchOptions::new().with_row_count(Some(candidates.len()));
    // A partition column declared NOT NULL may hold NULL in another writer's file; the filter decides about it.
    let nullable = keys.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect::<Vec<_>>();
    let rows = RecordBatch::try_new_with_options(Arc::new(Schema::new(nullable)), columns?, &options)?;
    let predicate = session.create_physical_expr(filter, &DFSchema::try_from(keys)?)?;
    let kept = predicate.evaluate(&rows)?.into_array(candidates.len())?;
    let kept = kept.as_boolean();
    let mut row = 0;
    candidates.retain(|_| {
        row += 1;
        kept.is_valid(row - 1) && kept.value(row - 1)
    });
    Ok(())
}

/// Drop files whose statistics show that `filter` is never true. A filter that cannot be judged drops nothing.
fn by_statistics(
    session: &dyn Session,
    schema: &SchemaRef,
    partitioned_by: &[String],
    filter: Expr,
    candidates: &mut Vec<&Candidate>,
) {
    let kept = || -> Result<Vec<bool>> {
        let predicate = session.create_physical_expr(filter, &DFSchema::try_from(Arc::clone(schema))?)?;
        let predicate = PruningPredicateBuilder::new().with_file_schema(Arc::clone(schema)).try_build(predicate)?;
        let partitions = partitioned_by.iter().enumerate().map(|(at, name)| (name.as_str(), at)).collect();
        Ok(predicate.prune(&Statistics { candidates, schema, partitions })?)
    };
    if let Ok(kept) = kept() {
        let mut kept = kept.into_iter();
        candidates.retain(|_| kept.next().unwrap_or(true));
    }
}

/// What is known about the candidates, a column at a time.
struct Statistics<'a> {
    candidates: &'a [&'a Candidate],
    schema: &'a Schema,
    partitions: HashMap<&'a str, usize>,
}

impl Statistics<'_> {
    fn bounds(&self, column: &Column, upper: bool) -> Option<ArrayRef> {
        let data_type: &DataType = self.schema.field_with_name(&column.name).ok()?.data_type();
        let null = ScalarValue::try_from(data_type).ok()?;
        let values = self.candidates.iter().map(|candidate| match self.partitions.get(column.name.as_str()) {
            Some(&at) => candidate.key(at).clone(),
            None => {
                let stats = candidate.file.stats.get(&column.name);
                let bound = stats.and_then(|stats| if upper { stats.max.clone() } else { stats.min.clone() });
                bound.unwrap_or_else(|| null.clone())
            }
        });
        ScalarValue::iter_to_array(values).ok()
    }
}

impl PruningStatistics for Statistics<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column, false)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column, true)
    }

    fn num_containers(&self) -> usize {
        self.candidates.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let counts = self.candidates.iter().map(|candidate| match self.partitions.get(column.name.as_str()) {
            Some(&at) => Some(if candidate.key(at).is_null() { candidate.file.rows } else { 0 }),
            None => candidate.file.stats.get(&column.name).map(|stats| stats.nulls),
        });
        Some(Arc::new(counts.collect::<UInt64Array>()))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        let counts = self.candidates.iter().map(|candidate| candidate.file.rows);
        Some(Arc::new(UInt64Array::from_iter_values(counts)))
    }

    fn contained(&self, column: &Column, values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        let &at = self.partitions.get(column.name.as_str())?;
        let known = self.candidates.iter().map(|candidate| {
            let value = candidate.key(at);
            (!value.is_null()).then(|| values.contains(value))
        });
        Some(known.collect())
    }
}
