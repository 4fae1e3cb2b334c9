//! Which groups a change and a table share.
//!
//! ```text
//!   groups of the change ─┬─ there were such: new ──┐
//!                         └─ there were none: one   ├─▶ to be merged
//!   groups that were there ─┬─ named: gone ─────────┘
//!                           └─ not named: one                as they are
//! ```

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray};
use arrow::compute::{cast, filter_record_batch, not};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use arrow::row::{OwnedRow, RowConverter, SortField};
use datafusion::common::hash_utils::{RandomState, create_hashes};

use crate::error::Result;
use crate::refresh::restrict::Keys;

/// Groups of the change and groups that were there.
pub(super) struct Sides {
    /// The change's groups.
    pub(super) new: Vec<RecordBatch>,
    /// Groups that were there and have one of the keys.
    pub(super) gone: Vec<RecordBatch>,
    /// Groups that were there and have none of them, and groups of the change that were not there.
    pub(super) one: Vec<RecordBatch>,
}

/// Tell groups that the keys name from the others. By the hashes of the keys, where an accident only sends a group to
/// be merged that need not be; by the keys themselves where what is named goes (`exact`).
pub(super) fn sides(
    schema: &SchemaRef,
    changed: Vec<RecordBatch>,
    old: Vec<RecordBatch>,
    keys: &Keys,
    exact: bool,
) -> Result<Sides> {
    let changed = changed.into_iter().map(|batch| renamed(schema, batch)).collect::<Result<Vec<_>>>()?;
    let old = old.into_iter().map(|batch| renamed(schema, batch)).collect::<Result<Vec<_>>>()?;
    let mut sides = Sides { new: vec![], gone: vec![], one: vec![] };
    if old.is_empty() {
        sides.new = changed;
        return Ok(sides);
    }
    let width = keys.columns().len();
    let wanted = hashes(keys.columns(), keys.len())?.into_iter().collect::<HashSet<_>>();
    let named = if exact && width > 0 { Some(Named::new(keys, &old[0].columns()[..width])?) } else { None };
    let mut there = HashSet::new();
    for batch in old {
        let hashes = hashes(&batch.columns()[..width], batch.num_rows())?;
        let mask = match &named {
            Some(named) => named.mask(&batch.columns()[..width])?,
            None => hashes.iter().map(|hash| Some(wanted.contains(hash))).collect::<BooleanArray>(),
        };
        there.extend(hashes);
        sides.gone.push(filter_record_batch(&batch, &mask)?);
        sides.one.push(filter_record_batch(&batch, &not(&mask)?)?);
    }
    for batch in changed {
        let hashes = hashes(&batch.columns()[..width], batch.num_rows())?;
        let mask = hashes.iter().map(|hash| Some(there.contains(hash))).collect::<BooleanArray>();
        sides.new.push(filter_record_batch(&batch, &mask)?);
        sides.one.push(filter_record_batch(&batch, &not(&mask)?)?);
    }
    for side in [&mut sides.new, &mut sides.gone, &mut sides.one] {
        side.retain(|batch| batch.num_rows() > 0);
    }
    Ok(sides)
}

/// Keys to be compared as they are.
struct Named {
    converter: RowConverter,
    rows: HashSet<OwnedRow>,
}

impl Named {
    /// `like` has the types that the keys are compared with.
    fn new(keys: &Keys, like: &[ArrayRef]) -> Result<Self> {
        let fields = like.iter().map(|column| SortField::new(column.data_type().clone())).collect();
        let converter = RowConverter::new(fields)?;
        let columns = keys.columns().iter().zip(like).map(|(column, like)| cast(column, like.data_type()));
        let rows = converter.convert_columns(&columns.collect::<Result<Vec<_>, _>>()?)?;
        let rows = rows.iter().map(|row| row.owned()).collect();
        Ok(Self { converter, rows })
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
