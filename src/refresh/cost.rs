//! How much there is to read: rows and files of tables, changes and plans. Pure.
//!
//! EXPLAIN shows it, and `refresh_mode = 'auto'` decides by it.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::LogicalPlan;

use crate::error::Result;
use crate::name::TableName;
use crate::refresh::change::{Change, Rows};
use crate::refresh::compile::table_name;
use crate::storage::{DataFile, files_of};

/// So many rows in so many files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extent {
    /// Rows.
    pub rows: u64,
    /// Files.
    pub files: usize,
}

impl Extent {
    /// Of files.
    pub fn of(files: &[Arc<DataFile>]) -> Self {
        Self { rows: files.iter().map(|file| file.rows).sum(), files: files.len() }
    }

    /// Of a change; what is in memory is in no file.
    pub fn of_change(change: &Change) -> Self {
        let files = |rows: &Rows| match rows {
            Rows::Memory(_) => 0,
            Rows::Files(_, files) => files.len(),
        };
        let files = match change {
            Change::Nothing | Change::Committed => 0,
            Change::Inserted(rows) => files(rows),
            Change::Changed { added, removed } => files(added) + files(removed),
        };
        Self { rows: change.rows(), files }
    }
}

/// The rows and files of tables that a plan opens; of a table that it reads twice, both times.
///
/// # Errors
/// `Internal`.
pub fn opened(plan: &LogicalPlan) -> Result<BTreeMap<TableName, Extent>> {
    let mut opened = BTreeMap::<TableName, Extent>::new();
    plan.apply(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Some(files) = files_of(source_as_provider(&scan.source)?.as_ref())
        {
            let read = Extent::of(files);
            let extent = opened.entry(table_name(&scan.table_name)).or_default();
            extent.rows += read.rows;
            extent.files += read.files;
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(opened)
}
