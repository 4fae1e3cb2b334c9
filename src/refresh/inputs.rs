//! What a refresh reads: the changes of a view's inputs, and the inputs at the moments that its rules ask for.
//!
//! ```text
//!   source      ─▶ the slice of this epoch, in memory
//!   view        ─▶ what it has just handed on, in memory; or the files between two of its versions
//!   quarantine  ─▶ the files between two of its versions, when its view has committed
//!   table       ─▶ the files between two of its versions
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;

use crate::epoch::Version;
use crate::error::{Error, ErrorKind, Result};
use crate::name::TableName;
use crate::refresh::change::{Change, Rows};
use crate::refresh::compile::CompiledView;
use crate::refresh::delta::Deltas;
use crate::refresh::pass::{Pass, source_schema};
use crate::refresh::refresh_view::ViewRefresh;
use crate::refresh::restrict::Moment;
use crate::refresh::rewrite::{Providers, Versions, needs};
use crate::storage::Changes;

/// A moment of the inputs.
#[derive(Debug, Clone, Copy)]
pub(super) enum Which {
    /// As the view has seen them last.
    Old,
    /// As they are in this epoch.
    New,
}

/// What came to an input since this frontier.
pub(super) async fn change_of(pass: &Pass, input: &TableName, frontier: u64) -> Result<Change> {
    if let Some(batches) = pass.slices.get(input) {
        return Ok(match batches.iter().all(|batch| batch.num_rows() == 0) {
            true => Change::Nothing,
            false => Change::Inserted(Rows::Memory(Arc::clone(batches))),
        });
    }
    let seen = pass.seen(input, frontier)?;
    if let Some(marks) = pass.marks.get(input) {
        let computed = marks.computed.wait().await.as_ref().map_err(Clone::clone)?;
        if computed.before == seen && !matches!(computed.change, Change::Committed) {
            return Ok(computed.change.clone());
        }
    }
    if let Some(committed) = pass.committed(input) {
        let state = committed.wait().await.as_ref().map_err(Clone::clone)?;
        return change_between(pass, &state.location, seen, state.version, frontier == 0).await;
    }
    match current(pass, input) {
        Some((location, version)) => {
            match pass.recent.get(input).filter(|recent| recent.from == seen && recent.to == version) {
                Some(recent) => Ok(recent.change.clone()),
                None => change_between(pass, &location, seen, version, frontier == 0).await,
            }
        }
        None => Ok(Change::Nothing),
    }
}

/// Where an input that takes no part stands in this epoch.
pub(super) fn current(pass: &Pass, input: &TableName) -> Option<(String, Version)> {
    if let (Some(version), Some(location)) = (pass.record.tables.get(input), pass.tables.get(input)) {
        return Some((location.clone(), *version));
    }
    pass.before(input).map(|state| (state.location.clone(), state.version))
}

/// What came and went. `fresh`: to whoever has seen nothing yet, everything that is there has come.
pub(super) async fn change_between(
    pass: &Pass,
    location: &str,
    from: Version,
    to: Version,
    fresh: bool,
) -> Result<Change> {
    if from == to {
        return Ok(Change::Nothing);
    }
    let snapshot = pass.storage.snapshot(location, Some(to)).await?;
    if from == 0 && fresh {
        let added = snapshot.files.to_vec();
        return Ok(if added.is_empty() { Change::Nothing } else { Change::Inserted(Rows::Files(snapshot, added)) });
    }
    let Changes { added, removed } = pass.storage.changes(location, from, to).await?;
    Ok(match (added.is_empty(), removed.is_empty()) {
        (true, true) => Change::Nothing,
        (false, true) => Change::Inserted(Rows::Files(snapshot, added)),
        (_, false) => {
            let before = pass.storage.snapshot(location, Some(from)).await?;
            Change::Changed { added: Rows::Files(snapshot, added), removed: Rows::Files(before, removed) }
        }
    })
}

/// Rows of all inputs in this epoch.
pub(super) async fn input_rows(pass: &Pass, view: &CompiledView) -> Result<u64> {
    let mut rows = 0;
    for input in &view.inputs {
        if let Some(committed) = pass.committed(input) {
            rows += committed.wait().await.as_ref().map_err(Clone::clone)?.rows;
        } else if let Some((location, version)) = current(pass, input) {
            rows += pass.storage.snapshot(&location, Some(version)).await?.rows();
        }
    }
    Ok(rows)
}

impl ViewRefresh<'_> {
    pub(super) async fn deltas<'b>(
        &'b self,
        state: &'b SessionState,
        changes: &'b BTreeMap<TableName, Change>,
    ) -> Result<Deltas<'b>> {
        Ok(Deltas { state, changes, old: self.moment(Which::Old).await?, new: self.moment(Which::New).await? })
    }

    /// All inputs at one moment.
    pub(super) async fn moment(&self, which: Which) -> Result<Moment<'_>> {
        let mut tables = BTreeMap::new();
        for name in &self.slot.view.inputs {
            let (location, version) = match which {
                Which::New => self.locate(name).await?,
                Which::Old => (self.locate(name).await?.0, self.pass.seen(name, self.frontier)?),
            };
            tables.insert(name.clone(), self.pass.storage.snapshot(&location, Some(version)).await?);
        }
        let now_us = match which {
            Which::New => self.pass.record.now_us,
            Which::Old => self.pass.now_at(self.frontier)?,
        };
        Ok(Moment { storage: self.pass.storage.as_ref(), tables, now_us })
    }

    pub(super) async fn versions(
        &self,
        state: &SessionState,
        plan: &LogicalPlan,
        changes: &BTreeMap<TableName, Change>,
    ) -> Result<Versions> {
        let mut versions = Versions::default();
        let partitions = state.config().target_partitions();
        for (input, change) in changes {
            if let Change::Inserted(rows) = change {
                let schema = match rows {
                    Rows::Files(snapshot, _) => Arc::clone(&snapshot.schema),
                    Rows::Memory(_) if self.pass.slices.contains_key(input) => source_schema(),
                    Rows::Memory(batches) => batches[0].schema(),
                };
                let provider = rows.provider(self.pass.storage.as_ref(), &schema, partitions)?;
                versions.change.insert(input.clone(), provider);
            }
        }
        let changed = versions.change.keys().cloned().collect::<BTreeSet<_>>();
        let needs = needs(plan, &changed);
        versions.new = self.tables(&needs.new, Which::New).await?;
        versions.old = self.tables(&needs.old, Which::Old).await?;
        Ok(versions)
    }

    pub(super) async fn tables(&self, names: &BTreeSet<TableName>, which: Which) -> Result<Providers> {
        let mut tables: BTreeMap<TableName, Arc<dyn TableProvider>> = BTreeMap::new();
        for name in names {
            let (location, version) = match which {
                Which::New => self.locate(name).await?,
                Which::Old => (self.locate(name).await?.0, self.pass.seen(name, self.frontier)?),
            };
            let snapshot = self.pass.storage.snapshot(&location, Some(version)).await?;
            tables.insert(name.clone(), self.pass.storage.provider(&snapshot, None));
        }
        Ok(tables)
    }

    /// Location and version of an input in this epoch; waits for its commit.
    async fn locate(&self, input: &TableName) -> Result<(String, Version)> {
        if let Some(committed) = self.pass.committed(input) {
            let state = committed.wait().await.as_ref().map_err(Clone::clone)?;
            return Ok((state.location.clone(), state.version));
        }
        current(self.pass, input)
            .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("{input} has no published version")))
    }
}
