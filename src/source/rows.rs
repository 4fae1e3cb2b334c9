//! Builds the batches of [`super::schema`] for one shard (or file).
//!
//! ```text
//!  push(sequence, key, arrival, payload, error) ──▶ column builders ──8,192 rows or 64 MiB──▶ RecordBatch
//!                                     _stream, _shard_id: one array, repeated
//! ```

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryBuilder, Int64Array, RecordBatch, StringArray, StringBuilder, TimestampMicrosecondArray,
    new_null_array,
};
use arrow::compute::concat_batches;
use arrow::datatypes::DataType;

use crate::error::Result;

/// Rows of one batch.
pub(super) const BATCH_ROWS_MAX: usize = 8192;
/// Payload bytes after which a batch is closed, however few rows it has.
const BATCH_BYTES_MAX: usize = 64 << 20;

/// One record, as a source found it.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) sequence: &'a str,
    /// Place in a record of several, from 0.
    pub(super) sub_sequence: i64,
    pub(super) key: Option<&'a str>,
    pub(super) arrived_us: i64,
    pub(super) payload: &'a [u8],
    pub(super) error: Option<&'a str>,
}

/// What a shard gave.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub(super) batches: Vec<RecordBatch>,
    pub(super) records: usize,
    pub(super) payload_bytes: usize,
}

/// See the module.
pub(super) struct RowBuilder {
    stream: Repeated,
    shard: Repeated,
    sequence: StringBuilder,
    sub_sequence: Vec<i64>,
    key: StringBuilder,
    arrived_us: Vec<i64>,
    payload: BinaryBuilder,
    payload_bytes: usize,
    errors: Vec<(usize, String)>,
    done: Rows,
}

/// A column with one value; built once at full length, then sliced.
struct Repeated {
    value: String,
    array: Option<ArrayRef>,
}

impl Repeated {
    fn rows(&mut self, rows: usize) -> ArrayRef {
        if let Some(array) = &self.array
            && array.len() >= rows
        {
            return array.slice(0, rows);
        }
        let array: ArrayRef = Arc::new(StringArray::from_iter_values(std::iter::repeat_n(&self.value, rows)));
        self.array = Some(Arc::clone(&array));
        array
    }
}

impl RowBuilder {
    pub(super) fn new(stream: &str, shard: &str) -> Self {
        Self {
            stream: Repeated { value: stream.to_string(), array: None },
            shard: Repeated { value: shard.to_string(), array: None },
            sequence: StringBuilder::new(),
            sub_sequence: Vec::new(),
            key: StringBuilder::new(),
            arrived_us: Vec::new(),
            payload: BinaryBuilder::new(),
            payload_bytes: 0,
            errors: Vec::new(),
            done: Rows::default(),
        }
    }

    /// Rows so far, those of closed batches too.
    #[cfg(test)]
    pub(super) fn records(&self) -> usize {
        self.done.records + self.arrived_us.len()
    }

    pub(super) fn push(&mut self, row: &Row<'_>) -> Result<()> {
        if !self.arrived_us.is_empty() && self.payload_bytes + row.payload.len() > BATCH_BYTES_MAX {
            self.close_batch()?;
        }
        if let Some(error) = row.error {
            self.errors.push((self.arrived_us.len(), error.to_string()));
        }
        self.sequence.append_value(row.sequence);
        self.sub_sequence.push(row.sub_sequence);
        self.key.append_option(row.key);
        self.arrived_us.push(row.arrived_us);
        self.payload.append_value(row.payload);
        self.payload_bytes += row.payload.len();
        if self.arrived_us.len() == BATCH_ROWS_MAX { self.close_batch() } else { Ok(()) }
    }

    pub(super) fn finish(mut self) -> Result<Rows> {
        self.close_batch()?;
        Ok(self.done)
    }

    fn close_batch(&mut self) -> Result<()> {
        let rows = self.arrived_us.len();
        if rows == 0 {
            return Ok(());
        }
        // The next batch is likely to be as large: no growing step by step.
        let (bytes, keys) = (self.payload_bytes + self.payload_bytes / 8, self.key.values_slice().len());
        let full = rows == BATCH_ROWS_MAX;
        let capacity = |size: usize| if full { size } else { 0 };
        let payload =
            std::mem::replace(&mut self.payload, BinaryBuilder::with_capacity(capacity(rows), capacity(bytes)));
        let sequence_bytes = self.sequence.values_slice().len();
        let sequence = std::mem::replace(
            &mut self.sequence,
            StringBuilder::with_capacity(capacity(rows), capacity(sequence_bytes)),
        );
        let key = std::mem::replace(&mut self.key, StringBuilder::with_capacity(capacity(rows), capacity(keys)));
        let sub_sequence = std::mem::replace(&mut self.sub_sequence, Vec::with_capacity(capacity(rows)));
        let arrived = std::mem::replace(&mut self.arrived_us, Vec::with_capacity(capacity(rows)));
        let errors = match std::mem::take(&mut self.errors) {
            none if none.is_empty() => new_null_array(&DataType::Utf8, rows),
            some => error_column(&some, rows),
        };
        let (mut payload, mut sequence, mut key) = (payload, sequence, key);
        let mut columns: Vec<ArrayRef> = vec![
            self.stream.rows(rows),
            self.shard.rows(rows),
            Arc::new(sequence.finish()),
            Arc::new(Int64Array::from(sub_sequence)),
            Arc::new(key.finish()),
            Arc::new(TimestampMicrosecondArray::from(arrived).with_timezone("UTC")),
            Arc::new(payload.finish()),
            errors,
        ];
        if !full {
            // Built for more rows than came: give the rest of the memory back.
            for column in &mut columns {
                if let Some(column) = Arc::get_mut(column) {
                    column.shrink_to_fit();
                }
            }
        }
        self.done.batches.push(RecordBatch::try_new(super::schema(), columns)?);
        self.done.records += rows;
        self.done.payload_bytes += std::mem::take(&mut self.payload_bytes);
        Ok(())
    }
}

fn error_column(errors: &[(usize, String)], rows: usize) -> ArrayRef {
    let mut builder = StringBuilder::new();
    let mut errors = errors.iter().peekable();
    for row in 0..rows {
        builder.append_option(errors.next_if(|(at, _)| *at == row).map(|(_, error)| error));
    }
    Arc::new(builder.finish())
}

/// Put neighbouring small batches together: many quiet shards give one batch, not one each.
pub(super) fn coalesce(batches: Vec<RecordBatch>) -> Result<Vec<RecordBatch>> {
    let mut out = Vec::with_capacity(batches.len());
    let mut group: Vec<RecordBatch> = Vec::new();
    let mut close = |group: &mut Vec<RecordBatch>| -> Result<()> {
        match group.len() {
            0 => {}
            1 => out.append(group),
            _ => out.push(concat_batches(&super::schema(), &std::mem::take(group))?),
        }
        Ok(())
    };
    let (mut rows, mut bytes) = (0, 0);
    for batch in batches {
        let size = batch.column(6).to_data().buffers().iter().map(arrow::buffer::Buffer::len).sum::<usize>();
        if rows + batch.num_rows() > BATCH_ROWS_MAX || bytes + size > BATCH_BYTES_MAX {
            close(&mut group)?;
            (rows, bytes) = (0, 0);
        }
        rows += batch.num_rows();
        bytes += size;
        group.push(batch);
    }
    close(&mut group)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::AsArray;

    fn row<'a>(sequence: &'a str, payload: &'a [u8], error: Option<&'a str>) -> Row<'a> {
        Row { sequence, sub_sequence: 0, key: None, arrived_us: 7, payload, error }
    }

    #[test]
    fn batches_end_at_the_limit_and_keep_every_column() {
        let mut builder = RowBuilder::new("s", "shard-1");
        for n in 0..BATCH_ROWS_MAX + 2 {
            let error = (n == 3).then_some("broken");
            builder.push(&row(&n.to_string(), b"{}", error)).unwrap();
        }
        let rows = builder.finish().unwrap();
        assert_eq!((rows.records, rows.payload_bytes), (BATCH_ROWS_MAX + 2, 2 * BATCH_ROWS_MAX + 4));
        assert_eq!(rows.batches.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [BATCH_ROWS_MAX, 2]);
        let first = &rows.batches[0];
        assert_eq!(first.column(1).as_string::<i32>().value(8191), "shard-1");
        assert_eq!(first.column(7).null_count(), BATCH_ROWS_MAX - 1);
        assert_eq!(first.column(7).as_string::<i32>().value(3), "broken");
        assert_eq!(rows.batches[1].column(2).as_string::<i32>().value(1), "8193");
        assert_eq!(rows.batches[1].column(7).null_count(), 2);
    }

    #[test]
    fn small_batches_are_put_together_in_order() {
        let one = |shard: &str, rows: usize| {
            let mut builder = RowBuilder::new("s", shard);
            for n in 0..rows {
                builder.push(&row(&n.to_string(), b"x", None)).unwrap();
            }
            builder.finish().unwrap().batches
        };
        let batches = [one("a", 2), one("b", BATCH_ROWS_MAX), one("c", 1), one("d", 3)].concat();
        let rows: Vec<usize> = coalesce(batches).unwrap().iter().map(RecordBatch::num_rows).collect();
        assert_eq!(rows, [2, BATCH_ROWS_MAX, 4]);
        assert!(coalesce(Vec::new()).unwrap().is_empty());
    }
}
