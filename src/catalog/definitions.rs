//! What was applied: the objects of a lake, kept in the lake as numbered records, by conditional put.
//!
//! ```text
//! _flash/definitions/N.json    { objects: name -> { kind, sql, location, fingerprint, suspended }, retired: [...] }
//! ```
//!
//! The newest record is the truth; a restart needs nothing else. A second writer loses the put and stops.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::catalog::numbered;
use crate::epoch::TableState;
use crate::error::Result;
use crate::name::TableName;
use crate::storage::Storage;

/// Folder of the records.
const FOLDER: &str = "_flash/definitions";

/// All objects of a lake.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definitions {
    /// The record's number; 0 is the empty lake.
    pub number: u64,
    /// The objects.
    pub objects: BTreeMap<TableName, Object>,
    /// Tables that others have taken the place of, or that were dropped; oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retired: Vec<Retired>,
}

/// A table that a newer definition of its view has replaced, or that was dropped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retired {
    /// The view.
    pub name: TableName,
    /// What it was.
    pub object: Object,
    /// Where it and its quarantine table stood then, by name; empty if it was never read.
    pub states: BTreeMap<TableName, TableState>,
    /// Folders of the tables that it reads.
    pub inputs: BTreeMap<TableName, String>,
    /// Folder of its hidden state.
    pub state_folder: String,
    /// As late as this it is known to have been read or defined, in microseconds since 1970 UTC.
    pub since_us: i64,
    /// What it had read of its inputs was current at this instant, in microseconds since 1970 UTC.
    pub read_us: i64,
    /// Nothing has taken its place: it was dropped.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dropped: bool,
}

impl Object {
    /// The folders of its tables.
    pub fn folders(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.location).chain(&self.quarantine)
    }
}

/// One object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// What it is.
    pub kind: Kind,
    /// The exact text of its statement.
    pub sql: String,
    /// The file that the statement came from, for messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Folder of its table below the lake's root; empty for a source.
    pub location: String,
    /// Folder of its quarantine table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantine: Option<String>,
    /// Equal fingerprints: the same contents from the same inputs.
    pub fingerprint: String,
    /// Takes part in no epoch.
    #[serde(default)]
    pub suspended: bool,
}

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A stream of events.
    Source,
    /// An ordinary table.
    Table,
    /// A materialized view.
    View,
}

impl Definitions {
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
        numbered::save(storage, FOLDER, self.number, self, "definitions").await
    }

    /// A hash of all objects, for epoch records.
    pub fn hash(&self) -> String {
        let mut text = String::new();
        for (name, object) in &self.objects {
            text += &format!("{name} {} {}\n", object.fingerprint, object.location);
        }
        format!("{:016x}", (twox_hash::XxHash3_128::oneshot(text.as_bytes())) as u64)
    }
}
