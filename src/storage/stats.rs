//! Statistics of one data file: from the Parquet footer that the writer returns, to and from Delta's JSON.
//!
//! ```text
//!   ParquetMetaData ──from_parquet──▶ BTreeMap<column, ColumnStats> ──to_json──▶ {"numRecords":…,"minValues":…}
//!                                          ▲                                          │
//!                                          └────────────────from_json─────────────────┘
//! ```
//!
//! Bounds in JSON are looser than those in memory, never tighter: strings are cut to 32 characters (an upper bound
//! is then rounded up), timestamps to milliseconds (a lower bound down, an upper bound up). A column with a NaN has
//! no bounds at all, since NaN is neither below nor above them.

use std::collections::BTreeMap;
use std::str::FromStr;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::kernels::cast_utils::{parse_decimal, string_to_datetime};
use arrow::datatypes::{DataType, Decimal128Type, Schema};
use arrow::temporal_conversions::{date32_to_datetime, timestamp_us_to_datetime};
use chrono::{NaiveDate, Utc};
use datafusion::scalar::ScalarValue;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::file::metadata::ParquetMetaData;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::error::{Error, ErrorKind, Result};
use crate::storage::ColumnStats;
use crate::storage::schema::is_wall_clock;

/// Columns, in the order of the table, that have statistics.
pub(crate) const STATS_COLUMNS_MAX: usize = 32;

/// Characters of a string bound in the log.
const STRING_BOUND_CHARS_MAX: usize = 32;

/// Microseconds of a millisecond, less one: what a bound cut to milliseconds may lack.
const MILLISECOND_REST_US: i64 = 999;

/// The Delta JSON, whose numbers stay text so that decimals keep every digit.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct StatsJson {
    num_records: Option<u64>,
    min_values: BTreeMap<String, Box<RawValue>>,
    max_values: BTreeMap<String, Box<RawValue>>,
    null_count: BTreeMap<String, Box<RawValue>>,
}

/// Whether a column of this type has statistics.
pub(crate) fn has_stats(data_type: &DataType) -> bool {
    !data_type.is_nested() && *data_type != DataType::Binary
}

/// Statistics of a file of these columns (lake types, partition columns left out). `boundless` are the columns that
/// were written without statistics, with how many of their values are NULL.
///
/// # Errors
/// `Internal` when the footer does not fit the columns.
pub(crate) fn from_parquet(
    lake: &Schema,
    metadata: &ParquetMetaData,
    boundless: &BTreeMap<String, u64>,
) -> Result<BTreeMap<String, ColumnStats>> {
    let parquet = metadata.file_metadata().schema_descr();
    let groups = metadata.row_groups();
    // Collected at once, which fills the nodes of the map: one that grows by inserting in order leaves half of each empty,
    // and these are held for every file.
    let mut stats = Vec::new();
    for field in lake.fields().iter().take(STATS_COLUMNS_MAX) {
        if !has_stats(field.data_type()) {
            continue;
        }
        if let Some(nulls) = boundless.get(field.name()) {
            stats.push((field.name().clone(), ColumnStats { min: None, max: None, nulls: *nulls }));
            continue;
        }
        let converter = StatisticsConverter::try_new(field.name(), lake, parquet).map_err(internal)?;
        let nulls = converter.row_group_null_counts(groups).map_err(internal)?;
        let nulls = arrow::compute::sum(&nulls).unwrap_or(0);
        let min = extreme(&converter.row_group_mins(groups).map_err(internal)?, false)?;
        let max = extreme(&converter.row_group_maxes(groups).map_err(internal)?, true)?;
        stats.push((field.name().clone(), ColumnStats { min, max, nulls }));
    }
    Ok(stats.into_iter().collect())
}

fn internal(error: parquet::errors::ParquetError) -> Error {
    Error::new(ErrorKind::Internal, format!("statistics of a written file: {error}"))
}

/// The smallest or largest of the row groups' values; a group of NULLs has none.
fn extreme(values: &ArrayRef, largest: bool) -> Result<Option<ScalarValue>> {
    let mut best: Option<ScalarValue> = None;
    for row in 0..values.len() {
        if values.is_null(row) {
            continue;
        }
        let value = ScalarValue::try_from_array(values, row)?;
        let better = match &best {
            None => true,
            Some(best) => value.partial_cmp(best).is_some_and(|order| order.is_gt() == largest && order.is_ne()),
        };
        if better {
            best = Some(value);
        }
    }
    Ok(best)
}

/// The `stats` text of an `Add` action.
///
/// # Errors
/// `Internal`.
pub(crate) fn to_json(rows: u64, stats: &BTreeMap<String, ColumnStats>) -> Result<String> {
    let mut json = StatsJson { num_records: Some(rows), ..StatsJson::default() };
    for (column, stats) in stats {
        let raw = |text: String| RawValue::from_string(text).map_err(Error::from);
        json.null_count.insert(column.clone(), raw(stats.nulls.to_string())?);
        if let Some(text) = stats.min.as_ref().and_then(|value| bound(value, false)) {
            json.min_values.insert(column.clone(), raw(text)?);
        }
        if let Some(text) = stats.max.as_ref().and_then(|value| bound(value, true)) {
            json.max_values.insert(column.clone(), raw(text)?);
        }
    }
    Ok(serde_json::to_string(&json)?)
}

/// The JSON text of a lower or an upper bound; `None` where JSON has none.
fn bound(value: &ScalarValue, upper: bool) -> Option<String> {
    use ScalarValue as S;
    match value {
        S::Int8(Some(v)) => Some(v.to_string()),
        S::Int16(Some(v)) => Some(v.to_string()),
        S::Int32(Some(v)) => Some(v.to_string()),
        S::Int64(Some(v)) => Some(v.to_string()),
        S::Float32(Some(v)) if v.is_finite() => Some(serde_json::Number::from_f64(f64::from(*v))?.to_string()),
        S::Float64(Some(v)) if v.is_finite() => Some(serde_json::Number::from_f64(*v)?.to_string()),
        S::Decimal128(Some(v), precision, scale) => {
            use arrow::datatypes::DecimalType;
            Some(Decimal128Type::format_decimal(*v, *precision, *scale))
        }
        S::Utf8(Some(v)) => serde_json::to_string(&string_bound(v, upper)?).ok(),
        S::Date32(Some(v)) => Some(format!("\"{}\"", date32_to_datetime(*v)?.date())),
        S::TimestampMicrosecond(Some(v), _) => {
            let rounded = if upper { v.checked_add(MILLISECOND_REST_US)? } else { *v };
            let at = timestamp_us_to_datetime(rounded.div_euclid(1000).checked_mul(1000)?)?;
            Some(format!("\"{}\"", at.format("%Y-%m-%dT%H:%M:%S%.3fZ")))
        }
        _ => None,
    }
}

/// At most 32 characters; an upper bound that is cut gets its last character raised.
fn string_bound(text: &str, upper: bool) -> Option<String> {
    let Some((end, _)) = text.char_indices().nth(STRING_BOUND_CHARS_MAX) else {
        return Some(text.to_string());
    };
    let mut cut: Vec<char> = text[..end].chars().collect();
    if !upper {
        return Some(cut.into_iter().collect());
    }
    while let Some(last) = cut.pop() {
        // Surrogates are no characters; the next one after them is U+E000.
        let next = if last == '\u{D7FF}' { Some('\u{E000}') } else { char::from_u32(last as u32 + 1) };
        if let Some(next) = next {
            cut.push(next);
            return Some(cut.into_iter().collect());
        }
    }
    None
}

/// Rows and statistics from the `stats` text of an `Add` action. Values that we don't understand are left out.
///
/// # Errors
/// `Corrupt` when it is no JSON object.
pub(crate) fn from_json(text: &str, lake: &Schema) -> Result<(Option<u64>, BTreeMap<String, ColumnStats>)> {
    let json: StatsJson = serde_json::from_str(text)?;
    let mut stats = Vec::new();
    for (column, nulls) in &json.null_count {
        let (Ok(field), Ok(nulls)) = (lake.field_with_name(column), u64::from_str(nulls.get())) else {
            continue;
        };
        if !has_stats(field.data_type()) {
            continue;
        }
        let min = json.min_values.get(column).and_then(|raw| value(raw, field.data_type(), false));
        let max = json.max_values.get(column).and_then(|raw| value(raw, field.data_type(), true));
        stats.push((column.clone(), ColumnStats { min, max, nulls }));
    }
    Ok((json.num_records, stats.into_iter().collect()))
}

fn value(raw: &RawValue, data_type: &DataType, upper: bool) -> Option<ScalarValue> {
    use ScalarValue as S;
    let raw = raw.get();
    if raw == "null" {
        return None;
    }
    let text = || serde_json::from_str::<String>(raw).ok();
    Some(match data_type {
        DataType::Int8 => S::Int8(Some(raw.parse().ok()?)),
        DataType::Int16 => S::Int16(Some(raw.parse().ok()?)),
        DataType::Int32 => S::Int32(Some(raw.parse().ok()?)),
        DataType::Int64 => S::Int64(Some(raw.parse().ok()?)),
        DataType::Float32 => S::Float32(Some(raw.parse().ok()?)),
        DataType::Float64 => S::Float64(Some(raw.parse().ok()?)),
        DataType::Boolean => S::Boolean(Some(raw.parse().ok()?)),
        DataType::Decimal128(precision, scale) => {
            S::Decimal128(Some(parse_decimal::<Decimal128Type>(raw, *precision, *scale).ok()?), *precision, *scale)
        }
        DataType::Utf8 => S::Utf8(Some(text()?)),
        DataType::Date32 => {
            let date = NaiveDate::parse_from_str(&text()?, "%Y-%m-%d").ok()?;
            S::Date32(Some(arrow::datatypes::Date32Type::from_naive_date(date)))
        }
        DataType::Timestamp(_, zone) => {
            let at = string_to_datetime(&Utc, &text()?).ok()?.timestamp_micros();
            // Other writers cut an upper bound to milliseconds.
            let at = if upper && at % 1000 == 0 { at.checked_add(MILLISECOND_REST_US)? } else { at };
            debug_assert!(zone.is_some() || is_wall_clock(data_type));
            S::TimestampMicrosecond(Some(at), zone.clone())
        }
        _ => return None,
    })
}

/// Whether a column holds a NaN; only floating point can.
pub(crate) fn has_nan(column: &ArrayRef) -> bool {
    use arrow::datatypes::{Float32Type, Float64Type};
    match column.data_type() {
        DataType::Float32 => column.as_primitive::<Float32Type>().values().iter().any(|v| v.is_nan()),
        DataType::Float64 => column.as_primitive::<Float64Type>().values().iter().any(|v| v.is_nan()),
        _ => false,
    }
}

/// Whether the bounds of a column of this type are values that exist in the file, and not just bounds.
pub(crate) fn bounds_are_exact(data_type: &DataType) -> bool {
    data_type.is_signed_integer() || matches!(data_type, DataType::Date32 | DataType::Decimal128(..))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::{Field, TimeUnit};

    fn roundtrip(data_type: DataType, min: ScalarValue, max: ScalarValue) -> (String, ColumnStats) {
        let schema = Schema::new(vec![Field::new("c", data_type, true)]);
        let stats = BTreeMap::from([("c".into(), ColumnStats { min: Some(min), max: Some(max), nulls: 3 })]);
        let json = to_json(7, &stats).unwrap();
        let (rows, mut back) = from_json(&json, &schema).unwrap();
        assert_eq!(rows, Some(7));
        (json, back.remove("c").unwrap())
    }

    #[test]
    fn whole_numbers_dates_and_decimals_are_exact() {
        let i = |v| ScalarValue::Int64(Some(v));
        let (_, back) = roundtrip(DataType::Int64, i(i64::MIN), i(i64::MAX));
        assert_eq!((back.min, back.max, back.nulls), (Some(i(i64::MIN)), Some(i(i64::MAX)), 3));
        let d = |v| ScalarValue::Decimal128(Some(v), 38, 2);
        let big = 12_345_678_901_234_567_890_123_456_789_i128;
        let (json, back) = roundtrip(DataType::Decimal128(38, 2), d(-5), d(big));
        assert!(json.contains("123456789012345678901234567.89") && json.contains("-0.05"), "{json}");
        assert_eq!((back.min, back.max), (Some(d(-5)), Some(d(big))));
        let day = |v| ScalarValue::Date32(Some(v));
        let (_, back) = roundtrip(DataType::Date32, day(-1), day(20_000));
        assert_eq!((back.min, back.max), (Some(day(-1)), Some(day(20_000))));
    }

    #[test]
    fn bounds_of_strings_and_timestamps_only_widen() {
        let s = |v: &str| ScalarValue::Utf8(Some(v.into()));
        let long = "z".repeat(40);
        let (_, back) = roundtrip(DataType::Utf8, s(&long), s(&long));
        let (min, max) = (back.min.unwrap(), back.max.unwrap());
        assert!(min < s(&long) && max > s(&long));
        assert_eq!(max, s(&format!("{}{{", "z".repeat(31))));
        let top = "\u{10FFFF}".repeat(40);
        let (_, back) = roundtrip(DataType::Utf8, s(&top), s(&top));
        assert_eq!(back.max, None);

        let zone: Option<std::sync::Arc<str>> = Some("UTC".into());
        let t = |v| ScalarValue::TimestampMicrosecond(Some(v), zone.clone());
        for at in [-1_500_i64, 0, 1_700_000_000_123_456] {
            let (_, back) = roundtrip(DataType::Timestamp(TimeUnit::Microsecond, zone.clone()), t(at), t(at));
            assert!(back.min.unwrap() <= t(at) && back.max.unwrap() >= t(at), "{at}");
        }
    }

    #[test]
    fn values_without_json_have_no_bounds() {
        let (json, back) = roundtrip(
            DataType::Float64,
            ScalarValue::Float64(Some(f64::NEG_INFINITY)),
            ScalarValue::Float64(Some(1.5)),
        );
        assert!(!json.contains("inf"), "{json}");
        assert_eq!((back.min, back.max), (None, Some(ScalarValue::Float64(Some(1.5)))));
    }

    #[test]
    fn what_another_writer_left_out_is_unknown() {
        let schema = Schema::new(vec![Field::new("c", DataType::Int64, true)]);
        let (rows, stats) =
            from_json(r#"{"numRecords":4,"nullCount":{"c":0,"other":1},"tightBounds":true}"#, &schema).unwrap();
        assert_eq!(rows, Some(4));
        assert_eq!(stats["c"], ColumnStats { min: None, max: None, nulls: 0 });
        assert!(from_json("[1", &schema).is_err());
    }
}
