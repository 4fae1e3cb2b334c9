//! Bulk ingestion: rows of a client into an ordinary table.
//!
//! ```text
//!   rows ─▶ columns by name, values that fit ─▶ files, one lot of `LOT_BYTES_MAX` after another ─┐
//!                                                                      one commit of all files ◀─┘ ─▶ passes
//! ```
//!
//! Readers see all rows or none, however many there are; memory holds one lot. A table that was made for the rows is
//! dropped again when they do not arrive.

use std::sync::Arc;

use arrow::array::new_null_array;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::common::DFSchema;
use datafusion::execution::SendableRecordBatchStream;
use futures::StreamExt;

use crate::catalog::Principal;
use crate::engine::fit::fit;
use crate::engine::statements::create_text;
use crate::engine::{Engine, ObjectKind};
use crate::error::{Error, ErrorKind, Result};
use crate::name::TableName;
use crate::parser::{DropKind, Privilege};
use crate::refresh::compile::stored_schema;
use crate::storage::{Commit, DataFile, Snapshot};

/// Bytes of rows in memory that become files together.
const LOT_BYTES_MAX: usize = 64 << 20;

/// Where rows go, and what has to be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ingest {
    /// The table.
    pub table: TableName,
    /// Make the table when it is not there; otherwise that is an error.
    pub create: bool,
    /// What to do with a table that is there.
    pub existing: Existing,
}

/// What becomes of a table that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// It is an error that there is one.
    Refuse,
    /// Its rows stay.
    Append,
    /// Its rows go, in the same commit.
    Replace,
}

impl Engine {
    /// Put `rows` into a table, in one commit.
    ///
    /// # Errors
    /// `NotFound`, `AlreadyExists` as [`Ingest`] asks; `Definition` for a view, or columns that the table has not got;
    /// `Query` for a value that does not fit; those of the rows.
    pub async fn ingest(&self, principal: &Principal, ingest: &Ingest, rows: SendableRecordBatchStream) -> Result<u64> {
        let name = &ingest.table;
        self.may_ingest(principal, ingest).await?;
        let made = match (self.kind(name), ingest.existing) {
            (Some(ObjectKind::Table), Existing::Refuse) => {
                return Err(Error::new(ErrorKind::AlreadyExists, format!("{name} exists")));
            }
            (Some(ObjectKind::Table), _) => false,
            (Some(_), _) => {
                return Err(Error::new(ErrorKind::Definition, format!("{name} takes no rows"))
                    .with_hint("only ordinary tables do; views follow their inputs"));
            }
            (None, _) if ingest.create => {
                let schema = stored_schema(&DFSchema::try_from(rows.schema())?)?;
                self.create(&create_text(name, &schema)?).await?;
                true
            }
            (None, _) => {
                return Err(Error::new(ErrorKind::NotFound, format!("there is no table {name}"))
                    .with_hint("let the client create it, or CREATE TABLE first"));
            }
        };
        let done = self.put(name, ingest.existing == Existing::Replace && !made, rows).await;
        if made && done.is_err() {
            // The error of the rows is what matters; a table that stays is empty.
            let _ = self.drop_object(name, DropKind::Table, true).await;
        }
        done
    }

    /// Rows come by INSERT, and go by DELETE; objects are made by administrators.
    async fn may_ingest(&self, principal: &Principal, ingest: &Ingest) -> Result<()> {
        let name = &ingest.table;
        if self.kind(name).is_none() && !principal.is_admin() {
            return Err(principal.denied(format!("create {name}")));
        }
        self.may_change(principal, Privilege::Insert, name, "insert rows into").await?;
        match ingest.existing {
            Existing::Replace => self.may_change(principal, Privilege::Delete, name, "replace the rows of").await,
            Existing::Append | Existing::Refuse => Ok(()),
        }
    }

    async fn put(&self, name: &TableName, replace: bool, mut rows: SendableRecordBatchStream) -> Result<u64> {
        let location = self.graph.read().tables.get(name).cloned();
        let location = location.ok_or_else(|| Error::new(ErrorKind::Definition, format!("{name} takes no rows")))?;
        let snapshot = self.storage.snapshot(&location, None).await?;
        check_columns(name, &snapshot.schema, &rows.schema())?;
        let (mut add, mut lot, mut bytes) = (vec![], vec![], 0);
        while let Some(batch) = rows.next().await {
            let batch = by_name(&batch?, &snapshot.schema)?;
            bytes += batch.get_array_memory_size();
            lot.push(batch);
            if bytes > LOT_BYTES_MAX {
                add.extend(self.stage_lot(&snapshot, std::mem::take(&mut lot)).await?);
                bytes = 0;
            }
        }
        add.extend(self.stage_lot(&snapshot, lot).await?);
        let count = add.iter().map(|file| file.rows).sum();
        let mut state = self.state.lock().await;
        if state.graph.tables.get(name) != Some(&location) {
            return Err(Error::new(ErrorKind::Conflict, format!("{name} was dropped while its rows came")));
        }
        let remove = match replace {
            true => self.storage.snapshot(&location, None).await?.files.iter().map(|file| file.path.clone()).collect(),
            false => vec![],
        };
        if !add.is_empty() || !remove.is_empty() {
            let commit = Commit { add, remove, data_change: true, operation: "WRITE", ..Commit::default() };
            self.storage.commit(&location, commit).await?;
            self.settle(&mut state).await?;
        }
        Ok(count)
    }

    async fn stage_lot(&self, snapshot: &Snapshot, lot: Vec<RecordBatch>) -> Result<Vec<DataFile>> {
        let lot: Vec<RecordBatch> = lot.into_iter().filter(|batch| batch.num_rows() > 0).collect();
        if lot.is_empty() {
            return Ok(vec![]);
        }
        let epoch = self.published.borrow().epoch;
        self.storage.stage(snapshot, epoch, &lot).await
    }
}

/// Every column that comes must be one of the table's, and come once.
fn check_columns(name: &TableName, table: &Schema, rows: &Schema) -> Result<()> {
    for (index, field) in rows.fields().iter().enumerate() {
        if table.column_with_name(field.name()).is_none() {
            let columns = table.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>();
            return Err(Error::new(ErrorKind::Definition, format!("{name} has no column \"{}\"", field.name()))
                .with_detail(format!("its columns are {}", columns.join(", "))));
        }
        if rows.fields()[..index].iter().any(|other| other.name() == field.name()) {
            return Err(Error::new(ErrorKind::Definition, format!("the column \"{}\" comes twice", field.name())));
        }
    }
    Ok(())
}

/// The batch in the table's columns; one that does not come is NULL.
fn by_name(batch: &RecordBatch, table: &SchemaRef) -> Result<RecordBatch> {
    let columns = table.fields().iter().map(|field| match batch.column_by_name(field.name()) {
        Some(column) => fit(column, field.data_type()).map_err(|error| error.context(field.name())),
        None => Ok(new_null_array(field.data_type(), batch.num_rows())),
    });
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(table), columns.collect::<Result<_>>()?, &options)
        .map_err(|error| Error::new(ErrorKind::Query, error.to_string()))
}
