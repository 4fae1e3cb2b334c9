//! Which files may hold one of a set of keys: by partition values, then by min/max. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, UInt32Array};
use arrow::compute::kernels::cmp::{gt_eq, lt_eq};
use arrow::compute::{and, cast, is_null, or, take};
use arrow::datatypes::DataType;

use crate::error::Result;
use crate::refresh::execute::mask;
use crate::storage::{ColumnStats, DataFile};

/// The values that changed keys have in one column of the table.
#[derive(Debug, Clone)]
pub struct KeyColumn {
    /// The column's name in the table.
    pub name: String,
    /// One value for each key.
    pub values: ArrayRef,
}

/// Files that may hold one of `keys` keys. A column without statistics, or of a type whose partition values we do
/// not write as text, does not prune.
///
/// # Errors
/// `Internal` from a comparison of unlike types.
pub fn may_hold(
    files: &[Arc<DataFile>],
    partitioned_by: &[String],
    columns: &[KeyColumn],
    keys: usize,
) -> Result<Vec<Arc<DataFile>>> {
    let parts = partition_texts(partitioned_by, columns)?;
    let mut groups: HashMap<Vec<Option<&str>>, Vec<u32>> = HashMap::new();
    for key in 0..keys {
        let tuple = parts.iter().map(|(_, text)| text.is_valid(key).then(|| text.as_string::<i32>().value(key)));
        groups.entry(tuple.collect()).or_default().push(u32::try_from(key).unwrap_or(u32::MAX));
    }
    let mut hits = Vec::new();
    for file in files {
        let tuple = parts.iter().map(|(position, _)| file.partition.get(*position).and_then(|value| value.as_deref()));
        let Some(members) = groups.get(&tuple.collect::<Vec<_>>()) else { continue };
        if within_bounds(file, columns, members)? {
            hits.push(Arc::clone(file));
        }
    }
    Ok(hits)
}

/// Partition columns among the keys: (position in the partition tuple, values as Delta writes them).
fn partition_texts(partitioned_by: &[String], columns: &[KeyColumn]) -> Result<Vec<(usize, ArrayRef)>> {
    let mut texts = Vec::new();
    for (position, name) in partitioned_by.iter().enumerate() {
        let Some(column) = columns.iter().find(|column| column.name == *name) else { continue };
        let plain = column.values.data_type().is_integer()
            || matches!(
                column.values.data_type(),
                DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 | DataType::Date32
            );
        if plain {
            texts.push((position, cast(&column.values, &DataType::Utf8)?));
        }
    }
    Ok(texts)
}

fn within_bounds(file: &DataFile, columns: &[KeyColumn], members: &[u32]) -> Result<bool> {
    let indices = UInt32Array::from(members.to_vec());
    let mut possible: Option<arrow::array::BooleanArray> = None;
    for column in columns {
        let Some(stats) = file.stats.get(&column.name) else { continue };
        let Some(inside) = inside(&take(&column.values, &indices, None)?, stats)? else { continue };
        possible = Some(match possible {
            Some(so_far) => and(&so_far, &inside)?,
            None => inside,
        });
        if possible.as_ref().is_some_and(|mask| mask.true_count() == 0) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Which values lie in the file's bounds; NULL does when the file holds NULLs.
fn inside(values: &ArrayRef, stats: &ColumnStats) -> Result<Option<arrow::array::BooleanArray>> {
    let (Some(min), Some(max)) = (&stats.min, &stats.max) else { return Ok(None) };
    if min.data_type() != *values.data_type() || max.data_type() != *values.data_type() {
        return Ok(None);
    }
    let inside = and(&gt_eq(values, &min.to_scalar()?)?, &lt_eq(values, &max.to_scalar()?)?)?;
    let inside = mask(&inside);
    Ok(Some(if stats.nulls > 0 { or(&inside, &is_null(values)?)? } else { inside }))
}
