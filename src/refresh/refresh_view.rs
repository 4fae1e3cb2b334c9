//! One refresh of one view, up to its commit.
//!
//! ```text
//!   table has txn >= E ─▶ done before a crash: read its change back
//!   inputs' changes ─▶ plan::choose ─▶ Nothing | append | merge | full ─▶ Work { add, remove, change }
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;

use crate::epoch::{RefreshFacts, Version};
use crate::error::{Error, ErrorKind, Result};
use crate::name::TableName;
use crate::refresh::append::Append;
use crate::refresh::change::{Change, Rows};
use crate::refresh::classify::Shape;
use crate::refresh::execute::{conform, stream};
use crate::refresh::merge::Merge;
use crate::refresh::pass::{Pass, ViewSlot, facts_path, inserted, source_schema};
use crate::refresh::plan::{RefreshPlan, choose};
use crate::refresh::rewrite::{Providers, Versions, at, delta, needs};
use crate::refresh::unique::UniqueIndex;
use crate::storage::{DataFile, Snapshot};

/// Rows that a full refresh stages at a time.
const FULL_CHUNK_ROWS_MAX: usize = 524_288;

/// What a refresh wants committed, and what it hands on.
#[derive(Debug)]
pub struct Work {
    /// The version before.
    pub before: Version,
    /// The version that holds the epoch, if a commit was there already.
    pub already: Option<Version>,
    /// There is something to commit.
    pub touches: bool,
    /// Staged files.
    pub add: Vec<DataFile>,
    /// Files that go.
    pub remove: Vec<String>,
    /// Staged files of the quarantine table; `None` when it keeps its version.
    pub quarantine: Option<Vec<DataFile>>,
    /// What readers of the view see as the difference.
    pub change: Change,
}

impl Default for Work {
    fn default() -> Self {
        Self {
            before: 0,
            already: None,
            touches: false,
            add: vec![],
            remove: vec![],
            quarantine: Some(vec![]),
            change: Change::Nothing,
        }
    }
}

/// Compute one view.
///
/// # Errors
/// Any; see `pass::is_fatal` for what fails the epoch.
pub async fn compute(pass: &Pass, slot: &ViewSlot, facts: &mut RefreshFacts) -> Result<Work> {
    let view = &slot.view;
    let snapshot = pass.storage.snapshot(&slot.location, None).await?;
    let state = pass.before(&view.name).filter(|state| state.location == slot.location);
    let before = state.map_or(0, |state| state.version);
    let frontier = state.map_or(0, |state| state.frontier);
    if snapshot.epoch >= pass.record.epoch {
        return landed(pass, slot, &snapshot, before, facts).await;
    }
    let mut changes = BTreeMap::new();
    for input in &view.inputs {
        changes.insert(input.clone(), change_of(pass, input, frontier).await?);
    }
    let requested = pass.full.get(&view.name).filter(|_| frontier > 0).map(String::as_str);
    let plan = choose(&view.name, &view.shape, &changes, frontier == 0, requested)?;
    facts.mode = plan.mode().into();
    facts.reason = plan.reason().into();
    facts.rows_in = changes.values().map(Change::rows).sum();
    tracing::debug!(view = %view.name, epoch = pass.record.epoch, mode = %facts.mode, rows_in = facts.rows_in, "refresh");
    let _permit = pass.permits.acquire().await.map_err(|_| Error::new(ErrorKind::Cancelled, "shutting down"))?;
    let refresh = ViewRefresh { pass, slot, snapshot: &snapshot, before };
    let work = match plan {
        RefreshPlan::Nothing => Work::nothing(before),
        RefreshPlan::Append { .. } => refresh.append(&changes, false, facts).await?,
        RefreshPlan::MergeState { .. } => refresh.merge(&changes, false).await?,
        RefreshPlan::Full { .. } => match &view.shape {
            Shape::Full { plan, .. } => refresh.full(plan).await?,
            Shape::Linear { .. } => refresh.append(&refresh.everything().await?, true, facts).await?,
            Shape::Merge { .. } => refresh.merge(&refresh.everything().await?, true).await?,
        },
    };
    facts.rows_out = work.add.iter().map(|file| file.rows).sum();
    facts.bytes_written = work.add.iter().map(|file| file.size).sum();
    Ok(work)
}

/// The epoch is in the table already: a crash came between its commit and the publication.
async fn landed(
    pass: &Pass,
    slot: &ViewSlot,
    snapshot: &Snapshot,
    before: Version,
    facts: &mut RefreshFacts,
) -> Result<Work> {
    let kept = pass.storage.get(&facts_path(pass.record.epoch, &slot.view.name)).await;
    match kept {
        Ok(bytes) => *facts = serde_json::from_slice(&bytes)?,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            facts.mode = "append".into();
            facts.expectations = slot.view.expectations.facts();
        }
        Err(error) => return Err(error),
    }
    facts.reason = format!("{} (committed before a restart)", facts.reason);
    let change = change_between(pass, &slot.location, before, snapshot.version).await?;
    facts.rows_out = change.rows();
    Ok(Work { before, already: Some(snapshot.version), touches: true, change, ..Work::default() })
}

/// What came to an input since this frontier.
async fn change_of(pass: &Pass, input: &TableName, frontier: u64) -> Result<Change> {
    if let Some(batches) = pass.slices.get(input) {
        return Ok(match batches.iter().all(|batch| batch.num_rows() == 0) {
            true => Change::Nothing,
            false => Change::Inserted(Rows::Memory(Arc::clone(batches))),
        });
    }
    let seen = pass.seen(input, frontier)?;
    if let Some(marks) = pass.marks.get(input) {
        let computed = marks.computed.wait().await.as_ref().map_err(Clone::clone)?;
        if computed.before == seen {
            return Ok(computed.change.clone());
        }
        let state = marks.committed.wait().await.as_ref().map_err(Clone::clone)?;
        return change_between(pass, &state.location, seen, state.version).await;
    }
    match current(pass, input) {
        Some((location, version)) => change_between(pass, &location, seen, version).await,
        None => Ok(Change::Nothing),
    }
}

/// Where an input that takes no part stands in this epoch.
fn current(pass: &Pass, input: &TableName) -> Option<(String, Version)> {
    if let (Some(version), Some(location)) = (pass.record.tables.get(input), pass.tables.get(input)) {
        return Some((location.clone(), *version));
    }
    pass.before(input).map(|state| (state.location.clone(), state.version))
}

async fn change_between(pass: &Pass, location: &str, from: Version, to: Version) -> Result<Change> {
    if from == to {
        return Ok(Change::Nothing);
    }
    let snapshot = pass.storage.snapshot(location, Some(to)).await?;
    // Version 0 is the empty table: everything has come since.
    let added = if from == 0 {
        snapshot.files.to_vec()
    } else {
        let changes = pass.storage.changes(location, from, to).await?;
        if !changes.removed.is_empty() {
            return Ok(Change::Rewritten);
        }
        changes.added
    };
    Ok(match added.is_empty() {
        true => Change::Nothing,
        false => Change::Inserted(Rows::Files(snapshot, added)),
    })
}

struct ViewRefresh<'a> {
    pass: &'a Pass,
    slot: &'a ViewSlot,
    snapshot: &'a Snapshot,
    before: Version,
}

impl ViewRefresh<'_> {
    async fn append(
        &self,
        changes: &BTreeMap<TableName, Change>,
        from_scratch: bool,
        facts: &mut RefreshFacts,
    ) -> Result<Work> {
        let view = &self.slot.view;
        let Shape::Linear { plan, carried } = &view.shape else {
            return Err(Error::new(ErrorKind::Internal, "append of a plan that is not linear"));
        };
        let unique_key = !view.definition.options.unique_key.is_empty();
        let use_carried = carried.as_ref().filter(|_| unique_key || self.slot.quarantine.is_some());
        let versions = self.versions(&self.pass.base, plan, changes).await?;
        let Some(delta) = delta(use_carried.unwrap_or(plan), &versions)? else {
            return Ok(Work::nothing(self.before));
        };
        let quarantine = match &self.slot.quarantine {
            Some(location) => Some(self.pass.storage.snapshot(location, None).await?),
            None => None,
        };
        let in_memory = changes.values().all(|c| !matches!(c, Change::Inserted(Rows::Files(..))));
        let append = Append {
            storage: self.pass.storage.as_ref(),
            state: &self.pass.base,
            view,
            record: &self.pass.record,
            snapshot: self.snapshot,
            quarantine: quarantine.as_ref(),
            carried: use_carried.is_some(),
            hand_on: &|rows| {
                if !from_scratch {
                    self.pass.hand_on(&view.name, self.before, inserted(rows.to_vec()));
                }
            },
        };
        let mut guard = self.slot.unique.lock().await;
        let mut unique = if unique_key { Some(self.unique_index(guard.take(), from_scratch).await?) } else { None };
        let out = append.run(delta, in_memory, unique.as_mut()).await?;
        if let Some(index) = &mut unique {
            index.seal(self.pass.record.epoch).await?;
        }
        *guard = unique;
        facts.duplicates = out.duplicates;
        facts.expectations = out.expectations;
        let change = match (from_scratch, out.rows) {
            (true, _) => Change::Rewritten,
            (false, Some(rows)) => inserted(rows),
            (false, None) => {
                Change::Inserted(Rows::Files(self.snapshot.clone(), out.add.iter().cloned().map(Arc::new).collect()))
            }
        };
        Ok(Work {
            before: self.before,
            already: None,
            touches: true,
            add: out.add,
            remove: if from_scratch { self.all_files() } else { vec![] },
            quarantine: Some(out.quarantine),
            change,
        })
    }

    async fn merge(&self, changes: &BTreeMap<TableName, Change>, from_scratch: bool) -> Result<Work> {
        let Shape::Merge { plan, aggregate, having } = &self.slot.view.shape else {
            return Err(Error::new(ErrorKind::Internal, "merge of a plan without an aggregate"));
        };
        // Views over the same rows compute beside each other; within one, a hash table for each core is one too many.
        let in_memory = changes.values().all(|c| !matches!(c, Change::Inserted(Rows::Files(..))));
        let state = if in_memory { &self.pass.serial } else { &self.pass.base };
        let versions = self.versions(state, plan, changes).await?;
        let merge = Merge {
            storage: self.pass.storage.as_ref(),
            state,
            view: &self.slot.view,
            plan,
            aggregate,
            having: *having,
        };
        let merged = merge.run(self.snapshot, self.pass.record.epoch, &versions, from_scratch).await?;
        let touches = !merged.add.is_empty() || !merged.remove.is_empty() || *having;
        let change = if touches { Change::Rewritten } else { Change::Nothing };
        Ok(Work { before: self.before, touches, add: merged.add, remove: merged.remove, change, ..Work::default() })
    }

    async fn full(&self, plan: &LogicalPlan) -> Result<Work> {
        let tables = self.tables(&self.slot.view.inputs, Which::New).await?;
        let plan = at(plan, &tables)?;
        let state = bound_now(&self.pass.base, self.pass.record.now_us);
        let mut rows = stream(&state, plan).await?;
        let (mut add, mut chunk, mut held) = (Vec::new(), Vec::new(), 0);
        let epoch = self.pass.record.epoch;
        while let Some(batch) = futures::StreamExt::next(&mut rows).await {
            let batch = conform(&batch?, &self.slot.view.schema)?;
            held += batch.num_rows();
            if batch.num_rows() > 0 {
                self.slot.view.expectations.judge(&batch)?;
                chunk.push(batch);
            }
            if held >= FULL_CHUNK_ROWS_MAX {
                add.extend(self.pass.storage.stage(self.snapshot, epoch, &std::mem::take(&mut chunk)).await?);
                held = 0;
            }
        }
        if !chunk.is_empty() {
            add.extend(self.pass.storage.stage(self.snapshot, epoch, &chunk).await?);
        }
        let remove = self.all_files();
        Ok(Work { before: self.before, touches: true, add, remove, change: Change::Rewritten, ..Work::default() })
    }

    fn all_files(&self) -> Vec<String> {
        self.snapshot.files.iter().map(|file| file.path.clone()).collect()
    }

    /// All rows of every input, as if they had just come.
    async fn everything(&self) -> Result<BTreeMap<TableName, Change>> {
        let mut changes = BTreeMap::new();
        for input in &self.slot.view.inputs {
            let (location, version) = self.locate(input).await?;
            let change = change_between(self.pass, &location, 0, version).await?;
            changes.insert(input.clone(), change);
        }
        Ok(changes)
    }

    async fn versions(
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

    async fn tables(&self, names: &BTreeSet<TableName>, which: Which) -> Result<Providers> {
        let frontier = self
            .pass
            .before(&self.slot.view.name)
            .filter(|s| s.location == self.slot.location)
            .map_or(0, |s| s.frontier);
        let mut tables: BTreeMap<TableName, Arc<dyn TableProvider>> = BTreeMap::new();
        for name in names {
            let (location, version) = match which {
                Which::New => self.locate(name).await?,
                Which::Old => (self.locate(name).await?.0, self.pass.seen(name, frontier)?),
            };
            let snapshot = self.pass.storage.snapshot(&location, Some(version)).await?;
            tables.insert(name.clone(), self.pass.storage.provider(&snapshot, None));
        }
        Ok(tables)
    }

    /// Location and version of an input in this epoch; waits for its commit.
    async fn locate(&self, input: &TableName) -> Result<(String, Version)> {
        if let Some(marks) = self.pass.marks.get(input) {
            let state = marks.committed.wait().await.as_ref().map_err(Clone::clone)?;
            return Ok((state.location.clone(), state.version));
        }
        current(self.pass, input)
            .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("{input} has no published version")))
    }

    async fn unique_index(&self, held: Option<UniqueIndex>, from_scratch: bool) -> Result<UniqueIndex> {
        if let (Some(index), false) = (held, from_scratch) {
            return Ok(index);
        }
        let frontier = if from_scratch { 0 } else { self.snapshot.epoch };
        let within = self.slot.view.definition.options.dedupe_within_ms;
        let within = within.map(|ms| i64::try_from(ms.saturating_mul(1000)).unwrap_or(i64::MAX));
        let folder = format!("{}/keys", self.slot.view.state_folder());
        UniqueIndex::open(Arc::clone(&self.pass.storage), folder, frontier, within).await
    }
}

#[derive(Debug, Clone, Copy)]
enum Which {
    Old,
    New,
}

/// The same state with `now()` meaning the epoch's time.
fn bound_now(base: &SessionState, now_us: i64) -> SessionState {
    let mut state = base.clone();
    state.execution_props_mut().query_execution_start_time = chrono::DateTime::from_timestamp_micros(now_us);
    state
}
