//! Rows by partition value, without touching them one by one.
//!
//! ```text
//!   batches ─intern─▶ group of each row ─┬─ all the same ─▶ the batch as it is
//!                        0 1 0 2 1       └─ counting sort ─▶ places by group      0: 0 2   1: 1 4   2: 3
//!                                                              │
//!                              Part { values, pieces: (batches, places) }   gathered when it is encoded
//! ```
//!
//! Rows of a part keep their order. A partition value is text as Delta writes it, and a folder as Hive writes it.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::{cast, interleave_record_batch};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::logical_expr::EmitTo;
use datafusion::physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion::physical_plan::aggregates::order::GroupOrdering;
use datafusion::scalar::ScalarValue;

use crate::error::{Error, ErrorKind, Result};
use crate::storage::schema::is_wall_clock;

/// What Hive calls the folder of NULL.
const NULL_FOLDER: &str = "__HIVE_DEFAULT_PARTITION__";

/// Bytes that are gathered from at a time; keeps the offsets of strings within 32 bits.
const CHUNK_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Rows of one partition value, for one file.
#[derive(Debug)]
pub(crate) struct Part {
    /// The values of the partition columns, in their order.
    pub(crate) values: Vec<Option<String>>,
    /// Where the rows are, partition columns included.
    pub(crate) pieces: Vec<Piece>,
}

/// Some rows.
#[derive(Debug, Clone)]
pub(crate) enum Piece {
    /// All rows of a batch.
    Whole(RecordBatch),
    /// The rows at some of these places.
    Rows(Arc<Mixed>, Range<usize>),
}

/// Batches whose rows go to different parts.
#[derive(Debug)]
pub(crate) struct Mixed {
    batches: Vec<RecordBatch>,
    /// (batch, row), the places of one group after those of another.
    places: Vec<(usize, usize)>,
}

impl Piece {
    /// How many rows.
    pub(crate) fn rows(&self) -> usize {
        match self {
            Self::Whole(batch) => batch.num_rows(),
            Self::Rows(_, range) => range.len(),
        }
    }

    /// These columns of the rows as a batch.
    pub(crate) fn batch(&self, columns: &[usize]) -> Result<RecordBatch> {
        match self {
            Self::Whole(batch) => Ok(batch.project(columns)?),
            Self::Rows(mixed, range) => {
                let batches =
                    mixed.batches.iter().map(|batch| batch.project(columns)).collect::<Result<Vec<_>, _>>()?;
                let batches = batches.iter().collect::<Vec<_>>();
                Ok(interleave_record_batch(&batches, &mixed.places[range.clone()])?)
            }
        }
    }

    fn slice(&self, offset: usize, rows: usize) -> Self {
        match self {
            Self::Whole(batch) => Self::Whole(batch.slice(offset, rows)),
            Self::Rows(mixed, range) => {
                let start = range.start + offset;
                Self::Rows(Arc::clone(mixed), start..start + rows)
            }
        }
    }
}

/// The rows of `batches` by the values of these columns, at most `rows_max` in a part, parts ordered by value.
///
/// # Errors
/// `Internal`.
pub(crate) fn split(
    schema: &SchemaRef,
    partitioned_by: &[String],
    batches: Vec<RecordBatch>,
    rows_max: usize,
) -> Result<Vec<Part>> {
    let batches: Vec<RecordBatch> = batches.into_iter().filter(|batch| batch.num_rows() > 0).collect();
    if partitioned_by.is_empty() {
        let pieces = batches.into_iter().map(Piece::Whole).collect();
        return Ok(cut(Part { values: Vec::new(), pieces }, rows_max));
    }
    let columns: Vec<usize> = partitioned_by.iter().map(|name| schema.index_of(name)).collect::<Result<_, _>>()?;
    let keys = Arc::new(schema.project(&columns)?);
    let mut groups = new_group_values(keys, &GroupOrdering::None)?;
    let mut pieces: Vec<Vec<Piece>> = Vec::new();
    let mut mixed = Gathering::default();
    for batch in batches {
        let keys: Vec<ArrayRef> = columns.iter().map(|&column| Arc::clone(batch.column(column))).collect();
        let mut group_of_row = Vec::with_capacity(batch.num_rows());
        groups.intern(&keys, &mut group_of_row)?;
        pieces.resize_with(groups.len(), Vec::new);
        if group_of_row.iter().all(|group| *group == group_of_row[0]) {
            std::mem::take(&mut mixed).give(&mut pieces);
            pieces[group_of_row[0]].push(Piece::Whole(batch));
            continue;
        }
        let bytes = batch.get_array_memory_size();
        if mixed.bytes + bytes > CHUNK_BYTES_MAX {
            std::mem::take(&mut mixed).give(&mut pieces);
        }
        mixed.bytes += bytes;
        mixed.groups.push(group_of_row);
        mixed.batches.push(batch);
    }
    mixed.give(&mut pieces);
    let values = group_texts(&mut groups)?;
    let mut parts: Vec<Part> = values.into_iter().zip(pieces).map(|(values, pieces)| Part { values, pieces }).collect();
    parts.sort_by(|a, b| a.values.cmp(&b.values));
    Ok(parts.into_iter().flat_map(|part| cut(part, rows_max)).collect())
}

/// Batches, one after another, with rows of different groups.
#[derive(Default)]
struct Gathering {
    batches: Vec<RecordBatch>,
    groups: Vec<Vec<usize>>,
    bytes: usize,
}

impl Gathering {
    /// Give every group its rows, in their order: a counting sort.
    fn give(self, pieces: &mut [Vec<Piece>]) {
        let mut ends = vec![0_usize; pieces.len()];
        for &group in self.groups.iter().flatten() {
            ends[group] += 1;
        }
        let mut start = 0;
        for end in &mut ends {
            (start, *end) = (start + *end, start);
        }
        let starts = ends.clone();
        let mut places = vec![(0, 0); start];
        for (batch, groups) in self.groups.iter().enumerate() {
            for (row, &group) in groups.iter().enumerate() {
                places[ends[group]] = (batch, row);
                ends[group] += 1;
            }
        }
        let mixed = Arc::new(Mixed { batches: self.batches, places });
        for (group, (start, end)) in starts.into_iter().zip(ends).enumerate().filter(|(_, (start, end))| start < end) {
            pieces[group].push(Piece::Rows(Arc::clone(&mixed), start..end));
        }
    }
}

/// Parts of at most `rows_max` rows.
fn cut(part: Part, rows_max: usize) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut room = 0;
    for piece in part.pieces {
        let mut offset = 0;
        while offset < piece.rows() {
            if room == 0 {
                parts.push(Part { values: part.values.clone(), pieces: Vec::new() });
                room = rows_max;
            }
            let rows = room.min(piece.rows() - offset);
            if let Some(part) = parts.last_mut() {
                part.pieces.push(piece.slice(offset, rows));
            }
            (offset, room) = (offset + rows, room - rows);
        }
    }
    parts
}

/// The values of every group as Delta writes them.
fn group_texts(groups: &mut Box<dyn GroupValues>) -> Result<Vec<Vec<Option<String>>>> {
    let mut texts = vec![Vec::new(); groups.len()];
    if texts.is_empty() {
        return Ok(texts);
    }
    for column in groups.emit(EmitTo::All)? {
        for (text, value) in texts.iter_mut().zip(to_texts(&column)?) {
            text.push(value);
        }
    }
    Ok(texts)
}

/// Partition values as Delta writes them: dates as `2026-01-31`, instants as `2026-01-31T10:00:00Z`.
fn to_texts(column: &ArrayRef) -> Result<Vec<Option<String>>> {
    let zone = if is_wall_clock(column.data_type()) { "Z" } else { "" };
    let texts = cast(column, &DataType::Utf8)?;
    Ok(texts.as_string::<i32>().iter().map(|text| text.map(|text| format!("{text}{zone}"))).collect())
}

/// The value that Delta's text stands for.
///
/// # Errors
/// `Corrupt` when it is no value of that type.
pub(crate) fn from_text(text: Option<&str>, data_type: &DataType) -> Result<ScalarValue> {
    match text {
        None => Ok(ScalarValue::try_from(data_type)?),
        // Delta's other writers mean NULL by an empty text; only a string can be empty.
        Some(text) if *data_type == DataType::Utf8 => Ok(ScalarValue::Utf8(Some(text.to_string()))),
        Some("") => Ok(ScalarValue::try_from(data_type)?),
        Some(text) => ScalarValue::try_from_string(text.to_string(), data_type).map_err(|error| {
            Error::new(ErrorKind::Corrupt, format!("\"{text}\" is no partition value of type {data_type}"))
                .with_detail(error.strip_backtrace())
        }),
    }
}

/// The partition values of a file, in the order of the partition columns.
///
/// # Errors
/// `Corrupt`.
pub(crate) fn scalars(
    values: &[Option<String>],
    schema: &Schema,
    partitioned_by: &[String],
) -> Result<Vec<ScalarValue>> {
    let values = partitioned_by.iter().zip(values);
    values.map(|(name, value)| from_text(value.as_deref(), schema.field_with_name(name)?.data_type())).collect()
}

/// The folder of a part below the table, with a slash at its end: `seller_id=S01/`. Every byte that is not a
/// letter, a digit, `-`, `_` or `.` is written as `%41`, so a path needs no other escape anywhere.
pub(crate) fn folder(partitioned_by: &[String], values: &[Option<String>]) -> String {
    let mut path = String::new();
    for (name, value) in partitioned_by.iter().zip(values) {
        escape(&mut path, name);
        path.push('=');
        match value.as_deref() {
            None | Some("") => path += NULL_FOLDER,
            Some(value) => escape(&mut path, value),
        }
        path.push('/');
    }
    path
}

fn escape(path: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.') {
            path.push(char::from(byte));
        } else {
            *path += &format!("%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Date32Array, Int64Array, StringArray, TimestampMicrosecondArray};
    use arrow::datatypes::Field;

    fn batch(keys: &[Option<&str>], days: &[i32], from: i64) -> RecordBatch {
        let rows = i64::try_from(keys.len()).unwrap();
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("k", Arc::new(StringArray::from(keys.to_vec()))),
            ("d", Arc::new(Date32Array::from(days.to_vec()))),
            ("n", Arc::new(Int64Array::from_iter_values(from..from + rows))),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
    }

    fn numbers(part: &Part) -> Vec<i64> {
        let batches = part.pieces.iter().map(|piece| piece.batch(&[0, 1, 2]).unwrap());
        batches.flat_map(|batch| batch["n"].as_primitive::<arrow::datatypes::Int64Type>().values().to_vec()).collect()
    }

    #[test]
    fn rows_go_to_their_partition_in_order() {
        let batches = vec![
            batch(&[Some("b"), Some("a"), None, Some("b")], &[0, 0, 0, 0], 0),
            batch(&[], &[], 4),
            batch(&[Some("a"), Some("b"), Some("b")], &[0, 0, 1], 4),
            batch(&[Some("b"), Some("b")], &[0, 0], 7),
            batch(&[Some("a"), Some("b")], &[0, 0], 9),
        ];
        let parts = split(&batches[0].schema(), &["k".into(), "d".into()], batches, 10).unwrap();
        let found: Vec<_> = parts.iter().map(|part| (part.values.clone(), numbers(part))).collect();
        let v = |k: Option<&str>, d: &str| vec![k.map(String::from), Some(d.into())];
        assert_eq!(
            found,
            vec![
                (v(None, "1970-01-01"), vec![2]),
                (v(Some("a"), "1970-01-01"), vec![1, 4, 9]),
                (v(Some("b"), "1970-01-01"), vec![0, 3, 5, 7, 8, 10]),
                (v(Some("b"), "1970-01-02"), vec![6]),
            ]
        );
    }

    #[test]
    fn a_part_is_cut_where_it_is_too_long() {
        let batches = vec![batch(&[Some("a"); 5], &[0; 5], 0), batch(&[Some("a"); 4], &[0; 4], 5)];
        for partitioned_by in [vec![], vec!["k".to_string()]] {
            let parts = split(&batches[0].schema(), &partitioned_by, batches.clone(), 4).unwrap();
            let found: Vec<_> = parts.iter().map(numbers).collect();
            assert_eq!(found, vec![vec![0, 1, 2, 3], vec![4, 5, 6, 7], vec![8]]);
        }
    }

    #[test]
    fn values_come_back_from_their_text() {
        use DataType as T;
        use arrow::datatypes::TimeUnit::Microsecond;
        let at = TimestampMicrosecondArray::from(vec![Some(1_700_000_000_123_456), None]);
        let arrays: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec![Some("S/0 1=%"), None])),
            Arc::new(Int64Array::from(vec![Some(-5), None])),
            Arc::new(Date32Array::from(vec![Some(-1), None])),
            Arc::new(at.clone()),
            Arc::new(at.with_timezone("UTC")),
            Arc::new(arrow::array::BooleanArray::from(vec![Some(true), None])),
            Arc::new(
                arrow::array::Decimal128Array::from(vec![Some(-1205), None]).with_precision_and_scale(9, 2).unwrap(),
            ),
        ];
        let types = [
            T::Utf8,
            T::Int64,
            T::Date32,
            T::Timestamp(Microsecond, None),
            T::Timestamp(Microsecond, Some("UTC".into())),
            T::Boolean,
            T::Decimal128(9, 2),
        ];
        for (array, data_type) in arrays.iter().zip(types) {
            assert_eq!(array.data_type(), &data_type);
            for (row, text) in to_texts(array).unwrap().into_iter().enumerate() {
                let back = from_text(text.as_deref(), &data_type).unwrap();
                assert_eq!(back, ScalarValue::try_from_array(array, row).unwrap(), "{text:?}");
            }
        }
        assert_eq!(from_text(Some("x"), &T::Int64).unwrap_err().kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn folders_are_plain_ascii() {
        let schema = Schema::new(vec![Field::new("k", DataType::Utf8, true)]);
        let names: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
        assert_eq!(folder(&names, &[Some("S01".into())]), "k=S01/");
        assert_eq!(folder(&names, &[Some("a b/ü%".into())]), "k=a%20b%2F%C3%BC%25/");
        assert_eq!(folder(&names, &[None]), "k=__HIVE_DEFAULT_PARTITION__/");
    }
}
