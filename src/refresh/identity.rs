//! What tells one record of a source from another: its place in the source, as bronze views and quarantines show it.

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use twox_hash::XxHash3_128;

use crate::error::{Error, ErrorKind, Result};

/// The columns that tell one record from another.
pub const IDENTITY: [&str; 3] = ["_shard_id", "_sequence_number", "_sub_sequence"];

/// A hash of what tells each row from others.
///
/// # Errors
/// `Internal` without those columns.
pub fn identities(batch: &RecordBatch) -> Result<Vec<u128>> {
    let plain = |name: &str, to: &arrow::datatypes::DataType| -> Result<arrow::array::ArrayRef> {
        let column = batch.column_by_name(name);
        let column = column.ok_or_else(|| Error::new(ErrorKind::Internal, format!("no column {name}")))?;
        Ok(arrow::compute::cast(column, to)?)
    };
    let (shards, sequences) = (
        plain(IDENTITY[0], &arrow::datatypes::DataType::Utf8)?,
        plain(IDENTITY[1], &arrow::datatypes::DataType::Utf8)?,
    );
    let subs = plain(IDENTITY[2], &arrow::datatypes::DataType::Int64)?;
    let (shards, sequences, subs) =
        (shards.as_string::<i32>(), sequences.as_string::<i32>(), subs.as_primitive::<Int64Type>());
    let mut text = Vec::with_capacity(128);
    let identity = |row: usize| {
        text.clear();
        text.extend_from_slice(shards.value(row).as_bytes());
        text.push(0);
        text.extend_from_slice(sequences.value(row).as_bytes());
        text.push(0);
        text.extend_from_slice(&subs.value(row).to_le_bytes());
        XxHash3_128::oneshot(&text)
    };
    Ok((0..batch.num_rows()).map(identity).collect())
}
