//! Time travel: statements over tables as they were.
//!
//! ```text
//!   FROM gold.kpis VERSION AS OF 17      where the table stands today, at that version; none that is not published
//!   FROM gold.kpis TIMESTAMP AS OF ...   the newest epoch that was published by then (history): its place, its version
//!        │ named::take: the statement without them
//!        ├─ not to be seen today ──────────────────▶ there is no such table
//!        ├─ at another place then, for no admin ───▶ denied: what is said of who sees what is said of today's definition
//!        ├─ rows of it were forgotten since ───────▶ not found
//!        ├─ a file of it went long ago ────────────▶ not found, and what can be read
//!        ▼
//!   its rows behind whatever this session has the table behind (guard::likewise), held for upkeep (reading)
//!        ▼
//!   catalog::versioned plans them; a version that nobody has taken out is refused there
//! ```
//!
//! All moments of a statement are told by one clock reading, and one record is read for each, so that tables as of one
//! moment agree. A version between two published ones (a compaction, two statements that one epoch took in) can be read.

mod named;

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::TableReference;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement;
use datafusion::sql::planner::object_name_to_table_reference;
use futures::StreamExt;

use crate::catalog::session::principal_of;
use crate::catalog::versioned::{self, Then};
use crate::catalog::{Principal, guard};
use crate::engine::as_of::named::{Named, Wanted};
use crate::engine::history::shown;
use crate::engine::reading::Held;
use crate::engine::{Answer, Engine, forget};
use crate::epoch::{PublishedRecord, Version};
use crate::error::{Error, ErrorKind, Result};
use crate::name::TableName;
use crate::refresh::compile::table_name;
use crate::storage::{Snapshot, snapshot_of};

/// How far back versions are read, in fifths of the time that removed files stay: the last one is for statements in other
/// processes, and rounds of upkeep that are under way.
const REACH_FIFTHS: i64 = 4;

/// A statement's plan, and what it reads that upkeep has to leave.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) plan: LogicalPlan,
    pub(super) held: Vec<Arc<Held>>,
}

/// The records of the moments that one statement names.
type Records = BTreeMap<i64, Arc<PublishedRecord>>;

impl Engine {
    /// The plan of a statement, its tables at the versions that it names. `sql`: its text, for places.
    ///
    /// # Errors
    /// `Definition`, `NotFound`, `Denied`, `Query` (a moment that has not come), `Storage`.
    pub(super) async fn plan_as_of(
        &self,
        session: &SessionContext,
        mut statement: Statement,
        sql: &str,
    ) -> Result<Planned> {
        let named = named::take(&mut statement, sql)?;
        let mut state = session.state();
        let (mut tables, mut held, mut records) = (vec![], vec![], Records::new());
        for named in &named {
            let then = self.then(&state, named, &mut records).await;
            let (then, hold) = then.map_err(|error| named.located(error, sql))?;
            tables.push(then);
            held.push(hold);
        }
        if !tables.is_empty() {
            versioned::register(&mut state, tables)?;
        }
        Ok(Planned { plan: state.statement_to_plan(statement).await?, held })
    }

    async fn then(&self, state: &SessionState, named: &Named, records: &mut Records) -> Result<(Then, Arc<Held>)> {
        let reference = object_name_to_table_reference(named.name.clone(), true)?;
        let name = table_name(&reference);
        let today = today(state, reference).await?;
        let principal = principal_of(state);
        let is_admin = principal.as_ref().is_some_and(|principal| principal.is_admin());
        let standing = today.as_ref().map(|table| standing(&name, table.as_ref())).transpose()?;
        let (location, version) = match (named.wanted(state)?, standing) {
            (_, None) if !is_admin => return Err(no_table(&name)),
            (Wanted::Version(_), None) => return Err(no_table(&name)),
            (Wanted::Version(version), Some(now)) if version > now.version => return Err(not_published(&name, now)),
            (Wanted::Version(version), Some(now)) => (now.location.clone(), version),
            (Wanted::Moment(moment_us), standing) => {
                let record = self.epoch_of(moment_us, records).await?;
                match record.tables.get(&name) {
                    Some(then) => (then.location.clone(), then.version),
                    None if standing.is_none() => return Err(no_table(&name)),
                    None => return Err(not_there(&name, moment_us)),
                }
            }
        };
        let here = standing.filter(|now| now.location == location);
        if here.is_none() && !is_admin {
            return Err(elsewhere(&name, principal.as_deref()));
        }
        if forget::is_before(self.storage.as_ref(), &location, version).await? {
            return Err(forgotten(&name));
        }
        let began_ms = now_ms();
        let (snapshot, first_removed_ms) = self.older(&name, &location, version).await?;
        let held = self.reading.hold(&location, first_removed_ms.unwrap_or(began_ms) - 1);
        let table = self.storage.provider(&snapshot, Some(snapshot.files.to_vec()));
        let then = match (&today, here.filter(|now| now.schema == snapshot.schema)) {
            (Some(today), Some(_)) => {
                Then { label: format!("{name}@{version}"), table: guard::likewise(today.as_ref(), table) }
            }
            _ if is_admin => Then { label: format!("{location}@{version}"), table },
            _ => return Err(elsewhere(&name, principal.as_deref())),
        };
        Ok((then, held))
    }

    async fn epoch_of(&self, moment_us: i64, records: &mut Records) -> Result<Arc<PublishedRecord>> {
        if let Some(record) = records.get(&moment_us) {
            return Ok(Arc::clone(record));
        }
        let record = self.published_at(moment_us).await?;
        records.insert(moment_us, Arc::clone(&record));
        Ok(record)
    }

    /// A version, and when the first of its files went; all of them are there.
    async fn older(&self, name: &TableName, location: &str, version: Version) -> Result<(Snapshot, Option<i64>)> {
        match self.still_there(location, version).await? {
            Some(readable) => Ok(readable),
            None => Err(self.gone(name, location, version).await),
        }
    }

    /// `None`: its entry in the log or a file of it is gone, or about to go.
    async fn still_there(&self, location: &str, version: Version) -> Result<Option<(Snapshot, Option<i64>)>> {
        let snapshot = match self.storage.snapshot(location, Some(version)).await {
            Ok(snapshot) => snapshot,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let first_removed_ms = self.storage.first_removed_ms(&snapshot).await?;
        let readable = is_readable(first_removed_ms, now_ms(), self.storage.retention_ms());
        Ok(readable.then_some((snapshot, first_removed_ms)))
    }

    async fn gone(&self, name: &TableName, location: &str, version: Version) -> Error {
        let error = Error::new(ErrorKind::NotFound, format!("version {version} of {name} cannot be read any more"));
        let error = match self.oldest_readable(name, location).await {
            Ok(Some((version, published_us))) => {
                error.with_detail(format!("version {version}, published at {}, can be read", shown(published_us)))
            }
            Ok(None) => error.with_detail("none of that place can be"),
            Err(unread) => error.with_detail(format!("and which can be is not known: {unread}")),
        };
        error.with_hint(self.how_long())
    }

    /// The oldest version in memory that can be read, and when it was published. What follows it can be, too.
    async fn oldest_readable(&self, name: &TableName, location: &str) -> Result<Option<(Version, i64)>> {
        let mut versions: Vec<(Version, i64)> = Vec::new();
        for record in self.history.read().iter() {
            let Some(then) = record.tables.get(name).filter(|then| then.location == location) else { continue };
            if versions.last().is_none_or(|(version, _)| *version < then.version) {
                versions.push((then.version, record.published_us));
            }
        }
        let (mut from, mut to) = (0, versions.len());
        while from < to {
            let middle = from + (to - from) / 2;
            match self.still_there(location, versions[middle].0).await? {
                Some(_) => to = middle,
                None => from = middle + 1,
            }
        }
        Ok(versions.get(from).copied())
    }
}

impl Planned {
    /// An answer that keeps what it reads until its rows have ended.
    pub(super) fn until_the_end(held: Vec<Arc<Held>>, answer: Answer) -> Answer {
        match answer {
            Answer::Rows { schema, stream } if !held.is_empty() => {
                let physical = stream.schema();
                let stream = stream.map(move |batch| {
                    let _held = &held;
                    batch
                });
                Answer::Rows { schema, stream: Box::pin(RecordBatchStreamAdapter::new(physical, stream)) }
            }
            answer => answer,
        }
    }
}

/// The table as this session has it; `None` where it has none.
async fn today(state: &SessionState, reference: TableReference) -> Result<Option<Arc<dyn TableProvider>>> {
    let table = reference.table().to_string();
    match state.schema_for_ref(reference) {
        Ok(schema) => Ok(schema.table(&table).await?),
        Err(_) => Ok(None),
    }
}

/// The version that a session has of a table.
fn standing<'a>(name: &TableName, table: &'a dyn TableProvider) -> Result<&'a Snapshot> {
    snapshot_of(guard::below(table)).ok_or_else(|| {
        Error::new(ErrorKind::Definition, format!("{name} has no versions"))
            .with_detail("the tables and views of the lake have some; sources and system tables have none")
    })
}

/// Whether all files of a version are there, and stay for a while.
fn is_readable(first_removed_ms: Option<i64>, now_ms: i64, retention_ms: i64) -> bool {
    first_removed_ms.is_none_or(|removed_ms| removed_ms > now_ms - reach_ms(retention_ms))
}

/// How long ago a file may have been removed from its table, in milliseconds.
pub(super) fn reach_ms(retention_ms: i64) -> i64 {
    retention_ms / 5 * REACH_FIFTHS
}

fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

fn no_table(name: &TableName) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no table or view {name}"))
}

fn not_there(name: &TableName, moment_us: i64) -> Error {
    Error::new(ErrorKind::NotFound, format!("there was no {name} at {}", shown(moment_us)))
        .with_hint(format!("SELECT * FROM system.versions WHERE object_name = '{name}' tells since when there is"))
}

fn not_published(name: &TableName, now: &Snapshot) -> Error {
    Error::new(ErrorKind::NotFound, format!("{name} has no such version"))
        .with_detail(format!("the newest that is published is {}", now.version))
}

fn forgotten(name: &TableName) -> Error {
    Error::new(ErrorKind::NotFound, format!("{name} cannot be read as it was then"))
        .with_detail("rows have been forgotten on request since")
        .with_hint("SELECT * FROM system.forgotten tells when; later versions can be read")
}

fn elsewhere(name: &TableName, principal: Option<&Principal>) -> Error {
    let what = format!("read {name} as it was then");
    let error = match principal {
        Some(principal) => principal.denied(what),
        None => Error::new(ErrorKind::Denied, format!("nobody is known who may {what}")),
    };
    error
        .with_detail("it was defined otherwise, or was another table; who sees what is said of the table of today")
        .with_hint("an administrator can read it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_as_long_as_its_files_stay_for_a_while() {
        let readable = |removed_ms| is_readable(removed_ms, 10_000, 1_000);
        assert!(readable(None) && readable(Some(10_000)) && readable(Some(9_201)));
        assert!(!readable(Some(9_200)) && !readable(Some(0)));
        assert!(!is_readable(Some(10_000), 10_000, 0), "without a retention there is nothing to go back to");
    }
}
