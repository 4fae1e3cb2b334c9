//! What came to a table: the input of a refresh, and what it hands to the views above.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;

use crate::epoch::Version;
use crate::error::Result;
use crate::storage::{DataFile, Snapshot, Storage};

/// Rows that came, in memory or in files.
#[derive(Debug, Clone)]
pub enum Rows {
    /// Just made in this process, in order of their source positions.
    Memory(Arc<Vec<RecordBatch>>),
    /// In these files of this table.
    Files(Snapshot, Vec<Arc<DataFile>>),
}

impl Rows {
    /// How many.
    pub fn count(&self) -> u64 {
        match self {
            Self::Memory(batches) => batches.iter().map(|batch| batch.num_rows() as u64).sum(),
            Self::Files(_, files) => files.iter().map(|file| file.rows).sum(),
        }
    }

    /// The rows as a table, in `partitions` contiguous parts where they are in memory.
    ///
    /// # Errors
    /// `Internal` when batches and schema differ.
    pub fn provider(
        &self,
        storage: &dyn Storage,
        schema: &SchemaRef,
        partitions: usize,
    ) -> Result<Arc<dyn TableProvider>> {
        Ok(match self {
            Self::Memory(batches) => Arc::new(MemTable::try_new(Arc::clone(schema), split(batches, partitions))?),
            Self::Files(snapshot, files) => storage.provider(snapshot, Some(files.clone())),
        })
    }
}

/// The difference between what a reader has seen of a table and what it holds in an epoch.
#[derive(Debug, Clone)]
pub enum Change {
    /// None.
    Nothing,
    /// Rows came, none went.
    Inserted(Rows),
    /// Rows came and rows went; a row may be on both sides.
    Changed {
        /// Rows that came.
        added: Rows,
        /// Rows that went.
        removed: Rows,
    },
    /// To be found between the versions, once the table has committed.
    Committed,
}

/// What a statement has just done to an ordinary table, while it is in memory: the files of the two versions would be read
/// whole to find it.
#[derive(Debug, Clone)]
pub struct Recent {
    /// The version before.
    pub from: Version,
    /// The version after.
    pub to: Version,
    /// The rows that went and came.
    pub change: Change,
}

impl Change {
    /// Of rows in memory.
    pub fn of(added: Vec<RecordBatch>, removed: Vec<RecordBatch>) -> Self {
        let some = |batches: &[RecordBatch]| batches.iter().any(|batch| batch.num_rows() > 0);
        match (some(&added), some(&removed)) {
            (false, false) => Self::Nothing,
            (true, false) => Self::Inserted(Rows::Memory(Arc::new(added))),
            (_, true) => {
                Self::Changed { added: Rows::Memory(Arc::new(added)), removed: Rows::Memory(Arc::new(removed)) }
            }
        }
    }

    /// Bytes of it that are in memory.
    pub fn memory_bytes(&self) -> usize {
        let bytes = |rows: &Rows| match rows {
            Rows::Memory(batches) => batches.iter().map(RecordBatch::get_array_memory_size).sum(),
            Rows::Files(..) => 0,
        };
        match self {
            Self::Nothing | Self::Committed => 0,
            Self::Inserted(rows) => bytes(rows),
            Self::Changed { added, removed } => bytes(added) + bytes(removed),
        }
    }

    /// Rows that came and rows that went.
    pub fn rows(&self) -> u64 {
        match self {
            Self::Nothing | Self::Committed => 0,
            Self::Inserted(rows) => rows.count(),
            Self::Changed { added, removed } => added.count() + removed.count(),
        }
    }

    /// All of it is in memory.
    pub fn in_memory(&self) -> bool {
        let memory = |rows: &Rows| matches!(rows, Rows::Memory(_));
        match self {
            Self::Nothing | Self::Committed => true,
            Self::Inserted(rows) => memory(rows),
            Self::Changed { added, removed } => memory(added) && memory(removed),
        }
    }
}

/// Contiguous parts of about equal numbers of rows.
pub fn split(batches: &[RecordBatch], parts: usize) -> Vec<Vec<RecordBatch>> {
    let total = batches.iter().map(RecordBatch::num_rows).sum::<usize>();
    let target = total.div_ceil(parts.max(1)).max(1);
    let mut out = vec![Vec::new()];
    let mut filled = 0;
    for batch in batches {
        if filled >= target {
            out.push(Vec::new());
            filled = 0;
        }
        filled += batch.num_rows();
        if let Some(last) = out.last_mut() {
            last.push(batch.clone());
        }
    }
    out
}
