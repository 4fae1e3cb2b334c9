//! What was forgotten on request, and whether its bytes are gone from storage.
//!
//! ```text
//!   FORGET ─▶ begun ─▶ forgotten: no reader sees the rows ─▶ gone: no object of the lake holds them
//!             _flash/forgotten/N.json    all requests; the newest record is all there is
//! ```
//!
//! The value itself is not kept: a record of a deletion that names who was deleted would be what was to be deleted. `comment`
//! is for the number of a ticket.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use serde::{Deserialize, Serialize};

use crate::catalog::{numbered, system};
use crate::epoch::Version;
use crate::error::Result;
use crate::name::TableName;
use crate::storage::Storage;

/// Folder of the records.
const FOLDER: &str = "_flash/forgotten";

/// Requests that are kept; the oldest whose bytes are gone make room.
const REQUESTS_MAX: usize = 10_000;

/// See the module.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Forgotten {
    /// The record's number; 0: there is none.
    pub number: u64,
    /// Oldest first.
    pub requests: Vec<Request>,
}

/// One request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Its number, from 1 on.
    pub id: u64,
    /// The column by which rows were found.
    pub column: String,
    /// What was said with it.
    pub comment: Option<String>,
    /// Who asked.
    pub asked_by: String,
    /// When, in microseconds since 1970 UTC.
    pub begun_us: i64,
    /// Rows that went, by table; those without any are left out.
    pub rows: BTreeMap<TableName, u64>,
    /// Since when no reader sees them, in microseconds since 1970 UTC; `None`: it was not finished, and is to be asked again.
    pub forgotten_us: Option<i64>,
    /// Where bytes of them may be, until it is known that none are.
    pub places: Vec<Place>,
    /// Since when none are, in microseconds since 1970 UTC.
    pub gone_us: Option<i64>,
}

/// A table's folder with what may still hold the rows: what is older than the request, and not in the newest version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The folder.
    pub location: String,
    /// The folder of the view's hidden state.
    pub state_folder: Option<String>,
    /// The first version without the rows: the log before it has their bounds.
    pub version: Version,
}

impl Request {
    /// Its rows are gone for readers, and not yet from storage.
    pub fn is_pending(&self) -> bool {
        self.forgotten_us.is_some() && self.gone_us.is_none()
    }

    fn state(&self) -> &'static str {
        match (self.forgotten_us, self.gone_us) {
            (_, Some(_)) => "gone",
            (Some(_), None) => "forgotten",
            (None, None) => "not finished",
        }
    }
}

impl Forgotten {
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
        numbered::save(storage, FOLDER, self.number, self, "record of what was forgotten").await
    }

    /// Put a request in, under its number, or one of its own.
    pub fn put(&mut self, mut request: Request) -> u64 {
        if request.id == 0 {
            request.id = self.requests.last().map_or(0, |last| last.id) + 1;
        }
        let id = request.id;
        match self.requests.iter_mut().find(|known| known.id == id) {
            Some(known) => *known = request,
            None => self.requests.push(request),
        }
        if self.requests.len() > REQUESTS_MAX
            && let Some(oldest) = self.requests.iter().position(|request| request.gone_us.is_some())
        {
            self.requests.remove(oldest);
        }
        id
    }

    /// `system.forgotten`. `kept_us`: how long files stay that a commit has removed, in microseconds.
    ///
    /// # Errors
    /// `Internal` when columns differ in length.
    pub fn table(&self, kept_us: i64) -> Result<Arc<dyn TableProvider>> {
        let all = || self.requests.iter();
        let tables = |request: &Request| {
            let rows = request.rows.iter().map(|(name, rows)| format!("{name} {rows}")).collect::<Vec<_>>();
            rows.join(", ")
        };
        let waits = |request: &Request| {
            let places = request.places.iter().map(|place| place.location.clone()).collect::<Vec<_>>();
            request.is_pending().then(|| places.join(", "))
        };
        let expected = |request: &Request| request.forgotten_us.map(|at| at.saturating_add(kept_us));
        system::Table::default()
            .number("id", all().map(|request| Some(request.id)))
            .text("state", all().map(|request| Some(request.state().to_string())))
            .text("column_name", all().map(|request| Some(request.column.clone())))
            .text("comment", all().map(|request| request.comment.clone()))
            .text("asked_by", all().map(|request| Some(request.asked_by.clone())))
            .instant("begun_at", all().map(|request| Some(request.begun_us)))
            .number("rows", all().map(|request| Some(request.rows.values().sum::<u64>())))
            .text("tables", all().map(|request| Some(tables(request))))
            .instant("forgotten_at", all().map(|request| request.forgotten_us))
            .instant("gone_not_before", all().map(expected))
            .text("waits_for", all().map(waits))
            .instant("gone_at", all().map(|request| request.gone_us))
            .provider()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_numbered_and_kept_until_their_bytes_are_gone() {
        let mut record = Forgotten::default();
        assert_eq!(record.put(Request::default()), 1);
        assert_eq!(record.put(Request { gone_us: Some(1), ..Request::default() }), 2);
        assert_eq!(record.put(Request { id: 1, forgotten_us: Some(5), ..Request::default() }), 1);
        assert!(record.requests[0].is_pending() && record.requests.len() == 2);
        for _ in 0..REQUESTS_MAX {
            record.put(Request::default());
        }
        let ids = record.requests.iter().map(|request| request.id).take(2).collect::<Vec<_>>();
        assert_eq!(ids, [1, 3], "what is not over stays");
    }
}
