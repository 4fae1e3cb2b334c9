//! How long the rows of a view stay. Expiry is no change: what is built on the view keeps what it made of them.
//!
//! ```text
//!                          epoch E
//!   inputs ──change──▶ view ──change──▶ views above it     late rows are counted there, too
//!                        │
//!                        └─ at the end of E: rows with retention_by < cutoff(E) go     `expire`
//!                                │            one commit, which is no change to the views above
//!                                ▼
//!                           what readers see of E
//! ```
//!
//! A view that reads its inputs again (by key, or in full) would lose what it made of expired rows: it is refused over such
//! an input, unless its definition says `expired_inputs = 'ignore'`. A change that takes rows away leaves alone what has
//! expired: those rows have gone already.

use std::collections::BTreeSet;

use arrow::array::{BooleanArray, Datum};
use arrow::compute::kernels::cmp::gt_eq;
use arrow::compute::{filter_record_batch, is_null, or};
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use arrow::record_batch::RecordBatch;
use datafusion::logical_expr::{Expr, LogicalPlan, lit};
use datafusion::scalar::ScalarValue;

use crate::error::{Error, ErrorKind, Result};
use crate::name::TableName;
use crate::parser::{CreateMaterializedView, RefreshMode};
use crate::refresh::classify::{Shape, linear, plain};
use crate::refresh::compile::{Readable, ReadableKind, names};
use crate::refresh::execute::mask;
use crate::refresh::keyed::shown_key;
use crate::storage::DataFile;

/// Steps in which a retention moves on: rows stay up to a twenty-fourth longer than it says.
const STEPS: i64 = 24;
/// The longest step, in microseconds: a day.
const STEP_US_MAX: i64 = 86_400_000_000;
/// The shortest step, in microseconds: a second.
const STEP_US_MIN: i64 = 1_000_000;
const DAY_US: i64 = 86_400_000_000;

/// How long the rows of a view stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// The column that tells when a row is of: its name.
    pub by: String,
    /// Its place among the view's columns.
    pub column: usize,
    /// Its type: a timestamp in microseconds, or a date.
    pub data_type: DataType,
    /// How long, in microseconds.
    pub keep_us: i64,
    /// Where the view is kept by merging groups: which part of the group key the column is.
    pub key: Option<usize>,
}

/// What becomes of a file when rows expire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// None of its rows has expired.
    Stays,
    /// All of them have.
    Goes,
    /// It has to be read.
    Split,
}

impl Retention {
    /// What a definition says; `None` where rows stay without end.
    ///
    /// # Errors
    /// `Definition` for a column that is not there, or of another type, or a view whose rows cannot go one by one.
    pub fn of(definition: &CreateMaterializedView, shape: &Shape, schema: &SchemaRef) -> Result<Option<Self>> {
        let Some(options) = &definition.options.retention else { return Ok(None) };
        let wrong = |text: String| Error::new(ErrorKind::Definition, format!("retention_by: {text}"));
        let Ok(column) = schema.index_of(&options.by) else {
            return Err(wrong(format!("the query has no column \"{}\"", options.by))
                .with_detail(format!("its columns are {}", names(schema))));
        };
        let data_type = schema.field(column).data_type().clone();
        if !matches!(data_type, DataType::Timestamp(TimeUnit::Microsecond, _) | DataType::Date32) {
            return Err(wrong(format!("\"{}\" is {data_type}", options.by)).with_hint("name a TIMESTAMP or a DATE"));
        }
        let key = match shape {
            Shape::Linear { .. } => None,
            Shape::Merge { plan, having: false, .. } => {
                let shown = shown_key(plan).ok_or_else(|| {
                    wrong("the view does not show all that it groups by".into())
                        .with_hint("select every GROUP BY expression")
                })?;
                let part = shown.iter().position(|at| *at == column);
                Some(part.ok_or_else(|| {
                    wrong(format!("\"{}\" is not what the view groups by", options.by))
                        .with_hint("a group expires as a whole: name one of the GROUP BY columns")
                })?)
            }
            _ => {
                return Err(Error::new(ErrorKind::Definition, format!("{} cannot have a retention", definition.name))
                    .with_detail("rows expire from views that are kept row by row, or by merging groups without HAVING")
                    .with_hint("a condition such as WHERE event_time > now() - INTERVAL '90 days' in its query keeps such a view short"));
            }
        };
        let keep_us = i64::try_from(options.ms.saturating_mul(1_000)).unwrap_or(i64::MAX);
        Ok(Some(Self { by: options.by.clone(), column, data_type, keep_us, key }))
    }

    /// Rows from before this have expired at `now_us`, in microseconds since 1970 UTC.
    pub fn cutoff_us(&self, now_us: i64) -> i64 {
        let step = (self.keep_us / STEPS).clamp(STEP_US_MIN, STEP_US_MAX);
        let oldest = now_us.saturating_sub(self.keep_us);
        oldest - oldest.rem_euclid(step)
    }

    /// The moment as a value of the column. A wall clock's digits are compared as if they were UTC.
    pub fn value(&self, cutoff_us: i64) -> ScalarValue {
        match &self.data_type {
            DataType::Timestamp(_, zone) => ScalarValue::TimestampMicrosecond(Some(cutoff_us), zone.clone()),
            _ => ScalarValue::Date32(Some(i32::try_from(cutoff_us.div_euclid(DAY_US)).unwrap_or(i32::MIN))),
        }
    }

    /// The rows that have expired. Those without a time never do.
    pub fn expired(&self, column: Expr, cutoff_us: i64) -> Expr {
        column.lt(lit(self.value(cutoff_us)))
    }

    /// The other ones.
    pub fn kept(&self, column: Expr, cutoff_us: i64) -> Expr {
        column.clone().gt_eq(lit(self.value(cutoff_us))).or(column.is_null())
    }

    /// Of rows of the view's columns, those that have not expired.
    ///
    /// # Errors
    /// `Internal` for other columns.
    pub fn keep(&self, batch: &RecordBatch, cutoff_us: i64) -> Result<RecordBatch> {
        Ok(filter_record_batch(batch, &self.mask(batch.column(self.column), cutoff_us)?)?)
    }

    /// Which of these values have not expired.
    ///
    /// # Errors
    /// `Internal` for values of another type.
    pub fn mask(&self, values: &dyn arrow::array::Array, cutoff_us: i64) -> Result<BooleanArray> {
        let values = arrow::compute::cast(values, &self.data_type)?;
        let oldest = self.value(cutoff_us).to_scalar()?;
        let oldest: &dyn Datum = &oldest;
        Ok(or(&mask(&gt_eq(&values, oldest)?), &is_null(&values)?)?)
    }

    /// What becomes of a file of the view. Pure.
    pub fn fate(&self, file: &DataFile, partitioned_by: &[String], cutoff_us: i64) -> Fate {
        let oldest = self.value(cutoff_us);
        if let Some(at) = partitioned_by.iter().position(|name| *name == self.by) {
            let Some(Some(text)) = file.partition.get(at) else { return Fate::Stays };
            let value = ScalarValue::try_from_string(text.clone(), &self.data_type);
            return match value.ok().and_then(|value| value.partial_cmp(&oldest)) {
                Some(std::cmp::Ordering::Less) => Fate::Goes,
                Some(_) => Fate::Stays,
                None => Fate::Split,
            };
        }
        let Some(stats) = file.stats.get(&self.by) else { return Fate::Split };
        if stats.nulls == file.rows {
            return Fate::Stays;
        }
        let before = |bound: &Option<ScalarValue>| {
            let order = bound.as_ref().and_then(|bound| bound.partial_cmp(&oldest));
            order.map(std::cmp::Ordering::is_lt)
        };
        match (before(&stats.min), before(&stats.max)) {
            (Some(false), _) => Fate::Stays,
            (Some(true), Some(true)) if stats.nulls == 0 => Fate::Goes,
            _ => Fate::Split,
        }
    }
}

/// Is a view refused over inputs whose rows expire, because it reads them again?
///
/// # Errors
/// `NotIncremental`.
pub fn check_inputs(
    definition: &CreateMaterializedView,
    shape: &Shape,
    inputs: &BTreeSet<TableName>,
    readable: &Readable,
) -> Result<()> {
    let of = |input: &TableName| readable.get(input);
    let Some(input) = inputs.iter().find(|input| of(input).is_some_and(|table| table.expires)) else { return Ok(()) };
    let grow = inputs.iter().all(|input| of(input).is_some_and(|table| table.kind != ReadableKind::Table));
    if definition.options.ignores_expired || follows(shape, grow) {
        return Ok(());
    }
    let again = match definition.options.refresh_mode {
        RefreshMode::Full => "in full, with every refresh",
        _ => "for the keys of a change",
    };
    Err(Error::new(ErrorKind::NotIncremental, format!("{} reads {input} again, whose rows expire", definition.name))
        .with_detail(format!("it is computed anew {again}: what has expired would be missing from then on"))
        .with_hint("WITH (expired_inputs = 'ignore') accepts that; or build it on a view whose rows stay"))
}

/// Does a view of this shape follow its inputs from their changes alone? `grow`: they only insert.
fn follows(shape: &Shape, grow: bool) -> bool {
    match shape {
        Shape::Linear { .. } => true,
        Shape::Merge { aggregate, retracts, .. } => (*retracts || grow) && linear(&aggregate.input),
        Shape::Keyed { .. } | Shape::Full { .. } => false,
    }
}

/// A plan's rows that have not expired, by an expression over it.
///
/// # Errors
/// `Internal`.
pub fn kept_rows(plan: LogicalPlan, retention: &Retention, by: &Expr, cutoff_us: i64) -> Result<LogicalPlan> {
    let by = datafusion::logical_expr::cast(by.clone(), retention.data_type.clone());
    let condition = retention.kept(by, cutoff_us);
    Ok(datafusion::logical_expr::LogicalPlanBuilder::from(plan).filter(condition)?.build()?)
}

/// A recompute would lose what a view has made of rows that are gone.
pub fn would_lose(view: &TableName, of: &TableName) -> Error {
    Error::new(ErrorKind::Definition, format!("{view} cannot be computed anew: rows of {of} have expired"))
        .with_detail("what was made of them is in the view only, and would be lost")
        .with_hint(format!(
            "REFRESH MATERIALIZED VIEW {view} FULL FORCE, or WITH (expired_inputs = 'ignore') in its definition, accepts that"
        ))
}

/// The column as an expression over the view's own rows.
pub fn column_of(retention: &Retention) -> Expr {
    plain(&retention.by)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::ColumnStats;

    fn retention(data_type: DataType, keep_us: i64) -> Retention {
        Retention { by: "t".into(), column: 0, data_type, keep_us, key: None }
    }

    fn file(min: Option<i64>, max: Option<i64>, nulls: u64) -> DataFile {
        let value = |us: Option<i64>| us.map(|us| ScalarValue::TimestampMicrosecond(Some(us), None));
        let stats = ColumnStats { min: value(min), max: value(max), nulls };
        let stats = [("t".to_string(), stats)].into();
        DataFile { path: "f".into(), size: 1, rows: 10, partition: vec![], stats, modified_ms: 0 }
    }

    #[test]
    fn a_retention_moves_in_steps_of_a_day_at_most() {
        let days = retention(DataType::Date32, 90 * DAY_US);
        assert_eq!(days.cutoff_us(100 * DAY_US + 5), 10 * DAY_US);
        assert_eq!(days.cutoff_us(101 * DAY_US - 1), 10 * DAY_US);
        assert_eq!(retention(DataType::Date32, 24_000_000).cutoff_us(100_500_000), 76_000_000);
        assert!(days.cutoff_us(5) <= 5 - 90 * DAY_US, "a clock near 1970");
    }

    #[test]
    fn files_are_judged_by_their_bounds() {
        let retention = retention(DataType::Timestamp(TimeUnit::Microsecond, None), 1);
        let fate = |file: &DataFile| retention.fate(file, &[], 100);
        assert_eq!(fate(&file(Some(100), Some(200), 0)), Fate::Stays);
        assert_eq!(fate(&file(Some(1), Some(99), 0)), Fate::Goes);
        assert_eq!(fate(&file(Some(1), Some(99), 1)), Fate::Split, "rows without a time stay");
        assert_eq!(fate(&file(Some(1), Some(100), 0)), Fate::Split);
        assert_eq!(fate(&file(None, None, 10)), Fate::Stays);
        assert_eq!(fate(&file(None, None, 0)), Fate::Split, "nothing is known");
    }

    #[test]
    fn a_day_is_judged_by_the_partition() {
        let retention = retention(DataType::Date32, 1);
        let of = |day: Option<&str>| DataFile { partition: vec![day.map(String::from)], ..file(None, None, 0) };
        let fate = |day| retention.fate(&of(day), &["t".into()], 10 * DAY_US);
        assert_eq!(
            [fate(Some("1970-01-10")), fate(Some("1970-01-11")), fate(None)],
            [Fate::Goes, Fate::Stays, Fate::Stays]
        );
    }
}
