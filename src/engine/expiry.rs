//! Retention, at the end of each epoch: what has expired goes from the views before readers see the epoch.
//!
//! ```text
//!   views of the epoch ─▶ committed ─▶ expired rows of each: one more commit, no change to views above ─▶ published
//!                                          └ could not be done: the epoch is published as it is, the next one tries again
//! ```
//!
//! The same record gives the same moment, so an epoch that is carried out again lets the same rows expire, or finds that
//! they are gone. Without new rows an epoch comes when a retention has moved on by a step, and files hold rows before it.

use std::collections::BTreeSet;

use crate::catalog::definitions::Definitions;
use crate::engine::{Engine, Graph, State};
use crate::epoch::{EpochRecord, PublishedRecord, TableState};
use crate::error::{Error, ErrorKind, Result};
use crate::name::TableName;
use crate::parser::{self, Parsed, Statement};
use crate::refresh::compile::CompiledView;
use crate::refresh::expire::Expiry;
use crate::refresh::pass::{FACTS, ViewSlot};
use crate::refresh::retention::{Retention, would_lose};
use crate::storage::{Committed, Snapshot};

/// Tries of one commit against a compaction that was quicker.
const TRIES_MAX: usize = 3;

impl Engine {
    /// Let rows expire from the views that took part.
    ///
    /// # Errors
    /// `Storage`, `Transient`: the epoch is to be carried out again.
    pub(super) async fn expire(
        &self,
        state: &mut State,
        record: &EpochRecord,
        published: &mut PublishedRecord,
    ) -> Result<()> {
        for name in &record.views {
            let Some(slot) = state.graph.slots.get(name) else { continue };
            let (Some(retention), Some(at)) = (&slot.view.retention, published.tables.get(name)) else { continue };
            if at.location != slot.location || at.frontier != record.epoch {
                continue;
            }
            // What has expired once does not come again with a longer retention.
            let cutoff_us = at.totals.expired_us.map_or(i64::MIN, |at| at).max(retention.cutoff_us(record.now_us));
            let again = state.again == Some(record.epoch);
            match self.expire_view(slot, retention, cutoff_us, at, again).await {
                Ok(Some((now, rows, more))) => {
                    published.refreshes.entry(name.clone()).or_default().expired = rows;
                    published.tables.insert(name.clone(), now);
                    if !more {
                        state.expired_us.insert(name.clone(), cutoff_us);
                    }
                }
                Ok(None) => {
                    state.expired_us.insert(name.clone(), cutoff_us);
                }
                Err(error) if error.kind() == ErrorKind::Conflict => {
                    tracing::warn!(view = %name, %error, "rows expire with a later epoch");
                }
                // It may have landed: the epoch is carried out again, and finds out.
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Where the table stands afterwards, how many rows went, and whether there are more; `None`: nothing was to be done.
    /// `again`: the epoch is being carried out again.
    async fn expire_view(
        &self,
        slot: &ViewSlot,
        retention: &Retention,
        cutoff_us: i64,
        at: &TableState,
        again: bool,
    ) -> Result<Option<(TableState, u64, bool)>> {
        let expiry = Expiry { storage: self.storage.as_ref(), state: &self.base, slot, retention, cutoff_us };
        let path = format!("{FACTS}/{:020}-{}-expired.json", at.frontier, slot.view.name);
        for _ in 0..TRIES_MAX {
            let snapshot = self.storage.snapshot(&slot.location, None).await?;
            let expired = expiry.run(&snapshot, at.frontier).await?;
            if expired.commit.remove.is_empty() {
                let counted = if again { self.counted(&path).await? } else { None };
                return Ok(counted.map(|rows| (after(at, &snapshot, rows, cutoff_us), rows, false)));
            }
            // Written first, so that it is known after a crash, too.
            self.storage.put_if_absent(&path, serde_json::to_vec(&expired.rows)?).await?;
            match self.storage.commit(&slot.location, expired.commit).await {
                Ok(Committed::Now(version) | Committed::Already(version)) => {
                    let snapshot = self.storage.snapshot(&slot.location, Some(version)).await?;
                    return Ok(Some((after(at, &snapshot, expired.rows, cutoff_us), expired.rows, expired.more)));
                }
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::new(ErrorKind::Conflict, format!("other writers changed \"{}\" meanwhile", slot.location)))
    }

    /// The rows that an epoch has let expire before it was carried out again.
    async fn counted(&self, path: &str) -> Result<Option<u64>> {
        match self.storage.get(path).await {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Has a retention of one of these views moved on, and are there rows before it?
    pub(super) async fn expiry_due(&self, state: &State, taken: &BTreeSet<TableName>) -> Result<bool> {
        let now_us = self.clock.now_us();
        for slot in taken.iter().filter_map(|name| state.graph.slots.get(name)) {
            let (name, Some(retention)) = (&slot.view.name, &slot.view.retention) else { continue };
            let cutoff_us = retention.cutoff_us(now_us);
            if state.expired_us.get(name).is_some_and(|done_us| *done_us >= cutoff_us)
                || state.failed.contains_key(name)
            {
                continue;
            }
            let at = self.published.borrow().tables.get(name).filter(|at| at.location == slot.location).cloned();
            let Some(at) = at else { continue };
            let snapshot = self.storage.snapshot(&slot.location, Some(at.version)).await?;
            let expiry = Expiry { storage: self.storage.as_ref(), state: &self.base, slot, retention, cutoff_us };
            if expiry.is_due(&snapshot) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What has expired has done so by one column, and can be told by no other.
    pub(super) fn same_clock(&self, view: &CompiledView, old: &Definitions) -> Result<()> {
        let expired = self.published.borrow().tables.get(&view.name).is_some_and(|at| at.totals.expired > 0);
        let (Some(retention), Some(before), true) = (&view.retention, old.objects.get(&view.name), expired) else {
            return Ok(());
        };
        let by = |parsed: Parsed| match parsed.statement {
            Statement::CreateMaterializedView(view) => view.options.retention.map(|retention| retention.by),
            _ => None,
        };
        let before_by = parser::parse_object_file(&before.sql, None).ok().and_then(|it| by(it.object));
        match before_by.filter(|by| before.fingerprint == view.fingerprint && *by != retention.by) {
            None => Ok(()),
            Some(by) => {
                Err(Error::new(ErrorKind::Definition, format!("{}: retention_by cannot be changed", view.name))
                    .with_detail(format!("rows have expired by {by}"))
                    .with_hint("DROP the view and make it again, if what is built on it may begin anew"))
            }
        }
    }

    /// An input of the view whose rows have expired, and which keeps its table.
    pub(super) fn expired_input<'a>(
        &self,
        view: &'a CompiledView,
        old: &Definitions,
        graph: &Graph,
    ) -> Option<&'a TableName> {
        let published = self.published.borrow();
        let expired = |name: &&TableName| published.tables.get(*name).is_some_and(|at| at.totals.expired > 0);
        let stays = |name: &&TableName| match (graph.slots.get(*name), old.objects.get(*name)) {
            (Some(slot), Some(object)) => slot.view.fingerprint == object.fingerprint,
            _ => false,
        };
        view.inputs.iter().filter(stays).find(expired)
    }

    /// Refuse to recompute views where that loses what they made of rows that their inputs have let expire. An input that is
    /// recomputed, too, has all its rows again for the views above it.
    pub(super) fn nothing_is_lost(&self, state: &State, full: &BTreeSet<TableName>) -> Result<()> {
        let published = self.published.borrow();
        for slot in full.iter().filter_map(|name| state.graph.slots.get(name)) {
            if slot.view.definition.options.ignores_expired {
                continue;
            }
            let expired = |input: &&TableName| published.tables.get(*input).is_some_and(|at| at.totals.expired > 0);
            if let Some(input) = slot.view.inputs.iter().filter(|input| !full.contains(*input)).find(expired) {
                return Err(would_lose(&slot.view.name, input));
            }
        }
        Ok(())
    }
}

/// Where the table stands when these rows have expired.
fn after(at: &TableState, snapshot: &Snapshot, rows: u64, cutoff_us: i64) -> TableState {
    let mut totals = at.totals;
    totals.expired += rows;
    totals.expired_us = totals.expired_us.max(Some(cutoff_us));
    TableState { version: snapshot.version, rows: snapshot.rows(), totals, ..at.clone() }
}
