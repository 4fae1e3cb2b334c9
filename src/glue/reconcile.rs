//! Bringing Glue in step with the lake: look, do, and look again, until there is nothing to do.
//!
//! ```text
//!            ┌──────────────────────────────────────────────────────────────┐
//!            ▼                                                              │ done, or somebody was faster
//!   names of databases ─▶ read Glue ─▶ read the lake ─▶ decide ─▶ steps ─▶ carried out ─┐
//!   (wanted now, or registered before)          nothing to do ─▶ Report                  └─ a fault ─▶ Report
//! ```
//!
//! `_flash/glue/<prefix>.<schema>.json` is put before the first table of a database is: so that the tables of a schema whose
//! last view is dropped are found, too.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::StreamExt;

use super::wanted::{Layouts, wanted};
use super::{Catalog, Decision, Fault, Found, Lake, Refused, Step, Wanted, decide};
use crate::error::Result;
use crate::storage::Storage;

/// Folder of the records of databases.
const DATABASES: &str = "_flash/glue";

/// Databases of one lake.
const DATABASES_MAX: usize = 1_000;

/// Calls of Glue at the same time.
const CALLS_CONCURRENT_MAX: usize = 4;

/// Looks until nothing is to do. Two are enough where nobody else writes.
const LOOKS_MAX: usize = 8;

/// A lake, its catalog, and what was read of its tables.
#[derive(Debug)]
pub struct Reconciler {
    lake: Lake,
    storage: Arc<dyn Storage>,
    catalog: Arc<dyn Catalog>,
    layouts: Layouts,
}

/// A step, or a database, and why it failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// What could not be done: `create table fc_gold.kpis at ...`, `read the tables of fc_gold`.
    pub what: String,
    /// Why.
    pub fault: Fault,
}

/// How Glue and the lake stand to each other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// What was done.
    pub done: Vec<Step>,
    /// What is left to do: steps that failed, or were not asked for.
    pub left: Vec<Step>,
    /// Tables that are as they should be.
    pub in_step: Vec<String>,
    /// Tables that are not ours and have the name of one of ours, and whose they are.
    pub conflicts: Vec<(String, String)>,
    /// Tables of the lake that are not registered, and why.
    pub refused: Vec<Refused>,
    /// Tables whose database could not be read.
    pub unknown: Vec<String>,
    /// What failed.
    pub failed: Vec<Failed>,
}

impl Report {
    /// Tables that are not as they should be, or not known to be.
    pub fn out_of_step(&self) -> usize {
        self.left.iter().filter(|step| !matches!(step, Step::CreateDatabase(_))).count() + self.unknown.len()
    }

    /// Nothing is left to be done by anybody.
    pub fn is_in_step(&self) -> bool {
        self.out_of_step() == 0 && self.conflicts.is_empty() && self.failed.is_empty()
    }
}

/// What was seen at once.
#[derive(Debug, Default)]
struct Look {
    wanted: Wanted,
    decision: Decision,
    failed: Vec<Failed>,
    unknown: Vec<String>,
    /// A database is wanted by now that was not read.
    incomplete: bool,
}

impl Reconciler {
    /// Of this lake with this catalog.
    pub fn new(lake: Lake, storage: Arc<dyn Storage>, catalog: Arc<dyn Catalog>) -> Self {
        Self { lake, storage, catalog, layouts: Layouts::default() }
    }

    /// Compare, and change nothing.
    ///
    /// # Errors
    /// `Storage`, `Corrupt`, `Transient` of the lake. What Glue fails with stands in the report.
    pub async fn compare(&self) -> Result<Report> {
        Ok(report(self.look().await?, vec![]))
    }

    /// What should be in Glue.
    ///
    /// # Errors
    /// As `compare`.
    pub async fn wanted(&self) -> Result<Wanted> {
        wanted(&self.storage, &self.lake, &self.layouts).await
    }

    /// Make Glue hold what it should.
    ///
    /// # Errors
    /// As `compare`; nothing more is done then.
    pub async fn reconcile(&self) -> Result<Report> {
        let mut done = Vec::new();
        for _ in 0..LOOKS_MAX {
            let look = self.look().await?;
            if look.decision.steps.is_empty() && !look.incomplete {
                return Ok(report(look, done));
            }
            self.note_databases(&look).await?;
            let faults = self.carry_out(&look.decision.steps, &mut done).await;
            let ends = |failed: &Failed| !matches!(failed.fault, Fault::Race(_));
            if faults.iter().any(ends) {
                return self.ended(faults.into_iter().filter(ends).collect(), done).await;
            }
        }
        let fault = Fault::Passing("somebody else changes them as fast as we do".into());
        self.ended(vec![Failed { what: "bring the tables in step".into(), fault }], done).await
    }

    /// What the report says after a fault: how things stand now, as far as that can be read.
    async fn ended(&self, failed: Vec<Failed>, done: Vec<Step>) -> Result<Report> {
        let mut report = report(self.look().await?, done);
        let known = std::mem::take(&mut report.failed);
        report.failed = failed;
        report.failed.extend(known);
        Ok(report)
    }

    /// Glue is read before the lake; see the module above.
    async fn look(&self) -> Result<Look> {
        let noted = self.storage.list_newest(DATABASES, DATABASES_MAX).await?;
        let noted = noted.iter().filter_map(|name| {
            let (prefix, schema) = name.strip_suffix(".json")?.split_once('.')?;
            (prefix == self.lake.prefix).then(|| format!("{prefix}{schema}"))
        });
        let names: BTreeSet<String> = self.wanted().await?.schemas.into_keys().chain(noted).collect();
        let reads = names.iter().cloned().map(|name| {
            let catalog = Arc::clone(&self.catalog);
            async move { (catalog.tables(&name).await, name) }
        });
        let (mut found, mut look) = (BTreeMap::<String, Option<Vec<Found>>>::new(), Look::default());
        for (answer, name) in some_at_a_time(reads.collect()).await {
            match answer {
                Ok(tables) => drop(found.insert(name, tables)),
                Err(fault) => look.failed.push(Failed { what: format!("read the tables of {name}"), fault }),
            }
        }
        look.wanted = self.wanted().await?;
        look.decision = decide(&self.lake, &look.wanted, &found);
        look.incomplete = look.wanted.schemas.keys().any(|name| !names.contains(name));
        let unknown = look.wanted.tables.iter().filter(|table| !found.contains_key(&table.database));
        look.unknown = unknown.map(super::Table::full_name).collect();
        look.failed.sort_by(|a, b| a.what.cmp(&b.what));
        Ok(look)
    }

    /// Write down the databases that are going to hold a table.
    async fn note_databases(&self, look: &Look) -> Result<()> {
        let creates = |step: &&Step| matches!(step, Step::CreateTable(_));
        let names: BTreeSet<&str> = look.decision.steps.iter().filter(creates).map(Step::database).collect();
        for schema in names.into_iter().filter_map(|name| look.wanted.schemas.get(name)) {
            let path = format!("{DATABASES}/{}.{schema}.json", self.lake.prefix);
            // It is there already, or it is now: the name says it all.
            self.storage.put_if_absent(&path, b"{}".to_vec()).await?;
        }
        Ok(())
    }

    /// Databases first, then tables, some at a time.
    async fn carry_out(&self, steps: &[Step], done: &mut Vec<Step>) -> Vec<Failed> {
        let mut failed = Vec::new();
        for databases in [true, false] {
            let steps = steps.iter().filter(|step| matches!(step, Step::CreateDatabase(_)) == databases).cloned();
            let calls = steps.map(|step| {
                let catalog = Arc::clone(&self.catalog);
                async move { (call(catalog.as_ref(), &step).await, step) }
            });
            for (answer, step) in some_at_a_time(calls.collect()).await {
                match answer {
                    Ok(()) => {
                        tracing::info!(%step, "Glue");
                        done.push(step);
                    }
                    Err(fault) => failed.push(Failed { what: step.to_string(), fault }),
                }
            }
        }
        failed
    }
}

async fn call(catalog: &dyn Catalog, step: &Step) -> Result<(), Fault> {
    match step {
        Step::CreateDatabase(database) => catalog.create_database(database).await,
        Step::CreateTable(table) => catalog.create_table(table).await,
        Step::UpdateTable { table, version, .. } => catalog.update_table(table, version.as_deref()).await,
        Step::DeleteTable { database, name } => catalog.delete_table(database, name).await,
    }
}

async fn some_at_a_time<F: Future>(calls: Vec<F>) -> Vec<F::Output> {
    futures::stream::iter(calls).buffer_unordered(CALLS_CONCURRENT_MAX).collect().await
}

fn report(look: Look, done: Vec<Step>) -> Report {
    Report {
        done,
        left: look.decision.steps,
        in_step: look.decision.in_step,
        conflicts: look.decision.conflicts,
        refused: look.wanted.refused,
        unknown: look.unknown,
        failed: look.failed,
    }
}
