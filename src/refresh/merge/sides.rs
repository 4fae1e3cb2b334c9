//! Which groups a change and a table share.
//!
//! ```text
//!   groups of a file ─┬─ named: gone ─────────────────────┐
//!                     └─ not named: stay as they are      ├─▶ to be merged
//!   groups of the change ─┬─ one of those is gone: old ───┘
//!                         └─ none is: new, as they are
//! ```

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray};
use arrow::compute::{cast, filter_record_batch, not};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrow::row::{OwnedRow, RowConverter, SortField};
use datafusion::common::hash_utils::{RandomState, create_hashes};

use crate::error::Result;
use crate::refresh::restrict::Keys;

/// The keys whose groups change.
pub(super) struct Named<'a> {
    keys: &'a Keys,
    /// Sorted.
    hashes: Vec<u64>,
    exact: bool,
}

impl<'a> Named<'a> {
    /// A group is named by the hash of its key, where an accident only sends a group to be merged that need not be; by
    /// the key itself where what is named goes (`exact`).
    pub(super) fn new(keys: &'a Keys, exact: bool) -> Result<Self> {
        let mut hashes = hashes(keys.columns(), keys.len())?;
        hashes.sort_unstable();
        Ok(Self { keys, hashes, exact })
    }

    /// One of these hashes, sorted, is that of a named key.
    pub(super) fn is_among(&self, known: &[u64]) -> bool {
        let mut rest = known;
        self.hashes.iter().any(|hash| {
            rest = &rest[rest.partition_point(|known| known < hash)..];
            rest.first() == Some(hash)
        })
    }

    /// Groups of a file that are named, and those that are not.
    pub(super) fn split(&self, groups: &[RecordBatch]) -> Result<(Vec<RecordBatch>, Vec<RecordBatch>)> {
        let (mut gone, mut stay) = (Vec::new(), Vec::new());
        let width = self.keys.columns().len();
        let mut exact = None;
        for batch in groups.iter().filter(|batch| batch.num_rows() > 0) {
            let mask = self.mask(&batch.columns()[..width], batch.num_rows(), &mut exact)?;
            gone.push(filter_record_batch(batch, &mask)?);
            stay.push(filter_record_batch(batch, &not(&mask)?)?);
        }
        gone.retain(|batch| batch.num_rows() > 0);
        stay.retain(|batch| batch.num_rows() > 0);
        Ok((gone, stay))
    }

    /// Which of these rows' keys are named: the same ones wherever it is asked, so that what comes and what goes are of
    /// the same groups. `exact` is kept from one batch to the next.
    pub(super) fn mask(&self, columns: &[ArrayRef], rows: usize, exact: &mut Option<Exact>) -> Result<BooleanArray> {
        if !self.exact || columns.is_empty() {
            let hashes = hashes(columns, rows)?;
            return Ok(hashes.iter().map(|hash| Some(self.hashes.binary_search(hash).is_ok())).collect());
        }
        let known = exact.take().filter(|known| known.is_like(columns));
        let exact = exact.insert(known.map_or_else(|| Exact::new(self.keys, columns), Ok)?);
        exact.mask(columns)
    }
}

/// Groups of the change that are new, and those that may be one of the `gone`.
pub(super) fn apart(
    changed: Vec<RecordBatch>,
    gone: &[RecordBatch],
    width: usize,
) -> Result<(Vec<RecordBatch>, Vec<RecordBatch>)> {
    if gone.is_empty() {
        return Ok((changed, vec![]));
    }
    let mut there = HashSet::new();
    for batch in gone {
        there.extend(hashes(&batch.columns()[..width], batch.num_rows())?);
    }
    let (mut new, mut old) = (Vec::new(), Vec::new());
    for batch in changed {
        let hashes = hashes(&batch.columns()[..width], batch.num_rows())?;
        let mask = hashes.iter().map(|hash| Some(there.contains(hash))).collect::<BooleanArray>();
        old.push(filter_record_batch(&batch, &mask)?);
        new.push(filter_record_batch(&batch, &not(&mask)?)?);
    }
    old.retain(|batch| batch.num_rows() > 0);
    new.retain(|batch| batch.num_rows() > 0);
    Ok((new, old))
}

/// Keys to be compared as they are.
pub(super) struct Exact {
    types: Vec<DataType>,
    converter: RowConverter,
    rows: HashSet<OwnedRow>,
}

impl Exact {
    /// `like` has the types that the keys are compared with.
    fn new(keys: &Keys, like: &[ArrayRef]) -> Result<Self> {
        let types = like.iter().map(|column| column.data_type().clone()).collect::<Vec<_>>();
        let converter = RowConverter::new(types.iter().cloned().map(SortField::new).collect())?;
        let columns = keys.columns().iter().zip(like).map(|(column, like)| cast(column, like.data_type()));
        let rows = converter.convert_columns(&columns.collect::<Result<Vec<_>, _>>()?)?;
        let rows = rows.iter().map(|row| row.owned()).collect();
        Ok(Self { types, converter, rows })
    }

    fn is_like(&self, columns: &[ArrayRef]) -> bool {
        self.types.iter().eq(columns.iter().map(|column| column.data_type()))
    }

    fn mask(&self, columns: &[ArrayRef]) -> Result<BooleanArray> {
        let rows = self.converter.convert_columns(columns)?;
        Ok(rows.iter().map(|row| Some(self.rows.contains(&row.owned()))).collect())
    }
}

/// The same columns under this schema.
pub(super) fn renamed(schema: &SchemaRef, batch: RecordBatch) -> Result<RecordBatch> {
    Ok(RecordBatch::try_new(Arc::clone(schema), batch.columns().to_vec())?)
}

/// A hash of each key.
pub(super) fn hashes(columns: &[ArrayRef], rows: usize) -> Result<Vec<u64>> {
    let mut hashes = vec![0; rows];
    create_hashes(columns, &RandomState::default(), &mut hashes)?;
    Ok(hashes)
}
