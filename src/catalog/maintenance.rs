//! What upkeep has done: the newest pieces of work, in the lake, so that every process can show them.
//!
//! ```text
//!   _flash/maintenance/N.json    { lines: [oldest .. newest], swept_ms: table -> when }     the newest record is all there is
//! ```
//!
//! One small object and not a table: a table would have to be kept in order, too.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use serde::{Deserialize, Serialize};

use crate::catalog::{numbered, system};
use crate::error::Result;
use crate::storage::{Operation, Storage, Upkept};

/// Folder of the records.
const FOLDER: &str = "_flash/maintenance";

/// Pieces of work that are kept.
pub const LINES_MAX: usize = 1_000;

/// Tables of which it is known when they were swept.
const SWEPT_MAX: usize = 10_000;

/// See the module.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Maintenance {
    /// The record's number; 0: there is none.
    pub number: u64,
    /// Oldest first.
    pub lines: VecDeque<Line>,
    /// When each folder was swept last, in milliseconds since 1970 UTC.
    #[serde(default)]
    pub swept_ms: BTreeMap<String, i64>,
}

/// One piece of work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The table's name; a folder of the lake where it has none.
    pub table: String,
    /// What was done.
    #[serde(flatten)]
    pub work: Upkept,
}

impl Maintenance {
    /// The newest record.
    ///
    /// # Errors
    /// `Storage`, `Corrupt`.
    pub async fn load(storage: &dyn Storage) -> Result<Self> {
        numbered::load(storage, FOLDER).await
    }

    /// Write `self` as the record after `self.number`.
    ///
    /// # Errors
    /// `Conflict` when another process has written it; `Storage`.
    pub async fn save(&mut self, storage: &dyn Storage) -> Result<()> {
        self.number += 1;
        numbered::save(storage, FOLDER, self.number, self, "record of maintenance").await
    }

    /// Add what was done to the table in this folder. True: there is something to be written down.
    pub fn add(&mut self, table: &str, folder: &str, done: Vec<Upkept>) -> bool {
        let mut worth = false;
        for work in done {
            if work.operation == Operation::Sweep && work.error.is_none() {
                self.swept_ms.insert(folder.to_string(), work.began_ms);
                worth = true;
            }
            if work.error.is_some() || work.removed.files + work.added.files > 0 {
                self.lines.push_back(Line { table: table.to_string(), work });
                worth = true;
            }
        }
        self.lines.drain(..self.lines.len().saturating_sub(LINES_MAX));
        while self.swept_ms.len() > SWEPT_MAX {
            self.swept_ms.pop_first();
        }
        worth
    }

    /// `system.maintenance`.
    ///
    /// # Errors
    /// `Internal` when columns differ in length.
    pub fn table(&self) -> Result<Arc<dyn TableProvider>> {
        let works = || self.lines.iter().map(|line| &line.work);
        system::Table::default()
            .text("table_name", self.lines.iter().map(|line| Some(line.table.clone())))
            .text("operation", works().map(|work| Some(work.operation.name().to_string())))
            .instant("began_at", works().map(|work| Some(work.began_ms * 1_000)))
            .number("took_ms", works().map(|work| Some(work.took_ms)))
            .number("files_removed", works().map(|work| Some(work.removed.files)))
            .number("bytes_removed", works().map(|work| Some(work.removed.bytes)))
            .number("files_added", works().map(|work| Some(work.added.files)))
            .number("bytes_added", works().map(|work| Some(work.added.bytes)))
            .text("error", works().map(|work| work.error.clone()))
            .provider()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Objects;

    fn work(operation: Operation, files: u64) -> Upkept {
        let removed = Objects { files, bytes: files };
        Upkept { operation, began_ms: 7, took_ms: 1, removed, added: Objects::default(), error: None }
    }

    #[test]
    fn the_newest_lines_stay() {
        let mut record = Maintenance::default();
        for n in 1..=LINES_MAX as u64 + 3 {
            assert!(record.add("s.t", "s/t", vec![work(Operation::Vacuum, n)]));
        }
        let files = |at: usize| record.lines[at].work.removed.files;
        assert_eq!((record.lines.len(), files(0), files(LINES_MAX - 1)), (LINES_MAX, 4, LINES_MAX as u64 + 3));
    }

    #[test]
    fn a_sweep_that_found_nothing_is_no_line_but_is_remembered() {
        let mut record = Maintenance::default();
        assert!(!record.add("s.t", "s/t", vec![]));
        assert!(record.add("s.t", "s/t", vec![work(Operation::Sweep, 0)]));
        assert_eq!((record.lines.len(), record.swept_ms["s/t"]), (0, 7));
        let failed = Upkept { error: Some("no".into()), ..work(Operation::Sweep, 0) };
        assert!(record.add("s.u", "s/u", vec![failed]));
        assert_eq!((record.lines.len(), record.swept_ms.len()), (1, 1));
    }
}
